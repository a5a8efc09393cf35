/*
 * wire.h — a client's connection, plain or TLS, as bytes that may not be ready yet.
 */
#ifndef BENCHMARK_WIRE_H
#define BENCHMARK_WIRE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum moved { MOVED_SOME, MOVED_NOTHING, MOVED_END, MOVED_FAILED };

struct wire {
    int fd;
    struct ssl_st *tls; /* NULL: plain */
    bool needs_write;   /* after MOVED_NOTHING: what it waits for is room, not bytes */
    bool has_ended;     /* our side, towards the peer */
    size_t midway;      /* bytes of records that OpenSSL has begun to send; 0: none */
    const char *why;    /* after MOVED_FAILED */
};

/* All wires that are opened from now on speak TLS 1.3, with one suite, so that every proxy has the
 * same work; nothing is verified and nothing resumed. */
void wire_use_tls(void);

/* Begins to connect; false, with why, when not even that is possible. */
bool wire_open(struct wire *, const struct sockaddr_in *address);

/* Goes on opening: MOVED_SOME when the wire is open, MOVED_NOTHING while it is not. */
enum moved wire_go_on_opening(struct wire *);

/* Sends at most size of some bytes, the same ones each time. */
enum moved wire_send(struct wire *, size_t size, size_t *moved);

/* Forgets at most most bytes that have come. */
enum moved wire_receive(struct wire *, size_t max, size_t *moved);

/* No more bytes from us; not midway.  MOVED_NOTHING: later, call it again. */
enum moved wire_end(struct wire *);

void wire_close(struct wire *);

#endif
