/*
 * test_bind.c — listening sockets, where the kernel refuses one on the way.
 */
#include "listen/bind.h"

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
#include "listen/own_path.h"
#include "socket/socket.h"

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
    struct own_path     path;
    struct stat         status;

    (void)state;
    int socket = bind_first(&wish, &bound, &path, NULL);
    assert_true(socket >= 0);
    assert_true(bind_is_there(&endpoint, &bound));
    assert_int_equal(stat(endpoint.host, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    close(socket);
    own_path_remove(&path);
    assert_int_equal(access(endpoint.host, F_OK), -1);
}

/* The inode's number would be given to the next file if nobody kept it. */
static void test_a_path_that_somebody_made_anew_is_left_alone(void **state)
{
    struct bind_request wish = request();
    struct address      bound;
    struct own_path     old;
    struct own_path     new;

    (void)state;
    int first = bind_first(&wish, &bound, &old, NULL);
    close(first);
    assert_int_equal(unlink(endpoint.host), 0);
    int second = bind_first(&wish, &bound, &new, NULL);
    assert_true(second >= 0);

    assert_false(own_path_is_there(&old));
    own_path_remove(&old);

    assert_true(own_path_is_there(&new));
    own_path_remove(&new);
    assert_int_equal(access(endpoint.host, F_OK), -1);
    close(second);
}

static void test_a_mode_is_that_of_our_socket_wherever_its_name_leads(void **state)
{
    struct bind_request wish = request();
    struct address      bound;
    struct own_path     path;
    struct stat         status;

    (void)state;
    int socket = bind_first(&wish, &bound, &path, NULL);
    wish.mode = 0666;
    assert_true(bind_mode(&wish, &path, NULL));
    assert_int_equal(stat(endpoint.host, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0666);
    assert_int_equal(unlink(endpoint.host), 0);
    assert_int_equal(symlink("/dev/null", endpoint.host), 0);
    wish.mode = 0600;

    assert_true(bind_mode(&wish, &path, NULL));

    assert_int_equal(stat("/dev/null", &status), 0);
    assert_int_equal(status.st_mode & 07777, 0666);
    close(socket);
    own_path_remove(&path);
    assert_int_equal(access(endpoint.host, F_OK), 0);
}

static void test_a_socket_that_cannot_listen_leaves_no_path_behind(void **state)
{
    struct bind_request wish = request();
    struct address      bound;
    struct own_path     path;
    struct fault        fault = { "" };

    (void)state;
    refuses = true;
    assert_int_equal(bind_first(&wish, &bound, &path, &fault), -1);
    assert_int_equal(bound.length, 0);
    assert_non_null(strstr(fault.text, "cannot listen on unix:"));
    assert_int_equal(access(endpoint.host, F_OK), -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_unix_socket_has_its_path_and_its_mode),
        TEST(test_a_path_that_somebody_made_anew_is_left_alone),
        TEST(test_a_mode_is_that_of_our_socket_wherever_its_name_leads),
        TEST(test_a_socket_that_cannot_listen_leaves_no_path_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
