/*
 * tls_facts.c — asks OpenSSL once, when the handshake is done; then the connection may go.
 */
#include "tls_facts.h"

#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

/* Only after the handshake it is known what the kernel has taken over. */
static enum tls_in_kernel in_kernel(const SSL *ssl)
{
#ifdef SSL_OP_ENABLE_KTLS
    if (SSL_get_options(ssl) & SSL_OP_ENABLE_KTLS)
        return BIO_get_ktls_send(SSL_get_wbio(ssl)) ? IN_KERNEL_ON : IN_KERNEL_OFF;
#endif
    return IN_KERNEL_UNASKED;
}

void tls_facts_note(struct tls_facts *facts, const SSL *ssl)
{
    const char          *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    const unsigned char *protocol;
    unsigned             length;

    facts->version = SSL_get_version(ssl);
    facts->was_resumed = SSL_session_reused(ssl) == 1;
    facts->in_kernel = in_kernel(ssl);
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
