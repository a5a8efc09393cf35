/*
 * dns_datagrams.c — c-ares sees no datagram that is no DNS message.
 *
 * What is a message c-ares itself decides, by the same function that it calls afterwards.  A message
 * that answers another question, or comes from elsewhere, is its business: it ignores that.
 */
#include "flow/dns_datagrams.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define CARES_NO_DEPRECATED /* ares_set_socket_functions() */
#include <ares.h>

#if ARES_VERSION >= 0x012200

#define DROPPED_MOST 64 /* in one turn; the loop calls again while there are more */

static bool is_message(const void *bytes, size_t size)
{
    ares_dns_record_t *record = NULL;
    ares_status_t status = ares_dns_parse(bytes, size, 0, &record);

    ares_dns_record_destroy(record);
    return status == ARES_SUCCESS || status == ARES_ENOMEM;
}

/* c-ares wants no address of a TCP connection's bytes, which only the server can have sent. */
static ares_ssize_t receive(ares_socket_t fd, void *buffer, size_t size, int flags,
                            struct sockaddr *from, ares_socklen_t *length, void *unused)
{
    (void)unused;
    if (from == NULL || length == NULL)
        return recv(fd, buffer, size, flags);
    const ares_socklen_t room = *length;
    for (int i = 0; i < DROPPED_MOST; i++) {
        ssize_t received = recvfrom(fd, buffer, size, flags, from, length);
        if (received < 0 || is_message(buffer, (size_t)received))
            return received;
        *length = room;
    }
    errno = EAGAIN;
    return -1;
}

/* The newer call, ares_set_socket_functions_ex(), wants them all; this one takes c-ares's own for
 * those that are missing, except for the names of interfaces in servers' addresses: set before. */
void dns_datagrams_filter(struct ares_channeldata *ares)
{
    static const struct ares_socket_functions functions = { .arecvfrom = receive };

    ares_set_socket_functions(ares, &functions, NULL);
}

#else

void dns_datagrams_filter(struct ares_channeldata *ares) { (void)ares; }

#endif
