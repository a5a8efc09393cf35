/*
 * watch.h — a descriptor is watched, also when the kernel refuses at first.
 *
 *     watch_start ──▶ watched ──ready──▶ on_ready(owner, events)
 *                       ▲  │ epoll_ctl(2) fails: EV_ERROR, libev has stopped the watcher
 *                       │  ▼
 *                     a tenth of a second after we hear of it, as often as necessary
 *
 * For descriptors that the process cannot do without: listening sockets, pipes between processes,
 * sockets of the resolver.  A connection that cannot be watched fails instead, and its peer hears of
 * it at once.
 */
#ifndef SOCKET_WATCH_H
#define SOCKET_WATCH_H

#include <ev.h>
#include <stdbool.h>

/* events: EV_READ, EV_WRITE or both, never EV_ERROR. */
typedef void watch_ready(void *owner, int events);

/* Embedded in its owner, which may free it in on_ready() once it is stopped. */
struct watch {
    ev_io           io; /* its fd is whatever the owner has set */
    ev_timer        again;
    struct ev_loop *loop;
    watch_ready    *on_ready;
    void           *owner;
    const char     *what; /* for the log: what is not watched for now; borrowed */
};

/* fd: -1 when it is not known yet. */
void watch_init(struct watch *, struct ev_loop *, int fd, watch_ready *on_ready, void *owner,
                const char *what);
/* Starts watching for these events, or does nothing when it is started. */
void watch_start(struct watch *, int events);
/* The same with another descriptor or other events. */
void watch_change(struct watch *, int fd, int events);
void watch_stop(struct watch *);

#endif
