/*
 * test_connections.c — who is connected to the admin endpoint is there for a bounded time.
 */
#include "admin/connections.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define CROWD (ADMIN_CONNECTIONS_SERVED + 4)

static struct admin_connections connections;
static int             ours[CROWD]; /* what is shut down is seen at theirs */
static int             theirs[CROWD];

static int make_crowd(void **state)
{
    (void)state;
    admin_connections_init(&connections);
    for (int i = 0; i < CROWD; i++) {
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0)
            return -1;
        ours[i] = pair[0];
        theirs[i] = pair[1];
    }
    return 0;
}

static int drop_crowd(void **state)
{
    (void)state;
    for (int i = 0; i < CROWD; i++) {
        close(ours[i]);
        close(theirs[i]);
    }
    return 0;
}

static bool is_sent_away(int i)
{
    char byte;

    return read(theirs[i], &byte, 1) == 0;
}

static void test_a_request_that_takes_too_long_is_sent_away_however_busy(void **state)
{
    (void)state;
    admin_connections_add(&connections, ours[0], 100);
    assert_true(admin_connections_close_late(&connections, 100) == 100 + REQUEST_SECONDS);
    assert_true(admin_connections_close_late(&connections, 104.9) == 100 + REQUEST_SECONDS);
    assert_false(is_sent_away(0));
    assert_true(isinf(admin_connections_close_late(&connections, 105)));
    assert_true(is_sent_away(0));
}

static void test_an_answer_has_its_own_time_and_so_has_the_next_request(void **state)
{
    (void)state;
    struct admin_connection *entry = admin_connections_add(&connections, ours[0], 100);
    admin_connection_has_request(entry, 104);
    assert_true(admin_connections_close_late(&connections, 113) == 104 + RESPONSE_SECONDS);
    admin_connection_has_response(entry, 113);
    assert_true(admin_connections_close_late(&connections, 117) == 113 + REQUEST_SECONDS);
    assert_false(is_sent_away(0));
}

static void test_who_has_ended_its_side_goes_once_it_is_answered(void **state)
{
    (void)state;
    struct admin_connection *entry = admin_connections_add(&connections, ours[0], 100);
    admin_connections_add(&connections, ours[1], 100);
    admin_connection_has_request(entry, 100);
    shutdown(theirs[0], SHUT_WR);
    admin_connections_close_done(&connections);
    assert_false(is_sent_away(0));
    admin_connection_has_response(entry, 101);
    admin_connections_close_done(&connections);
    assert_true(is_sent_away(0));
    assert_false(is_sent_away(1));
}

static void test_who_has_something_left_to_say_is_heard(void **state)
{
    (void)state;
    admin_connections_add(&connections, ours[0], 100);
    assert_int_equal(write(theirs[0], "GET", 3), 3);
    shutdown(theirs[0], SHUT_WR);
    admin_connections_close_done(&connections);
    assert_false(is_sent_away(0));
}

static void test_whoever_is_sent_away_stays_so(void **state)
{
    (void)state;
    struct admin_connection *entry = admin_connections_add(&connections, ours[0], 100);
    admin_connections_close_late(&connections, 200);
    admin_connection_has_request(entry, 200);
    assert_true(isinf(admin_connections_close_late(&connections, 300)));
}

static void enter(int from, int to, double now)
{
    for (int i = from; i < to; i++)
        admin_connections_add(&connections, ours[i], now);
}

static void test_in_a_crowd_the_silent_are_sent_away_soon(void **state)
{
    (void)state;
    enter(0, ADMIN_CONNECTIONS_SERVED, 100);
    assert_true(admin_connections_close_late(&connections, 101) == 100 + REQUEST_SECONDS);
    assert_false(admin_connections_are_too_many(&connections));
    enter(ADMIN_CONNECTIONS_SERVED, ADMIN_CONNECTIONS_SERVED + 1, 101);
    assert_true(admin_connections_are_too_many(&connections));
    assert_true(admin_connections_close_late(&connections, 101) == 101 + HURRIED_REQUEST_SECONDS);
    for (int i = 0; i <= ADMIN_CONNECTIONS_SERVED; i++)
        assert_int_equal(is_sent_away(i), i < ADMIN_CONNECTIONS_SERVED);
    assert_true(admin_connections_close_late(&connections, 102) == 101 + REQUEST_SECONDS);
}

static void test_in_a_crowd_who_is_answered_has_more_time_than_who_is_silent(void **state)
{
    (void)state;
    struct admin_connection *answered = admin_connections_add(&connections, ours[0], 100);
    admin_connection_has_request(answered, 100.99);
    enter(1, ADMIN_CONNECTIONS_SERVED + 1, 101);
    assert_true(admin_connections_close_late(&connections, 101) == 101 + HURRIED_REQUEST_SECONDS);
    assert_false(is_sent_away(0));
    admin_connections_close_late(&connections, 100.99 + HURRIED_RESPONSE_SECONDS);
    assert_true(is_sent_away(0));
}

static void test_who_has_left_makes_room_for_others(void **state)
{
    (void)state;
    struct admin_connection *first = admin_connections_add(&connections, ours[0], 100);
    enter(1, ADMIN_CONNECTIONS_SERVED, 100);
    admin_connection_remove(first);
    enter(ADMIN_CONNECTIONS_SERVED, ADMIN_CONNECTIONS_SERVED + 1, 101);
    assert_true(admin_connections_close_late(&connections, 101) == 100 + REQUEST_SECONDS);
}

static void test_nobody_has_no_deadline(void **state)
{
    (void)state;
    assert_true(isinf(admin_connections_close_late(&connections, 1000)));
}

#define CROWD_TEST(test) cmocka_unit_test_setup_teardown(test, make_crowd, drop_crowd)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CROWD_TEST(test_a_request_that_takes_too_long_is_sent_away_however_busy),
        CROWD_TEST(test_an_answer_has_its_own_time_and_so_has_the_next_request),
        CROWD_TEST(test_who_has_ended_its_side_goes_once_it_is_answered),
        CROWD_TEST(test_who_has_something_left_to_say_is_heard),
        CROWD_TEST(test_whoever_is_sent_away_stays_so),
        CROWD_TEST(test_in_a_crowd_the_silent_are_sent_away_soon),
        CROWD_TEST(test_in_a_crowd_who_is_answered_has_more_time_than_who_is_silent),
        CROWD_TEST(test_who_has_left_makes_room_for_others),
        CROWD_TEST(test_nobody_has_no_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
