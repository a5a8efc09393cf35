/*
 * tls_choice.c — names of certificates against what clients ask for.
 */
#include "tls_choice.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/host.h"
#include "tls/tls_contexts.h"

/* How a certificate may come to be shown; the better way first. */
enum way {
    BY_NAME,
    BY_WILDCARD,
    UNNAMED,
};

static X509 *certificate_of(const struct tls_server *server)
{
    return SSL_CTX_get0_certificate(server->context);
}

static bool matches(const struct tls_server *server, const char *name, size_t length, enum way way)
{
    unsigned flags =
        way == BY_NAME ? X509_CHECK_FLAG_NO_WILDCARDS : X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS;

    if (way == UNNAMED)
        return server->serves_unnamed;
    return length > 0 && X509_check_host(certificate_of(server), name, length, flags, NULL) == 1;
}

/* --- for a client ------------------------------------------------------------------------ */

/* Beside those that the client may be shown already; one of the same kind stays. */
static void add(SSL *ssl, const struct tls_server *server)
{
    STACK_OF(X509) *chain = NULL;

    SSL_CTX_get0_chain_certs(server->context, &chain);
    SSL_use_cert_and_key(ssl, certificate_of(server), SSL_CTX_get0_privatekey(server->context),
                         chain, 0);
}

static bool show(const struct tls_contexts *contexts, SSL *ssl, const char *name, enum way way)
{
    size_t length = host_length(name);
    bool   found = false;

    for (size_t i = 0; i < contexts->server_count; i++) {
        const struct tls_server *server = &contexts->servers[i];

        if (!matches(server, name, length, way))
            continue;
        if (found)
            add(ssl, server);
        else
            SSL_set_SSL_CTX(ssl, server->context);
        found = true;
    }
    return found;
}

void tls_choice_make(const struct tls_contexts *contexts, SSL *ssl, const char *name)
{
    if (name == NULL ||
        !(show(contexts, ssl, name, BY_NAME) || show(contexts, ssl, name, BY_WILDCARD)))
        show(contexts, ssl, "", UNNAMED);
    ERR_clear_error();
}

/* --- beforehand -------------------------------------------------------------------------- */

/* Those for which X509_check_host(3) looks: the common name only where there is no other.  The caller
 * frees them. */
static GENERAL_NAMES *names_of(X509 *certificate)
{
    GENERAL_NAMES   *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    const X509_NAME *subject = X509_get_subject_name(certificate);
    int              at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);

    if (names != NULL || at < 0)
        return names;
    const ASN1_STRING *text = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
    GENERAL_NAME      *name = GENERAL_NAME_new();
    ASN1_IA5STRING    *copy = ASN1_IA5STRING_new();
    names = GENERAL_NAMES_new();
    ASN1_STRING_set(copy, ASN1_STRING_get0_data(text), ASN1_STRING_length(text));
    GENERAL_NAME_set0_value(name, GEN_DNS, copy);
    sk_GENERAL_NAME_push(names, name);
    return names;
}

/* A wildcard is a name like any other here. */
static bool has_name(const struct tls_server *server, const GENERAL_NAME *name)
{
    int                type;
    const ASN1_STRING *value = GENERAL_NAME_get0_value(name, &type);
    X509              *certificate = certificate_of(server);

    if (type == GEN_DNS)
        return X509_check_host(certificate, (const char *)ASN1_STRING_get0_data(value),
                               (size_t)ASN1_STRING_length(value), X509_CHECK_FLAG_NO_WILDCARDS,
                               NULL) == 1;
    return type == GEN_IPADD && X509_check_ip(certificate, ASN1_STRING_get0_data(value),
                                              (size_t)ASN1_STRING_length(value), 0) == 1;
}

void tls_choice_prepare(const struct tls_contexts *contexts, struct tls_server *server)
{
    GENERAL_NAMES *names = names_of(certificate_of(&contexts->servers[0]));

    server->serves_unnamed = server == &contexts->servers[0];
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
        server->serves_unnamed |= has_name(server, sk_GENERAL_NAME_value(names, i));
    GENERAL_NAMES_free(names);
}

static int kind_of(const struct tls_server *server)
{
    return EVP_PKEY_get_base_id(X509_get0_pubkey(certificate_of(server)));
}

/* The first of this kind with the name (NULL: of those for clients that ask for nobody). */
static const struct tls_server *first_with(const struct tls_contexts *contexts,
                                           const GENERAL_NAME *name, int kind)
{
    for (size_t i = 0; i < contexts->server_count; i++) {
        const struct tls_server *server = &contexts->servers[i];

        if (kind_of(server) == kind &&
            (name != NULL ? has_name(server, name) : server->serves_unnamed))
            return server;
    }
    return NULL;
}

const struct tls_server *tls_choice_winner(const struct tls_contexts *contexts,
                                           const struct tls_server   *server)
{
    GENERAL_NAMES           *names = names_of(certificate_of(server));
    const struct tls_server *winner = server;
    int                      kind = kind_of(server);
    bool is_shown = server->serves_unnamed && first_with(contexts, NULL, kind) == server;

    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !is_shown; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type != GEN_DNS)
            continue;
        winner = first_with(contexts, name, kind);
        is_shown = winner == server;
    }
    GENERAL_NAMES_free(names);
    return is_shown ? NULL : winner;
}
