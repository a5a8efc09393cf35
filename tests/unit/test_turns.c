/*
 * test_turns.c — who begins, who waits, and whose turn it is next.
 */
#include "transport/turns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/address.h"

#define TURNS 4000

static struct turns *turns;
static struct turn   all[TURNS];

static int end(void **state)
{
    (void)state;
    for (size_t i = 0; i < TURNS; i++)
        turns_leave(turns, &all[i]);
    turns_free(turns);
    memset(all, 0, sizeof all);
    return 0;
}

static void enter(size_t number, const char *host)
{
    struct address address;

    assert_true(address_parse(&address, host, 1));
    assert_true(turns_enter(turns, &all[number], &address, 0));
}

static size_t number_of(const struct turn *turn)
{
    return turn == NULL ? TURNS : (size_t)(turn - all);
}

/* How many may begin now. */
static size_t begin_all(void)
{
    size_t begun = 0;

    while (turns_next(turns, 0) != NULL)
        begun++;
    return begun;
}

static void test_a_source_alone_has_half_of_the_places_and_a_single_one_at_least(void **state)
{
    const size_t places[] = { 1, 2, 3, 8, 1024 };
    const size_t expected[] = { 1, 1, 2, 4, 512 };

    (void)state;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        turns = turns_new(places[i]);
        for (size_t n = 0; n < TURNS; n++)
            enter(n, "10.0.0.1");
        assert_int_equal(begin_all(), expected[i]);
        if (i + 1 < sizeof places / sizeof places[0])
            end(NULL);
    }
}

static void test_who_has_nothing_under_way_begins_at_once(void **state)
{
    (void)state;
    turns = turns_new(64);
    for (size_t n = 0; n < 1000; n++)
        enter(n, "10.0.0.1");
    assert_int_equal(begin_all(), 32);
    for (size_t n = 1000; n < 2000; n++)
        enter(n, "10.0.0.2");
    assert_int_equal(begin_all(), 16);
    enter(2000, "10.0.0.3");
    assert_int_equal(number_of(turns_next(turns, 0)), 2000);
    assert_null(turns_next(turns, 0));
}

static void test_within_a_source_the_first_comes_first(void **state)
{
    (void)state;
    turns = turns_new(1);
    for (size_t n = 0; n < 5; n++)
        enter(n, "2001:db8::1");
    for (size_t n = 0; n < 5; n++) {
        assert_int_equal(number_of(turns_next(turns, 0)), n);
        assert_null(turns_next(turns, 0));
        turns_leave(turns, &all[n]);
    }
}

static void test_sources_take_turns(void **state)
{
    size_t begun[3] = { 0 };

    (void)state;
    turns = turns_new(1);
    for (size_t n = 0; n < 300; n++)
        enter(n, n < 200 ? "10.0.0.1" : n < 290 ? "10.0.0.2" : "10.0.0.3");
    for (size_t i = 0; i < 30; i++) {
        size_t next = number_of(turns_next(turns, 0));

        begun[next < 200 ? 0 : next < 290 ? 1 : 2]++;
        turns_leave(turns, &all[next]);
    }
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(begun[i], 10);
}

static void test_of_ipv6_the_network_counts_and_of_ipv4_the_host(void **state)
{
    (void)state;
    turns = turns_new(4);
    enter(0, "2001:db8:0:1::1");
    enter(1, "2001:db8:0:1::2");
    enter(2, "2001:db8:0:1:8000::3");
    assert_int_equal(begin_all(), 2);
    enter(3, "2001:db8:0:2::1");
    assert_int_equal(begin_all(), 1);
    enter(4, "10.0.0.1");
    assert_int_equal(begin_all(), 1);
}

static void test_everybody_begins_at_last_however_many_sources_there_are(void **state)
{
    size_t begun = 0;

    (void)state;
    turns = turns_new(10);
    for (size_t n = 0; n < TURNS; n++) {
        char host[20];

        snprintf(host, sizeof host, "10.0.%zu.%zu", n / 3 / 256, n / 3 % 256);
        enter(n, host);
    }
    while (true) {
        struct turn *under_way[10];
        size_t       count = 0;

        for (struct turn *t = turns_next(turns, 0); t != NULL; t = turns_next(turns, 0))
            under_way[count++] = t;
        if (count == 0)
            break;
        for (size_t i = 0; i < count; i++)
            turns_leave(turns, under_way[i]);
        begun += count;
    }
    assert_int_equal(begun, TURNS);
}

static void test_a_queue_that_moves_on_is_not_stuck(void **state)
{
    struct address address;

    (void)state;
    assert_true(address_parse(&address, "10.0.0.1", 1));
    turns = turns_new(1);
    assert_true(turns_enter(turns, &all[0], &address, 10));
    assert_ptr_equal(turns_next(turns, 10), &all[0]);
    for (size_t n = 1; n < 4; n++)
        assert_true(turns_enter(turns, &all[n], &address, 10 + (double)n));
    assert_null(turns_stuck(turns, 10.5));
    assert_ptr_equal(turns_stuck(turns, 11), &all[1]); /* since it came */
    turns_leave(turns, &all[0]);
    assert_ptr_equal(turns_next(turns, 20), &all[1]);
    assert_null(turns_stuck(turns, 19));
    assert_ptr_equal(turns_stuck(turns, 20), &all[2]);
}

static void test_who_waits_longest_is_of_the_longest_queue(void **state)
{
    (void)state;
    turns = turns_new(2);
    assert_null(turns_stuck(turns, 0));
    for (size_t n = 0; n < 40; n++)
        enter(n, n < 4 ? "10.0.0.1" : n < 36 ? "10.0.0.2" : "10.0.0.3");
    assert_int_equal(number_of(turns_stuck(turns, 0)), 4);
    turns_leave(turns, &all[4]);
    assert_int_equal(number_of(turns_stuck(turns, 0)), 5);
    for (size_t n = 5; n < 36; n++)
        turns_leave(turns, &all[n]);
    assert_true(number_of(turns_stuck(turns, 0)) == 0 || number_of(turns_stuck(turns, 0)) == 36);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(
            test_a_source_alone_has_half_of_the_places_and_a_single_one_at_least, end),
        cmocka_unit_test_teardown(test_who_has_nothing_under_way_begins_at_once, end),
        cmocka_unit_test_teardown(test_within_a_source_the_first_comes_first, end),
        cmocka_unit_test_teardown(test_sources_take_turns, end),
        cmocka_unit_test_teardown(test_of_ipv6_the_network_counts_and_of_ipv4_the_host, end),
        cmocka_unit_test_teardown(test_everybody_begins_at_last_however_many_sources_there_are,
                                  end),
        cmocka_unit_test_teardown(test_a_queue_that_moves_on_is_not_stuck, end),
        cmocka_unit_test_teardown(test_who_waits_longest_is_of_the_longest_queue, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
