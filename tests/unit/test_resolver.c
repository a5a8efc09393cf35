/*
 * test_resolver.c — the resolver against a small name server on the same loop.
 *
 * The server answers by the first label of the name (see answer_question()) and runs inside the
 * test's loop, so nothing here waits for anything but the resolver.
 */
#include "dns/resolver.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
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

#include <ares.h>
#include <cmocka.h>
#include <ev.h>

#include "base/clock.h"
#include "base/fault.h"
#include "config/config.h"

#define TYPE_A    1
#define TYPE_AAAA 28
#define SERVFAIL  2
#define NXDOMAIN  3
#define LIES      200 /* as many as the socket holds */

struct name_server {
    ev_io    io;
    uint16_t port;
    int      questions;
    char     last_name[300];
};

/* What a lookup's owner has heard. */
struct heard {
    int            times;
    enum lookup_result result;
    size_t         count;
    struct address addresses[RESOLVER_ADDRESSES];
    unsigned       ttl;
    char           why_not[200];
};

static struct ev_loop *loop;
static struct name_server server;
static struct resolver *resolver;
static struct config config;
static char resolv_conf[64];

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
    put16(reply, 60U + reply->bytes[7]); /* the TTL: the first record's is the least */
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
    if (name_is(name, "silent."))
        return false;
    if (name_is(name, "both.") && type == TYPE_AAAA)
        put_record(reply, type, "2001:db8::7");
    if (name_is(name, "flood.") || (name_is(name, "both.") && type == TYPE_A))
        put_record(reply, type, "10.0.0.7");
    if (name_is(name, "many."))
        put_many(reply, type, type == TYPE_A ? 28 : 12);
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

/* Answers to questions that nobody has asked. */
static void send_lies(int fd, const struct reply *truth, const struct sockaddr_in *to)
{
    struct reply lie = *truth;

    lie.bytes[0] ^= 0x55;
    for (int i = 0; i < LIES; i++)
        sendto(fd, lie.bytes, lie.length, 0, (const struct sockaddr *)to, sizeof *to);
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
    if (name_is(server.last_name, "flood."))
        send_lies(io->fd, &reply, &from);
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

/* Overwritten in place, as containers get theirs. */
static void write_resolv_conf(uint16_t port)
{
    FILE *file = fopen(resolv_conf, "w");

    assert_non_null(file);
    fprintf(file, "# ours\nsearch both.search\nnameserver 127.0.0.1:%u\n", port);
    fclose(file);
}

/* A search list that must not be used, and a nameserver with a port. */
static int set_up(void **state)
{
    struct fault fault = { "" };

    (void)state;
    loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    server_start();
    write_file(resolv_conf, "%s", "");
    write_resolv_conf(server.port);
    config = (struct config){ .resolv_conf = resolv_conf, .dns_timeout = 0.3 };
    resolver = resolver_new(loop, &config, &fault);
    assert_string_equal(fault.text, "");
    assert_non_null(resolver);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    resolver_free(resolver);
    server_stop();
    ev_loop_destroy(loop);
    unlink(resolv_conf);
    return 0;
}

static void on_done(void *owner, const struct lookup_answer *answer)
{
    struct heard *heard = owner;

    heard->times++;
    heard->result = answer->result;
    heard->count = answer->count;
    heard->ttl = answer->ttl;
    memcpy(heard->addresses, answer->addresses, answer->count * sizeof heard->addresses[0]);
    assert_true((answer->count > 0) == (answer->result == LOOKUP_OK));
    assert_true((answer->count == 0) == (answer->why_not != NULL));
    if (answer->why_not != NULL)
        snprintf(heard->why_not, sizeof heard->why_not, "%s", answer->why_not);
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
static struct heard look_up(const char *host, int family)
{
    struct heard heard = { .times = 0 };

    assert_non_null(resolver_lookup(resolver, host, family, on_done, &heard));
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

static void test_a_question_is_about_one_family(void **state)
{
    (void)state;
    struct heard heard = look_up("both.test", AF_INET);

    assert_int_equal(heard.count, 1);
    assert_address(&heard.addresses[0], "10.0.0.7:0");
    assert_int_equal(server.questions, 1);
    heard = look_up("both.test", AF_INET6);
    assert_int_equal(heard.count, 1);
    assert_address(&heard.addresses[0], "[2001:db8::7]:0");
    assert_int_equal(server.questions, 2);
}

static void test_a_long_answer_comes_in_order_with_the_least_ttl(void **state)
{
    (void)state;
    struct heard heard = look_up("many.test", AF_INET);

    assert_int_equal(heard.count, 28);
    assert_address(&heard.addresses[0], "10.0.0.1:0");
    assert_address(&heard.addresses[27], "10.0.0.28:0");
    assert_int_equal(heard.ttl, 60);
}

static void test_an_unknown_name_says_so_and_is_not_searched(void **state)
{
    (void)state;
    struct heard heard = look_up("nx", AF_INET);

    assert_int_equal(heard.result, LOOKUP_NOT_FOUND);
    assert_string_equal(heard.why_not, "no such name");
    assert_string_equal(server.last_name, "nx.");
}

static void test_a_name_without_addresses_says_so(void **state)
{
    (void)state;
    struct heard heard = look_up("empty.test", AF_INET6);

    assert_int_equal(heard.result, LOOKUP_NOT_FOUND);
    assert_string_equal(heard.why_not, "the name has no address");
}

static void test_a_broken_server_says_so(void **state)
{
    (void)state;
    struct heard heard = look_up("broken.test", AF_INET);

    assert_int_equal(heard.result, LOOKUP_FAILED);
    assert_string_equal(heard.why_not, "no name server could answer");
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
        struct heard heard = look_up(names[i], AF_INET);
        assert_int_equal(heard.count, 0);
        assert_true(heard.why_not[0] != '\0');
    }
}

static void test_N4_silence_ends_in_time(void **state)
{
    struct heard heard = { .times = 0 };

    (void)state;
    resolver_lookup(resolver, "silent.test", AF_INET, on_done, &heard);
    double seconds = run_until_heard(&heard);
    assert_int_equal(heard.times, 1);
    assert_int_equal(heard.result, LOOKUP_TIMEOUT);
    assert_string_equal(heard.why_not, "no name server answered in time");
    assert_true(seconds > 0.25 && seconds < 2.0); /* --dns-timeout is 0.3 s */
    assert_int_equal(server.questions, 2);
}

/* The loop has no turn until so much time has passed. */
static void stand_still(double seconds)
{
    for (double until = clock_now() + seconds; clock_now() < until;)
        sched_yield();
}

/* The question of the other lookup gives c-ares a new time, so the deadline rings before it. */
static void test_R23_an_answer_that_lies_there_at_the_deadline_counts(void **state)
{
    struct heard heard = { .times = 0 };
    struct heard other = { .times = 0 };

    (void)state;
    resolver_lookup(resolver, "both.test", AF_INET, on_done, &heard);
    on_question(loop, &server.io, EV_READ);
    stand_still(0.3); /* --dns-timeout */
    resolver_lookup(resolver, "both.test", AF_INET, on_done, &other);
    run_until_heard(&heard);
    assert_int_equal(heard.count, 1);
    run_until_heard(&other);
    assert_int_equal(other.count, 1);
    assert_int_equal(heard.times, 1);
}

static void test_N18_a_cancelled_lookup_stays_silent(void **state)
{
    struct heard cancelled = { .times = 0 };
    struct heard other = { .times = 0 };

    (void)state;
    struct lookup *lookup = resolver_lookup(resolver, "both.test", AF_INET, on_done, &cancelled);
    resolver_lookup(resolver, "both.test", AF_INET, on_done, &other);
    lookup_cancel(lookup);
    lookup_cancel(resolver_lookup(resolver, "", AF_INET, on_done, &cancelled));
    lookup_cancel(resolver_lookup(resolver, "a..b", AF_INET, on_done, &cancelled));
    lookup_cancel(NULL);
    run_until_heard(&other);
    ev_run(loop, EVRUN_NOWAIT);
    assert_int_equal(other.count, 1);
    assert_int_equal(cancelled.times, 0);
}

static void test_N18_the_resolver_may_go_with_lookups_in_flight(void **state)
{
    struct heard heard = { .times = 0 };

    (void)state;
    for (int i = 0; i < 20; i++)
        resolver_lookup(resolver, i % 2 ? "silent.test" : "both.test", AF_INET, on_done, &heard);
    lookup_cancel(resolver_lookup(resolver, "both.test", AF_INET, on_done, &heard));
    resolver_lookup(resolver, "", AF_INET, on_done, &heard);
    ev_run(loop, EVRUN_NOWAIT);
    int before = heard.times;
    resolver_free(resolver);
    resolver = NULL;
    ev_run(loop, EVRUN_NOWAIT);
    assert_int_equal(heard.times, before);
}

static void on_done_ask_again(void *owner, const struct lookup_answer *answer)
{
    (void)answer;
    resolver_lookup(resolver, "both.test", AF_INET, on_done, owner);
}

static void test_an_owner_may_look_up_from_its_callback(void **state)
{
    struct heard heard = { .times = 0 };

    (void)state;
    resolver_lookup(resolver, "a..b", AF_INET, on_done_ask_again, &heard);
    run_until_heard(&heard);
    assert_int_equal(heard.times, 1);
    assert_int_equal(heard.count, 1);
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
    resolver_lookup(resolver, "both.test", AF_INET, on_done, &heard);
    assert_true(count_sockets() > before);
    run_until_heard(&heard);
    assert_int_equal(count_sockets(), before);
    assert_int_equal(ev_run(loop, EVRUN_NOWAIT), 0); /* no watcher is left */
}

static void test_N16_changed_servers_are_asked_and_the_old_ones_finish(void **state)
{
    struct heard old = { .times = 0 };
    struct heard fresh = { .times = 0 };

    (void)state;
    assert_false(resolver_renew(resolver));
    uint16_t port = server.port;
    resolver_lookup(resolver, "silent.test", AF_INET, on_done, &old);
    write_resolv_conf(1); /* nobody is there */
    assert_true(resolver_renew(resolver));
    assert_false(resolver_renew(resolver));
    resolver_lookup(resolver, "both.test", AF_INET, on_done, &fresh);
    run_until_heard(&fresh);
    assert_int_equal(fresh.result, LOOKUP_FAILED);
    write_resolv_conf(port);
    assert_true(resolver_renew(resolver));
    assert_int_equal(look_up("both.test", AF_INET).count, 1);
    run_until_heard(&old);
    assert_int_equal(old.result, LOOKUP_TIMEOUT);
}

/* c-ares finds no memory for the next channel. */
static bool channel_fails;

int __real_ares_init_options(ares_channel *, struct ares_options *, int mask);
int __wrap_ares_init_options(ares_channel *, struct ares_options *, int mask);

int __wrap_ares_init_options(ares_channel *channel, struct ares_options *options, int mask)
{
    return channel_fails ? ARES_ENOMEM : __real_ares_init_options(channel, options, mask);
}

static void test_N16_changed_servers_that_cannot_be_used_yet_are_tried_again(void **state)
{
    uint16_t port = server.port;

    (void)state;
    write_resolv_conf(1);
    assert_true(resolver_renew(resolver));
    write_resolv_conf(port);
    channel_fails = true;
    assert_false(resolver_renew(resolver));
    assert_false(resolver_renew(resolver));
    channel_fails = false;
    assert_true(resolver_renew(resolver));
    assert_int_equal(look_up("both.test", AF_INET).count, 1);
}

static void test_N16_a_file_that_is_being_written_changes_nothing(void **state)
{
    (void)state;
    FILE *file = fopen(resolv_conf, "w");
    fputs("search both.search\n", file);
    fclose(file);
    assert_false(resolver_renew(resolver));
    unlink(resolv_conf);
    assert_false(resolver_renew(resolver));
    assert_int_equal(look_up("both.test", AF_INET).count, 1);
}

static void test_given_servers_are_asked_instead_of_the_files(void **state)
{
    struct address servers[2];
    struct fault fault = { "" };

    (void)state;
    resolver_free(resolver);
    address_parse(&servers[0], "127.0.0.1", 1);
    address_parse(&servers[1], "127.0.0.1", server.port);
    config.resolvers = (struct address_list){ servers, 2 };
    write_resolv_conf(1);
    resolver = resolver_new(loop, &config, &fault);
    assert_non_null(resolver);
    assert_int_equal(look_up("both.test", AF_INET).count, 1);
    write_resolv_conf(server.port);
    assert_false(resolver_renew(resolver));
}

static void test_a_file_that_cannot_be_used_is_a_fault(void **state)
{
    struct config unusable = { .resolv_conf = "/nowhere/resolv.conf", .dns_timeout = 2 };
    struct fault fault = { "" };
    char path[64];

    (void)state;
    assert_null(resolver_new(loop, &unusable, &fault));
    assert_string_equal(
        fault.text,
        "cannot read the resolver file /nowhere/resolv.conf: No such file or directory");
    write_file(path, "nameserver somewhere\n");
    unusable.resolv_conf = path;
    assert_null(resolver_new(loop, &unusable, &fault));
    assert_non_null(strstr(fault.text, "cannot use the name servers \"somewhere\""));
    unlink(path);
    resolver_free(NULL);
}

/* N: a name server that answers by the thousand leaves the loop its turns, and the right answer counts. */
static void test_a_flood_of_answers_is_read_in_turns(void **state)
{
    (void)state;
    unsigned     before = ev_iteration(loop);
    struct heard heard = look_up("flood.example", AF_INET);

    assert_int_equal(heard.result, LOOKUP_OK);
    assert_int_equal(heard.count, 1);
    /* From 1.34 on c-ares takes one datagram in a turn where the socket functions are ours. */
    assert_in_range(ev_iteration(loop) - before, LIES / 64, LIES + 10);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_flood_of_answers_is_read_in_turns),
        TEST(test_a_question_is_about_one_family),
        TEST(test_a_long_answer_comes_in_order_with_the_least_ttl),
        TEST(test_an_unknown_name_says_so_and_is_not_searched),
        TEST(test_a_name_without_addresses_says_so),
        TEST(test_a_broken_server_says_so),
        TEST(test_N17_odd_names_are_answered),
        TEST(test_N4_silence_ends_in_time),
        TEST(test_R23_an_answer_that_lies_there_at_the_deadline_counts),
        TEST(test_N18_a_cancelled_lookup_stays_silent),
        TEST(test_N18_the_resolver_may_go_with_lookups_in_flight),
        TEST(test_an_owner_may_look_up_from_its_callback),
        TEST(test_sockets_are_closed_on_exec_and_gone_after_the_answer),
        TEST(test_N16_changed_servers_are_asked_and_the_old_ones_finish),
        TEST(test_N16_changed_servers_that_cannot_be_used_yet_are_tried_again),
        TEST(test_N16_a_file_that_is_being_written_changes_nothing),
        TEST(test_given_servers_are_asked_instead_of_the_files),
        TEST(test_a_file_that_cannot_be_used_is_a_fault),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
