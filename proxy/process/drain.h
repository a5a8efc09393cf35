/*
 * drain.h — from the first TERM to the last worker: delays, deadlines, and who hurries.
 *
 *     serving ──TERM, INT, QUIT──▶ delayed ──▶ draining ──no worker left──▶ succession's on_ended()
 *                                  accepts        └──not in time──▶ killed
 *                                  still
 *
 * QUIT drains without limit, TERM and INT within --drain-timeout, which counts from the end of
 * --drain-delay.  A TERM or INT after a QUIT limits it from now on; after another one it hurries.
 * TERM and INT within a second are one: timeout(1) and others signal the process and then its whole
 * group.
 */
#ifndef PROCESS_DRAIN_H
#define PROCESS_DRAIN_H

#include <ev.h>
#include <stdbool.h>

struct page;
struct succession;

/* Borrowed, must outlive the drain. */
struct drain_settings {
    struct ev_loop    *loop;
    struct page       *page;
    struct succession *succession;
    void (*on_begun)(void *owner);   /* once: nobody new should come, though who comes is served */
    void (*on_hurried)(void *owner); /* all workers are killed; nothing is worth waiting for */
    void *owner;
};

/* Embedded; its members are its own. */
struct drain {
    struct drain_settings settings;
    bool                  has_begun;
    bool                  is_patient; /* without --drain-timeout */
    bool                  was_cut;
    double                asked; /* when TERM or INT came that counted last; 0: none yet */
    ev_timer              delay;
    ev_timer              kill;
};

/* Nothing drains yet. */
void drain_prepare(struct drain *, const struct drain_settings *);
/* SIGTERM, SIGINT or SIGQUIT has come. */
void drain_signal(struct drain *, int number);
bool drain_has_begun(const struct drain *);
/* Workers were killed because they did not finish in time. */
bool drain_was_cut(const struct drain *);

#endif
