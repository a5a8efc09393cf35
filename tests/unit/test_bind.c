/*
 * test_bind.c — listening sockets, where the kernel refuses one on the way.
 */
#include "run/bind.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "flow/socket.h"

static char                         directory[] = "/tmp/test_bind-XXXXXX";
static struct endpoint              endpoint;
static const struct socket_settings settings;
static bool                         refuses; /* listen(2) */

int __real_listen(int, int);
int __wrap_listen(int, int);

int __wrap_listen(int socket, int backlog)
{
    if (!refuses)
        return __real_listen(socket, backlog);
    errno = ENOBUFS;
    return -1;
}

static int set_up(void **state)
{
    char text[64];

    (void)state;
    refuses = false;
    assert_non_null(mkdtemp(directory));
    snprintf(text, sizeof text, "unix:%s/socket", directory);
    assert_true(endpoint_parse(&endpoint, text, ENDPOINT_LISTEN, NULL));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(endpoint.host);
    assert_int_equal(rmdir(directory), 0);
    strcpy(strrchr(directory, '-'), "-XXXXXX");
    return 0;
}

static struct bind_request request(void)
{
    return (struct bind_request){
        .endpoint = &endpoint,
        .sockets = &settings,
        .mode = 0600,
        .backlog = 1,
    };
}

static void test_a_unix_socket_has_its_path_and_its_mode(void **state)
{
    struct bind_request wish = request();
    struct address      bound;
    struct stat         status;

    (void)state;
    int socket = bind_first(&wish, &bound, NULL);
    assert_true(socket >= 0);
    assert_true(bind_is_there(&endpoint, &bound));
    assert_int_equal(stat(endpoint.host, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    close(socket);
    bind_remove(&endpoint);
    assert_int_equal(access(endpoint.host, F_OK), -1);
}

static void test_a_socket_that_cannot_listen_leaves_no_path_behind(void **state)
{
    struct bind_request wish = request();
    struct address      bound;
    struct fault        fault = { "" };

    (void)state;
    refuses = true;
    assert_int_equal(bind_first(&wish, &bound, &fault), -1);
    assert_int_equal(bound.length, 0);
    assert_non_null(strstr(fault.text, "cannot listen on unix:"));
    assert_int_equal(access(endpoint.host, F_OK), -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_unix_socket_has_its_path_and_its_mode),
        TEST(test_a_socket_that_cannot_listen_leaves_no_path_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
