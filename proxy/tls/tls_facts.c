/*
 * tls_facts.c — asks OpenSSL once, when the handshake is done; then the connection may go.
 */
#include "tls_facts.h"

#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "base/host.h"

#define NAME_MAX 255 /* X.520 has 64 characters */

/* NULL: it has none, or one that is too long or has a NUL byte in it: half a name is another one. */
static char *common_name_of(const X509 *certificate)
{
    const X509_NAME *subject = X509_get_subject_name(certificate);
    int              at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    unsigned char   *text = NULL;
    char            *name = NULL;

    if (at < 0)
        return NULL;
    const ASN1_STRING *entry = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
    int                length = ASN1_STRING_to_UTF8(&text, entry);
    if (length > 0 && length <= NAME_MAX && memchr(text, '\0', (size_t)length) == NULL)
        name = strndup((const char *)text, (size_t)length);
    OPENSSL_free(text);
    return name;
}

static void note_client(struct tls_facts *facts, const SSL *ssl)
{
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    const X509 *certificate = SSL_get0_peer_certificate(ssl);

    if (name != NULL && host_length(name) > 0)
        facts->server_name = strndup(name, host_length(name));
    facts->has_certificate = certificate != NULL && SSL_get_verify_result(ssl) == X509_V_OK;
    if (facts->has_certificate)
        facts->common_name = common_name_of(certificate);
}

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
    const unsigned char *protocol;
    unsigned             length;

    facts->version = SSL_get_version(ssl);
    facts->cipher = SSL_CIPHER_get_name(SSL_get_current_cipher(ssl));
    facts->was_resumed = SSL_session_reused(ssl) == 1;
    facts->in_kernel = in_kernel(ssl);
    if (SSL_is_server(ssl))
        note_client(facts, ssl);
    SSL_get0_alpn_selected(ssl, &protocol, &length);
    if (length > 0)
        facts->protocol = strndup((const char *)protocol, length);
}

void tls_facts_clear(struct tls_facts *facts)
{
    free(facts->server_name);
    free(facts->protocol);
    free(facts->common_name);
    *facts = (struct tls_facts){ 0 };
}
