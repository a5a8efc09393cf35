/*
 * visitors.c — deadlines of a few connections; so few that walking through them all is best.
 */
#include "admin/visitors.h"

#include <assert.h>
#include <math.h>
#include <sys/socket.h>

void visitors_init(struct visitors *visitors)
{
    for (size_t i = 0; i < VISITORS_MOST; i++)
        visitors->all[i].descriptor = -1;
}

static bool is_served(const struct visitor *visitor)
{
    return visitor->descriptor >= 0 && !isinf(visitor->deadline);
}

static void send_away(struct visitor *visitor)
{
    shutdown(visitor->descriptor, SHUT_RDWR);
    visitor->deadline = visitor->hurried = INFINITY;
}

bool visitors_are_full(const struct visitors *visitors)
{
    size_t i = 0;

    while (i < VISITORS_MOST && visitors->all[i].descriptor >= 0)
        i++;
    return i == VISITORS_MOST;
}

struct visitor *visitors_enter(struct visitors *visitors, int descriptor, double now)
{
    size_t i = 0;

    assert(!visitors_are_full(visitors));
    while (visitors->all[i].descriptor >= 0)
        i++;
    visitors->all[i] = (struct visitor){ .descriptor = descriptor };
    visitor_may_ask(&visitors->all[i], now);
    return &visitors->all[i];
}

void visitor_leaves(struct visitor *visitor)
{
    visitor->descriptor = -1;
}

static void may_stay(struct visitor *visitor, double deadline, double hurried)
{
    if (!is_served(visitor))
        return;
    visitor->deadline = deadline;
    visitor->hurried = hurried;
}

void visitor_is_answered(struct visitor *visitor, double now)
{
    visitor->is_owed = true;
    may_stay(visitor, now + ANSWER_SECONDS, now + HURRIED_ANSWER_SECONDS);
}

void visitor_may_ask(struct visitor *visitor, double now)
{
    visitor->is_owed = false;
    may_stay(visitor, now + REQUEST_SECONDS, now + HURRIED_REQUEST_SECONDS);
}

static bool has_ended(const struct visitor *visitor)
{
    char next;

    return recv(visitor->descriptor, &next, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

void visitors_send_away_the_done(struct visitors *visitors)
{
    for (size_t i = 0; i < VISITORS_MOST; i++) {
        struct visitor *visitor = &visitors->all[i];

        if (is_served(visitor) && !visitor->is_owed && has_ended(visitor))
            send_away(visitor);
    }
}

bool visitors_are_a_crowd(const struct visitors *visitors)
{
    size_t served = 0;

    for (size_t i = 0; i < VISITORS_MOST; i++)
        served += is_served(&visitors->all[i]);
    return served > VISITORS_SERVED;
}

double visitors_send_away_the_late(struct visitors *visitors, double now)
{
    bool   hurry = visitors_are_a_crowd(visitors);
    double next = INFINITY;

    for (size_t i = 0; i < VISITORS_MOST; i++) {
        struct visitor *visitor = &visitors->all[i];

        if (!is_served(visitor))
            continue;
        double deadline = hurry ? visitor->hurried : visitor->deadline;
        if (deadline <= now)
            send_away(visitor);
        else
            next = fmin(next, deadline);
    }
    return next;
}
