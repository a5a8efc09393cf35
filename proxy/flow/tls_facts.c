/*
 * tls_facts.c — asks OpenSSL once, when the handshake is done; then the connection may go.
 */
#include "tls_facts.h"

#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

void tls_facts_note(struct tls_facts *facts, const SSL *ssl)
{
    const char          *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    const unsigned char *protocol;
    unsigned             length;

    facts->version = SSL_get_version(ssl);
    facts->was_resumed = SSL_session_reused(ssl) == 1;
    if (SSL_is_server(ssl) && name != NULL)
        facts->server_name = strdup(name);
    SSL_get0_alpn_selected(ssl, &protocol, &length);
    if (length > 0)
        facts->protocol = strndup((const char *)protocol, length);
}

void tls_facts_clear(struct tls_facts *facts)
{
    free(facts->server_name);
    free(facts->protocol);
    *facts = (struct tls_facts){ 0 };
}
