/*
 * reactor.c — wake-ups that no watcher of a transport brings, and sockets that outlive theirs.
 *
 *  - the reset watch: a socket that nobody reads would hide its peer's reset, because libev asks
 *    for EPOLLIN and EPOLLOUT only.  Such sockets are also in a second epoll set with the mask
 *    EPOLLET alone: bytes and FIN do not wake it, a reset does, once (epoll(7)).
 *  - deferred set-up: what only a lasting connection needs is set a moment after it has opened.
 *  - waiting for kernel memory: no event tells the end of ENOBUFS, so a timer retries.
 *  - those with more: no event says that a transport itself still holds bytes.  A timer that is due at
 *    once does; ev_feed_event(3) would be served before any socket is looked at again, and who sends
 *    without a pause would keep all others waiting.
 *  - sockets in the middle of closing (socket/closing.h).
 */
#include "reactor.h"

#include <errno.h>
#include <ev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/list.h"
#include "socket/closing.h"
#include "socket/watch.h"
#include "transport/transport.h"

#define ENOBUFS_RETRY_SECONDS 0.01 /* between two tries when the kernel has no memory */
#define RESETS_PER_WAKE 64 /* then other watchers get their turn */
#define DEFERRED_SETUP_SECONDS 0.1
#define DEFERRED_SETUPS_PER_WAKE 256

struct reactor {
    struct ev_loop *loop;
    struct watch    resets;   /* of the epoll set of paused sockets */
    struct closings closings;
    struct link     enobufs_waiters;  /* transports that the kernel had no memory for */
    ev_timer        enobufs_retry;
    struct link     more;     /* transports that hold bytes which their owner wants */
    ev_timer        pending_reads;
    struct link     deferred_setup;  /* transports that wait to be old enough, the oldest last */
    struct link     young;    /* among them: those before it came after the latest alarm */
    ev_timer        aging;
};

/* --- the reset watch --------------------------------------------------------------------- */

bool reactor_watch_for_reset(struct reactor *reactor, int socket, struct transport *t)
{
    struct epoll_event event = { .events = EPOLLET, .data.ptr = t };

    return epoll_ctl(reactor->resets.io.fd, EPOLL_CTL_ADD, socket, &event) == 0;
}

void reactor_forget_reset(struct reactor *reactor, int socket)
{
    epoll_ctl(reactor->resets.io.fd, EPOLL_CTL_DEL, socket, NULL);
}

/* One event at a time: ready() may free other transports of the set, and closing a socket takes
 * its pending event out of the kernel's list, but not out of a list of ours. */
static void on_reset(void *owner, int events)
{
    const struct reactor *reactor = owner;

    (void)events;
    for (int i = 0; i < RESETS_PER_WAKE; i++) {
        struct epoll_event event;

        if (epoll_wait(reactor->resets.io.fd, &event, 1, 0) != 1)
            return;
        if (event.events & EPOLLERR)
            transport_was_reset(event.data.ptr);
    }
}

/* --- no memory in the kernel ------------------------------------------------------------- */

void reactor_retry_enobufs(struct reactor *reactor, struct link *waiter)
{
    list_remove(waiter);
    list_add(&reactor->enobufs_waiters, waiter);
    if (!ev_is_active(&reactor->enobufs_retry))
        ev_timer_again(reactor->loop, &reactor->enobufs_retry);
}

static size_t count_links(const struct link *list)
{
    size_t count = 0;

    for (const struct link *l = list->next; l != list; l = l->next)
        count++;
    return count;
}

/* Each gets one try; whoever comes again is at the list's head, behind those still to come. */
static void wake_each(struct link *list, void (*wake)(struct link *))
{
    for (size_t left = count_links(list); left > 0; left--) {
        struct link *oldest = list->previous;

        if (oldest == list)
            break;
        list_remove(oldest);
        wake(oldest);
    }
}

static void on_enobufs_retry(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct reactor *reactor = timer->data;

    (void)events;
    wake_each(&reactor->enobufs_waiters, transport_retry_enobufs);
    if (reactor->enobufs_waiters.next == &reactor->enobufs_waiters)
        ev_timer_stop(loop, timer);
}

/* --- more without an event --------------------------------------------------------------- */

void reactor_turn(struct reactor *reactor, struct link *more)
{
    list_add(&reactor->more, more);
    ev_timer_start(reactor->loop, &reactor->pending_reads);
}

static void on_turn(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct reactor *reactor = timer->data;

    (void)loop;
    (void)events;
    wake_each(&reactor->more, transport_has_more);
}

/* --- those that last --------------------------------------------------------------------- */

static void age_in(struct reactor *reactor, double seconds)
{
    ev_timer_stop(reactor->loop, &reactor->aging);
    ev_timer_set(&reactor->aging, seconds, 0);
    ev_timer_start(reactor->loop, &reactor->aging);
}

void reactor_await(struct reactor *reactor, struct link *deferred_setup)
{
    list_add(&reactor->deferred_setup, deferred_setup);
    if (!ev_is_active(&reactor->aging))
        age_in(reactor, DEFERRED_SETUP_SECONDS);
}

static void on_aging(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct reactor *reactor = timer->data;

    (void)events;
    if (!list_holds(&reactor->young))
        list_add(&reactor->deferred_setup, &reactor->young);
    for (int n = 0;
         n < DEFERRED_SETUPS_PER_WAKE && reactor->deferred_setup.previous != &reactor->young; n++) {
        struct link *deferred_setup = reactor->deferred_setup.previous;

        list_remove(deferred_setup);
        transport_do_deferred_setup(deferred_setup);
    }
    if (reactor->deferred_setup.previous !=
        &reactor->young) { /* the rest in the next turn, at once */
        age_in(reactor, 0);
        return;
    }
    list_remove(&reactor->young);
    if (list_is_empty(&reactor->deferred_setup))
        ev_timer_stop(loop, timer);
    else
        age_in(reactor, DEFERRED_SETUP_SECONDS);
}

/* --- the reactor ------------------------------------------------------------------------- */

struct reactor *reactor_new(struct ev_loop *loop, struct fault *fault)
{
    struct reactor *reactor = xcalloc(1, sizeof *reactor);
    int             set = epoll_create1(EPOLL_CLOEXEC);

    if (set < 0) {
        free(reactor);
        fault_set(fault, "cannot create an epoll set: %s", strerror(errno));
        return NULL;
    }
    reactor->loop = loop;
    closings_start(&reactor->closings, loop);
    list_start(&reactor->enobufs_waiters);
    ev_timer_init(&reactor->enobufs_retry, on_enobufs_retry, 0, ENOBUFS_RETRY_SECONDS);
    reactor->enobufs_retry.data = reactor;
    list_start(&reactor->more);
    ev_timer_init(&reactor->pending_reads, on_turn, 0, 0);
    reactor->pending_reads.data = reactor;
    list_start(&reactor->deferred_setup);
    ev_timer_init(&reactor->aging, on_aging, 0, 0);
    reactor->aging.data = reactor;
    watch_init(&reactor->resets, loop, set, on_reset, reactor, "resets");
    watch_start(&reactor->resets, EV_READ);
    return reactor;
}

void reactor_free(struct reactor *reactor)
{
    if (reactor == NULL)
        return;
    closings_cut(&reactor->closings);
    ev_timer_stop(reactor->loop, &reactor->enobufs_retry);
    ev_timer_stop(reactor->loop, &reactor->pending_reads);
    ev_timer_stop(reactor->loop, &reactor->aging);
    watch_stop(&reactor->resets);
    close(reactor->resets.io.fd);
    free(reactor);
}

struct ev_loop *reactor_loop(const struct reactor *reactor)
{
    return reactor->loop;
}

size_t reactor_closing(const struct reactor *reactor)
{
    return reactor->closings.count;
}

const char *reactor_version(void)
{
    static char text[48];

    snprintf(text, sizeof text, "libev %d.%d, compiled with %d.%d", ev_version_major(),
             ev_version_minor(), EV_VERSION_MAJOR, EV_VERSION_MINOR);
    return text;
}

void reactor_let_go(struct reactor *reactor, int socket)
{
    int bytes = 0;

    shutdown(socket, SHUT_WR);
    if (ioctl(socket, FIONREAD, &bytes) == 0 && bytes > 0)
        closings_add(&reactor->closings, socket); /* close(2) would reset at once */
    else
        close(socket);
}

void reactor_close(struct reactor *reactor, int socket)
{
    closings_add(&reactor->closings, socket);
}
