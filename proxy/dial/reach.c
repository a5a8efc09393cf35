/*
 * reach.c — the file system, the routes and the table of listening sockets are asked.
 */
#include "dial/reach.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/address.h"
#include "dial/own_listeners.h"

#define TCP_LISTENING 10        /* TCP_LISTEN of the kernel's include/net/tcp_states.h */
#define ANSWER_BYTES  (32 * 1024) /* of one recv(2): as much as the kernel writes at once */

/* --- listening sockets ------------------------------------------------------------------- */

struct question {
    struct nlmsghdr          head;
    struct inet_diag_req_v2 about;
};

/* Everything that listens with this family. */
static bool ask(int netlink, int family)
{
    const struct question question = {
        .head = { .nlmsg_len = sizeof question,
                  .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                  .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
        .about = { .sdiag_family = (uint8_t)family,
                   .sdiag_protocol = IPPROTO_TCP,
                   .idiag_states = 1U << TCP_LISTENING },
    };

    /* The kernel's address.  Not send(2): tests of PROXY headers make the first one of a worker fail. */
    const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };

    return sendto(netlink, &question, sizeof question, 0, (const struct sockaddr *)&kernel,
                  sizeof kernel) == sizeof question;
}

/* A socket at [::] may take IPv4, too: whether it does is not looked at. */
static bool takes(const struct inet_diag_msg *socket, const struct address *address)
{
    struct address bound = { .length = sizeof bound.v6 };

    bound.any.sa_family = socket->idiag_family;
    if (ntohs(socket->id.idiag_sport) != address_port(address))
        return false;
    if (socket->idiag_family == AF_INET6)
        memcpy(&bound.v6.sin6_addr, socket->id.idiag_src, sizeof bound.v6.sin6_addr);
    else
        memcpy(&bound.v4.sin_addr, socket->id.idiag_src, sizeof bound.v4.sin_addr);
    struct address unmapped;
    address_set(&unmapped, &bound.any,
                socket->idiag_family == AF_INET6 ? sizeof bound.v6 : sizeof bound.v4);
    if (unmapped.any.sa_family == AF_INET6)
        unmapped.v6.sin6_scope_id = address->v6.sin6_scope_id;
    return address_is_wildcard(&unmapped) || address_is_wildcard(address) ||
           address_same_host(&unmapped, address);
}

enum finding { FOUND, FOUND_NONE, FOUND_MORE_TO_READ, FOUND_UNKNOWN };

/* Looks through one answer of the kernel. */
static enum finding look_through(const struct nlmsghdr *head, size_t length,
                                 const struct address *address)
{
    for (; NLMSG_OK(head, length); head = NLMSG_NEXT(head, length)) {
        if (head->nlmsg_type == NLMSG_DONE)
            return FOUND_NONE;
        if (head->nlmsg_type != SOCK_DIAG_BY_FAMILY)
            return FOUND_UNKNOWN;
        if (takes(NLMSG_DATA(head), address))
            return FOUND;
    }
    return FOUND_MORE_TO_READ;
}

static enum finding find_listener(int family, const struct address *address)
{
    alignas(struct nlmsghdr) char bytes[ANSWER_BYTES];
    int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
    enum finding finding =
        netlink >= 0 && ask(netlink, family) ? FOUND_MORE_TO_READ : FOUND_UNKNOWN;

    while (finding == FOUND_MORE_TO_READ) {
        ssize_t got = recv(netlink, bytes, sizeof bytes, 0);
        finding = got > 0 ? look_through((const struct nlmsghdr *)(const void *)bytes, (size_t)got,
                                         address)
                          : FOUND_UNKNOWN;
    }
    if (netlink >= 0)
        close(netlink);
    return finding;
}

/* Each family's table may hold it: an IPv4 address is taken by a dual-stack socket, too. */
static bool nobody_listens(const struct address *address)
{
    return find_listener(AF_INET6, address) == FOUND_NONE &&
           (address->any.sa_family == AF_INET6 || find_listener(AF_INET, address) == FOUND_NONE);
}

/* --- in the way -------------------------------------------------------------------------- */

static const char *obstacle_of_path(const char *path)
{
    struct stat status;

    if (stat(path, &status) != 0)
        return strerrordesc_np(errno);
    if (!S_ISSOCK(status.st_mode))
        return "it is no socket";
    return access(path, W_OK) == 0 ? NULL : strerrordesc_np(errno);
}

/* A datagram socket finds its route, and sends nothing (udp(7)). */
static int error_of_route(const struct address *address)
{
    int probe = socket(address->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int error = probe < 0 || connect(probe, &address->any, address->length) != 0 ? errno : 0;

    if (probe >= 0)
        close(probe);
    return error;
}

const char *reach_obstacle(const struct address *address)
{
    if (address->any.sa_family == AF_UNIX)
        return obstacle_of_path(address->local.sun_path);
    int error = error_of_route(address);
    if (error == ENETUNREACH || error == EHOSTUNREACH || error == EADDRNOTAVAIL)
        return strerrordesc_np(error);
    if (error == 0 && address_is_local(address) && nobody_listens(address))
        return "no program of this machine listens there";
    return NULL;
}
