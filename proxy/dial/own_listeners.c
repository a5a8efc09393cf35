/*
 * own_listeners.c — an address against our listeners; whose host it is, the kernel is asked.
 */
#include "dial/own_listeners.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"

/* 0: a socket can be bound to it; else errno.  A datagram socket leaves the port of a listener free. */
static int error_of_binding(const struct address *address)
{
    struct address any_port = *address;
    int            probe = socket(address->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    address_set_port(&any_port, 0);
    if (probe < 0)
        return errno;
    int error = bind(probe, &any_port.any, any_port.length) == 0 ? 0 : errno;
    close(probe);
    return error;
}

bool address_is_local(const struct address *address)
{
    return error_of_binding(address) == 0;
}

bool address_is_elsewhere(const struct address *address)
{
    return error_of_binding(address) == EADDRNOTAVAIL;
}

bool address_is_own_listener(const struct address *address, const struct address *listeners,
                             size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (address_equal(address, &listeners[i]))
            return true;
        if (address->any.sa_family == AF_UNIX || listeners[i].any.sa_family == AF_UNIX ||
            address_port(address) != address_port(&listeners[i]))
            continue;
        bool reaches = listeners[i].any.sa_family == AF_INET6 || address->any.sa_family == AF_INET;
        if (reaches && address_is_wildcard(&listeners[i]) &&
            (address_is_wildcard(address) || address_is_local(address)))
            return true;
        /* Connecting to the unspecified address reaches the loopback listener. */
        if (address_is_wildcard(address) && address_is_loopback(&listeners[i]))
            return true;
    }
    return false;
}
