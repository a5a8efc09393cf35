/*
 * connections.c — deadlines of a few connections; so few that walking through them all is best.
 */
#include "admin/connections.h"

#include <assert.h>
#include <math.h>
#include <sys/socket.h>

void admin_connections_init(struct admin_connections *connections)
{
    for (size_t i = 0; i < ADMIN_CONNECTIONS_MAX; i++)
        connections->all[i].descriptor = -1;
}

static bool is_served(const struct admin_connection *entry)
{
    return entry->descriptor >= 0 && !isinf(entry->deadline);
}

static void close_connection(struct admin_connection *entry)
{
    shutdown(entry->descriptor, SHUT_RDWR);
    entry->deadline = entry->hurried = INFINITY;
}

bool admin_connections_are_full(const struct admin_connections *connections)
{
    size_t i = 0;

    while (i < ADMIN_CONNECTIONS_MAX && connections->all[i].descriptor >= 0)
        i++;
    return i == ADMIN_CONNECTIONS_MAX;
}

struct admin_connection *admin_connections_add(struct admin_connections *connections,
                                               int descriptor, double now)
{
    size_t i = 0;

    assert(!admin_connections_are_full(connections));
    while (connections->all[i].descriptor >= 0)
        i++;
    connections->all[i] = (struct admin_connection){ .descriptor = descriptor };
    admin_connection_has_response(&connections->all[i], now);
    return &connections->all[i];
}

void admin_connection_remove(struct admin_connection *entry)
{
    entry->descriptor = -1;
}

static void may_stay(struct admin_connection *entry, double deadline, double hurried)
{
    if (!is_served(entry))
        return;
    entry->deadline = deadline;
    entry->hurried = hurried;
}

void admin_connection_has_request(struct admin_connection *entry, double now)
{
    entry->is_owed = true;
    may_stay(entry, now + RESPONSE_SECONDS, now + HURRIED_RESPONSE_SECONDS);
}

void admin_connection_has_response(struct admin_connection *entry, double now)
{
    entry->is_owed = false;
    may_stay(entry, now + REQUEST_SECONDS, now + HURRIED_REQUEST_SECONDS);
}

static bool has_ended(const struct admin_connection *entry)
{
    char next;

    return recv(entry->descriptor, &next, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

void admin_connections_close_done(struct admin_connections *connections)
{
    for (size_t i = 0; i < ADMIN_CONNECTIONS_MAX; i++) {
        struct admin_connection *entry = &connections->all[i];

        if (is_served(entry) && !entry->is_owed && has_ended(entry))
            close_connection(entry);
    }
}

bool admin_connections_are_too_many(const struct admin_connections *connections)
{
    size_t served = 0;

    for (size_t i = 0; i < ADMIN_CONNECTIONS_MAX; i++)
        served += is_served(&connections->all[i]);
    return served > ADMIN_CONNECTIONS_SERVED;
}

double admin_connections_close_late(struct admin_connections *connections, double now)
{
    bool   hurry = admin_connections_are_too_many(connections);
    double next = INFINITY;

    for (size_t i = 0; i < ADMIN_CONNECTIONS_MAX; i++) {
        struct admin_connection *entry = &connections->all[i];

        if (!is_served(entry))
            continue;
        double deadline = hurry ? entry->hurried : entry->deadline;
        if (deadline <= now)
            close_connection(entry);
        else
            next = fmin(next, deadline);
    }
    return next;
}
