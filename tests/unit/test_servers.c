/*
 * test_servers.c — name servers are written as the c-ares at hand reads them.
 */
#include "dns/servers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void assert_written(const char *text, bool zones, const char *expected)
{
    struct servers servers = { .count = 1 };
    char written[SERVERS_TEXT];

    snprintf(servers.text, sizeof servers.text, "%s", text);
    servers_write(&servers, zones, written);
    assert_string_equal(written, expected);
}

/* ares_set_servers_csv(3): ip[:port][%iface] */
static void test_an_interface_stands_behind_the_port(void **state)
{
    (void)state;
    assert_written("[fe80::2%eth0]:53", true, "[fe80::2]:53%eth0");
    assert_written("fe80::2%eth0", true, "fe80::2%eth0");
    assert_written("[fe80::2%a]:53,10.0.0.2:53,fe80::3%b,[::1]:5", true,
                   "[fe80::2]:53%a,10.0.0.2:53,fe80::3%b,[::1]:5");
    assert_written("", true, "");
}

static void test_interfaces_can_be_left_out(void **state)
{
    (void)state;
    assert_written("[fe80::2%a]:53,10.0.0.2:53,fe80::3%b,[::1]:5", false,
                   "[fe80::2]:53,10.0.0.2:53,fe80::3,[::1]:5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_interface_stands_behind_the_port),
        cmocka_unit_test(test_interfaces_can_be_left_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
