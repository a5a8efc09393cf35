/*
 * tls_socket.h — the socket under an SSL of OpenSSL: few system calls, and what a kernel without memory
 * means.
 *
 *     SSL ◀── header, body, ... ◀── bytes ahead ◀── recv(2)    one for several questions
 *     SSL ──▶ record ──▶ send(2) ──▶ ENOBUFS ──▶ "try again", and a note that no event will say when
 *
 * What was received and not asked for stays with the connection between two operations: 4 KiB at most,
 * and nothing when the SSL waits for bytes.  With --tls-ktls the SSL has the socket for itself.
 */
#ifndef FLOW_TLS_SOCKET_H
#define FLOW_TLS_SOCKET_H

#include <stdbool.h>
#include <stddef.h>

struct ssl_st; /* SSL of OpenSSL */

struct tls_socket {
    int         fd;
    const char *ahead;      /* received, and not asked for yet: in the scratch, or kept */
    size_t      ahead_length;
    char       *kept;       /* NULL: it is in the scratch, which is everybody's */
    bool        is_starved; /* a call found no memory in the kernel; the caller clears it */
    bool        is_empty;   /* the last receive says so: the next one need not ask */
    bool        is_at_end;
    bool        is_lost;    /* there was no memory to keep what was ahead: the next read fails */
};

/* Gives the SSL this descriptor, which stays the caller's; the struct must live as long as the SSL does.
 * False: no memory. */
bool tls_socket_attach(struct tls_socket *, struct ssl_st *, int fd);
/* After the SSL is gone. */
void tls_socket_release(struct tls_socket *);

/* Call it after each operation, which may have been several calls of the SSL: another connection's may
 * be next. */
void tls_socket_settle(struct tls_socket *);
/* A read would find something although the socket has nothing. */
bool tls_socket_has_pending(const struct tls_socket *);

#endif
