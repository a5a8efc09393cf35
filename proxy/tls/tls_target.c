/*
 * tls_target.c — the client's side of TLS: whom we ask for, whom we believe, and what we resume.
 */
#include <assert.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/host.h"
#include "config/config.h"
#include "tls/tls_contexts.h"
#include "tls/tls_inside.h"

struct upstream *tls_target_find(struct tls_contexts *contexts, const struct target_config *target)
{
    size_t i = 0;

    while (contexts->upstreams[i].target != target) {
        i++;
        assert(i < contexts->upstream_count);
    }
    return &contexts->upstreams[i];
}

/* Kept for the next connection: on_session() is called for each ticket that comes. */
static int on_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls      *tls = SSL_get_app_data(ssl);
    struct upstream *upstream = tls->upstream;
    char *name = tls->facts.server_name != NULL ? strdup(tls->facts.server_name) : NULL;

    if ((tls->facts.server_name != NULL && name == NULL) ||
        SSL_SESSION_is_resumable(session) != 1) {
        free(name);
        return 0;
    }
    SSL_SESSION_free(upstream->session);
    free(upstream->session_name);
    upstream->session = session;
    upstream->session_name = name;
    return 1;
}

static bool same_name(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && host_equal(a, b));
}

/* A session is resumed only with the name it was made with, or a server with several certificates
 * would be taken for another one. */
static void offer_session(struct tls *tls)
{
    struct upstream *upstream = tls->upstream;

    SSL_CTX_sess_set_new_cb(upstream->context, on_session);
    if (upstream->session != NULL && same_name(upstream->session_name, tls->facts.server_name))
        SSL_set_session(tls->ssl, upstream->session);
}

/* As bytes: certificates know no zone (fe80::1%eth0). */
static bool expect_address(struct tls *tls, const struct address *address)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(tls->ssl);

    if (address->any.sa_family == AF_INET)
        return X509_VERIFY_PARAM_set1_ip(param, (const unsigned char *)&address->v4.sin_addr,
                                         sizeof address->v4.sin_addr) == 1;
    return X509_VERIFY_PARAM_set1_ip(param, address->v6.sin6_addr.s6_addr,
                                     sizeof address->v6.sin6_addr) == 1;
}

/* Whom the certificate must be for is the operator's word alone, not the client's. */
static bool expect_peer(struct tls *tls, const struct target_config *target)
{
    const char    *expected = target->sni != NULL ? target->sni : target->endpoint.host;
    struct address numeric;

    if (!target->verify)
        return true;
    if (address_parse(&numeric, expected, 0))
        return expect_address(tls, &numeric);
    SSL_set_hostflags(tls->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(tls->ssl, expected) == 1;
}

/* Addresses are no server names (RFC 6066, 3). */
static bool say_server_name(struct tls *tls, const struct target_config *target, const char *hint)
{
    const char    *name = target->sni != NULL ? target->sni : hint;
    struct address numeric;

    if (name == NULL)
        name = target->endpoint.host;
    if (address_parse(&numeric, name, 0))
        return true;
    tls->facts.server_name = strdup(name);
    return tls->facts.server_name != NULL && SSL_set_tlsext_host_name(tls->ssl, name) == 1;
}

static bool say_protocol(struct tls *tls, const struct target_config *target, const char *hint)
{
    unsigned char one[256];

    if (hint == NULL || target->alpn.count > 0)
        return true;
    one[0] = (unsigned char)strlen(hint);
    memcpy(&one[1], hint, one[0]);
    return SSL_set_alpn_protos(tls->ssl, one, one[0] + 1U) == 0;
}

bool tls_target_prepare(struct tls *tls, const struct tls_hints *hints)
{
    const struct target_config *target = tls->upstream->target;

    tls->promised = hints->protocol;
    if (!expect_peer(tls, target) || !say_server_name(tls, target, hints->server_name) ||
        !say_protocol(tls, target, hints->protocol))
        return false;
    offer_session(tls);
    return true;
}

/* A server that does not know ALPN speaks HTTP/1 to those who ask for it. */
const char *tls_broken_promise(struct tls *tls)
{
    const char *agreed = tls->facts.protocol;
    const char *promised = tls->promised;
    bool is_kept =
        promised == NULL || (agreed != NULL ? strcmp(agreed, promised) == 0
                                            : strncmp(promised, "http/1.", strlen("http/1.")) == 0);

    tls->promised = NULL; /* it was only borrowed */
    if (is_kept || tls->upstream->told_of_promise)
        return NULL;
    tls->upstream->told_of_promise = true;
    return promised;
}
