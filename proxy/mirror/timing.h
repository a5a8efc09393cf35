/*
 * timing.h — what happens to a session when nothing happens.
 */
#ifndef MIRROR_TIMING_H
#define MIRROR_TIMING_H

struct session;

void timing_begin(struct session *);
/* Makes sure that the session is looked at when its next deadline has come; now is CLOCK_MONOTONIC
 * seconds. */
void timing_arm(struct session *, double now);
void timing_stop(struct session *);

#endif
