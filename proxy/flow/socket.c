/*
 * socket.c — setsockopt(2), ioctl(2) and errno, in our words.
 */
#include "socket.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum failure failure_of(int error)
{
    switch (error) {
    case ECONNRESET:
    case EPIPE:
        return FAILURE_RESET;
    case ECONNREFUSED:
    case ENOENT: /* a unix socket that is not there */
        return FAILURE_REFUSED;
    case ETIMEDOUT:
        return FAILURE_TIMED_OUT;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
    case EACCES:
    case EPERM:
        return FAILURE_UNREACHABLE;
    case EMFILE:
    case ENFILE:
        return FAILURE_NO_DESCRIPTOR;
    case EADDRNOTAVAIL:
        return FAILURE_NO_PORT;
    case ENOMEM:
    case ENOBUFS:
        return FAILURE_NO_MEMORY;
    default:
        return FAILURE_LOCAL;
    }
}

static void tune(int socket, int level, int option, int value)
{
    setsockopt(socket, level, option, &value, sizeof value);
}

void socket_tune(int socket, int family, const struct socket_settings *settings)
{
    if (settings->send_buffer > 0)
        tune(socket, SOL_SOCKET, SO_SNDBUF, settings->send_buffer);
    if (settings->receive_buffer > 0)
        tune(socket, SOL_SOCKET, SO_RCVBUF, settings->receive_buffer);
    if (family == AF_UNIX)
        return;
    tune(socket, IPPROTO_TCP, TCP_NODELAY, 1);
    tune(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
    tune(socket, IPPROTO_TCP, TCP_KEEPIDLE, 60);
    tune(socket, IPPROTO_TCP, TCP_KEEPINTVL, 10);
    tune(socket, IPPROTO_TCP, TCP_KEEPCNT, 6);
    if (settings->user_timeout > 0)
        tune(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)(settings->user_timeout * 1000));
}

void socket_reset(int socket)
{
    struct linger now = { .l_onoff = 1, .l_linger = 0 };

    setsockopt(socket, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(socket);
}

size_t socket_unacknowledged(int socket)
{
    int bytes = 0;

    return ioctl(socket, SIOCOUTQ, &bytes) == 0 && bytes > 0 ? (size_t)bytes : 0;
}
