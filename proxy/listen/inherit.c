/*
 * inherit.c — listening sockets that the service manager opened for us.
 */
#include "listen/inherit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "base/fault.h"
#include "socket/socket.h"

#define FIRST_DESCRIPTOR 3   /* SD_LISTEN_FDS_START of sd_listen_fds(3) */
#define MAX_SOCKETS     300 /* more than there may be listeners, and an admin endpoint */
#define NAME_ROOM        64

struct inherited {
    int            socket;  /* -1: closed */
    struct address address;
    bool           found; /* somebody has asked for it */
    char           name[NAME_ROOM];
};

static struct {
    struct inherited sockets[MAX_SOCKETS];
    size_t           count;
} all;

/* --- taking ------------------------------------------------------------------------------- */

/* False: the variable is no number, or not set. */
static bool read_number(const char *variable, long *number)
{
    const char *text = getenv(variable);
    char       *end;

    if (text == NULL || text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    *number = strtol(text, &end, 10);
    return *end == '\0' && errno == 0;
}

/* The n-th of the names between colons; without one, as systemd says. */
static void copy_name(char name[NAME_ROOM], size_t n)
{
    const char *names = getenv("LISTEN_FDNAMES");

    snprintf(name, NAME_ROOM, "%s", "unknown");
    for (; names != NULL && n > 0; n--) {
        names = strchr(names, ':');
        names = names != NULL ? names + 1 : NULL;
    }
    if (names != NULL && strcspn(names, ":") > 0)
        snprintf(name, NAME_ROOM, "%.*s", (int)strcspn(names, ":"), names);
}

static bool is_option(int socket, int option, int wanted)
{
    int       value = -1;
    socklen_t length = sizeof value;

    return getsockopt(socket, SOL_SOCKET, option, &value, &length) == 0 && value == wanted;
}

static bool is_listening(int socket)
{
    return is_option(socket, SO_TYPE, SOCK_STREAM) && is_option(socket, SO_ACCEPTCONN, 1);
}

/* accept(2) must not wait, and nothing that we might execute is to have it. */
static bool prepare(int socket)
{
    int flags = fcntl(socket, F_GETFL);

    return flags >= 0 && fcntl(socket, F_SETFL, flags | O_NONBLOCK) == 0 &&
           fcntl(socket, F_SETFD, FD_CLOEXEC) == 0;
}

static bool take(int socket, struct inherited *taken, struct fault *fault)
{
    taken->socket = socket;
    return (is_listening(socket) && socket_local(socket, &taken->address) && prepare(socket)) ||
           fault_set(fault,
                     "LISTEN_FDS: descriptor %d (%s) is no listening stream socket; pass one that "
                     "ListenStream= made",
                     socket, taken->name);
}

bool inherit_open(struct fault *fault)
{
    long process;
    long count;

    all.count = 0;
    if (!read_number("LISTEN_PID", &process) || process != getpid() ||
        !read_number("LISTEN_FDS", &count))
        return true;
    if (count > MAX_SOCKETS)
        return fault_set(fault, "LISTEN_FDS: %ld sockets are more than %d", count, MAX_SOCKETS);
    for (size_t i = 0; i < (size_t)count; i++) {
        struct inherited *taken = &all.sockets[i];

        *taken = (struct inherited){ 0 };
        copy_name(taken->name, i);
        if (!take(FIRST_DESCRIPTOR + (int)i, taken, fault))
            return false;
        all.count++;
    }
    return true;
}

/* --- finding ------------------------------------------------------------------------------ */

static bool is_at(const struct address *address, const struct endpoint *endpoint)
{
    struct address known[2];
    bool           everywhere = endpoint->kind == ENDPOINT_TCP && endpoint->host[0] == '\0';

    if (everywhere)
        return address->any.sa_family != AF_UNIX && address_is_wildcard(address) &&
               address_port(address) == endpoint->port;
    for (size_t count = endpoint_known_addresses(endpoint, known); count > 0; count--) {
        if (address_equal(&known[count - 1], address))
            return true;
    }
    return false;
}

static struct inherited *find(const struct endpoint *endpoint)
{
    for (size_t i = 0; i < all.count; i++) {
        if (is_at(&all.sockets[i].address, endpoint))
            return &all.sockets[i];
    }
    return NULL;
}

bool inherit_is_offered(void)
{
    return getenv("LISTEN_FDS") != NULL;
}

int inherit_find(const struct endpoint *endpoint, struct address *bound)
{
    struct inherited *inherited = find(endpoint);

    if (inherited == NULL)
        return -1;
    inherited->found = true;
    *bound = inherited->address;
    return inherited->socket;
}

bool inherit_has(const struct endpoint *endpoint)
{
    return find(endpoint) != NULL;
}

bool inherit_all_found(struct fault *fault)
{
    char text[ADDRESS_TEXT];

    for (size_t i = 0; i < all.count; i++) {
        if (all.sockets[i].found)
            continue;
        address_print(&all.sockets[i].address, text);
        return fault_set(fault,
                         "LISTEN_FDS: nobody listens at %s (%s); say -l %s, or do not pass the "
                         "socket",
                         text, all.sockets[i].name, text);
    }
    return true;
}

void inherit_close(void)
{
    for (size_t i = 0; i < all.count; i++) {
        if (all.sockets[i].socket >= 0)
            close(all.sockets[i].socket);
        all.sockets[i].socket = -1; /* whose path it is, is still asked for */
    }
}
