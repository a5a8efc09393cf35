/*
 * doors.c — the listening sockets, which outlive the configurations that know them.
 *
 *     sockets[0 .. served)      workers have them
 *     sockets[served .. count)  doors_open() made them; behind the first they are bound only: the
 *                               kernel gives them no connection, so closing them loses none
 */
#include "listen/doors.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "config/config.h"
#include "listen/bind.h"
#include "listen/own_path.h"
#include "shared/page.h"
#include "socket/socket.h"

struct door {
    struct door    *next;
    struct endpoint endpoint; /* as the configuration that made it said */
    struct address  bound;
    struct own_path path;
    unsigned        mode;     /* that its path has */
    bool            is_wanted; /* by the configuration that opens or enters */
    size_t          served;
    size_t          count;
    int             sockets[PAGE_PLACES];
};

struct doors {
    struct door *first;
};

struct doors *doors_new(void)
{
    return xcalloc(1, sizeof(struct doors));
}

/* --- one door ---------------------------------------------------------------------------- */

static void close_sockets(struct door *door, size_t from)
{
    for (size_t i = from; i < door->count; i++) {
        if (door->sockets[i] >= 0)
            close(door->sockets[i]);
    }
    door->count = from;
}

static void door_free(struct door *door)
{
    own_path_remove(&door->path);
    close_sockets(door, 0);
    free(door);
}

/* Borrows from the configuration and the settings. */
static struct bind_request request_of(const struct config *config, size_t listener,
                                      const struct socket_settings *settings)
{
    return (struct bind_request){
        .endpoint = &config->listens[listener].endpoint,
        .sockets = settings,
        .mode = config->listens[listener].mode,
        .backlog = (int)config->backlog,
        .transparent = config->transparent,
    };
}

static struct socket_settings settings_of(const struct config *config)
{
    return (struct socket_settings){
        .user_timeout = config->tcp_user_timeout,
        .send_buffer = (int)config->sndbuf,
        .receive_buffer = (int)config->rcvbuf,
    };
}

static bool add_sockets(struct door *door, size_t wished, const struct bind_request *request,
                        struct fault *fault)
{
    while (door->count < wished) {
        int further = bind_further(request, door->sockets[0], &door->bound, fault);

        if (further < 0)
            return false;
        door->sockets[door->count++] = further;
    }
    return true;
}

/* --- all doors --------------------------------------------------------------------------- */

/* Nobody who connects finds our socket when its path has been removed or replaced. */
static bool is_lost(const struct door *door)
{
    return door->path.name != NULL && !own_path_is_there(&door->path);
}

static bool leads_to(const struct door *door, const struct endpoint *endpoint)
{
    if (is_lost(door))
        return false;
    return (door->endpoint.kind == endpoint->kind && door->endpoint.port == endpoint->port &&
            strcmp(door->endpoint.host, endpoint->host) == 0) ||
           bind_is_there(endpoint, &door->bound);
}

/* The first that is not taken by another listener: several may say port 0 of the same host, and then
 * those for TLS stay for TLS. */
static struct door *find_door(const struct doors *doors, const struct endpoint *endpoint)
{
    struct door *found = NULL;

    for (struct door *door = doors->first; door != NULL; door = door->next) {
        if (door->is_wanted || !leads_to(door, endpoint))
            continue;
        if (door->endpoint.tls == endpoint->tls)
            return door;
        found = found != NULL ? found : door;
    }
    return found;
}

/* An address beside every address, of either family: the kernel takes the port for taken. */
static bool overlaps(const struct door *door, const struct endpoint *endpoint)
{
    return address_port(&door->bound) == endpoint->port &&
           (address_is_wildcard(&door->bound) || bind_is_everywhere(endpoint));
}

/* With 127.0.0.1:8080 of ours, 0.0.0.0:8080 looks taken. */
static bool port_is_ours(const struct doors *doors, const struct endpoint *endpoint)
{
    for (const struct door *door = doors->first; door != NULL; door = door->next)
        if (endpoint->kind == ENDPOINT_TCP && endpoint->port != 0 && overlaps(door, endpoint))
            return true;
    return false;
}

static void append(struct doors *doors, struct door *door)
{
    struct door **link = &doors->first;

    while (*link != NULL)
        link = &(*link)->next;
    *link = door;
}

static struct door *make_door(struct doors *doors, struct bind_request *request,
                              struct fault *fault)
{
    struct door *door = xcalloc(1, sizeof *door);

    request->joins = port_is_ours(doors, request->endpoint);
    door->endpoint = *request->endpoint;
    door->sockets[0] = bind_first(request, &door->bound, &door->path, fault);
    if (door->sockets[0] < 0) {
        door_free(door);
        return NULL;
    }
    door->mode = request->mode;
    door->count = 1;
    append(doors, door);
    return door;
}

static bool open_door(struct doors *doors, const struct config *config, size_t listener,
                      struct door **found, struct fault *fault)
{
    struct socket_settings settings = settings_of(config);
    struct bind_request    request = request_of(config, listener, &settings);
    struct door           *door = find_door(doors, request.endpoint);

    if (door == NULL)
        door = make_door(doors, &request, fault);
    if (door == NULL)
        return false;
    door->is_wanted = true;
    *found = door;
    return add_sockets(door, config->workers, &request, fault);
}

bool doors_open(struct doors *doors, const struct config *config, struct door **found,
                struct fault *fault)
{
    for (struct door *door = doors->first; door != NULL; door = door->next)
        door->is_wanted = false;
    for (size_t i = 0; i < config->listen_count; i++) {
        if (!open_door(doors, config, i, &found[i], fault)) {
            doors_give_up(doors);
            return false;
        }
    }
    return true;
}

static void remove_doors(struct doors *doors, bool (*is_unwanted)(const struct door *))
{
    struct door **link = &doors->first;

    while (*link != NULL) {
        struct door *door = *link;

        if (!is_unwanted(door)) {
            link = &door->next;
            continue;
        }
        *link = door->next;
        door_free(door);
    }
}

void doors_give_up(struct doors *doors)
{
    remove_doors(doors, door_is_new);
    for (struct door *door = doors->first; door != NULL; door = door->next)
        close_sockets(door, door->served);
}

static bool is_unwanted(const struct door *door)
{
    return !door->is_wanted;
}

static bool listen_there(const struct config *config, size_t listener, struct door *door,
                         struct fault *fault)
{
    struct socket_settings settings = settings_of(config);
    struct bind_request    request = request_of(config, listener, &settings);

    if (door->mode != request.mode && !bind_mode(&request, &door->path, fault))
        return false;
    door->mode = request.mode;
    for (size_t i = 0; i < door->count; i++) {
        if (!bind_listen(&request, door->sockets[i], fault))
            return false;
    }
    return true;
}

bool doors_listen(const struct config *config, struct door *const *own, struct fault *fault)
{
    for (size_t i = 0; i < config->listen_count; i++) {
        if (!listen_there(config, i, own[i], fault))
            return false;
    }
    return true;
}

void doors_enter(struct doors *doors, struct door *const *own, size_t count)
{
    for (size_t i = 0; i < count; i++)
        own[i]->served = own[i]->count;
    remove_doors(doors, is_unwanted);
}

void doors_leave(struct doors *doors, size_t place)
{
    for (struct door *door = doors->first; door != NULL; door = door->next) {
        if (place >= door->count || door->sockets[place] < 0)
            continue;
        close(door->sockets[place]);
        door->sockets[place] = -1;
    }
}

void doors_close(struct doors *doors)
{
    for (struct door *door = doors->first; door != NULL; door = door->next)
        close_sockets(door, 0);
}

void doors_free(struct doors *doors)
{
    if (doors == NULL)
        return;
    while (doors->first != NULL) {
        struct door *door = doors->first;

        doors->first = door->next;
        door_free(door);
    }
    free(doors);
}

const struct address *door_address(const struct door *door)
{
    return &door->bound;
}

bool door_is_new(const struct door *door)
{
    return door->served == 0;
}

size_t door_socket_count(const struct door *door)
{
    return door->count;
}

int door_socket(const struct door *door, size_t place)
{
    return place < door->count ? door->sockets[place] : -1;
}
