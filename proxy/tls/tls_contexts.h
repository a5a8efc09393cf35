/*
 * tls_contexts.h — certificates, keys and trust, read once and shared by all workers.
 *
 *     supervisor ──tls_contexts_new()──▶ contexts ══fork══▶ every worker: the same ticket keys
 *
 * The parts are for tls.c and files that begin with tls_; everybody else passes the pointer on.
 */
#ifndef TLS_TLS_CONTEXTS_H
#define TLS_TLS_CONTEXTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config;
struct fault;
struct ssl_ctx_st;     /* SSL_CTX of OpenSSL */
struct ssl_session_st; /* SSL_SESSION */
struct target_config;

/* One certificate for clients. */
struct tls_server {
    struct ssl_ctx_st *context;
    const char        *file;
    bool               serves_unnamed; /* shown to clients that ask for no name that we have */
};

/* One tls:// target. */
struct upstream {
    const struct target_config *target;
    struct ssl_ctx_st          *context;
    struct ssl_session_st      *session;  /* of the latest connection, to be resumed; NULL: none */
    char                       *session_name; /* the server name it was made with; NULL: none */
    bool                        told_of_promise; /* see tls_broken_promise() */
};

struct tls_contexts {
    struct tls_server  *servers;   /* see tls/tls_choice.h; the first one has the ticket keys */
    size_t              server_count;
    unsigned char      *protocols; /* of --tls-alpn, as the extension has them (RFC 7301) */
    size_t              protocols_length;
    struct upstream    *upstreams;
    size_t              upstream_count;
    bool                strict_eof;
    _Atomic uint64_t   *truncations; /* NULL: nobody counts */
};

/* Reads all that this configuration names; the configuration must outlive it.  NULL: one of them
 * cannot be used, or there is no authority to verify with; the fault says which and why. */
struct tls_contexts *tls_contexts_new(const struct config *, struct fault *);
void                 tls_contexts_free(struct tls_contexts *);
/* What an operator should know of a file: a private key that everybody on this machine may read, a
 * certificate that no client will ever be shown. */
typedef void tls_warning(void *owner, const char *event, const char *file, const char *why);
void tls_contexts_warn(const struct tls_contexts *, const struct config *, tls_warning *,
                       void *owner);
/* Connections that end without close_notify are counted there. */
void tls_contexts_count_truncations(struct tls_contexts *, _Atomic uint64_t *cell);

/* "OpenSSL 3.0.17, compiled with 3.0.17".  Static memory. */
const char *tls_library_version(void);

#endif
