/*
 * test_sources.c — sessions of each source are counted exactly, over all tables and for networks.
 */
#include "shared/sources.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/address.h"

#define TABLES 3
#define HOSTS  20000 /* about five for each bucket */

static struct sources *sources;

static int start(void **state)
{
    (void)state;
    sources = sources_new(TABLES);
    return sources != NULL ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    sources_free(sources);
    return 0;
}

static struct address address_of(const char *host)
{
    struct address address;

    assert_true(address_parse(&address, host, 1234));
    return address;
}

static struct address numbered(size_t number)
{
    char host[32];

    snprintf(host, sizeof host, "10.%zu.%zu.%zu", number >> 16 & 255, number >> 8 & 255,
             number & 255);
    return address_of(host);
}

static bool enter(size_t table, const char *host, size_t max)
{
    const struct address address = address_of(host);

    return sources_enter(sources, table, &address, max);
}

static void leave(size_t table, const char *host)
{
    const struct address address = address_of(host);

    sources_leave(sources, table, &address);
}

static void test_a_source_enters_as_often_as_it_may_over_all_tables(void **state)
{
    (void)state;
    assert_true(enter(0, "192.0.2.1", 3));
    assert_true(enter(1, "192.0.2.1", 3));
    assert_true(enter(2, "192.0.2.1", 3));
    for (size_t table = 0; table < TABLES; table++)
        assert_false(enter(table, "192.0.2.1", 3));
    assert_true(enter(0, "192.0.2.2", 3));
}

static void test_who_leaves_makes_room_for_one(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        assert_true(enter(0, "192.0.2.1", 2));
        assert_true(enter(1, "192.0.2.1", 2));
        assert_false(enter(0, "192.0.2.1", 2));
        leave(1, "192.0.2.1");
        assert_true(enter(0, "192.0.2.1", 2));
        leave(0, "192.0.2.1");
        leave(0, "192.0.2.1");
    }
}

static void test_a_v6_host_is_its_network_of_64_bits(void **state)
{
    (void)state;
    assert_true(enter(0, "2001:db8:1:2::1", 1));
    assert_false(enter(0, "2001:db8:1:2:ffff:ffff:ffff:ffff", 1));
    assert_true(enter(0, "2001:db8:1:3::1", 1));
}

static void test_a_v4_host_in_v6_is_itself(void **state)
{
    (void)state;
    assert_true(enter(0, "192.0.2.1", 1));
    assert_false(enter(0, "::ffff:192.0.2.1", 1));
    assert_true(enter(0, "::ffff:192.0.2.2", 1));
}

static void test_a_unix_client_is_never_refused(void **state)
{
    struct address address;

    (void)state;
    address_of_path(&address, "/run/client");
    for (int i = 0; i < 100; i++)
        assert_true(sources_enter(sources, 0, &address, 1));
    for (int i = 0; i < 100; i++)
        sources_leave(sources, 0, &address);
}

static void test_a_worker_that_is_gone_takes_its_counts_with_it(void **state)
{
    (void)state;
    assert_true(enter(0, "192.0.2.1", 2));
    assert_true(enter(1, "192.0.2.1", 2));
    sources_forget(sources, 1);
    assert_true(enter(2, "192.0.2.1", 2));
    assert_false(enter(1, "192.0.2.1", 2));
}

/* Two hosts with one tag would refuse a stranger; that must stay rare, and everything is given back. */
static void test_many_hosts_do_not_take_each_others_places(void **state)
{
    size_t refused = 0;
    enum source_entry *in = calloc(HOSTS, sizeof in[0]);

    (void)state;
    assert_non_null(in);
    for (size_t i = 0; i < HOSTS; i++) {
        const struct address address = numbered(i);

        in[i] = sources_enter(sources, i % TABLES, &address, 1);
        refused += in[i] == SOURCE_REFUSED;
    }
    assert_true(refused <= 2);
    for (size_t i = 0; i < HOSTS; i++) {
        const struct address address = numbered(i);

        if (in[i] == SOURCE_COUNTED)
            sources_leave(sources, i % TABLES, &address);
    }
    refused = 0;
    for (size_t i = 0; i < HOSTS; i += 7) {
        const struct address address = numbered(i);

        refused += !sources_enter(sources, 0, &address, 1);
    }
    assert_int_equal(refused, 0);
    free(in);
}

/* Its caller must not give back what it never had. */
static void test_who_finds_no_room_is_let_in_and_not_counted(void **state)
{
    size_t uncounted = 0;

    (void)state;
    for (size_t i = 0; i < 120000; i++) {
        const struct address address = numbered(i);

        uncounted += sources_enter(sources, 0, &address, 1) == SOURCE_UNCOUNTED;
    }
    assert_in_range(uncounted, 1, 120000);
}

static void test_who_was_never_in_leaves_nothing_behind(void **state)
{
    (void)state;
    leave(0, "192.0.2.1");
    assert_true(enter(0, "192.0.2.1", 1));
    assert_false(enter(0, "192.0.2.1", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_source_enters_as_often_as_it_may_over_all_tables,
                                        start, end),
        cmocka_unit_test_setup_teardown(test_who_leaves_makes_room_for_one, start, end),
        cmocka_unit_test_setup_teardown(test_a_v6_host_is_its_network_of_64_bits, start, end),
        cmocka_unit_test_setup_teardown(test_a_v4_host_in_v6_is_itself, start, end),
        cmocka_unit_test_setup_teardown(test_a_unix_client_is_never_refused, start, end),
        cmocka_unit_test_setup_teardown(test_a_worker_that_is_gone_takes_its_counts_with_it, start,
                                        end),
        cmocka_unit_test_setup_teardown(test_many_hosts_do_not_take_each_others_places, start, end),
        cmocka_unit_test_setup_teardown(test_who_finds_no_room_is_let_in_and_not_counted, start,
                                        end),
        cmocka_unit_test_setup_teardown(test_who_was_never_in_leaves_nothing_behind, start, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
