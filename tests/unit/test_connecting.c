/*
 * test_connecting.c — what a socket that connects comes to, and what its errors mean.
 */
#include "dial/connecting.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/address.h"
#include "config/config.h"

static const struct address nobody;
static const struct source_addresses nowhere;
static const struct connecting_terms terms = { .from = { &nobody, &nowhere, &nowhere } };

/* What connect(2) fails with; 0: what the kernel says.  UDP: what the probe fails with. */
static int tcp_error;
static int udp_error;
static int last_socket;
static int pending_error; /* what SO_ERROR tells once; 0: what the kernel says */

int __real_connect(int, const struct sockaddr *, socklen_t);
int __wrap_connect(int, const struct sockaddr *, socklen_t);

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length)
{
    int       type = 0;
    socklen_t size = sizeof type;

    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size), 0);
    int error = type == SOCK_DGRAM ? udp_error : tcp_error;
    if (error == 0)
        return __real_connect(fd, address, length);
    last_socket = fd;
    errno = error;
    return -1;
}

int __real_getsockopt(int, int, int, void *, socklen_t *);
int __wrap_getsockopt(int, int, int, void *, socklen_t *);

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
    if (level != SOL_SOCKET || name != SO_ERROR || pending_error == 0)
        return __real_getsockopt(fd, level, name, value, length);
    *(int *)value = pending_error;
    pending_error = 0;
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    tcp_error = udp_error = pending_error = 0;
    return 0;
}

static struct address loopback(uint16_t port)
{
    struct address address = { 0 };

    assert_true(address_parse(&address, "127.0.0.1", port));
    return address;
}

static bool is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

/* A TCP socket with a port of its own, which accepts connections or refuses them. */
static int server(struct address *address, bool is_listening)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    *address = loopback(0);
    assert_int_equal(bind(fd, &address->any, address->length), 0);
    if (is_listening)
        assert_int_equal(listen(fd, 1), 0);
    assert_true(socket_local(fd, address));
    return fd;
}

static void wait_until_writable(int fd)
{
    struct pollfd one = { .fd = fd, .events = POLLOUT };

    assert_int_equal(poll(&one, 1, -1), 1);
}

static struct connecting_failure failure_with(int error)
{
    const struct address address = loopback(1);
    struct connecting_failure failure = { FAILURE_NONE, false, "" };
    int fd = -1;

    tcp_error = error;
    assert_int_equal(connecting_start(&fd, &address, &terms, &failure), CONNECTING_FAILED);
    assert_int_equal(fd, -1);
    assert_false(is_open(last_socket));
    return failure;
}

static void test_a_socket_connects_without_blocking(void **state)
{
    struct address address;
    struct connecting_failure failure;
    int listener = server(&address, true);
    int fd = -1;

    (void)state;
    assert_int_equal(connecting_start(&fd, &address, &terms, &failure), CONNECTING_STARTED);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    wait_until_writable(fd);
    assert_true(socket_is_connected(fd));
    assert_false(connecting_failed(fd, &failure));
    close(fd);
    close(listener);
}

static void test_a_port_without_a_listener_refuses_at_once_or_later(void **state)
{
    struct address address;
    struct connecting_failure failure = { FAILURE_NONE, true, "" };
    int bound = server(&address, false);
    int fd = -1;

    (void)state;
    enum connecting result = connecting_start(&fd, &address, &terms, &failure);
    if (result == CONNECTING_STARTED) {
        wait_until_writable(fd);
        assert_true(connecting_failed(fd, &failure));
        close(fd);
    } else {
        assert_int_equal(result, CONNECTING_FAILED);
    }
    assert_int_equal(failure.failure, FAILURE_REFUSED);
    assert_false(failure.is_out_of_reach);
    assert_string_equal(failure.why, "Connection refused");
    close(bound);
}

static void test_a_connect_that_goes_on_by_itself_is_no_failure(void **state)
{
    static const int errors[] = { EINPROGRESS, EINTR };
    const struct address address = loopback(1);
    struct connecting_failure failure;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        int fd = -1;

        tcp_error = errors[i];
        assert_int_equal(connecting_start(&fd, &address, &terms, &failure), CONNECTING_STARTED);
        assert_int_equal(fd, last_socket);
        assert_false(connecting_failed(fd, &failure));
        close(fd);
    }
}

static void test_a_connect_without_an_answer_has_timed_out_and_says_so_once(void **state)
{
    struct connecting_failure failure = { FAILURE_NONE, true, "" };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    (void)state;
    pending_error = ETIMEDOUT;
    assert_true(connecting_failed(fd, &failure));
    assert_int_equal(failure.failure, FAILURE_CONNECT_TIMEOUT);
    assert_false(failure.is_out_of_reach);
    assert_string_equal(failure.why, "Connection timed out");
    assert_false(connecting_failed(fd, &failure));
    close(fd);
}

static void test_a_full_backlog_of_a_unix_socket_is_no_failure(void **state)
{
    struct address address = { 0 };
    struct connecting_failure failure = { FAILURE_NONE, false, "" };
    int fd = -1;

    (void)state;
    address_of_path(&address, "/nowhere");
    tcp_error = EAGAIN;
    assert_int_equal(connecting_start(&fd, &address, &terms, &failure), CONNECTING_BACKLOG_FULL);
    assert_int_equal(fd, -1);
    assert_false(is_open(last_socket));
    /* TCP has no such answer: there EAGAIN is a failure like another. */
    assert_int_equal(failure_with(EAGAIN).failure, FAILURE_LOCAL);
}

static void test_no_port_left_is_not_an_address_out_of_reach(void **state)
{
    (void)state;
    struct connecting_failure failure = failure_with(EADDRNOTAVAIL);
    assert_int_equal(failure.failure, FAILURE_NO_PORT);
    assert_false(failure.is_out_of_reach);
    udp_error = EADDRNOTAVAIL;
    failure = failure_with(EADDRNOTAVAIL);
    assert_int_equal(failure.failure, FAILURE_UNREACHABLE);
    assert_true(failure.is_out_of_reach);
    assert_non_null(strstr(failure.why, "no address"));
}

static void test_a_source_that_is_not_ours_makes_no_socket(void **state)
{
    struct source_addresses foreign = { .v4 = { 0 } };
    const struct address address = loopback(1);
    struct connecting_failure failure = { FAILURE_NONE, true, "" };
    int fd = -1;

    (void)state;
    assert_true(address_parse(&foreign.v4, "192.0.2.1", 0));
    const struct connecting_terms from_there = { .from = { &nobody, &foreign, &nowhere } };
    assert_int_equal(connecting_start(&fd, &address, &from_there, &failure), CONNECTING_NO_SOCKET);
    assert_int_equal(failure.failure, FAILURE_LOCAL);
    assert_false(failure.is_out_of_reach);
    assert_non_null(strstr(failure.why, "192.0.2.1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_socket_connects_without_blocking, set_up),
        cmocka_unit_test_setup(test_a_port_without_a_listener_refuses_at_once_or_later, set_up),
        cmocka_unit_test_setup(test_a_connect_that_goes_on_by_itself_is_no_failure, set_up),
        cmocka_unit_test_setup(test_a_connect_without_an_answer_has_timed_out_and_says_so_once,
                               set_up),
        cmocka_unit_test_setup(test_a_full_backlog_of_a_unix_socket_is_no_failure, set_up),
        cmocka_unit_test_setup(test_no_port_left_is_not_an_address_out_of_reach, set_up),
        cmocka_unit_test_setup(test_a_source_that_is_not_ours_makes_no_socket, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
