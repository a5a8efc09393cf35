/*
 * test_resolver.c — the resolver against a small name server on the same loop.
 *
 * The server answers by the first label of the name (see answer_question()) and runs inside the
 * test's loop, so nothing here waits for anything but the resolver.
 */
#include "flow/resolver.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <ev.h>

#include "base/fault.h"

#define TYPE_A    1
#define TYPE_AAAA 28
#define SERVFAIL  2
#define NXDOMAIN  3

struct name_server {
    ev_io    io;
    uint16_t port;
    int      questions;
    char     last_name[300];
};

/* What a lookup's owner has heard. */
struct heard {
    int            times;
    size_t         count;
    struct address addresses[RESOLVER_ADDRESSES];
    char           why_not[200];
};

static struct ev_loop *loop;
static struct name_server server;
static struct resolver *resolver;

struct reply {
    unsigned char bytes[512];
    size_t        length;
};

static void put16(struct reply *reply, unsigned value)
{
    reply->bytes[reply->length++] = (unsigned char)(value >> 8);
    reply->bytes[reply->length++] = (unsigned char)value;
}

static void put_record(struct reply *reply, int type, const char *text)
{
    size_t size = type == TYPE_A ? 4 : 16;

    put16(reply, 0xc00c); /* the name of the question */
    put16(reply, (unsigned)type);
    put16(reply, 1);
    put16(reply, 0);
    put16(reply, 60);
    put16(reply, (unsigned)size);
    assert_int_equal(
        inet_pton(type == TYPE_A ? AF_INET : AF_INET6, text, reply->bytes + reply->length), 1);
    reply->length += size;
    reply->bytes[7]++;
}

static void put_many(struct reply *reply, int type, int count)
{
    char text[40];

    for (int i = 0; i < count; i++) {
        snprintf(text, sizeof text, type == TYPE_A ? "10.0.0.%d" : "2001:db8::%x", i + 1);
        put_record(reply, type, text);
    }
}

static bool name_is(const char *name, const char *wanted)
{
    return strncasecmp(name, wanted, strlen(wanted)) == 0;
}

/* False: stay silent. */
static bool answer_question(struct reply *reply, const char *name, int type)
{
    if (name_is(name, "silent.") || (name_is(name, "half-silent.") && type == TYPE_AAAA))
        return false;
    if (name_is(name, "both.") && type == TYPE_AAAA)
        put_record(reply, type, "2001:db8::7");
    if (name_is(name, "both.") && type == TYPE_A)
        put_record(reply, type, "10.0.0.7");
    if (name_is(name, "twice.") && type == TYPE_A) {
        put_record(reply, type, "10.0.0.7");
        put_record(reply, type, "10.0.0.7");
    }
    if (name_is(name, "twice.") && type == TYPE_AAAA)
        put_record(reply, type, "::ffff:10.0.0.7");
    if (name_is(name, "half-broken.") || name_is(name, "half-silent.")) {
        if (type == TYPE_A)
            put_record(reply, type, "10.0.0.7");
        else
            reply->bytes[3] |= SERVFAIL;
    }
    if (name_is(name, "half-broken-4.")) {
        if (type == TYPE_AAAA)
            put_record(reply, type, "2001:db8::7");
        else
            reply->bytes[3] |= SERVFAIL;
    }
    if (name_is(name, "many."))
        put_many(reply, type, type == TYPE_A ? 25 : 12);
    if (name_is(name, "broken."))
        reply->bytes[3] |= SERVFAIL;
    if (name_is(name, "nx."))
        reply->bytes[3] |= NXDOMAIN;
    return true;
}

/* "\3www\7example\0" as "www.example."; answers the length in the packet. */
static size_t read_name(const unsigned char *packet, char *name)
{
    size_t place = 0;

    *name = '\0';
    while (packet[place] != 0) {
        strncat(name, (const char *)packet + place + 1, packet[place]);
        strcat(name, ".");
        place += 1U + packet[place];
    }
    return place + 1;
}

static void on_question(struct ev_loop *its_loop, ev_io *io, int events)
{
    struct sockaddr_in from;
    socklen_t from_length = sizeof from;
    struct reply reply = { .length = 0 };

    (void)its_loop;
    (void)events;
    ssize_t got = recvfrom(io->fd, reply.bytes, sizeof reply.bytes, 0, (struct sockaddr *)&from,
                           &from_length);
    assert_true(got > 12);
    size_t name_length = read_name(reply.bytes + 12, server.last_name);
    int type = reply.bytes[12 + name_length] << 8 | reply.bytes[12 + name_length + 1];

    server.questions++;
    reply.length = 12 + name_length + 4;
    reply.bytes[2] = 0x85; /* an answer, with authority */
    reply.bytes[3] = 0x80;
    memset(reply.bytes + 6, 0, 6);
    if (answer_question(&reply, server.last_name, type))
        sendto(io->fd, reply.bytes, reply.length, 0, (struct sockaddr *)&from, from_length);
}

static void server_start(void)
{
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof here;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    server = (struct name_server){ .questions = 0 };
    assert_int_equal(bind(fd, (struct sockaddr *)&here, length), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&here, &length), 0);
    server.port = ntohs(here.sin_port);
    ev_io_init(&server.io, on_question, fd, EV_READ);
    ev_io_start(loop, &server.io);
    ev_unref(loop);
}

static void server_stop(void)
{
    ev_ref(loop);
    ev_io_stop(loop, &server.io);
    close(server.io.fd);
}

static void write_file(char path[64], const char *format, ...)
{
    va_list values;

    strcpy(path, "/tmp/test_resolver.XXXXXX");
    FILE *file = fdopen(mkstemp(path), "w");
    assert_non_null(file);
    va_start(values, format);
    vfprintf(file, format, values);
    va_end(values);
    fclose(file);
}

/* A search list that must not be used, and a nameserver with a port. */
static int set_up(void **state)
{
    char resolv_conf[64];
    char hosts[64];
    struct fault fault = { "" };

    (void)state;
    loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    server_start();
    write_file(resolv_conf, "search both.search\nnameserver 127.0.0.1:%u\n", server.port);
    write_file(hosts, "10.9.9.9 file-only.test\n");
    resolver = resolver_new(loop, resolv_conf, hosts, &fault);
    assert_string_equal(fault.text, "");
    assert_non_null(resolver);
    unlink(resolv_conf);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    resolver_free(resolver);
    server_stop();
    ev_loop_destroy(loop);
    return 0;
}

static void on_done(void *owner, const struct address *addresses, size_t count, const char *why_not)
{
    struct heard *heard = owner;

    heard->times++;
    heard->count = count;
    memcpy(heard->addresses, addresses, count * sizeof addresses[0]);
    assert_true((count == 0) == (why_not != NULL));
    if (why_not != NULL)
        snprintf(heard->why_not, sizeof heard->why_not, "%s", why_not);
}

static double run_until_heard(const struct heard *heard)
{
    ev_now_update(loop);
    double start = ev_now(loop);

    while (heard->times == 0 && ev_run(loop, EVRUN_ONCE)) {
    }
    ev_now_update(loop);
    return ev_now(loop) - start;
}

/* Asks, waits and checks what every lookup promises. */
static struct heard look_up(const char *host)
{
    struct heard heard = { .times = 0 };

    assert_non_null(resolver_lookup(resolver, host, on_done, &heard));
    assert_int_equal(heard.times, 0);
    run_until_heard(&heard);
    assert_int_equal(heard.times, 1);
    return heard;
}

static void assert_address(const struct address *address, const char *wanted)
{
    char text[ADDRESS_TEXT];

    address_print(address, text);
    assert_string_equal(text, wanted);
}

static void test_both_families_arrive_with_ipv4_first(void **state)
{
    (void)state;
    struct heard heard = look_up("both.test");

    assert_int_equal(heard.count, 2);
    assert_address(&heard.addresses[0], "10.0.0.7:0");
    assert_address(&heard.addresses[1], "[2001:db8::7]:0");
    assert_int_equal(server.questions, 2);
}

static void test_an_address_is_given_once(void **state)
{
    (void)state;
    struct heard heard = look_up("twice.test");

    assert_int_equal(heard.count, 1);
    assert_address(&heard.addresses[0], "10.0.0.7:0");
}

static void test_a_long_answer_is_cut(void **state)
{
    (void)state;
    struct heard heard = look_up("many.test");

    assert_int_equal(heard.count, RESOLVER_ADDRESSES);
    assert_address(&heard.addresses[0], "10.0.0.1:0");
    assert_address(&heard.addresses[RESOLVER_ADDRESSES - 1], "[2001:db8::7]:0");
}

static void test_an_unknown_name_says_so_and_is_not_searched(void **state)
{
    (void)state;
    struct heard heard = look_up("nx");

    assert_int_equal(heard.count, 0);
    assert_string_equal(heard.why_not, "no such name");
    assert_string_equal(server.last_name, "nx.");
}

static void test_a_name_without_addresses_says_so(void **state)
{
    (void)state;
    assert_string_equal(look_up("empty.test").why_not, "the name has no address");
}

static void test_a_broken_server_says_so(void **state)
{
    (void)state;
    assert_string_equal(look_up("broken.test").why_not, "no name server could answer");
}

static void test_a_failed_question_does_not_spoil_the_other_family(void **state)
{
    (void)state;
    struct heard heard = look_up("half-broken.test");

    assert_int_equal(heard.count, 1);
    assert_address(&heard.addresses[0], "10.0.0.7:0");
    heard = look_up("half-broken-4.test");
    assert_int_equal(heard.count, 1);
    assert_address(&heard.addresses[0], "[2001:db8::7]:0");
}

static void test_N7_a_silent_ipv6_question_does_not_spoil_the_ipv4_answer(void **state)
{
    (void)state;
    struct heard heard = look_up("half-silent.test");

    assert_int_equal(heard.count, 1);
    assert_address(&heard.addresses[0], "10.0.0.7:0");
}

static void test_the_hosts_file_is_read_and_asks_nobody(void **state)
{
    (void)state;
    struct heard heard = look_up("file-only.test");

    assert_int_equal(heard.count, 1);
    assert_address(&heard.addresses[0], "10.9.9.9:0");
    assert_int_equal(server.questions, 0);
}

static void test_N17_odd_names_are_answered(void **state)
{
    char long_name[300];

    (void)state;
    memset(long_name, 'a', sizeof long_name);
    for (size_t i = 50; i < 256; i += 50)
        long_name[i] = '.';
    long_name[256] = '\0';
    const char *const names[] = {
        "", ".", "a..b", "..", "foo.onion", long_name, "name with blanks", "\377\376"
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct heard heard = look_up(names[i]);
        assert_int_equal(heard.count, 0);
        assert_true(heard.why_not[0] != '\0');
    }
}

static void test_N4_silence_ends_in_time(void **state)
{
    struct heard heard = { .times = 0 };

    (void)state;
    resolver_lookup(resolver, "silent.test", on_done, &heard);
    double seconds = run_until_heard(&heard);
    assert_int_equal(heard.times, 1);
    assert_string_equal(heard.why_not, "no name server answered in time");
    assert_true(seconds > 0.9 && seconds < 6.0); /* the first try lasts a second; the bound is 5 */
}

static void test_N18_a_cancelled_lookup_stays_silent(void **state)
{
    struct heard cancelled = { .times = 0 };
    struct heard other = { .times = 0 };

    (void)state;
    struct lookup *lookup = resolver_lookup(resolver, "both.test", on_done, &cancelled);
    resolver_lookup(resolver, "both.test", on_done, &other);
    lookup_cancel(lookup);
    lookup_cancel(resolver_lookup(resolver, "", on_done, &cancelled));
    lookup_cancel(resolver_lookup(resolver, "a..b", on_done, &cancelled));
    lookup_cancel(NULL);
    run_until_heard(&other);
    ev_run(loop, EVRUN_NOWAIT);
    assert_int_equal(other.count, 2);
    assert_int_equal(cancelled.times, 0);
}

static void test_N18_the_resolver_may_go_with_lookups_in_flight(void **state)
{
    struct heard heard = { .times = 0 };

    (void)state;
    for (int i = 0; i < 20; i++)
        resolver_lookup(resolver, i % 2 ? "silent.test" : "both.test", on_done, &heard);
    lookup_cancel(resolver_lookup(resolver, "both.test", on_done, &heard));
    resolver_lookup(resolver, "", on_done, &heard);
    ev_run(loop, EVRUN_NOWAIT);
    int before = heard.times;
    resolver_free(resolver);
    resolver = NULL;
    ev_run(loop, EVRUN_NOWAIT);
    assert_int_equal(heard.times, before);
}

static void on_done_ask_again(void *owner, const struct address *addresses, size_t count,
                              const char *why_not)
{
    (void)addresses;
    (void)count;
    (void)why_not;
    resolver_lookup(resolver, "both.test", on_done, owner);
}

static void test_an_owner_may_look_up_from_its_callback(void **state)
{
    struct heard heard = { .times = 0 };

    (void)state;
    resolver_lookup(resolver, "a..b", on_done_ask_again, &heard);
    run_until_heard(&heard);
    assert_int_equal(heard.times, 1);
    assert_int_equal(heard.count, 2);
}

/* Counts this process's sockets; each must be closed on exec. */
static int count_sockets(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);

    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        int type;
        int fd = atoi(entry->d_name);
        socklen_t length = sizeof type;

        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0 || type != SOCK_DGRAM)
            continue;
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        count++;
    }
    closedir(directory);
    return count;
}

static void test_sockets_are_closed_on_exec_and_gone_after_the_answer(void **state)
{
    struct heard heard = { .times = 0 };
    int before = count_sockets();

    (void)state;
    resolver_lookup(resolver, "both.test", on_done, &heard);
    assert_true(count_sockets() > before);
    run_until_heard(&heard);
    assert_int_equal(count_sockets(), before);
    assert_int_equal(ev_run(loop, EVRUN_NOWAIT), 0); /* no watcher is left */
}

static void test_a_file_that_cannot_be_used_is_a_fault(void **state)
{
    struct fault fault = { "" };
    char path[64];

    (void)state;
    assert_null(resolver_new(loop, "/nowhere/resolv.conf", NULL, &fault));
    assert_string_equal(
        fault.text,
        "cannot read the resolver file /nowhere/resolv.conf: No such file or directory");
    assert_null(resolver_new(loop, NULL, "/nowhere/hosts", &fault));
    assert_string_equal(fault.text,
                        "cannot read the hosts file /nowhere/hosts: No such file or directory");
    write_file(path, "nameserver somewhere\n");
    assert_null(resolver_new(loop, path, NULL, &fault));
    assert_non_null(strstr(fault.text, "cannot use the name servers of /tmp/test_resolver."));
    unlink(path);
    resolver_free(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_both_families_arrive_with_ipv4_first),
        TEST(test_an_address_is_given_once),
        TEST(test_a_long_answer_is_cut),
        TEST(test_an_unknown_name_says_so_and_is_not_searched),
        TEST(test_a_name_without_addresses_says_so),
        TEST(test_a_broken_server_says_so),
        TEST(test_a_failed_question_does_not_spoil_the_other_family),
        TEST(test_N7_a_silent_ipv6_question_does_not_spoil_the_ipv4_answer),
        TEST(test_the_hosts_file_is_read_and_asks_nobody),
        TEST(test_N17_odd_names_are_answered),
        TEST(test_N4_silence_ends_in_time),
        TEST(test_N18_a_cancelled_lookup_stays_silent),
        TEST(test_N18_the_resolver_may_go_with_lookups_in_flight),
        TEST(test_an_owner_may_look_up_from_its_callback),
        TEST(test_sockets_are_closed_on_exec_and_gone_after_the_answer),
        TEST(test_a_file_that_cannot_be_used_is_a_fault),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
