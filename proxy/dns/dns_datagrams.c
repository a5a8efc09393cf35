/*
 * dns_datagrams.c — c-ares's sockets, with our own recvfrom(2).
 *
 * What is a message c-ares itself decides, by the same function that it calls afterwards.  A message
 * that answers another question, or comes from elsewhere, is its business: it ignores that.
 */
#include "dns/dns_datagrams.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define CARES_NO_DEPRECATED /* ares_set_socket_functions() */
#include <ares.h>

#include "base/address.h"
#include "dns/servers.h"

#define RECEIVES_MAX 64 /* in one turn: datagrams, or pieces of answers over TCP */

void dns_datagrams_begin(struct dns_datagrams *datagrams)
{
    datagrams->left = RECEIVES_MAX;
}

#if ARES_VERSION >= 0x012200

static bool is_message(const void *bytes, size_t size)
{
    ares_dns_record_t *record = NULL;
    ares_status_t status = ares_dns_parse(bytes, size, 0, &record);

    ares_dns_record_destroy(record);
    return status == ARES_SUCCESS || status == ARES_ENOMEM;
}

#else

static bool is_message(const void *bytes, size_t size)
{
    (void)bytes;
    (void)size;
    return true;
}

#endif

/* c-ares wants no address of a TCP connection's bytes, which only the server can have sent. */
static ares_ssize_t receive(ares_socket_t fd, void *buffer, size_t size, int flags,
                            struct sockaddr *from, ares_socklen_t *length, void *owner)
{
    struct dns_datagrams *datagrams = owner;
    const ares_socklen_t room = length != NULL ? *length : 0;

    while (datagrams->left > 0) {
        datagrams->left--;
        if (from == NULL || length == NULL)
            return recv(fd, buffer, size, flags);
        *length = room;
        ssize_t received = recvfrom(fd, buffer, size, flags, from, length);
        if (received < 0 || is_message(buffer, (size_t)received))
            return received;
    }
    errno = EAGAIN;
    return -1;
}

#if ARES_VERSION >= 0x012200

/* The newer call, ares_set_socket_functions_ex(), wants them all; this one takes c-ares's own for
 * those that are missing, except for the names of interfaces in servers' addresses: set before. */
static const struct ares_socket_functions functions = { .arecvfrom = receive };

#else

/* Older versions call all of them, and leave it to us how a socket is made. */

static ares_socket_t make_socket(int family, int type, int protocol, void *owner)
{
    (void)owner;
    return socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
}

static int close_socket(ares_socket_t fd, void *owner)
{
    (void)owner;
    return close(fd);
}

static int connect_socket(ares_socket_t fd, const struct sockaddr *to, ares_socklen_t length,
                          void *owner)
{
    const struct dns_datagrams *datagrams = owner;
    struct address              server;

    address_set(&server, to, length);
    servers_set_zone(datagrams->servers, &server);
    return connect(fd, &server.any, server.length);
}

static ares_ssize_t send_pieces(ares_socket_t fd, const struct iovec *pieces, int count,
                                void *owner)
{
    (void)owner;
    return writev(fd, pieces, count);
}

static const struct ares_socket_functions functions = {
    .asocket = make_socket,
    .aclose = close_socket,
    .aconnect = connect_socket,
    .arecvfrom = receive,
    .asendv = send_pieces,
};

#endif

void dns_datagrams_filter(struct ares_channeldata *ares, struct dns_datagrams *datagrams,
                          const struct servers *servers)
{
    datagrams->servers = servers;
    dns_datagrams_begin(datagrams);
    ares_set_socket_functions(ares, &functions, datagrams);
}
