/*
 * test_stalls.c — a loop that stands still is noticed, whether it slept too long or worked too long.
 */
#include "process/stalls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/log.h"
#include "tests/unit/told_clock.h"

static double work; /* how long each turn takes */
static struct ev_loop *loop;
static struct stalls stalls;
static _Atomic uint64_t count;
static ev_timer soon;

static void on_soon(struct ev_loop *of, ev_timer *timer, int events)
{
    (void)of;
    (void)timer;
    (void)events;
    now += work;
}

static int start(void **state)
{
    struct log_options off = { .file = "off", .access_file = "off" };

    (void)state;
    log_open(&off, NULL);
    now = 1000;
    work = 0;
    atomic_store(&count, 0);
    loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    ev_timer_init(&soon, on_soon, 0, 0);
    stalls_watch(&stalls, loop, "worker 1", 1, &count);
    return loop != NULL ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    ev_loop_destroy(loop);
    return 0;
}

/* One turn after sleeping, that ends when the loop would sleep again. */
static void turn(double sleep_seconds, double work_seconds)
{
    work = work_seconds;
    ev_timer_set(&soon, 0, 0);
    ev_timer_start(loop, &soon);
    now += sleep_seconds;
    ev_run(loop, EVRUN_ONCE);
    work = 0;
    ev_run(loop, EVRUN_NOWAIT);
}

static void test_turns_and_sleeps_that_are_short_enough_are_no_stall(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        turn(0.9, 0.9);
    assert_int_equal(atomic_load(&count), 0);
}

static void test_L24_a_turn_of_over_a_second_is_a_stall(void **state)
{
    (void)state;
    turn(0.1, 1.5);
    assert_int_equal(atomic_load(&count), 1);
    turn(0.1, 0.1);
    assert_int_equal(atomic_load(&count), 1);
    turn(0.1, 40);
    assert_int_equal(atomic_load(&count), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_turns_and_sleeps_that_are_short_enough_are_no_stall,
                                        start, end),
        cmocka_unit_test_setup_teardown(test_L24_a_turn_of_over_a_second_is_a_stall, start, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
