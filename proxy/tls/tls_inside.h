/*
 * tls_inside.h — what tls.c and tls_target.c know of each other; nobody else includes it.
 *
 *     tls.c ──a new one towards a target──▶ tls_target.c
 */
#ifndef TLS_TLS_INSIDE_H
#define TLS_TLS_INSIDE_H

#include <stdbool.h>
#include <stddef.h>

#include "tls/tls.h"
#include "tls/tls_facts.h"
#include "tls/tls_socket.h"

struct ssl_st; /* SSL of OpenSSL */
struct target_config;
struct tls_contexts;
struct upstream;

struct tls {
    const struct tls_contexts *contexts;
    struct upstream           *upstream;    /* NULL: accepted */
    struct ssl_st             *ssl;         /* NULL: closed */
    struct tls_socket          socket;
    struct tls_facts           facts;       /* the client's side knows the server's name at once */
    const char                *promised;    /* to the client by ALPN; NULL: nothing */
    char                      *why;
    size_t unfinished; /* bytes of the write that has to be repeated; 0: none */
    size_t   handshake_bytes; /* taken so far */
    unsigned messages;        /* without data since the handshake; each byte of data forgives one */
    unsigned messages_left;   /* in this turn */
    int                        error;
    enum io                    read_end;    /* IO_OK: reading goes on */
    bool                       read_waits_for_room : 1;
    bool                       write_waits_for_bytes : 1;
    bool                       has_failed : 1; /* nothing may be said any more */
    bool                       is_truncated : 1;
    bool                       owes_ticket : 1;
    bool                       is_drained : 1;
    bool                       has_messages : 1; /* the last read left some to OpenSSL */
};

struct upstream *tls_target_find(struct tls_contexts *, const struct target_config *);
/* Says to its upstream whom we want and in which protocol, and offers the session that was last there;
 * tls_broken_promise() (tls.h) is there, too.  False: no memory. */
bool tls_target_prepare(struct tls *, const struct tls_hints *);

#endif
