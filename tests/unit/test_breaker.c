/*
 * test_breaker.c — the breaker by its state table, with a clock that the test sets.
 */
#include "shared/breaker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define REFUSED  7   /* any cause */
#define PATIENCE 4.0

static const struct breaker_terms terms = { .failures = 3, .seconds = 10 };
static const uint64_t             longest = UINT64_MAX; /* random bits: the whole back-off */
static const uint64_t             shortest = 0;

static bool enter(struct breaker *breaker, double now, uint64_t *probe)
{
    return breaker_enter(breaker, now, PATIENCE, probe);
}

static bool fails(struct breaker *breaker, uint64_t probe, double now)
{
    return breaker_failed(breaker, &terms, probe,
                          &(struct breaker_failure){ REFUSED, now, longest });
}

static void open_it(struct breaker *breaker, double now)
{
    for (uint64_t i = 0; i < terms.failures; i++)
        fails(breaker, 0, now);
    assert_int_equal(breaker_state(breaker), BREAKER_OPEN);
}

/* Answers the probe's number. */
static uint64_t half_open_it(struct breaker *breaker, double now)
{
    uint64_t probe;

    open_it(breaker, now);
    assert_true(enter(breaker, now + terms.seconds, &probe));
    assert_int_equal(breaker_state(breaker), BREAKER_HALF_OPEN);
    return probe;
}

/* Every state against everything that can happen in it. */
enum event {
    LOOK,      /* breaker_admits() before the time is over */
    LOOK_LATE, /* ... and after it */
    FAIL,      /* of a connection that is no probe */
    SUCCEED,
    PROBE_FAILS,
    PROBE_SUCCEEDS,
    PROBE_UNKNOWN,
};

struct row {
    enum breaker_state from;
    enum event         event;
    bool               answer;
    enum breaker_state to;
};

static bool happen(struct breaker *breaker, enum event event, uint64_t probe)
{
    switch (event) {
    case LOOK:
        return breaker_admits(breaker, 101);
    case LOOK_LATE:
        return breaker_admits(breaker, 1000);
    case FAIL:
        return fails(breaker, 0, 101);
    case SUCCEED:
        return breaker_succeeded(breaker, 0);
    case PROBE_FAILS:
        return fails(breaker, probe, 111);
    case PROBE_SUCCEEDS:
        return breaker_succeeded(breaker, probe);
    case PROBE_UNKNOWN:
        breaker_unknown(breaker, probe, 111);
        return false;
    }
    return false;
}

static void each_state_answers_each_event_as_the_table_says(void **state)
{
    static const struct row table[] = {
        { BREAKER_CLOSED, LOOK, true, BREAKER_CLOSED },
        { BREAKER_CLOSED, LOOK_LATE, true, BREAKER_CLOSED },
        { BREAKER_CLOSED, FAIL, false, BREAKER_CLOSED },
        { BREAKER_CLOSED, SUCCEED, false, BREAKER_CLOSED },
        { BREAKER_OPEN, LOOK, false, BREAKER_OPEN },
        { BREAKER_OPEN, LOOK_LATE, true, BREAKER_OPEN },
        { BREAKER_OPEN, FAIL, false, BREAKER_OPEN },
        { BREAKER_OPEN, SUCCEED, false, BREAKER_OPEN },
        { BREAKER_HALF_OPEN, LOOK, false, BREAKER_HALF_OPEN },
        { BREAKER_HALF_OPEN, LOOK_LATE, true, BREAKER_HALF_OPEN },
        { BREAKER_HALF_OPEN, FAIL, false, BREAKER_HALF_OPEN },
        { BREAKER_HALF_OPEN, SUCCEED, false, BREAKER_HALF_OPEN },
        { BREAKER_HALF_OPEN, PROBE_FAILS, false, BREAKER_OPEN },
        { BREAKER_HALF_OPEN, PROBE_SUCCEEDS, true, BREAKER_CLOSED },
        { BREAKER_HALF_OPEN, PROBE_UNKNOWN, false, BREAKER_OPEN },
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct breaker breaker = { 0 };
        uint64_t       probe = 0;

        if (table[i].from == BREAKER_OPEN)
            open_it(&breaker, 100);
        if (table[i].from == BREAKER_HALF_OPEN)
            probe = half_open_it(&breaker, 100);
        assert_int_equal(happen(&breaker, table[i].event, probe), table[i].answer);
        assert_int_equal(breaker_state(&breaker), table[i].to);
    }
}

static void only_failures_in_a_row_open_it(void **state)
{
    struct breaker breaker = { 0 };

    (void)state;
    assert_false(fails(&breaker, 0, 1));
    assert_false(fails(&breaker, 0, 2));
    breaker_succeeded(&breaker, 0);
    assert_false(fails(&breaker, 0, 3));
    assert_false(fails(&breaker, 0, 4));
    assert_int_equal(breaker_state(&breaker), BREAKER_CLOSED);
    assert_true(fails(&breaker, 0, 5));
    assert_int_equal(breaker_state(&breaker), BREAKER_OPEN);
    assert_int_equal(atomic_load(&breaker.cause), REFUSED);
}

static void each_failed_probe_doubles_the_time_up_to_the_most(void **state)
{
    struct breaker breaker = { 0 };
    double         now = 100;
    double         wanted = terms.seconds;

    (void)state;
    open_it(&breaker, now);
    for (int i = 0; i < 40; i++) {
        uint64_t probe;

        assert_true(breaker_until(&breaker) - now <= wanted + 0.002);
        assert_true(breaker_until(&breaker) - now >= wanted - 0.002);
        now = breaker_until(&breaker);
        assert_true(enter(&breaker, now, &probe));
        fails(&breaker, probe, now);
        wanted = wanted * 2 < BREAKER_MAX_SECONDS ? wanted * 2 : BREAKER_MAX_SECONDS;
    }
}

static void jitter_takes_at_most_a_quarter_of_the_time(void **state)
{
    struct breaker breaker = { 0 };

    (void)state;
    for (uint64_t i = 0; i < terms.failures; i++)
        breaker_failed(&breaker, &terms, 0, &(struct breaker_failure){ REFUSED, 100, shortest });
    assert_true(breaker_until(&breaker) >= 107.5 && breaker_until(&breaker) < 107.6);
}

static void a_time_beyond_the_most_stays_as_it_was_said(void **state)
{
    const struct breaker_terms patient = { .failures = 1, .seconds = 3600 };
    struct breaker             breaker = { 0 };

    (void)state;
    assert_true(
        breaker_failed(&breaker, &patient, 0, &(struct breaker_failure){ REFUSED, 0, longest }));
    assert_true(breaker_until(&breaker) > 3599 && breaker_until(&breaker) < 3601);
}

static void success_of_the_probe_forgets_the_back_off(void **state)
{
    struct breaker breaker = { 0 };
    uint64_t       probe = half_open_it(&breaker, 100);

    (void)state;
    fails(&breaker, probe, 110);
    assert_true(enter(&breaker, 130, &probe));
    assert_true(breaker_succeeded(&breaker, probe));
    open_it(&breaker, 200);
    assert_true(breaker_until(&breaker) < 200 + terms.seconds + 0.002);
}

static void a_probe_that_nobody_hears_of_is_replaced_and_no_longer_listened_to(void **state)
{
    struct breaker breaker = { 0 };
    uint64_t       lost = half_open_it(&breaker, 100);
    uint64_t       probe;

    (void)state;
    assert_false(enter(&breaker, 110 + PATIENCE - 0.1, &probe));
    assert_true(enter(&breaker, 110 + PATIENCE + 0.1, &probe));
    assert_int_not_equal(probe, lost);

    assert_false(breaker_succeeded(&breaker, lost));
    assert_false(fails(&breaker, lost, 115));
    breaker_unknown(&breaker, lost, 115);
    assert_int_equal(breaker_state(&breaker), BREAKER_HALF_OPEN);
    assert_true(breaker_succeeded(&breaker, probe));
}

static void a_probe_that_learned_nothing_makes_room_at_once(void **state)
{
    struct breaker breaker = { 0 };
    uint64_t       probe = half_open_it(&breaker, 100);
    uint64_t       next;

    (void)state;
    breaker_unknown(&breaker, probe, 111);
    assert_true(breaker_admits(&breaker, 111));
    assert_true(enter(&breaker, 111, &next));
    assert_int_not_equal(next, 0);
}

static void reset_closes_it_whatever_it_was(void **state)
{
    struct breaker breaker = { 0 };

    (void)state;
    half_open_it(&breaker, 100);
    breaker_reset(&breaker);
    assert_int_equal(breaker_state(&breaker), BREAKER_CLOSED);
    assert_true(breaker_until(&breaker) == 0);
}

#define WORKERS 8
#define ROUNDS  2000

struct shared {
    struct breaker   breaker;
    _Atomic uint64_t time; /* in rounds */
    _Atomic uint64_t probes[ROUNDS];
};

/* In each round the time is over once; everybody wants to be the probe. */
static void race(struct shared *shared)
{
    uint64_t probe;

    for (uint64_t round = 0; round < ROUNDS; round = atomic_load(&shared->time)) {
        double now = 1000 * (double)(round + 1);

        if (!enter(&shared->breaker, now, &probe))
            continue;
        atomic_fetch_add(&shared->probes[round], 1);
        fails(&shared->breaker, probe, now);
        atomic_store(&shared->time, round + 1);
    }
    _exit(0);
}

static void of_many_workers_exactly_one_is_the_probe(void **state)
{
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int            status;

    (void)state;
    assert_ptr_not_equal(shared, MAP_FAILED);
    open_it(&shared->breaker, 0);
    for (int i = 0; i < WORKERS; i++) {
        if (fork() == 0)
            race(shared);
    }
    while (wait(&status) > 0)
        assert_int_equal(status, 0);
    for (size_t round = 0; round < ROUNDS; round++)
        assert_int_equal(atomic_load(&shared->probes[round]), 1);
    munmap(shared, sizeof *shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_state_answers_each_event_as_the_table_says),
        cmocka_unit_test(only_failures_in_a_row_open_it),
        cmocka_unit_test(each_failed_probe_doubles_the_time_up_to_the_most),
        cmocka_unit_test(jitter_takes_at_most_a_quarter_of_the_time),
        cmocka_unit_test(a_time_beyond_the_most_stays_as_it_was_said),
        cmocka_unit_test(success_of_the_probe_forgets_the_back_off),
        cmocka_unit_test(a_probe_that_nobody_hears_of_is_replaced_and_no_longer_listened_to),
        cmocka_unit_test(a_probe_that_learned_nothing_makes_room_at_once),
        cmocka_unit_test(reset_closes_it_whatever_it_was),
        cmocka_unit_test(of_many_workers_exactly_one_is_the_probe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
