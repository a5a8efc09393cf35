/*
 * sessions.c — what is done to all sessions of a worker, or to the one that must give way.
 */
#include "sessions.h"

#include "base/clock.h"
#include "config/config.h"
#include "mirror/legs.h"
#include "mirror/mirror.h"
#include "mirror/policy.h"
#include "mirror/session_parts.h"
#include "mirror/shadow.h"
#include "shared/page.h"
#include "stream/stream.h"

#define FOLLOWERS_PER_TURN 64 /* sessions that lose a shadow; then others get their turn */
#define CUTS_PER_TURN      64 /* likewise */
#define BOOKS_PER_TURN     256 /* sessions; then others get their turn */

bool sessions_book(struct mirror *mirror)
{
    if (!list_holds(&mirror->moved_later))
        list_add(&mirror->moved, &mirror->moved_later);
    for (int n = 0; n < BOOKS_PER_TURN && mirror->moved.previous != &mirror->moved_later; n++)
        session_book(LIST_MEMBER(mirror->moved.previous, struct session, moved));
    if (mirror->moved.previous != &mirror->moved_later)
        return true;
    list_remove(&mirror->moved_later);
    return false;
}

static bool cut_most_lagging(struct session *s)
{
    struct shadow_turn turn = legs_turn(s, clock_now());
    struct shadow     *found = NULL;

    for (size_t i = 0; i < s->shadow_count; i++) {
        struct shadow *sh = &s->shadows[i];

        if (!shadow_is_over(sh) && sh->config->overflow == SHADOW_DETACH &&
            (found == NULL || cursor_lag(&sh->cursor) > cursor_lag(&found->cursor)))
            found = sh;
    }
    if (found != NULL)
        shadow_cut(found, SHADOW_MEMORY, &turn);
    return found != NULL;
}

static bool has_too_much(const struct mirror *mirror)
{
    uint64_t budget = mirror->config->shadow_memory;

    return atomic_load(&mirror->page->shadow_memory) > budget &&
           mirror->shadow_memory > budget / mirror->config->workers;
}

bool sessions_shed_memory(struct mirror *mirror)
{
    mirror->memory_is_short = false;
    for (int n = 0; has_too_much(mirror); n++) {
        struct link *top = ranks_top(&mirror->hungry);

        mirror->memory_is_short = n == CUTS_PER_TURN;
        if (top == NULL || mirror->memory_is_short)
            break;
        struct session *s = LIST_MEMBER(top, struct session, hungry);
        if (!cut_most_lagging(s))
            break;
        session_advance(s);
    }
    return mirror->memory_is_short;
}

static void apply_runtime(struct session *s)
{
    struct shadow_turn turn = legs_turn(s, clock_now());

    for (size_t i = 0; i < s->shadow_count; i++) {
        if (policy_is_paused(s->mirror, i))
            shadow_pause(&s->shadows[i], &turn);
    }
    session_advance(s);
}

/* Those that have not followed yet are the last ones of the list: new sessions, which know the
 * settings from their beginning, and those that have followed go to its front. */
bool sessions_apply_runtime(struct mirror *mirror)
{
    mirror->epoch = atomic_load(&mirror->page->epoch);
    for (int n = 0; n < FOLLOWERS_PER_TURN; n++) {
        struct link    *link = mirror->sessions.previous;
        struct session *s = LIST_MEMBER(link, struct session, all);

        if (link == &mirror->sessions || s->epoch == (uint32_t)mirror->epoch)
            return false;
        s->epoch = (uint32_t)mirror->epoch;
        list_remove(link);
        list_add(&mirror->sessions, link);
        apply_runtime(s);
    }
    return true;
}

static void session_drain(struct session *s)
{
    struct shadow_turn turn = legs_turn(s, clock_now());

    if (s->state == SESSION_RELAYING)
        session_cut(s, SESSION_DRAIN);
    for (size_t i = 0; i < s->shadow_count; i++)
        shadow_cut(&s->shadows[i], SHADOW_DRAIN, &turn);
    session_advance(s);
}

void sessions_drain(struct mirror *mirror)
{
    while (!list_is_empty(&mirror->sessions))
        session_drain(LIST_MEMBER(mirror->sessions.next, struct session, all));
}
