/*
 * test_closing.c — sockets without an owner: their peers get every byte, then the reset, and none of
 * them stays for long.
 */
#include "socket/closing.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ev.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "socket/socket.h"
#include "tests/unit/told_clock.h"

#define TINY       4096  /* what a peer has room for, about */
#define PLENTY     32768 /* what we have room for */
#define MAX_TURNS 300   /* of 0.1 seconds at most: far more than anything takes */
#define PATIENCE   10000 /* milliseconds */
#define ALL        64

struct pair {
    int    ours;
    int    peer;
    size_t sent;
};

static struct ev_loop *loop;
static struct closings closings;
static struct pair     pairs[ALL + 1];

static int start(void **state)
{
    (void)state;
    now = 1000;
    loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    closings_start(&closings, loop);
    return loop != NULL ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    closings_cut(&closings);
    ev_loop_destroy(loop);
    return 0;
}

static struct pair connected(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t          length = sizeof address;
    const int          tiny = TINY;
    const int          plenty = PLENTY;
    struct pair        pair = { .ours = socket(AF_INET, SOCK_STREAM, 0) };
    int                listener = socket(AF_INET, SOCK_STREAM, 0);

    setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &tiny, sizeof tiny);
    setsockopt(pair.ours, SOL_SOCKET, SO_SNDBUF, &plenty, sizeof plenty);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    assert_int_equal(connect(pair.ours, (struct sockaddr *)&address, length), 0);
    pair.peer = accept(listener, NULL, NULL);
    assert_true(pair.peer >= 0);
    close(listener);
    return pair;
}

/* Much more is sent than its peer has room for. */
static struct pair stuck(void)
{
    static const char bytes[TINY];
    struct pair       pair = connected();
    ssize_t           n;

    while ((n = send(pair.ours, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
        pair.sent += (size_t)n;
    assert_int_equal(errno, EAGAIN);
    return pair;
}

static bool is_reset_within(const struct pair *pair, int milliseconds)
{
    struct pollfd peer = { .fd = pair->peer };

    return poll(&peer, 1, milliseconds) == 1 && (peer.revents & POLLERR) != 0;
}

static bool is_reset(const struct pair *pair)
{
    return is_reset_within(pair, 0);
}

static void wait_reset(const struct pair *pair)
{
    assert_true(is_reset_within(pair, PATIENCE));
}

static void turn_until_left(size_t count)
{
    for (int i = 0; i < MAX_TURNS && closings.count > count; i++)
        ev_run(loop, EVRUN_ONCE);
    assert_int_equal(closings.count, count);
}

static void turn(int times)
{
    for (int i = 0; i < times; i++)
        ev_run(loop, EVRUN_ONCE);
}

static void test_a_peer_that_has_everything_is_reset_at_once(void **state)
{
    struct pair pair = connected();

    (void)state;
    closings_add(&closings, pair.ours);
    assert_int_equal(closings.count, 0);
    wait_reset(&pair);
    close(pair.peer);
}

static void test_a_slow_peer_gets_every_byte_before_the_reset(void **state)
{
    struct pair pair = stuck();
    char        bytes[TINY];

    (void)state;
    closings_add(&closings, pair.ours);
    turn(5);
    assert_int_equal(closings.count, 1);
    assert_false(is_reset(&pair));
    while (pair.sent > 0) {
        ssize_t n = recv(pair.peer, bytes, sizeof bytes, 0);

        assert_in_range(n, 1, pair.sent);
        pair.sent -= (size_t)n;
    }
    turn_until_left(0);
    assert_int_equal(recv(pair.peer, bytes, sizeof bytes, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    close(pair.peer);
}

static void test_a_peer_that_has_reset_is_not_waited_for(void **state)
{
    struct pair pair = stuck();

    (void)state;
    closings_add(&closings, pair.ours);
    turn(1);
    socket_reset(pair.peer);
    turn_until_left(0);
}

static void test_nobody_is_waited_for_longer_than_five_seconds(void **state)
{
    struct pair pair = stuck();

    (void)state;
    closings_add(&closings, pair.ours);
    now += 4.9;
    turn(5);
    assert_int_equal(closings.count, 1);
    now += 0.2;
    turn_until_left(0);
    wait_reset(&pair);
    close(pair.peer);
}

static void test_of_more_than_64_the_oldest_goes_first(void **state)
{
    (void)state;
    for (size_t i = 0; i <= ALL; i++) {
        pairs[i] = stuck();
        closings_add(&closings, pairs[i].ours);
        assert_int_equal(closings.count, i < ALL ? i + 1 : ALL);
    }
    wait_reset(&pairs[0]);
    for (size_t i = 1; i <= ALL; i++)
        assert_false(is_reset(&pairs[i]));
    closings_cut(&closings);
    assert_int_equal(closings.count, 0);
    for (size_t i = 0; i <= ALL; i++) {
        wait_reset(&pairs[i]);
        close(pairs[i].peer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_peer_that_has_everything_is_reset_at_once, start,
                                        end),
        cmocka_unit_test_setup_teardown(test_a_slow_peer_gets_every_byte_before_the_reset, start,
                                        end),
        cmocka_unit_test_setup_teardown(test_a_peer_that_has_reset_is_not_waited_for, start, end),
        cmocka_unit_test_setup_teardown(test_nobody_is_waited_for_longer_than_five_seconds, start,
                                        end),
        cmocka_unit_test_setup_teardown(test_of_more_than_64_the_oldest_goes_first, start, end),
    };

    return cmocka_run_group_tests_name("closing", tests, NULL, NULL);
}
