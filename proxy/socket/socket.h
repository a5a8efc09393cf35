/*
 * socket.h — what we set on sockets, how we close them hard, and what their errors mean.
 */
#ifndef SOCKET_SOCKET_H
#define SOCKET_SOCKET_H

#include <stdbool.h>
#include <stddef.h>

struct address;

enum failure {
    FAILURE_NONE,
    FAILURE_RESET,
    FAILURE_REFUSED,
    FAILURE_UNREACHABLE,
    FAILURE_CONNECT_TIMEOUT,
    FAILURE_TIMED_OUT,       /* an open connection's peer vanished: keepalive, user timeout */
    FAILURE_NAME,            /* it did not resolve */
    FAILURE_NO_DESCRIPTOR,
    FAILURE_NO_PORT,
    FAILURE_NO_MEMORY,
    FAILURE_TLS,             /* the handshake, a certificate, or a record */
    FAILURE_TLS_EOF,         /* TLS ended without close_notify, with --tls-strict-eof */
    FAILURE_LOOP,            /* it led back to ourselves */
    FAILURE_PROXY_HEADER,    /* the peer did not begin as it must */
    FAILURE_LOCAL,           /* another system call failed */
};

/* The failure that this errno of connect(2), read(2) or write(2) means. */
enum failure failure_of(int error);
/* The kernel had no memory for the call (ENOBUFS, ENOMEM).  No event says when it has: the socket is
 * ready all the time. */
bool error_is_shortage(int error);

/* 0 leaves the kernel's choice. */
struct socket_settings {
    double user_timeout;   /* seconds, TCP_USER_TIMEOUT of tcp(7) */
    int    send_buffer;    /* bytes, SO_SNDBUF and SO_RCVBUF of socket(7) */
    int    receive_buffer;
};

/* TCP_NODELAY and the settings; on a listening socket they are inherited by what it accepts
 * (socket(7)), like the next.  Best effort: a failure costs comfort only. */
void socket_tune(int socket, int family, const struct socket_settings *);

/* Keepalive: after 60 s of silence, then 6 times every 10 s.  Best effort, too. */
void socket_keep_alive(int socket, int family);

/* Closes it so that its peer gets RST and nothing that is still unsent (socket(7), SO_LINGER); it
 * leaves no TIME_WAIT behind. */
void socket_reset(int socket);

/* Fewer bytes than this do not make it readable; the peer's end and its reset do (SO_RCVLOWAT of
 * socket(7); the kernel caps it so that the window stays open).  TCP only; best effort. */
void socket_wake_at(int socket, int bytes);

/* Its own address (getsockname(2)). */
bool socket_local(int socket, struct address *);
/* It has a peer (getpeername(2)), whatever SO_ERROR says. */
bool socket_is_connected(int socket);
/* TCP may connect a socket to itself, when its own port was chosen as the one of this address. */
bool socket_is_its_own_peer(int socket, const struct address *);

/* Bytes written but not acknowledged by the peer (SIOCOUTQ of tcp(7)); 0 when unknown. */
size_t socket_unacknowledged(int socket);

#endif
