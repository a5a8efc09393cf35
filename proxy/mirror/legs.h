/*
 * legs.h — one turn of a session: bytes between its client, its primary and its shadows.
 */
#ifndef MIRROR_LEGS_H
#define MIRROR_LEGS_H

struct session;
struct shadow_turn;

/* Moves everything that can move while client and primary talk; now is CLOCK_MONOTONIC seconds. */
void legs_relay(struct session *, double now);
/* Only the shadows. */
void legs_relay_shadows(struct session *, double now);
/* Forgets what everyone has had.  Whoever was cut off for that gets its RST now: no event may ever
 * come for it. */
void legs_settle_request(struct session *, double now);
/* What shadows are told of their session at each turn. */
struct shadow_turn legs_turn(struct session *, double now);

#endif
