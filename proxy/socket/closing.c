/*
 * closing.c — a timer per socket polls what is unacknowledged (no event tells it).
 */
#include "closing.h"

#include <ev.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "socket/socket.h"

#define MAX_SECONDS       5.0
#define MAX_SOCKETS       64  /* at a time; they are in nobody's descriptor budget */
#define FIRST_POLL_SECONDS 0.01 /* doubled up to the last */
#define LAST_POLL_SECONDS  0.1

struct closing {
    struct closings *all;
    struct link      link;
    ev_timer         timer;
    double           deadline;
    int              socket;
};

static void finish(struct closing *closing)
{
    ev_timer_stop(closing->all->loop, &closing->timer);
    socket_reset(closing->socket);
    list_remove(&closing->link);
    closing->all->count--;
    free(closing);
}

/* A peer that has reset meanwhile will never acknowledge. */
static bool has_failed(int socket)
{
    int       error = 0;
    socklen_t length = sizeof error;

    return getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error != 0;
}

static void on_poll(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct closing *closing = timer->data;

    (void)events;
    if (socket_unacknowledged(closing->socket) == 0 || has_failed(closing->socket) ||
        clock_now() >= closing->deadline) {
        finish(closing);
        return;
    }
    timer->repeat = timer->repeat * 2 < LAST_POLL_SECONDS ? timer->repeat * 2 : LAST_POLL_SECONDS;
    ev_timer_again(loop, timer);
}

void closings_start(struct closings *all, struct ev_loop *loop)
{
    all->loop = loop;
    all->count = 0;
    list_start(&all->all);
}

void closings_add(struct closings *all, int socket)
{
    struct closing *closing = socket_unacknowledged(socket) > 0 ? calloc(1, sizeof *closing) : NULL;

    if (closing == NULL) {
        socket_reset(socket);
        return;
    }
    if (all->count >= MAX_SOCKETS)
        finish(LIST_MEMBER(all->all.previous, struct closing, link)); /* the oldest */
    closing->all = all;
    closing->socket = socket;
    closing->deadline = clock_now() + MAX_SECONDS;
    list_add(&all->all, &closing->link);
    all->count++;
    ev_timer_init(&closing->timer, on_poll, 0, FIRST_POLL_SECONDS);
    closing->timer.data = closing;
    ev_timer_again(all->loop, &closing->timer);
}

void closings_cut(struct closings *all)
{
    while (!list_is_empty(&all->all))
        finish(LIST_MEMBER(all->all.next, struct closing, link));
}
