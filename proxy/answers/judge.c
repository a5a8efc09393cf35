/*
 * judge.c — a table of open sessions for each ring; each of them a conversation and its units.
 */
#include "judge.h"

#include <stdlib.h>
#include <string.h>

#include "answers/conversation.h"
#include "answers/events.h"
#include "answers/parts.h"
#include "answers/tally.h"

#define BUCKETS 4096 /* of a ring's table; sessions of one bucket are a list */

_Static_assert(EVENT_SHADOWS == CONVERSATION_SHADOWS, "a session's shadows fit into its event");

struct session {
    struct session      *next; /* in its bucket */
    struct judge        *judge;
    uint32_t             number;
    size_t               shadow_count;
    uint16_t             rows[EVENT_SHADOWS];
    struct evidence_unit units[EVENT_SHADOWS];
    struct conversation *conversation;
};

struct table {
    struct session *buckets[BUCKETS];
};

struct judge {
    struct judge_settings       settings;
    struct reply_scratch scratch;
    struct kept_budget          budget;
    struct table               *tables; /* one for each ring */
    size_t                      next_ring;
    uint8_t                     bytes[EVENT_BYTES_MAX];
};

/* --- exchanges --------------------------------------------------------------------------- */

static void end_unit(struct session *session, size_t shadow)
{
    struct evidence_unit *unit = &session->units[shadow];

    if (unit->judged > 0)
        tally_unit(&session->judge->settings.tallies[session->rows[shadow]], unit);
    memset(unit, 0, sizeof *unit);
}

static bool is_judged(enum exchange_result result)
{
    return result != EXCHANGE_UNFINISHED && result != EXCHANGE_OPAQUE;
}

static void on_exchange(void *owner, const struct exchange *exchange)
{
    struct session       *session = owner;
    struct evidence_unit *unit = &session->units[exchange->shadow];

    tally_exchange(&session->judge->settings.tallies[session->rows[exchange->shadow]],
                   &exchange->comparison);
    if (!is_judged(exchange->comparison.result))
        return;
    unit->judged++;
    for (int i = 0; i < EVIDENCE_CLASSES; i++) {
        unit->only_candidate[i] += exchange->comparison.only_candidate[i];
        unit->only_control[i] += exchange->comparison.only_control[i];
    }
    if (unit->judged == UNIT_EXCHANGES)
        end_unit(session, exchange->shadow);
}

/* --- sessions ---------------------------------------------------------------------------- */

static struct session **find(struct judge *judge, size_t ring, uint32_t number)
{
    struct session **link = &judge->tables[ring].buckets[number % BUCKETS];

    while (*link != NULL && (*link)->number != number)
        link = &(*link)->next;
    return link;
}

static void free_session(struct session **link)
{
    struct session *session = *link;

    for (size_t i = 0; i < session->shadow_count; i++)
        end_unit(session, i);
    *link = session->next;
    conversation_free(session->conversation);
    free(session);
}

static void give_up(struct session **link, enum unfinished_why why)
{
    conversation_give_up((*link)->conversation, why);
    free_session(link);
}

static bool is_fine(const struct judge *judge, const struct event_session *said)
{
    if (said->shadow_count == 0 || said->shadow_count > EVENT_SHADOWS ||
        said->control >= said->shadow_count || said->frames > FRAMES_RESP)
        return false;
    for (size_t i = 0; i < said->shadow_count; i++)
        if (said->rows[i] >= judge->settings.tally_count)
            return false;
    return true;
}

/* The session is lost as a whole; each of its shadows has an exchange less that was compared. */
static void count_lost(struct judge *judge, const struct event_session *said,
                       enum unfinished_why why)
{
    const struct comparison lost = { .result = EXCHANGE_UNFINISHED, .why = why };

    for (size_t i = 0; i < said->shadow_count; i++)
        tally_exchange(&judge->settings.tallies[said->rows[i]], &lost);
}

static void begin_session(struct judge *judge, size_t ring, uint32_t number,
                          const struct event_session *said)
{
    struct session **link = find(judge, ring, number);

    if (!is_fine(judge, said))
        return;
    if (*link != NULL)
        give_up(link, UNFINISHED_ABORTED);
    link = find(judge, ring, number);
    struct session *session = calloc(1, sizeof *session);
    const struct conversation_terms terms = {
        .frames = said->frames,
        .only_sizes = said->only_sizes,
        .shadow_count = said->shadow_count,
        .control = said->control,
        .budget = &judge->budget,
        .scratch = &judge->scratch,
        .on_exchange = on_exchange,
        .owner = session,
    };
    struct conversation *conversation = session == NULL ? NULL : conversation_new(&terms);
    if (conversation == NULL) {
        free(session);
        count_lost(judge, said, UNFINISHED_MEMORY);
        return;
    }
    session->judge = judge;
    session->number = number;
    session->shadow_count = said->shadow_count;
    memcpy(session->rows, said->rows, sizeof session->rows);
    session->conversation = conversation;
    session->next = *link;
    *link = session;
}

static void forget_worker(struct judge *judge, size_t ring, enum unfinished_why why)
{
    for (size_t i = 0; i < BUCKETS; i++)
        while (judge->tables[ring].buckets[i] != NULL)
            give_up(&judge->tables[ring].buckets[i], why);
}

/* --- events ------------------------------------------------------------------------------ */

static bool has_leg(const struct session *session, unsigned leg)
{
    return leg < LEG_OF_SHADOW(session->shadow_count);
}

static void take_session_event(struct judge *judge, struct session **link,
                               const struct event *event)
{
    struct session *session = *link;

    switch ((enum event_type)event->type) {
    case EVENT_REQUEST:
        conversation_request(session->conversation, judge->bytes, event->length);
        break;
    case EVENT_ANSWER:
        if (has_leg(session, event->leg))
            conversation_answer(session->conversation, event->leg, judge->bytes, event->length);
        break;
    case EVENT_LEG_ENDS:
        if (has_leg(session, event->leg) && event->how <= LEG_CUT &&
            event->why < UNFINISHED_REASONS)
            conversation_leg_ends(session->conversation, event->leg, event->how, event->why);
        break;
    case EVENT_END:
        conversation_end(session->conversation);
        free_session(link);
        break;
    case EVENT_GAP:
        give_up(link, UNFINISHED_BUSY);
        break;
    case EVENT_WORKER_BEGINS:
    case EVENT_BEGIN:
        break;
    }
}

/* What follows for a session that is not known, because a gap or another judge's end came before, is
 * passed over: it was counted then. */
static void take_event(struct judge *judge, size_t ring, const struct event *event)
{
    struct event_session said;
    struct session     **link;

    switch ((enum event_type)event->type) {
    case EVENT_WORKER_BEGINS:
        forget_worker(judge, ring, UNFINISHED_ABORTED);
        return;
    case EVENT_BEGIN:
        if (event->length != sizeof said)
            return;
        memcpy(&said, judge->bytes, sizeof said);
        begin_session(judge, ring, event->session, &said);
        return;
    case EVENT_REQUEST:
    case EVENT_ANSWER:
    case EVENT_LEG_ENDS:
    case EVENT_END:
    case EVENT_GAP:
        link = find(judge, ring, event->session);
        if (*link != NULL)
            take_session_event(judge, link, event);
        return;
    }
}

size_t judge_work(struct judge *judge, size_t max_events)
{
    size_t done = 0, idle = 0;

    while (done < max_events && idle < judge->settings.ring_count) {
        size_t       ring = judge->next_ring;
        struct event event;
        if (event_read(judge->settings.rings[ring], &event, judge->bytes)) {
            take_event(judge, ring, &event);
            done++;
            idle = 0;
        } else {
            idle++;
        }
        judge->next_ring = (ring + 1) % judge->settings.ring_count;
    }
    return done;
}

uint64_t judge_memory(const struct judge *judge)
{
    return judge->budget.used;
}

struct judge *judge_new(const struct judge_settings *settings)
{
    struct judge *judge = calloc(1, sizeof *judge);

    if (judge == NULL)
        return NULL;
    judge->settings = *settings;
    judge->budget.max = settings->memory;
    judge->tables = calloc(settings->ring_count, sizeof *judge->tables);
    judge->scratch.compare = compare_scratch_new();
    bool is_whole = judge->tables != NULL && judge->scratch.compare != NULL;
    for (int i = 0; i < 3; i++) {
        judge->scratch.parts[i] = parts_scratch_new();
        is_whole = is_whole && judge->scratch.parts[i] != NULL;
    }
    if (!is_whole) {
        judge_free(judge);
        return NULL;
    }
    for (size_t i = 0; i < settings->tally_count; i++)
        tally_recover(&settings->tallies[i]);
    return judge;
}

void judge_free(struct judge *judge)
{
    if (judge == NULL)
        return;
    for (size_t i = 0; judge->tables != NULL && i < judge->settings.ring_count; i++)
        forget_worker(judge, i, UNFINISHED_ABORTED);
    free(judge->tables);
    compare_scratch_free(judge->scratch.compare);
    for (int i = 0; i < 3; i++)
        parts_scratch_free(judge->scratch.parts[i]);
    free(judge);
}
