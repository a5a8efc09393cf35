/*
 * origin.c — socket options of the kernel's address translation and transparent proxying.
 */
#include "socket/origin.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fault.h"
#include "config/config.h"
#include "socket/socket.h"

/* One number for IPv4 and IPv6 (linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h), whose
 * headers do not go together with libc's. */
#define ORIGINAL_DESTINATION 80

/* --- where the client was going ---------------------------------------------------------- */

bool origin_destination(int socket, struct address *destination)
{
    struct sockaddr_storage original = { 0 };
    socklen_t               length = sizeof original;

    if (!socket_local(socket, destination))
        return false;
    if (destination->any.sa_family != AF_INET && destination->any.sa_family != AF_INET6)
        return false;
    /* Unmapped: an IPv4 connection is IPv4 here, whatever its socket is. */
    int level = destination->any.sa_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
    if (getsockopt(socket, level, ORIGINAL_DESTINATION, &original, &length) == 0)
        address_set(destination, (struct sockaddr *)&original, length);
    return true;
}

/* --- from where we connect --------------------------------------------------------------- */

bool origin_allow_foreign(int socket, int family)
{
    int on = 1;

    if (family == AF_INET6)
        return setsockopt(socket, IPPROTO_IPV6, IPV6_TRANSPARENT, &on, sizeof on) == 0;
    return setsockopt(socket, IPPROTO_IP, IP_TRANSPARENT, &on, sizeof on) == 0;
}

static bool refuse(const struct address *source, struct fault *fault)
{
    int  error = errno;
    char text[ADDRESS_TEXT];

    address_print_host(source, text);
    return fault_set(fault, "cannot connect from %s: %s", text,
                     error == EADDRNOTAVAIL ? "it is no address of this machine"
                                            : strerrordesc_np(error));
}

static bool bind_host(int socket, const struct address *source, struct fault *fault)
{
    struct address any_port = *source;
    int            on = 1;

    address_set_port(&any_port, 0);
    setsockopt(socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    return bind(socket, &any_port.any, any_port.length) == 0 || refuse(source, fault);
}

static bool bind_client(int socket, int family, const struct address *client, struct fault *fault)
{
    if (client->any.sa_family != family)
        return fault_set(fault, "cannot connect from the client's address: it is %s",
                         family == AF_INET ? "not IPv4" : "not IPv6");
    if (!origin_allow_foreign(socket, family))
        return refuse(client, fault);
    return bind_host(socket, client, fault);
}

static const struct address *of_family(const struct source_addresses *sources, int family)
{
    return family == AF_INET ? &sources->v4 : &sources->v6;
}

bool origin_bind(int socket, int family, const struct origin_sources *sources, struct fault *fault)
{
    if (sources->client->length > 0)
        return bind_client(socket, family, sources->client, fault);
    if (family != AF_INET && family != AF_INET6)
        return true;
    if (of_family(sources->target, family)->length > 0)
        return bind_host(socket, of_family(sources->target, family), fault);
    if (of_family(sources->all, family)->length > 0)
        return bind_host(socket, of_family(sources->all, family), fault);
    return true;
}

/* --- before we start --------------------------------------------------------------------- */

static bool may_be_transparent(struct fault *fault)
{
    int  probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool may = probe >= 0 && origin_allow_foreign(probe, AF_INET);
    int  error = errno;

    if (probe >= 0)
        close(probe);
    if (may)
        return true;
    return fault_set(fault, "--transparent is not possible: %s%s", strerrordesc_np(error),
                     error == EPERM ? "; start doppel with the capability CAP_NET_ADMIN" : "");
}

static bool may_bind(const struct address *source, struct fault *fault)
{
    if (source->length == 0)
        return true;
    int  probe = socket(source->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool may = probe >= 0 ? bind_host(probe, source, fault) : refuse(source, fault);

    if (probe >= 0)
        close(probe);
    return may;
}

static bool may_bind_both(const struct source_addresses *sources, struct fault *fault)
{
    return may_bind(&sources->v4, fault) && may_bind(&sources->v6, fault);
}

bool origin_check(const struct config *config, struct fault *fault)
{
    if (config->transparent && !may_be_transparent(fault))
        return false;
    for (size_t i = 0; i < config->primary_count; i++) {
        if (!may_bind_both(&config->primaries[i].source, fault))
            return false;
    }
    for (size_t i = 0; i < config->shadow_count; i++) {
        if (!may_bind_both(&config->shadows[i].target.source, fault))
            return false;
    }
    return may_bind_both(&config->source, fault);
}
