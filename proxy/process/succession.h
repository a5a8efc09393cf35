/*
 * succession.h — which generation serves, which one is about to, and which ones finish.
 *
 *     succession_reload ──▶ starting ──all its workers ready──▶ serving ──a newer one──▶ finishing
 *                               └──anything fails──▶ given up, and the one that serves has not
 *                                                    noticed
 */
#ifndef PROCESS_SUCCESSION_H
#define PROCESS_SUCCESSION_H

#include <stdbool.h>

struct command;
struct config;
struct ev_loop;
struct fault;
struct generation;
struct page;
struct succession;

/* Borrowed, must outlive the succession. */
struct succession_settings {
    struct ev_loop       *loop;
    struct page          *page;
    const struct command *command;
    void (*on_serving)(void *owner);           /* the newest generation, for the first time */
    void (*on_ended)(void *owner, int status); /* 0: nobody is left, in good order */
    void *owner;
};

struct succession *succession_new(const struct succession_settings *);

/* Makes the first generation; takes the configuration, also when it fails.  False: the fault says
 * why. */
bool succession_prepare(struct succession *, struct config *, struct fault *);
/* Starts its workers.  False: the fault says why. */
bool succession_start(struct succession *, struct fault *);
/* The newest generation that serves; before that, the first one. */
const struct generation *succession_newest(const struct succession *);

/* Reads the configuration once more and starts a generation with it.  While another one starts it is
 * remembered and done afterwards, once however often it was asked for. */
void succession_reload(struct succession *);
/* No reload begins from now on; one that has begun goes on. */
void succession_end(struct succession *);
/* After succession_end(): every generation finishes by the page's deadline, then on_ended()
 * follows. */
void succession_drain(struct succession *);
void succession_kill(struct succession *);
/* Call it after SIGCHLD. */
void succession_reap(struct succession *);
/* Call it at the end of each turn of the loop: generations that are gone are freed. */
void succession_settle(struct succession *);
void succession_free(struct succession *); /* NULL is fine */

#endif
