/*
 * conversation.c — requests are numbered as they are cut; each leg's answers wait for each other.
 */
#include "conversation.h"

#include <stdlib.h>
#include <string.h>

#include "answers/http1.h"
#include "answers/reply.h"
#include "answers/resp.h"

#define LEGS_MAX (1 + CONVERSATION_SHADOWS)

struct leg {
    union {
        struct http1_cut http1;
        struct resp_cut  resp;
    } cut;
    struct reply  *first;  /* whole ones, the oldest first */
    struct reply **last;
    struct reply  *open;   /* the one that is being read; NULL: none has begun */
    uint64_t       begun;  /* answers that have begun, or are whole */
    bool           is_opaque;
    enum leg_end   end;
    enum unfinished_why why; /* LEG_CUT */
};

struct request {
    struct request    *next;
    struct cut_request facts;
};

struct conversation {
    struct conversation_terms terms;
    enum frames     frames; /* decided */
    bool            is_decided;
    bool            is_opaque; /* the rest is one exchange, by size alone */
    bool            is_over;
    bool            is_given_up;
    enum unfinished_why given_up_why;
    union {
        struct http1_cut http1;
        struct resp_cut  resp;
    } cut;
    struct request *first; /* not reported yet, the oldest first */
    struct request **last;
    char prefix[FRAMES_PREFIX]; /* of the client's bytes, while they do not say the protocol */
    size_t          prefix_length;
    uint64_t        requests; /* ever */
    uint64_t        reported;
    size_t          leg_count;
    struct leg      legs[];
};

struct conversation *conversation_new(const struct conversation_terms *terms)
{
    size_t               legs = LEG_OF_SHADOW(terms->shadow_count);
    struct conversation *c = calloc(1, sizeof *c + legs * sizeof c->legs[0]);

    if (c == NULL)
        return NULL;
    c->terms = *terms;
    c->last = &c->first;
    c->leg_count = legs;
    for (size_t i = 0; i < c->leg_count; i++)
        c->legs[i].last = &c->legs[i].first;
    return c;
}

static void free_reply(struct conversation *c, struct reply *reply)
{
    if (reply == NULL)
        return;
    kept_free(&reply->kept, c->terms.budget);
    free(reply);
}

static void drop_request(struct conversation *c)
{
    struct request *request = c->first;

    c->first = request->next;
    if (c->first == NULL)
        c->last = &c->first;
    free(request);
}

void conversation_free(struct conversation *c)
{
    if (c == NULL)
        return;
    while (c->first != NULL)
        drop_request(c);
    for (size_t i = 0; i < c->leg_count; i++) {
        struct leg *leg = &c->legs[i];
        while (leg->first != NULL) {
            struct reply *reply = leg->first;
            leg->first = reply->next;
            free_reply(c, reply);
        }
        free_reply(c, leg->open);
        if (c->frames == FRAMES_HTTP1)
            http1_free(&leg->cut.http1);
    }
    if (c->frames == FRAMES_HTTP1)
        http1_free(&c->cut.http1);
    free(c);
}

/* --- reports ----------------------------------------------------------------------------- */

static const struct request *request_of(const struct conversation *c, uint64_t number)
{
    const struct request *request = c->first;

    for (uint64_t i = c->reported; request != NULL && i < number; i++)
        request = request->next;
    return request;
}

/* Why this leg's missing answer says nothing about its server; false: it does. */
static bool is_excused(const struct leg *leg, const struct reply *reply, enum unfinished_why *why)
{
    if (leg->end != LEG_CUT || (reply != NULL && reply->end == ANSWER_WHOLE && reply->is_there))
        return false;
    *why = leg->why;
    return true;
}

static bool is_of_no_reader(const struct reply *reply)
{
    return reply != NULL && reply->is_opaque;
}

/* The control itself has none. */
static bool has_control(const struct conversation *c, size_t shadow)
{
    return c->terms.control >= 0 && shadow != (size_t)c->terms.control;
}

/* Without the control's whole answer nobody knows what varies by itself. */
static bool control_is_cut(const struct conversation *c, struct reply *const *replies,
                           size_t shadow)
{
    enum unfinished_why why;

    if (!has_control(c, shadow))
        return false;
    size_t leg = LEG_OF_SHADOW((size_t)c->terms.control);
    return is_excused(&c->legs[leg], replies[leg], &why);
}

static struct comparison compare(const struct conversation *c, struct reply *const *replies,
                                 size_t shadow)
{
    static const struct reply nothing;
    const struct reply_terms  terms = { c->frames, c->terms.only_sizes, c->terms.scratch };
    const struct reply       *primary = replies[0], *own = replies[LEG_OF_SHADOW(shadow)];
    const struct reply       *control = NULL;
    struct comparison         out = { .result = EXCHANGE_UNFINISHED, .why = c->given_up_why };

    if (c->is_given_up || is_excused(&c->legs[LEG_OF_SHADOW(shadow)], own, &out.why) ||
        is_excused(&c->legs[0], primary, &out.why))
        return out;
    if (control_is_cut(c, replies, shadow))
        return (struct comparison){ .result = EXCHANGE_UNFINISHED, .why = UNFINISHED_CONTROL };
    if (has_control(c, shadow)) {
        control = replies[LEG_OF_SHADOW((size_t)c->terms.control)];
        control = control != NULL ? control : &nothing;
    }
    replies_compare(&terms, primary != NULL ? primary : &nothing, own != NULL ? own : &nothing,
                    control, &out);
    if (out.result != EXCHANGE_UNFINISHED && (is_of_no_reader(primary) || is_of_no_reader(own)))
        return (struct comparison){ .result = EXCHANGE_OPAQUE };
    return out;
}

static void report(struct conversation *c, struct reply *const *replies, size_t shadow,
                   const char *label)
{
    const struct reply   *own = replies[LEG_OF_SHADOW(shadow)];
    const struct exchange exchange = {
        .shadow = shadow,
        .number = c->reported + 1,
        .label = label,
        .comparison = compare(c, replies, shadow),
        .primary_bytes = replies[0] != NULL ? replies[0]->kept.total : 0,
        .shadow_bytes = own != NULL ? own->kept.total : 0,
    };

    c->terms.on_exchange(c->terms.owner, &exchange);
}

/* The oldest exchange is over: reported for each shadow, then forgotten. */
static void report_oldest(struct conversation *c)
{
    struct reply *replies[LEGS_MAX] = { 0 };
    const char   *label = c->first != NULL ? c->first->facts.label : "";

    for (size_t i = 0; i < c->leg_count; i++) {
        struct leg *leg = &c->legs[i];
        replies[i] = leg->first;
        if (leg->first != NULL) {
            leg->first = leg->first->next;
            if (leg->first == NULL)
                leg->last = &leg->first;
        }
    }
    for (size_t shadow = 0; shadow < c->terms.shadow_count; shadow++)
        report(c, replies, shadow, label);
    for (size_t i = 0; i < c->leg_count; i++)
        free_reply(c, replies[i]);
    if (c->first != NULL)
        drop_request(c);
    c->reported++;
}

/* True: this leg will say nothing more about the oldest exchange. */
static bool leg_is_done(const struct leg *leg)
{
    return leg->first != NULL || leg->end != LEG_OPEN;
}

static void report_ready(struct conversation *c)
{
    while (c->first != NULL && !c->is_over) {
        for (size_t i = 0; i < c->leg_count; i++)
            if (!leg_is_done(&c->legs[i]))
                return;
        report_oldest(c);
    }
}

/* --- legs -------------------------------------------------------------------------------- */

void conversation_give_up(struct conversation *c, enum unfinished_why why)
{
    if (c->is_over)
        return;
    c->is_given_up = true;
    c->given_up_why = why;
    if (c->first == NULL)
        report_oldest(c);
    while (c->first != NULL)
        report_oldest(c);
    c->is_over = true;
}

static struct reply *open_reply(struct conversation *c, struct leg *leg)
{
    if (leg->open == NULL) {
        leg->open = calloc(1, sizeof *leg->open);
        if (leg->open == NULL)
            return NULL;
        leg->begun++;
        leg->open->is_there = true;
        leg->open->is_opaque = c->is_opaque;
    }
    return leg->open;
}

static void end_reply(struct conversation *c, struct leg *leg, enum answer_end end)
{
    struct reply *reply = leg->open;

    reply->end = end;
    kept_end(&reply->kept, c->terms.budget);
    *leg->last = reply;
    leg->last = &reply->next;
    leg->open = NULL;
}

static bool keep(struct conversation *c, struct leg *leg, const uint8_t *bytes, size_t length)
{
    struct reply *reply = open_reply(c, leg);

    if (reply != NULL && kept_add(&reply->kept, c->terms.budget, bytes, length))
        return true;
    conversation_give_up(c, UNFINISHED_MEMORY);
    return false;
}

/* The reader has lost the thread: what is open, and all that follows, is one exchange by size. */
static void become_opaque(struct conversation *c)
{
    c->is_opaque = true;
    for (size_t i = 0; i < c->leg_count; i++) {
        c->legs[i].is_opaque = true;
        if (c->legs[i].open != NULL)
            c->legs[i].open->is_opaque = true;
    }
}

/* Bytes up to the end of one answer; answers how many were taken. */
static size_t cut_answer(struct conversation *c, struct leg *leg, const uint8_t *bytes,
                         size_t length)
{
    size_t   taken = 0;
    enum cut what;

    if (leg->open == NULL && leg->begun >= c->requests &&
        (c->frames != FRAMES_RESP || bytes[0] != '>')) {
        become_opaque(c); /* an answer to nothing, as a timeout sends it */
        return 0;
    }
    if (c->frames == FRAMES_HTTP1 && leg->open == NULL)
        http1_answer_start(&leg->cut.http1, &request_of(c, leg->begun)->facts);
    if (c->frames == FRAMES_HTTP1)
        what = http1_cut(&leg->cut.http1, bytes, length, &taken);
    else
        what = resp_cut(&leg->cut.resp, bytes, length, &taken);
    bool is_push = c->frames == FRAMES_RESP && leg->cut.resp.is_push && what != CUT_OPAQUE;
    if (taken > 0 && !is_push && !keep(c, leg, bytes, taken))
        return length;
    if (what == CUT_OPAQUE)
        become_opaque(c);
    else if (what == CUT_WHOLE && leg->open != NULL && !is_push)
        end_reply(c, leg, ANSWER_WHOLE);
    return taken;
}

void conversation_answer(struct conversation *c, size_t number, const uint8_t *bytes, size_t length)
{
    struct leg *leg = &c->legs[number];

    while (length > 0 && !c->is_over && leg->end == LEG_OPEN) {
        bool has_reader = c->is_decided && c->frames != FRAMES_SESSION && !leg->is_opaque;
        size_t taken = length;
        if (has_reader)
            taken = cut_answer(c, leg, bytes, length);
        else if (!keep(c, leg, bytes, length))
            return;
        bytes += taken;
        length -= taken;
        report_ready(c);
    }
}

void conversation_leg_ends(struct conversation *c, size_t number, enum leg_end end,
                           enum unfinished_why why)
{
    struct leg *leg = &c->legs[number];

    if (c->is_over || leg->end != LEG_OPEN || end == LEG_OPEN)
        return;
    leg->end = end;
    leg->why = why;
    if (leg->open != NULL)
        end_reply(c, leg, end == LEG_CLOSED ? ANSWER_CLOSED : ANSWER_RESET);
    report_ready(c);
}

/* --- requests ---------------------------------------------------------------------------- */

static bool add_request(struct conversation *c, const struct cut_request *facts)
{
    struct request *request = calloc(1, sizeof *request);

    if (request == NULL) {
        conversation_give_up(c, UNFINISHED_MEMORY);
        return false;
    }
    request->facts = *facts;
    *c->last = request;
    c->last = &request->next;
    c->requests++;
    return true;
}

static bool server_speaks_first(const struct conversation *c)
{
    for (size_t i = 0; i < c->leg_count; i++)
        if (c->legs[i].open != NULL)
            return true;
    return false;
}

static void set_frames(struct conversation *c, enum frames frames)
{
    static const struct cut_request whole_session = { 0 };

    c->is_decided = true;
    c->frames = server_speaks_first(c) ? FRAMES_SESSION : frames;
    if (c->frames == FRAMES_RESP)
        for (size_t i = 0; i < c->leg_count; i++)
            resp_answers_start(&c->legs[i].cut.resp);
    if (c->frames == FRAMES_SESSION)
        add_request(c, &whole_session);
}

static void cut_request(struct conversation *c, const uint8_t *bytes, size_t length)
{
    while (length > 0 && !c->is_opaque && !c->is_over) {
        size_t   taken;
        enum cut what = c->frames == FRAMES_HTTP1 ? http1_cut(&c->cut.http1, bytes, length, &taken)
                                                  : resp_cut(&c->cut.resp, bytes, length, &taken);
        bytes += taken;
        length -= taken;
        if (what == CUT_OPAQUE || c->requests - c->reported > CONVERSATION_AHEAD)
            become_opaque(c);
        else if (what == CUT_WHOLE &&
                 !add_request(c, c->frames == FRAMES_HTTP1 ? &c->cut.http1.request
                                                           : &c->cut.resp.request))
            return;
    }
}

static void take_request(struct conversation *c, const uint8_t *bytes, size_t length)
{
    if (c->frames != FRAMES_SESSION)
        cut_request(c, bytes, length);
}

/* Gathers the client's first bytes until they say which protocol it speaks. */
static size_t gather_prefix(struct conversation *c, const uint8_t *bytes, size_t length)
{
    size_t      taken = 0;
    enum frames frames = c->terms.frames;

    while (frames == FRAMES_AUTO && taken < length) {
        c->prefix[c->prefix_length++] = (char)bytes[taken++];
        frames = frames_of(c->prefix, c->prefix_length);
    }
    if (frames == FRAMES_AUTO)
        return taken;
    set_frames(c, frames);
    take_request(c, (const uint8_t *)c->prefix, c->prefix_length);
    return taken;
}

void conversation_request(struct conversation *c, const uint8_t *bytes, size_t length)
{
    size_t taken = 0;

    if (c->is_over || length == 0)
        return;
    if (!c->is_decided)
        taken = gather_prefix(c, bytes, length);
    if (c->is_decided)
        take_request(c, bytes + taken, length - taken);
    report_ready(c);
}

void conversation_end(struct conversation *c)
{
    static const struct cut_request rest = { 0 };
    bool has_rest = false;

    if (c->is_over)
        return;
    if (!c->is_decided && c->prefix_length > 0)
        set_frames(c, FRAMES_SESSION);
    for (size_t i = 0; i < c->leg_count; i++) {
        struct leg *leg = &c->legs[i];
        has_rest |= leg->open != NULL;
        if (leg->open != NULL)
            end_reply(c, leg, leg->end == LEG_RESET ? ANSWER_RESET : ANSWER_CLOSED);
        if (leg->end == LEG_OPEN)
            leg->end = LEG_CLOSED;
    }
    if (has_rest && c->first == NULL && !add_request(c, &rest))
        return;
    while (c->first != NULL)
        report_oldest(c);
    c->is_over = true;
}
