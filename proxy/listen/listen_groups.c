/*
 * listen_groups.c — the listening sockets, which outlive the configurations that know them.
 *
 *     sockets[0 .. served)      workers have them
 *     sockets[served .. count)  listen_groups_open() made them; behind the first they are bound
 *                               only: the kernel gives them no connection, so closing loses none
 */
#include "listen/listen_groups.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "config/config.h"
#include "listen/bind.h"
#include "listen/own_path.h"
#include "shared/page.h"
#include "socket/socket.h"

struct listen_group {
    struct listen_group *next;
    struct endpoint      endpoint;  /* as the configuration that made it said */
    struct address       bound;
    struct own_path      path;
    unsigned             mode;      /* that its path has */
    bool                 is_wanted; /* by the configuration that opens or enters */
    size_t               served;
    size_t               count;
    int                  sockets[PAGE_PLACES];
};

struct listen_groups {
    struct listen_group *first;
};

struct listen_groups *listen_groups_new(void)
{
    return xcalloc(1, sizeof(struct listen_groups));
}

/* --- one group --------------------------------------------------------------------------- */

static void close_sockets(struct listen_group *group, size_t from)
{
    for (size_t i = from; i < group->count; i++) {
        if (group->sockets[i] >= 0)
            close(group->sockets[i]);
    }
    group->count = from;
}

static void listen_group_free(struct listen_group *group)
{
    own_path_remove(&group->path);
    close_sockets(group, 0);
    free(group);
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

static bool add_sockets(struct listen_group *group, size_t wished,
                        const struct bind_request *request, struct fault *fault)
{
    while (group->count < wished) {
        int further = bind_further(request, group->sockets[0], &group->bound, fault);

        if (further < 0)
            return false;
        group->sockets[group->count++] = further;
    }
    return true;
}

/* --- all groups -------------------------------------------------------------------------- */

/* Nobody who connects finds our socket when its path has been removed or replaced. */
static bool is_lost(const struct listen_group *group)
{
    return group->path.name != NULL && !own_path_is_there(&group->path);
}

static bool leads_to(const struct listen_group *group, const struct endpoint *endpoint)
{
    if (is_lost(group))
        return false;
    return (group->endpoint.kind == endpoint->kind && group->endpoint.port == endpoint->port &&
            strcmp(group->endpoint.host, endpoint->host) == 0) ||
           bind_is_there(endpoint, &group->bound);
}

/* The first that is not taken by another listener: several may say port 0 of the same host, and then
 * those for TLS stay for TLS. */
static struct listen_group *find_group(const struct listen_groups *groups,
                                       const struct endpoint *endpoint)
{
    struct listen_group *found = NULL;

    for (struct listen_group *group = groups->first; group != NULL; group = group->next) {
        if (group->is_wanted || !leads_to(group, endpoint))
            continue;
        if (group->endpoint.tls == endpoint->tls)
            return group;
        found = found != NULL ? found : group;
    }
    return found;
}

/* An address beside every address, of either family: the kernel takes the port for taken. */
static bool overlaps(const struct listen_group *group, const struct endpoint *endpoint)
{
    return address_port(&group->bound) == endpoint->port &&
           (address_is_wildcard(&group->bound) || bind_is_everywhere(endpoint));
}

/* With 127.0.0.1:8080 of ours, 0.0.0.0:8080 looks taken. */
static bool is_own_port(const struct listen_groups *groups, const struct endpoint *endpoint)
{
    for (const struct listen_group *group = groups->first; group != NULL; group = group->next)
        if (endpoint->kind == ENDPOINT_TCP && endpoint->port != 0 && overlaps(group, endpoint))
            return true;
    return false;
}

static void append(struct listen_groups *groups, struct listen_group *group)
{
    struct listen_group **link = &groups->first;

    while (*link != NULL)
        link = &(*link)->next;
    *link = group;
}

static struct listen_group *make_group(struct listen_groups *groups, struct bind_request *request,
                                       struct fault *fault)
{
    struct listen_group *group = xcalloc(1, sizeof *group);

    request->joins = is_own_port(groups, request->endpoint);
    group->endpoint = *request->endpoint;
    group->sockets[0] = bind_first(request, &group->bound, &group->path, fault);
    if (group->sockets[0] < 0) {
        listen_group_free(group);
        return NULL;
    }
    group->mode = request->mode;
    group->count = 1;
    append(groups, group);
    return group;
}

static bool open_group(struct listen_groups *groups, const struct config *config, size_t listener,
                       struct listen_group **found, struct fault *fault)
{
    struct socket_settings settings = settings_of(config);
    struct bind_request    request = request_of(config, listener, &settings);
    struct listen_group   *group = find_group(groups, request.endpoint);

    if (group == NULL)
        group = make_group(groups, &request, fault);
    if (group == NULL)
        return false;
    group->is_wanted = true;
    *found = group;
    return add_sockets(group, config->workers, &request, fault);
}

bool listen_groups_open(struct listen_groups *groups, const struct config *config,
                        struct listen_group **found, struct fault *fault)
{
    for (struct listen_group *group = groups->first; group != NULL; group = group->next)
        group->is_wanted = false;
    for (size_t i = 0; i < config->listen_count; i++) {
        if (!open_group(groups, config, i, &found[i], fault)) {
            listen_groups_give_up(groups);
            return false;
        }
    }
    return true;
}

static void remove_groups(struct listen_groups *groups,
                          bool (*is_unwanted)(const struct listen_group *))
{
    struct listen_group **link = &groups->first;

    while (*link != NULL) {
        struct listen_group *group = *link;

        if (!is_unwanted(group)) {
            link = &group->next;
            continue;
        }
        *link = group->next;
        listen_group_free(group);
    }
}

void listen_groups_give_up(struct listen_groups *groups)
{
    remove_groups(groups, listen_group_is_new);
    for (struct listen_group *group = groups->first; group != NULL; group = group->next)
        close_sockets(group, group->served);
}

static bool is_unwanted(const struct listen_group *group)
{
    return !group->is_wanted;
}

static bool listen_there(const struct config *config, size_t listener, struct listen_group *group,
                         struct fault *fault)
{
    struct socket_settings settings = settings_of(config);
    struct bind_request    request = request_of(config, listener, &settings);

    if (group->mode != request.mode && !bind_mode(&request, &group->path, fault))
        return false;
    group->mode = request.mode;
    for (size_t i = 0; i < group->count; i++) {
        if (!bind_listen(&request, group->sockets[i], fault))
            return false;
    }
    return true;
}

bool listen_groups_listen(const struct config *config, struct listen_group *const *own,
                          struct fault *fault)
{
    for (size_t i = 0; i < config->listen_count; i++) {
        if (!listen_there(config, i, own[i], fault))
            return false;
    }
    return true;
}

void listen_groups_enter(struct listen_groups *groups, struct listen_group *const *own,
                         size_t count)
{
    for (size_t i = 0; i < count; i++)
        own[i]->served = own[i]->count;
    remove_groups(groups, is_unwanted);
}

void listen_groups_leave(struct listen_groups *groups, size_t place)
{
    for (struct listen_group *group = groups->first; group != NULL; group = group->next) {
        if (place >= group->count || group->sockets[place] < 0)
            continue;
        close(group->sockets[place]);
        group->sockets[place] = -1;
    }
}

void listen_groups_close(struct listen_groups *groups)
{
    for (struct listen_group *group = groups->first; group != NULL; group = group->next)
        close_sockets(group, 0);
}

void listen_groups_free(struct listen_groups *groups)
{
    if (groups == NULL)
        return;
    while (groups->first != NULL) {
        struct listen_group *group = groups->first;

        groups->first = group->next;
        listen_group_free(group);
    }
    free(groups);
}

const struct address *listen_group_address(const struct listen_group *group)
{
    return &group->bound;
}

bool listen_group_is_new(const struct listen_group *group)
{
    return group->served == 0;
}

size_t listen_group_socket_count(const struct listen_group *group)
{
    return group->count;
}

int listen_group_socket(const struct listen_group *group, size_t place)
{
    return place < group->count ? group->sockets[place] : -1;
}
