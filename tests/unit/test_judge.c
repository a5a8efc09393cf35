/*
 * test_judge.c — events of workers become tallies, whatever is missing, repeated or nonsense.
 */
#include "answers/judge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "answers/conversation.h"
#include "answers/events.h"
#include "answers/tally.h"

#define RING  (4 * EVENT_BYTES_MAX)
#define RINGS 2
#define ROWS  3

static struct event_ring *rings[RINGS];
static struct tally       tallies[ROWS];
static struct judge      *judge;

static int start(void **state)
{
    (void)state;
    memset(tallies, 0, sizeof tallies);
    for (int i = 0; i < RINGS; i++) {
        rings[i] = aligned_alloc(64, event_ring_memory(RING));
        memset(rings[i], 0, event_ring_memory(RING));
        event_ring_init(rings[i], RING);
    }
    const struct judge_settings settings = { .rings = rings,
                                             .ring_count = RINGS,
                                             .tallies = tallies,
                                             .tally_count = ROWS,
                                             .memory = 1 << 20 };
    judge = judge_new(&settings);
    return judge != NULL ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    judge_free(judge);
    for (int i = 0; i < RINGS; i++)
        free(rings[i]);
    return 0;
}

static void say(int ring, uint32_t session, enum event_type type, uint8_t leg, const void *bytes,
                size_t length)
{
    const struct event event = {
        .length = (uint32_t)length, .session = session, .type = type, .leg = leg
    };

    assert_true(event_write(rings[ring], event, bytes));
}

/* A candidate in row 0, a control in row 2. */
static void begin(int ring, uint32_t session)
{
    const struct event_session said = {
        .frames = FRAMES_AUTO, .control = 1, .shadow_count = 2, .rows = { 0, 2 }
    };

    say(ring, session, EVENT_BEGIN, 0, &said, sizeof said);
}

static void work(void)
{
    while (judge_work(judge, 7) > 0)
        ;
}

static uint64_t result(int row, enum exchange_result wanted)
{
    return atomic_load(&tallies[row].results[wanted]);
}

#define GET      "GET / HTTP/1.1\r\n\r\n"
#define OK(body) "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" body
#define SAY(ring, session, type, leg, text) say(ring, session, type, leg, text, sizeof text - 1)

static void exchanges_of_several_workers_are_counted_for_their_shadows(void **state)
{
    (void)state;
    for (int ring = 0; ring < RINGS; ring++) {
        begin(ring, 7);
        SAY(ring, 7, EVENT_REQUEST, 0, GET GET);
        SAY(ring, 7, EVENT_ANSWER, 0, OK("a") OK("b"));
        SAY(ring, 7, EVENT_ANSWER, 1, OK("a") OK("x"));
        SAY(ring, 7, EVENT_ANSWER, 2, OK("a") OK("b"));
    }
    work();
    assert_int_equal(result(0, EXCHANGE_EQUAL), 2);
    assert_int_equal(result(0, EXCHANGE_DIFFERENT), 2);
    assert_int_equal(result(2, EXCHANGE_EQUAL), 4);
    assert_int_equal(atomic_load(&tallies[0].classes[DIFFERENCE_CONTENT]), 2);
    assert_int_equal(tally_evidence(&tallies[0]).judged, 0); /* their units are not over */
    for (int ring = 0; ring < RINGS; ring++)
        say(ring, 7, EVENT_END, 0, NULL, 0);
    work();
    struct evidence evidence = tally_evidence(&tallies[0]);
    assert_int_equal(evidence.judged, 4);
    assert_int_equal(evidence.exchanges, 4);
    assert_int_equal(evidence.classes[EVIDENCE_ALL].units_candidate, 2);
    assert_int_equal(judge_memory(judge), 0);
}

static void a_long_session_is_a_unit_for_each_fifty_exchanges(void **state)
{
    (void)state;
    begin(0, 1);
    for (int i = 0; i < 2 * UNIT_EXCHANGES + 1; i++) {
        SAY(0, 1, EVENT_REQUEST, 0, GET);
        SAY(0, 1, EVENT_ANSWER, 0, OK("a"));
        SAY(0, 1, EVENT_ANSWER, 1, OK("b"));
        SAY(0, 1, EVENT_ANSWER, 2, OK("a"));
    }
    work();
    assert_int_equal(tally_evidence(&tallies[0]).classes[EVIDENCE_ALL].units_candidate, 2);
    say(0, 1, EVENT_END, 0, NULL, 0);
    work();
    assert_int_equal(tally_evidence(&tallies[0]).classes[EVIDENCE_ALL].units_candidate, 3);
}

static void what_was_not_heard_is_unfinished_and_counted_once(void **state)
{
    (void)state;
    begin(0, 1);
    SAY(0, 1, EVENT_REQUEST, 0, GET);
    say(0, 1, EVENT_GAP, 0, NULL, 0);
    SAY(0, 1, EVENT_ANSWER, 0, OK("a"));
    say(0, 1, EVENT_END, 0, NULL, 0);
    work();
    assert_int_equal(result(0, EXCHANGE_UNFINISHED), 1);
    assert_int_equal(atomic_load(&tallies[0].unfinished[UNFINISHED_BUSY]), 1);
    begin(0, 2);
    SAY(0, 2, EVENT_REQUEST, 0, GET);
    say(0, 0, EVENT_WORKER_BEGINS, 0, NULL, 0);
    work();
    assert_int_equal(atomic_load(&tallies[0].unfinished[UNFINISHED_ABORTED]), 1);
    assert_int_equal(tally_exchanges(&tallies[0]), 2);
}

static void a_full_ring_refuses_whole_events(void **state)
{
    static uint8_t bytes[EVENT_BYTES_MAX];
    struct event   event = { .length = EVENT_BYTES_MAX, .type = EVENT_REQUEST };
    int            written = 0;

    (void)state;
    while (event_write(rings[0], event, bytes))
        written++;
    assert_int_equal(written, 3);
    assert_int_equal(judge_work(judge, 1), 1);
    assert_true(event_write(rings[0], event, bytes));
    assert_false(event_write(rings[0], event, bytes));
}

static void bytes_come_out_as_they_went_in_around_the_end_of_the_ring(void **state)
{
    static uint8_t in[EVENT_BYTES_MAX], out[EVENT_BYTES_MAX];

    (void)state;
    for (unsigned i = 0; i < 2000; i++) {
        struct event event = { .length = (i * 977) % EVENT_BYTES_MAX,
                               .session = i,
                               .type = EVENT_ANSWER };
        struct event seen;
        for (size_t j = 0; j < event.length; j += 61)
            in[j] = (uint8_t)(i + j);
        assert_true(event_write(rings[0], event, in));
        assert_true(event_read(rings[0], &seen, out));
        assert_int_equal(seen.session, i);
        assert_int_equal(seen.length, event.length);
        for (size_t j = 0; j < event.length; j += 61)
            assert_int_equal(out[j], (uint8_t)(i + j));
    }
}

static void nonsense_breaks_nothing(void **state)
{
    unsigned seed = 1;
    uint8_t  bytes[64];

    (void)state;
    for (int i = 0; i < 200000; i++) {
        seed = seed * 1103515245 + 12345;
        struct event event = { .length = (seed >> 8) % sizeof bytes,
                               .session = (seed >> 16) % 5,
                               .type = (uint8_t)((seed >> 20) % EVENT_TYPES),
                               .leg = (uint8_t)((seed >> 4) % 6),
                               .how = (uint8_t)(seed >> 24),
                               .why = (uint8_t)(seed >> 12) };
        for (size_t j = 0; j < sizeof bytes; j++)
            bytes[j] = (uint8_t)(GET "*1$"
                                     "HTTP/1.1 200\r\n\r\n")[(j + (seed >> 9)) % 34];
        if (event.type == EVENT_BEGIN && seed % 3 != 0) {
            begin(0, event.session);
            continue;
        }
        event_write(rings[0], event, bytes);
        judge_work(judge, 3);
    }
    say(0, 0, EVENT_WORKER_BEGINS, 0, NULL, 0);
    work();
    assert_int_equal(judge_memory(judge), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(exchanges_of_several_workers_are_counted_for_their_shadows,
                                        start, end),
        cmocka_unit_test_setup_teardown(a_long_session_is_a_unit_for_each_fifty_exchanges, start,
                                        end),
        cmocka_unit_test_setup_teardown(what_was_not_heard_is_unfinished_and_counted_once, start,
                                        end),
        cmocka_unit_test_setup_teardown(a_full_ring_refuses_whole_events, start, end),
        cmocka_unit_test_setup_teardown(bytes_come_out_as_they_went_in_around_the_end_of_the_ring,
                                        start, end),
        cmocka_unit_test_setup_teardown(nonsense_breaks_nothing, start, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
