/*
 * bind.c — bind(2) and listen(2), with every refusal as a sentence.
 */
#include "bind.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "flow/origin.h"
#include "flow/transport.h"
#include "run/inherit.h"
#include "run/privileges.h"

static bool refuse(const struct endpoint *endpoint, struct fault *fault, int error)
{
    char text[ENDPOINT_TEXT];

    endpoint_print(endpoint, text);
    return fault_set(fault, "cannot listen on %s: %s%s", text, strerrordesc_np(error),
                     error == EACCES ? " (ports below 1024 need CAP_NET_BIND_SERVICE)" : "");
}

/* A bound socket, or -1 with errno. */
static int bound_socket(const struct address *address, bool shared,
                        const struct bind_request *request)
{
    int family = address->any.sa_family;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    int off = 0;

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (shared)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, address_is_wildcard(address) ? &off : &on,
                   sizeof on);
    socket_tune(fd, family, request->sockets);
    if ((!request->transparent || origin_allow_foreign(fd, family)) &&
        bind(fd, &address->any, address->length) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* --- TCP --------------------------------------------------------------------------------- */

/* SO_REUSEPORT would join another program of ours without a word: bind without it first.  Answers
 * the address with the real port in it. */
static bool claim_port(struct address *address, const struct bind_request *request)
{
    struct sockaddr_storage storage = { 0 };
    struct address          bound;
    socklen_t               length = sizeof storage;
    int                     probe = bound_socket(address, false, request);

    if (probe < 0)
        return false;
    bool known = getsockname(probe, (struct sockaddr *)&storage, &length) == 0;
    int  error = errno;
    address_set(&bound, (struct sockaddr *)&storage, length);
    if (known)
        address_set_port(address, address_port(&bound));
    close(probe);
    errno = error;
    return known;
}

static bool is_without_ipv6(int error)
{
    return error == EAFNOSUPPORT || error == EADDRNOTAVAIL;
}

static bool choose_address(const struct bind_request *request, struct address *address)
{
    const struct endpoint *endpoint = request->endpoint;
    bool                   everywhere = endpoint->host[0] == '\0';
    const char            *host = everywhere ? "::" : endpoint->host;

    if (strcasecmp(host, "localhost") == 0)
        host = "127.0.0.1";
    address_parse(address, host, endpoint->port);
    if (claim_port(address, request))
        return true;
    if (!everywhere || !is_without_ipv6(errno))
        return false;
    address_parse(address, "0.0.0.0", endpoint->port);
    return claim_port(address, request);
}

static bool bind_tcp(const struct bind_request *request, int *sockets, size_t count,
                     struct address *bound)
{
    if (!choose_address(request, bound))
        return false;
    for (size_t i = 0; i < count; i++) {
        sockets[i] = bound_socket(bound, true, request);
        if (sockets[i] < 0 || listen(sockets[i], request->backlog) != 0)
            return false;
    }
    return true;
}

/* --- one socket for all workers ---------------------------------------------------------- */

/* Duplicates have one queue; whoever comes first takes the client. */
static bool share(int socket, int *sockets, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        sockets[i] = fcntl(socket, F_DUPFD_CLOEXEC, 0);
        if (sockets[i] < 0)
            return false;
    }
    return true;
}

/* Listening already, with the manager's backlog; what it accepts is ours to tune. */
static bool use_inherited(int socket, const struct bind_request *request, int *sockets,
                          size_t count, const struct address *bound)
{
    int family = bound->any.sa_family;

    socket_tune(socket, family, request->sockets);
    return (!request->transparent || origin_allow_foreign(socket, family)) &&
           share(socket, sockets, count);
}

/* --- unix -------------------------------------------------------------------------------- */

static bool nobody_listens(const struct address *address)
{
    struct stat status;

    /* A regular file refuses connections, too, and must never be removed. */
    if (lstat(address->local.sun_path, &status) != 0 || !S_ISSOCK(status.st_mode))
        return false;
    int  probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool refused =
        probe >= 0 && connect(probe, &address->any, address->length) != 0 && errno == ECONNREFUSED;

    if (probe >= 0)
        close(probe);
    return refused;
}

static bool bind_unix(const struct bind_request *request, int *sockets, size_t count,
                      struct address *bound)
{
    const char *path = request->endpoint->host;

    address_of_path(bound, path);
    sockets[0] = bound_socket(bound, false, request);
    if (sockets[0] < 0 && errno == EADDRINUSE) {
        if (!nobody_listens(bound)) {
            errno = EADDRINUSE;
            return false;
        }
        unlink(path);
        sockets[0] = bound_socket(bound, false, request);
    }
    if (sockets[0] < 0 || chmod(path, request->mode) != 0 ||
        listen(sockets[0], request->backlog) != 0)
        return false;
    return share(sockets[0], sockets + 1, count - 1);
}

static bool give_away(const struct bind_request *request, const int *sockets, size_t count)
{
    const struct identity *owner = request->owner;

    if (!owner->wished)
        return true;
    for (size_t i = 0; i < count; i++) {
        if (fchown(sockets[i], owner->user, owner->group) != 0)
            return false;
    }
    return request->endpoint->kind != ENDPOINT_UNIX ||
           chown(request->endpoint->host, owner->user, owner->group) == 0;
}

static bool bind_own(const struct bind_request *request, int *sockets, size_t count,
                     struct address *bound)
{
    bool done = request->endpoint->kind == ENDPOINT_UNIX ? bind_unix(request, sockets, count, bound)
                                                         : bind_tcp(request, sockets, count, bound);

    return done && give_away(request, sockets, count);
}

bool bind_listeners(const struct bind_request *request, int *sockets, size_t count,
                    struct address *bound, struct fault *fault)
{
    for (size_t i = 0; i < count; i++)
        sockets[i] = -1;
    int  inherited = inherit_find(request->endpoint, bound);
    bool done = inherited >= 0 ? use_inherited(inherited, request, sockets, count, bound)
                               : bind_own(request, sockets, count, bound);
    if (done)
        return true;
    refuse(request->endpoint, fault, errno);
    bound->length = 0;
    for (size_t i = 0; i < count; i++) {
        if (sockets[i] >= 0)
            close(sockets[i]);
        sockets[i] = -1;
    }
    return false;
}

void bind_remove(const struct endpoint *endpoint)
{
    if (endpoint->kind == ENDPOINT_UNIX && !inherit_has(endpoint))
        unlink(endpoint->host);
}
