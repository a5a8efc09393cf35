/*
 * test_backoff.c — which addresses are tried last, and for how long.
 */
#include "dial/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct backoff backoff;
static struct address addresses[3];

static int set_up(void **state)
{
    (void)state;
    backoff = (struct backoff){ 0 };
    for (size_t i = 0; i < 3; i++) {
        char host[20];
        snprintf(host, sizeof host, "10.0.0.%zu", i);
        address_parse(&addresses[i], host, 80);
    }
    return 0;
}

/* The last digits in the order to try, such as "120". */
static const char *order(double now)
{
    static char text[4];
    struct address sorted[3];

    memcpy(sorted, addresses, sizeof sorted);
    backoff_put_last(&backoff, sorted, 3, now);
    for (size_t i = 0; i < 3; i++)
        text[i] = (char)('0' + (ntohl(sorted[i].v4.sin_addr.s_addr) & 0xff));
    return text;
}

static void test_the_order_stays_where_nothing_failed(void **state)
{
    (void)state;
    assert_string_equal(order(1000), "012");
}

static void test_what_failed_comes_last_for_a_while(void **state)
{
    (void)state;
    backoff_add(&backoff, &addresses[0], 1000);
    assert_string_equal(order(1000), "120");
    backoff_add(&backoff, &addresses[1], 1000);
    assert_string_equal(order(1009.9), "201");
    assert_string_equal(order(1010.1), "012");
}

static void test_all_that_failed_are_tried_in_their_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++)
        backoff_add(&backoff, &addresses[i], 1000);
    assert_string_equal(order(1001), "012");
}

static void test_each_further_failure_doubles_the_while_up_to_a_minute(void **state)
{
    static const double seconds[] = { 10, 20, 40, 60, 60 };
    double now = 1000;

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        backoff_add(&backoff, &addresses[0], now);
        backoff_add(&backoff, &addresses[0], now + 1); /* side by side with the first */
        assert_string_equal(order(now + seconds[i] - 0.1), "120");
        now += seconds[i] + 0.1;
        assert_string_equal(order(now), "012");
    }
    now += 61;
    backoff_add(&backoff, &addresses[0], now);
    assert_string_equal(order(now + 10.1), "012");
}

static void test_a_connection_that_opens_ends_it(void **state)
{
    (void)state;
    backoff_add(&backoff, &addresses[0], 1000);
    backoff_clear(&backoff, &addresses[0]);
    backoff_clear(&backoff, &addresses[1]);
    assert_string_equal(order(1001), "012");
}

static void test_another_port_is_another_address(void **state)
{
    (void)state;
    struct address other = addresses[0];

    address_set_port(&other, 81);
    backoff_add(&backoff, &other, 1000);
    assert_string_equal(order(1001), "012");
}

static void test_a_full_table_forgets_what_is_over_first(void **state)
{
    (void)state;
    backoff_add(&backoff, &addresses[0], 1000);
    for (uint16_t i = 0; i < BACKOFF_MAX; i++) {
        struct address other = addresses[1];
        address_set_port(&other, (uint16_t)(1000 + i));
        backoff_add(&backoff, &other, 1001);
    }
    assert_string_equal(order(1002), "012");
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_order_stays_where_nothing_failed),
        TEST(test_what_failed_comes_last_for_a_while),
        TEST(test_all_that_failed_are_tried_in_their_order),
        TEST(test_each_further_failure_doubles_the_while_up_to_a_minute),
        TEST(test_a_connection_that_opens_ends_it),
        TEST(test_another_port_is_another_address),
        TEST(test_a_full_table_forgets_what_is_over_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
