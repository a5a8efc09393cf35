/*
 * tls_socket.h — the socket under an SSL of OpenSSL: few system calls, a bound on each turn, and what
 * errors of the kernel mean.
 *
 *     SSL ◀── header, body, ... ◀── bytes ahead ◀── recv(2)    one for several questions
 *     SSL ──▶ record ──▶ send(2) ──▶ ENOBUFS ──▶ "try again", and a note that no event will say when
 *
 * OpenSSL reads on for as long as a peer sends records that hold no data.  So the socket gives each
 * operation a limited number of bytes and of records; then it says "try again", as if it were empty.
 *
 * The first call that fails is remembered: the kernel reports an error once, and OpenSSL does not pass
 * every error on.  After it, an end of the bytes is a failure.
 *
 * What was received and not asked for stays with the connection between two operations: 4 KiB at most,
 * and nothing when the SSL waits for bytes.  With --tls-ktls the SSL has the socket for itself.
 */
#ifndef TLS_TLS_SOCKET_H
#define TLS_TLS_SOCKET_H

#include <stdbool.h>
#include <stddef.h>

struct ssl_st; /* SSL of OpenSSL */

struct tls_socket {
    int         fd;
    int         error;      /* errno of the first call that failed; 0: none has */
    unsigned    reads_left; /* of the SSL, in this operation */
    size_t      bytes_left; /* the same in bytes; the last read may exceed it */
    const char *ahead;      /* received, and not asked for yet: in the scratch, or kept */
    size_t      ahead_length;
    char       *kept;       /* NULL: it is in the scratch, which is everybody's */
    bool waits_for_kernel_memory; /* a call found no memory in the kernel; the caller clears it */
    bool        is_delayed; /* a read was told to try again; the caller clears it */
    bool is_cut;     /* ... because the operation had taken enough: the socket may have more */
    bool        is_empty;   /* the last receive says so: the next one need not ask */
    bool        is_at_end;
    bool        is_lost;    /* there was no memory to keep what was ahead: the next read fails */
};

/* Gives the SSL this descriptor, which stays the caller's; the struct must live as long as the SSL does.
 * False: no memory. */
bool tls_socket_attach(struct tls_socket *, struct ssl_st *, int fd);
/* After the SSL is gone. */
void tls_socket_release(struct tls_socket *);

/* Call it before each operation: it receives about this many bytes at most, and a limited number of
 * records. */
void tls_socket_begin(struct tls_socket *, size_t bytes);
/* Call it after each operation, which may have been several calls of the SSL: another connection's may
 * be next. */
void tls_socket_settle(struct tls_socket *);
/* A read would find something although the socket has nothing. */
bool tls_socket_has_pending(const struct tls_socket *);

#endif
