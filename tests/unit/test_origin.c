/*
 * test_origin.c — where an accepted connection was going, and what a socket is bound to.
 */
#include "socket/origin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "config/config.h"

static const struct address nobody;

static struct address parsed(const char *host, uint16_t port)
{
    struct address address = { 0 };

    assert_true(address_parse(&address, host, port));
    return address;
}

static struct address own_address(int socket)
{
    struct sockaddr_storage storage = { 0 };
    struct address          address;
    socklen_t               length = sizeof storage;

    assert_int_equal(getsockname(socket, (struct sockaddr *)&storage, &length), 0);
    address_set(&address, (struct sockaddr *)&storage, length);
    return address;
}

/* A connection over loopback to a listener of this family: the accepted end. */
static int accepted(int family, const char *host)
{
    struct address listen_at = parsed(family == AF_INET6 ? "::" : host, 0);
    int            listener = socket(family, SOCK_STREAM, 0);
    int            client = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(listener, &listen_at.any, listen_at.length), 0);
    assert_int_equal(listen(listener, 1), 0);
    struct address target = parsed(host, 0);
    struct address bound = own_address(listener);
    address_set_port(&target, address_port(&bound));
    assert_int_equal(connect(client, &target.any, target.length), 0);
    int end = accept(listener, NULL, NULL);
    assert_true(end >= 0);
    close(client);
    close(listener);
    return end;
}

static void test_without_a_rule_a_client_was_going_to_our_own_address(void **state)
{
    static const int families[] = { AF_INET, AF_INET6 };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct address destination = { 0 };
        int            end = accepted(families[i], "127.0.0.7");
        struct address own = own_address(end);
        struct address expected = parsed("127.0.0.7", address_port(&own));

        assert_true(origin_destination(end, &destination));
        assert_true(address_equal(&destination, &expected));
        close(end);
    }
}

static void test_a_client_of_a_unix_socket_was_going_nowhere(void **state)
{
    struct address destination = { 0 };
    int            ends[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_false(origin_destination(ends[0], &destination));
    close(ends[0]);
    close(ends[1]);
    assert_false(origin_destination(ends[0], &destination)); /* and there is no such socket */
}

/* What the socket is bound to then, without waiting for connect(2). */
static struct address bound_to(const struct origin_sources *sources)
{
    struct fault fault = { "" };
    int          fd = socket(AF_INET, SOCK_STREAM, 0);

    if (!origin_bind(fd, AF_INET, sources, &fault))
        fail_msg("%s", fault.text);
    struct address bound = own_address(fd);
    close(fd);
    return bound;
}

static void test_the_targets_source_wins_over_that_of_all(void **state)
{
    struct source_addresses none = { 0 };
    struct source_addresses target = { .v4 = parsed("127.0.0.5", 0) };
    struct source_addresses all = { .v4 = parsed("127.0.0.6", 0), .v6 = parsed("::1", 0) };
    struct address          unbound = parsed("0.0.0.0", 0);

    (void)state;
    struct address bound = bound_to(&(struct origin_sources){ &nobody, &target, &all });
    assert_true(address_same_host(&bound, &target.v4));
    bound = bound_to(&(struct origin_sources){ &nobody, &none, &all });
    assert_true(address_same_host(&bound, &all.v4));
    bound = bound_to(&(struct origin_sources){ &nobody, &none, &none });
    assert_true(address_equal(&bound, &unbound));
}

static void test_no_port_is_taken_before_the_connection_is_made(void **state)
{
    struct source_addresses none = { 0 };
    struct source_addresses all = { .v4 = parsed("127.0.0.5", 4711) };

    (void)state;
    struct address bound = bound_to(&(struct origin_sources){ &nobody, &none, &all });
    assert_int_equal(address_port(&bound), 0);
}

static void assert_not_bound(int family, const struct origin_sources *sources, const char *part)
{
    struct fault fault = { "" };
    int          fd = socket(family, SOCK_STREAM, 0);

    assert_false(origin_bind(fd, family, sources, &fault));
    if (strstr(fault.text, part) == NULL)
        fail_msg("%s", fault.text);
    close(fd);
}

static void test_an_address_that_is_not_ours_is_refused_with_a_sentence(void **state)
{
    struct source_addresses none = { 0 };
    struct source_addresses far = { .v4 = parsed("192.0.2.1", 0) };

    (void)state;
    assert_not_bound(AF_INET, &(struct origin_sources){ &nobody, &none, &far },
                     "cannot connect from 192.0.2.1: it is no address of this machine");
}

static void test_a_client_is_never_replaced_by_a_source_of_ours(void **state)
{
    struct source_addresses all = { .v4 = parsed("127.0.0.5", 0), .v6 = parsed("::1", 0) };
    struct address          v4 = parsed("192.0.2.1", 51312);
    struct address          v6 = parsed("2001:db8::1", 51312);

    (void)state;
    assert_not_bound(AF_INET6, &(struct origin_sources){ &v4, &all, &all }, "it is not IPv6");
    assert_not_bound(AF_INET, &(struct origin_sources){ &v6, &all, &all }, "it is not IPv4");
}

static void test_a_unix_socket_needs_no_source(void **state)
{
    struct source_addresses all = { .v4 = parsed("192.0.2.1", 0) };
    struct fault            fault;

    (void)state;
    assert_true(origin_bind(-1, AF_UNIX, &(struct origin_sources){ &nobody, &all, &all }, &fault));
}

static void test_a_foreign_source_is_found_before_the_start(void **state)
{
    struct target_config primary = { .source.v4 = parsed("127.0.0.5", 0) };
    struct shadow_config shadow = { .target.source.v4 = parsed("127.0.0.6", 0) };
    struct config        config = {
        .primaries = &primary,
        .primary_count = 1,
        .shadows = &shadow,
        .shadow_count = 1,
    };
    struct fault fault = { "" };

    (void)state;
    assert_true(origin_check(&config, &fault));
    struct address *const places[] = { &config.source.v4, &primary.source.v4,
                                       &shadow.target.source.v4 };
    for (size_t i = 0; i < 3; i++) {
        struct address kept = *places[i];

        *places[i] = parsed("192.0.2.1", 0);
        assert_false(origin_check(&config, &fault));
        assert_non_null(strstr(fault.text, "192.0.2.1"));
        *places[i] = kept;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_a_rule_a_client_was_going_to_our_own_address),
        cmocka_unit_test(test_a_client_of_a_unix_socket_was_going_nowhere),
        cmocka_unit_test(test_the_targets_source_wins_over_that_of_all),
        cmocka_unit_test(test_no_port_is_taken_before_the_connection_is_made),
        cmocka_unit_test(test_an_address_that_is_not_ours_is_refused_with_a_sentence),
        cmocka_unit_test(test_a_client_is_never_replaced_by_a_source_of_ours),
        cmocka_unit_test(test_a_unix_socket_needs_no_source),
        cmocka_unit_test(test_a_foreign_source_is_found_before_the_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
