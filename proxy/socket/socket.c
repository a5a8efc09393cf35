/*
 * socket.c — setsockopt(2), ioctl(2) and errno, in our words.
 */
#include "socket.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "base/log.h"

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

bool error_is_shortage(int error)
{
    return error == ENOBUFS || error == ENOMEM;
}

struct socket_option {
    const char *name;
    int         level;
    int         option;
    int         value;
};

/* An option that the kernel refuses costs comfort; it is said once for all. */
static void tune(int socket, const struct socket_option *option)
{
    static bool has_warned;

    if (setsockopt(socket, option->level, option->option, &option->value, sizeof option->value) ==
            0 ||
        has_warned)
        return;
    has_warned = true;
    log_warning("sockets", "option_refused", "option=%s why=%s", option->name,
                strerrordesc_np(errno));
}

static void tune_buffers(int socket, const struct socket_settings *settings)
{
    const struct socket_option buffers[] = {
        { "SO_SNDBUF", SOL_SOCKET, SO_SNDBUF, settings->send_buffer },
        { "SO_RCVBUF", SOL_SOCKET, SO_RCVBUF, settings->receive_buffer },
    };

    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) {
        if (buffers[i].value > 0)
            tune(socket, &buffers[i]);
    }
}

void socket_tune(int socket, int family, const struct socket_settings *settings)
{
    static const struct socket_option no_delay = { "TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY, 1 };
    const struct socket_option timeout = { "TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT,
                                           (int)(settings->user_timeout * 1000) };

    tune_buffers(socket, settings);
    if (family == AF_UNIX)
        return;
    tune(socket, &no_delay);
    if (timeout.value > 0)
        tune(socket, &timeout);
}

void socket_keep_alive(int socket, int family)
{
    static const struct socket_option options[] = {
        { "SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, 1 },
        { "TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE, 60 },
        { "TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL, 10 },
        { "TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT, 6 },
    };

    for (size_t i = 0; family != AF_UNIX && i < sizeof options / sizeof options[0]; i++)
        tune(socket, &options[i]);
}

void socket_wake_at(int socket, int bytes)
{
    const struct socket_option min = { "SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT, bytes };

    tune(socket, &min);
}

void socket_reset(int socket)
{
    struct linger now = { .l_onoff = 1, .l_linger = 0 };

    setsockopt(socket, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(socket);
}

bool socket_local(int socket, struct address *address)
{
    struct sockaddr_storage storage;
    socklen_t               length = sizeof storage;

    if (getsockname(socket, (struct sockaddr *)&storage, &length) != 0)
        return false;
    address_set(address, (struct sockaddr *)&storage, length);
    return true;
}

bool socket_is_connected(int socket)
{
    struct sockaddr_storage storage;
    socklen_t               length = sizeof storage;

    return getpeername(socket, (struct sockaddr *)&storage, &length) == 0;
}

bool socket_is_its_own_peer(int socket, const struct address *peer)
{
    struct address own;

    return peer->any.sa_family != AF_UNIX && socket_local(socket, &own) &&
           address_equal(&own, peer);
}

size_t socket_unacknowledged(int socket)
{
    int bytes = 0;

    return ioctl(socket, SIOCOUTQ, &bytes) == 0 && bytes > 0 ? (size_t)bytes : 0;
}
