/*
 * test_address.c — the address grammar, socket addresses and networks, as tables.
 */
#include "base/address.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/network.h"

struct accepted {
    const char *text;
    enum endpoint_use use;
    const char *printed;
};

static const struct accepted accepted[] = {
    { "8080", ENDPOINT_LISTEN, ":8080" },
    { ":8080", ENDPOINT_LISTEN, ":8080" },
    { "*:8080", ENDPOINT_LISTEN, ":8080" },
    { "0", ENDPOINT_LISTEN, ":0" },
    { "127.0.0.1:0", ENDPOINT_LISTEN, "127.0.0.1:0" },
    { "LocalHost:80", ENDPOINT_LISTEN, "127.0.0.1:80" },
    { "localhost.:80", ENDPOINT_LISTEN, "127.0.0.1:80" },
    { "[::]:80", ENDPOINT_LISTEN, "[::]:80" },
    { "tcp://:80", ENDPOINT_LISTEN, ":80" },
    { "unix:/run/doppel.sock", ENDPOINT_LISTEN, "unix:/run/doppel.sock" },
    { "localhost:8081", ENDPOINT_CONNECT, "localhost:8081" },
    { "tcp://stage.internal:8443", ENDPOINT_CONNECT, "stage.internal:8443" },
    { "tls://stage.internal:8443", ENDPOINT_CONNECT, "tls://stage.internal:8443" },
    { "TLS://[2001:db8:0::1]:443", ENDPOINT_CONNECT, "tls://[2001:db8::1]:443" },
    { "tls://*:443", ENDPOINT_LISTEN, "tls://:443" },
    { "TCP://a_b-c.example.:1", ENDPOINT_CONNECT, "a_b-c.example.:1" },
    { "tls://prod.internal.:443", ENDPOINT_CONNECT, "tls://prod.internal.:443" },
    { "localhost.:80", ENDPOINT_CONNECT, "localhost.:80" },
    { "10.0.0.9:65535", ENDPOINT_CONNECT, "10.0.0.9:65535" },
    { "[2001:DB8:0:0::1]:443", ENDPOINT_CONNECT, "[2001:db8::1]:443" },
    { "[::ffff:10.0.0.9]:443", ENDPOINT_CONNECT, "10.0.0.9:443" },
    { "[fe80::1%lo]:443", ENDPOINT_CONNECT, "[fe80::1%lo]:443" },
    { "unix:relative path", ENDPOINT_CONNECT, "unix:relative path" },
    { "10.0.0.9:80", ENDPOINT_PRIMARY, "10.0.0.9:80" },
    { "Original-DST", ENDPOINT_PRIMARY, "original-dst" },
};

static void test_what_is_written_reads_as_one_canonical_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof accepted / sizeof accepted[0]; i++) {
        struct endpoint endpoint;
        struct endpoint again;
        struct fault fault = { "" };
        char text[ENDPOINT_TEXT];

        if (!endpoint_parse(&endpoint, accepted[i].text, accepted[i].use, &fault))
            fail_msg("%s: %s", accepted[i].text, fault.text);
        endpoint_print(&endpoint, text);
        assert_string_equal(text, accepted[i].printed);
        assert_true(endpoint_parse(&again, text, accepted[i].use, NULL));
        assert_memory_equal(&endpoint, &again, sizeof endpoint);
    }
}

struct refused {
    const char *text;
    enum endpoint_use use;
    const char *sentence; /* a part of it */
};

static const struct refused refused[] = {
    { "", ENDPOINT_LISTEN, "an address is missing" },
    { "", ENDPOINT_CONNECT, "an address is missing" },
    { "8081", ENDPOINT_CONNECT, "has no host" },
    { "localhost", ENDPOINT_LISTEN, "has no port; write PORT, HOST:PORT or unix:/path" },
    { "localhost:", ENDPOINT_LISTEN, "the port is missing; write PORT, HOST:PORT" },
    { ":8081", ENDPOINT_CONNECT, "the host is missing" },
    { "localhost:", ENDPOINT_CONNECT, "the port is missing" },
    { "localhost:0", ENDPOINT_CONNECT, "port 0" },
    { "localhost:0", ENDPOINT_PRIMARY, "port 0" },
    { "[::1]:0", ENDPOINT_PRIMARY, "port 0" },
    { "localhost:65536", ENDPOINT_CONNECT, "up to 65535" },
    { "99999999999999999999", ENDPOINT_LISTEN, "up to 65535" },
    { "localhost:-1", ENDPOINT_CONNECT, "is not a port" },
    { "localhost:80x", ENDPOINT_CONNECT, "is not a port" },
    { "localhost: 80", ENDPOINT_CONNECT, "is not a port" },
    { "example.org:80", ENDPOINT_LISTEN, "is no host to listen on" },
    { "10.0.0.300:80", ENDPOINT_CONNECT, "is not an IPv4 address" },
    { "127.1:80", ENDPOINT_CONNECT, "is not an IPv4 address" },
    { "bad host:80", ENDPOINT_CONNECT, "is not a host" },
    { "a..b:80", ENDPOINT_CONNECT, "is not a host" },
    { "*:80", ENDPOINT_CONNECT, "is not a host" },
    { "2001:db8::1:80", ENDPOINT_CONNECT, "[IPv6]:PORT" },
    { "[2001:db8::1]", ENDPOINT_CONNECT, "[IPv6]:PORT" },
    { "[2001:db8::1:80", ENDPOINT_CONNECT, "[IPv6]:PORT" },
    { "[::g]:80", ENDPOINT_CONNECT, "is not an IPv6 address" },
    { "[10.0.0.1]:80", ENDPOINT_CONNECT, "is not an IPv6 address" },
    { "[fe80::1]:80", ENDPOINT_CONNECT, "name its interface, as in [fe80::1%eth0]" },
    { "[fe80::1]:80", ENDPOINT_LISTEN, "name its interface" },
    { "[fe80::1%nowhere9]:80", ENDPOINT_CONNECT, "is not an IPv6 address" },
    { "http://localhost:80", ENDPOINT_CONNECT, "unknown scheme" },
    { "tls://localhost", ENDPOINT_CONNECT, "has no port" },
    { "file:/tmp/record", ENDPOINT_CONNECT, "not in this version" },
    { "original-dst", ENDPOINT_CONNECT, "for --primary only" },
    { "original-dst", ENDPOINT_LISTEN, "for --primary only" },
    { "unix:", ENDPOINT_CONNECT, "the path is missing" },
    { "unix:@name", ENDPOINT_CONNECT, "abstract" },
    { "unix:/a\nb", ENDPOINT_CONNECT, "control character" },
    { "local\x7fhost:80", ENDPOINT_CONNECT, "control character" },
};

static void test_a_bad_address_is_refused_with_a_sentence(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct endpoint endpoint;
        struct fault fault = { "" };

        if (endpoint_parse(&endpoint, refused[i].text, refused[i].use, &fault))
            fail_msg("\"%s\" was accepted", refused[i].text);
        if (strstr(fault.text, refused[i].sentence) == NULL)
            fail_msg("\"%s\": %s", refused[i].text, fault.text);
        assert_null(strchr(fault.text, '\n'));
    }
}

static void test_long_hosts_and_paths_end_at_their_limits(void **state)
{
    struct endpoint endpoint;
    char text[2000];
    char label[64];

    (void)state;
    memset(label, 'a', sizeof label - 1);
    label[63] = '\0';
    snprintf(text, sizeof text, "%s.%s.%s.%.61s:1", label, label, label, label); /* 253 */
    assert_true(endpoint_parse(&endpoint, text, ENDPOINT_CONNECT, NULL));
    assert_int_equal(strlen(endpoint.host), 253);
    snprintf(text, sizeof text, "%s.%s.%s.%.62s:1", label, label, label, label);
    assert_false(endpoint_parse(&endpoint, text, ENDPOINT_CONNECT, NULL));
    snprintf(text, sizeof text, "a%s:1", label);
    assert_false(endpoint_parse(&endpoint, text, ENDPOINT_CONNECT, NULL));
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_false(endpoint_parse(&endpoint, text, ENDPOINT_CONNECT, NULL));

    memcpy(text, "unix:/", 6);
    text[5 + 107] = '\0';
    assert_true(endpoint_parse(&endpoint, text, ENDPOINT_CONNECT, NULL));
    text[5 + 107] = 'a';
    text[5 + 108] = '\0';
    assert_false(endpoint_parse(&endpoint, text, ENDPOINT_CONNECT, NULL));
}

static void assert_prints(const struct address *address, const char *expected)
{
    char text[ADDRESS_TEXT];

    address_print(address, text);
    assert_string_equal(text, expected);
}

static void test_numeric_addresses_print_as_they_were_read(void **state)
{
    struct address address;

    (void)state;
    assert_true(address_parse(&address, "10.0.0.9", 51312));
    assert_prints(&address, "10.0.0.9:51312");
    assert_int_equal(address.length, sizeof(struct sockaddr_in));
    assert_true(address_parse(&address, "2001:db8::1", 443));
    assert_prints(&address, "[2001:db8::1]:443");
    assert_int_equal(address.length, sizeof(struct sockaddr_in6));
    assert_true(address_parse(&address, "fe80::1%lo", 443));
    assert_prints(&address, "[fe80::1%lo]:443");
    assert_false(address_parse(&address, "localhost", 1));
    assert_false(address_parse(&address, "", 1));
    assert_false(address_parse(&address, "10.0.0.9%lo", 1));
    assert_false(address_parse(&address, "fe80::1%", 1));
    address_set_port(&address, 7);
    assert_int_equal(address_port(&address), 7);
}

static void test_a_mapped_address_is_the_ipv4_address_everywhere(void **state)
{
    struct sockaddr_in6 mapped = { .sin6_family = AF_INET6, .sin6_port = htons(80) };
    struct address address;
    struct address plain;

    (void)state;
    assert_int_equal(inet_pton(AF_INET6, "::ffff:10.0.0.9", &mapped.sin6_addr), 1);
    address_set(&address, (const struct sockaddr *)&mapped, sizeof mapped);
    assert_true(address_parse(&plain, "10.0.0.9", 80));
    assert_true(address_equal(&address, &plain));
    assert_prints(&address, "10.0.0.9:80");
    assert_true(address_parse(&address, "::ffff:10.0.0.9", 81));
    assert_true(address_same_host(&address, &plain));
    assert_false(address_equal(&address, &plain));
}

static void test_unix_addresses_know_their_path(void **state)
{
    struct sockaddr_un nameless = { .sun_family = AF_UNIX };
    struct sockaddr_un abstract = { .sun_family = AF_UNIX, .sun_path = "\0name" };
    struct address address;
    struct address other;

    (void)state;
    address_of_path(&address, "/run/a");
    assert_prints(&address, "unix:/run/a");
    address_of_path(&other, "/run/a");
    assert_true(address_equal(&address, &other));
    address_of_path(&other, "/run/b");
    assert_false(address_equal(&address, &other));
    assert_int_equal(address_port(&address), 0);

    address_set(&address, (const struct sockaddr *)&nameless, sizeof nameless.sun_family);
    assert_prints(&address, "unix:");
    address_set(&address, (const struct sockaddr *)&abstract,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 5));
    assert_prints(&address, "unix:@name");
}

static void test_wildcards_and_loopbacks_are_recognised(void **state)
{
    struct address address;

    (void)state;
    assert_true(address_parse(&address, "0.0.0.0", 0) && address_is_wildcard(&address));
    assert_true(address_parse(&address, "::", 0) && address_is_wildcard(&address));
    assert_true(address_parse(&address, "127.9.9.9", 0) && address_is_loopback(&address));
    assert_true(address_parse(&address, "::1", 0) && address_is_loopback(&address));
    assert_true(address_parse(&address, "10.0.0.1", 0));
    assert_false(address_is_loopback(&address) || address_is_wildcard(&address));
}

struct membership {
    const char *network;
    const char *host;
    bool is_inside;
};

static const struct membership memberships[] = {
    { "10.0.0.0/8", "10.255.255.255", true },
    { "10.0.0.0/8", "11.0.0.0", false },
    { "10.0.0.0/8", "::ffff:10.1.1.1", true },
    { "10.0.0.0/8", "2001:db8::1", false },
    { "192.168.4.0/23", "192.168.5.255", true },
    { "192.168.4.0/23", "192.168.6.0", false },
    { "10.0.0.9", "10.0.0.9", true },
    { "10.0.0.9", "10.0.0.8", false },
    { "0.0.0.0/0", "1.2.3.4", true },
    { "0.0.0.0/0", "::1", false },
    { "::/0", "2001:db8::1", true },
    { "::/0", "1.2.3.4", false },
    { "2001:db8::/33", "2001:db8:7fff::1", true },
    { "2001:db8::/33", "2001:db8:8000::1", false },
    { "::1", "::1", true },
};

static void test_a_network_contains_what_its_prefix_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof memberships / sizeof memberships[0]; i++) {
        struct network network;
        struct network again;
        struct address address;
        char text[NETWORK_TEXT];

        assert_true(network_parse(&network, memberships[i].network, NULL));
        assert_true(address_parse(&address, memberships[i].host, 1));
        assert_int_equal(network_contains(&network, &address), memberships[i].is_inside);
        network_print(&network, text);
        assert_string_equal(text, memberships[i].network);
        assert_true(network_parse(&again, text, NULL));
        assert_memory_equal(&network, &again, sizeof network);
    }
}

static void test_unix_peers_are_in_no_network(void **state)
{
    struct network network;
    struct address address;

    (void)state;
    address_of_path(&address, "/run/a");
    assert_true(network_parse(&network, "0.0.0.0/0", NULL));
    assert_false(network_contains(&network, &address));
    assert_true(network_parse(&network, "::/0", NULL));
    assert_false(network_contains(&network, &address));
}

static void test_a_bad_network_is_refused_with_a_sentence(void **state)
{
    static const char *const texts[] = {
        "",
        "localhost",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/8x",
        "10.0.0/8",
        "2001:db8::/129",
        "fe80::1%lo/64",
        "10.0.0.1/8",
        "/8",
        "10.0.0.0/1000",
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct network network;
        struct fault fault = { "" };

        assert_false(network_parse(&network, texts[i], &fault));
        assert_non_null(strstr(fault.text, "write "));
    }
}

static void test_a_fault_is_one_line_that_fits(void **state)
{
    struct fault fault;
    char large[3000];

    (void)state;
    assert_false(fault_set(&fault, "a\nb\x1b%s", "\r"));
    assert_string_equal(fault.text, "a\\x0ab\\x1b\\x0d");
    memset(large, '\n', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    assert_false(fault_set(&fault, "%s", large));
    assert_true(strlen(fault.text) < sizeof fault.text);
    assert_false(fault_set(NULL, "nobody asks"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_reads_as_one_canonical_text),
        cmocka_unit_test(test_a_bad_address_is_refused_with_a_sentence),
        cmocka_unit_test(test_long_hosts_and_paths_end_at_their_limits),
        cmocka_unit_test(test_numeric_addresses_print_as_they_were_read),
        cmocka_unit_test(test_a_mapped_address_is_the_ipv4_address_everywhere),
        cmocka_unit_test(test_unix_addresses_know_their_path),
        cmocka_unit_test(test_wildcards_and_loopbacks_are_recognised),
        cmocka_unit_test(test_a_network_contains_what_its_prefix_says),
        cmocka_unit_test(test_unix_peers_are_in_no_network),
        cmocka_unit_test(test_a_bad_network_is_refused_with_a_sentence),
        cmocka_unit_test(test_a_fault_is_one_line_that_fits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
