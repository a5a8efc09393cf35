/*
 * bind.c — bind(2) and listen(2), with every refusal as a sentence.
 */
#include "bind.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "listen/inherit.h"
#include "listen/own_path.h"
#include "listen/privileges.h"
#include "socket/origin.h"
#include "socket/socket.h"

static bool refuse(const struct endpoint *endpoint, struct fault *fault, int error)
{
    char text[ENDPOINT_TEXT];
    bool is_port = endpoint->kind == ENDPOINT_TCP;

    endpoint_print(endpoint, text);
    return fault_set(fault, "cannot listen on %s: %s%s", text, strerrordesc_np(error),
                     error == EACCES && is_port ? " (ports below 1024 need CAP_NET_BIND_SERVICE)"
                                                : "");
}

static bool set_option(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

/* What decides where the socket will be, and beside whom; the rest may be refused. */
static bool prepare(int fd, const struct address *address, bool shared,
                    const struct bind_request *request)
{
    int family = address->any.sa_family;

    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    socket_tune(fd, family, request->sockets);
    socket_keep_alive(fd, family);
    return (!shared || set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1)) &&
           (family != AF_INET6 ||
            set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, !address_is_wildcard(address))) &&
           (family != AF_UNIX || fchmod(fd, request->mode) == 0) &&
           (!request->transparent || origin_allow_foreign(fd, family)) &&
           privileges_give_descriptor(fd);
}

/* A bound socket, or -1 with errno. */
static int bound_socket(const struct address *address, bool shared,
                        const struct bind_request *request)
{
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 ||
        (prepare(fd, address, shared, request) && bind(fd, &address->any, address->length) == 0))
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
    struct address bound;
    int            probe = bound_socket(address, request->joins, request);

    if (probe < 0)
        return false;
    bool known = socket_local(probe, &bound);
    int  error = errno;
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

    address_parse(address, everywhere ? "::" : endpoint->host, endpoint->port);
    if (claim_port(address, request))
        return true;
    if (!everywhere || !is_without_ipv6(errno))
        return false;
    address_parse(address, "0.0.0.0", endpoint->port);
    return claim_port(address, request);
}

static int bind_tcp(const struct bind_request *request, struct address *bound)
{
    return choose_address(request, bound) ? bound_socket(bound, true, request) : -1;
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

/* The path gets the permissions of the socket, as far as the umask lets it. */
static int bind_path(const struct bind_request *request, const struct address *address)
{
    mode_t usual = umask(0);
    int    socket = bound_socket(address, false, request);

    umask(usual);
    return socket;
}

/* Who else starts or ends at this path has the lock, or does not look before we listen. */
static int bind_unix(const struct bind_request *request, struct address *bound,
                     struct own_path *path)
{
    const char *name = request->endpoint->host;

    address_of_path(bound, name);
    int socket = bind_path(request, bound);
    if (socket < 0 && errno == EADDRINUSE) {
        if (!nobody_listens(bound)) {
            errno = EADDRINUSE;
            return -1;
        }
        unlink(name);
        socket = bind_path(request, bound);
    }
    if (socket < 0 || own_path_note(path, name))
        return socket;
    int error = errno;
    unlink(name);
    close(socket);
    errno = error;
    return -1;
}

static int family_of(int socket)
{
    int       family = AF_UNSPEC;
    socklen_t length = sizeof family;

    getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &family, &length);
    return family;
}

/* --- either ------------------------------------------------------------------------------ */

bool bind_listen(const struct bind_request *request, int socket, struct fault *fault)
{
    const struct endpoint *endpoint = request->endpoint;
    int                    none = 0;

    if (endpoint->kind == ENDPOINT_UNIX)
        return inherit_has(endpoint) || listen(socket, request->backlog) == 0 ||
               refuse(endpoint, fault, errno);
    int family = family_of(socket);
    setsockopt(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, &none, sizeof none);
    socket_tune(socket, family, request->sockets);
    socket_keep_alive(socket, family); /* the service manager's has none yet */
    if ((!request->transparent || origin_allow_foreign(socket, family)) &&
        (inherit_has(endpoint) || listen(socket, request->backlog) == 0))
        return true;
    return refuse(endpoint, fault, errno);
}

bool bind_mode(const struct bind_request *request, const struct own_path *path, struct fault *fault)
{
    return path->name == NULL || own_path_set_mode(path, request->mode) ||
           refuse(request->endpoint, fault, errno);
}

static bool begin(const struct bind_request *request, int socket, const struct own_path *path,
                  struct fault *fault)
{
    return (path->name == NULL || privileges_give_path(path->inode) ||
            refuse(request->endpoint, fault, errno)) &&
           bind_mode(request, path, fault) && bind_listen(request, socket, fault);
}

/* -1: errno. */
static int bound_or_inherited(const struct bind_request *request, struct address *bound,
                              struct own_path *path)
{
    int inherited = inherit_find(request->endpoint, bound);

    if (inherited >= 0)
        return fcntl(inherited, F_DUPFD_CLOEXEC, 0);
    if (request->endpoint->kind == ENDPOINT_UNIX)
        return bind_unix(request, bound, path);
    return bind_tcp(request, bound);
}

int bind_first(const struct bind_request *request, struct address *bound, struct own_path *path,
               struct fault *fault)
{
    const struct endpoint *endpoint = request->endpoint;
    int lock = endpoint->kind == ENDPOINT_UNIX ? own_path_lock(endpoint->host) : -1;
    int socket = -1;

    *path = OWN_PATH_NONE;
    socket = bound_or_inherited(request, bound, path);
    bool begun = socket >= 0 ? begin(request, socket, path, fault) : refuse(endpoint, fault, errno);
    if (lock >= 0)
        close(lock);
    if (begun)
        return socket;
    own_path_remove(path);
    if (socket >= 0)
        close(socket);
    bound->length = 0;
    return -1;
}

int bind_further(const struct bind_request *request, int first, const struct address *bound,
                 struct fault *fault)
{
    bool is_one = request->endpoint->kind == ENDPOINT_UNIX || inherit_has(request->endpoint);
    int  socket = is_one ? fcntl(first, F_DUPFD_CLOEXEC, 0) : bound_socket(bound, true, request);

    if (socket < 0)
        refuse(request->endpoint, fault, errno);
    return socket;
}

static bool is_at_wildcard(const struct address *bound, uint16_t port)
{
    return bound->any.sa_family == AF_INET6 && address_is_wildcard(bound) &&
           address_port(bound) == port;
}

bool bind_is_there(const struct endpoint *endpoint, const struct address *bound)
{
    struct address wished;

    if (endpoint->kind == ENDPOINT_UNIX)
        return bound->any.sa_family == AF_UNIX &&
               strcmp(endpoint->host, bound->local.sun_path) == 0;
    if (bound->any.sa_family == AF_UNIX || endpoint->port == 0)
        return false;
    if (endpoint->host[0] == '\0')
        return is_at_wildcard(bound, endpoint->port);
    address_parse(&wished, endpoint->host, endpoint->port);
    return address_equal(&wished, bound);
}

bool bind_is_everywhere(const struct endpoint *endpoint)
{
    struct address wished;

    return endpoint->kind == ENDPOINT_TCP &&
           (endpoint->host[0] == '\0' || (address_parse(&wished, endpoint->host, endpoint->port) &&
                                          address_is_wildcard(&wished)));
}
