/*
 * test_dns_cache.c — what a worker knows of names, with a clock and a resolver of the test's own.
 *
 * The resolver only notes the questions; the test answers them when it likes.
 */
#include "dns/dns_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <ev.h>

#include "base/fault.h"
#include "config/config.h"
#include "dns/resolver.h"
#include "dns/search.h"
#include "shared/page.h"
#include "tests/unit/told_clock.h"

#define HOST "primary.test"
#define MAX_QUESTIONS 16

struct lookup {
    int          family;
    lookup_done *done; /* NULL: answered or cancelled */
    void        *owner;
};

/* What a waiting session has heard. */
struct heard {
    int    times;
    size_t count;
    char   first[ADDRESS_TEXT];
};

static struct lookup questions[MAX_QUESTIONS];
static size_t question_count;
static bool servers_changed;
static struct search search;
static char last_asked[HOST_TEXT];
static struct config config;
static struct page *page;
static struct slot *slot;
static struct ev_loop *loop;
static struct dns_cache *names;
static char hosts[64];

/* --- stand-ins --------------------------------------------------------------------------- */

struct resolver *__wrap_resolver_new(struct ev_loop *, const struct config *, struct fault *);
void __wrap_resolver_free(struct resolver *resolver);
bool __wrap_resolver_renew(struct resolver *resolver);
const struct search *__wrap_resolver_search(const struct resolver *);
struct lookup *__wrap_resolver_lookup(struct resolver *, const char *, int, lookup_done *, void *);
void __wrap_lookup_cancel(struct lookup *lookup);

struct resolver *__wrap_resolver_new(struct ev_loop *its_loop, const struct config *its_config,
                                     struct fault *fault)
{
    (void)its_loop;
    (void)its_config;
    (void)fault;
    return (struct resolver *)&now; /* never looked into */
}

void __wrap_resolver_free(struct resolver *resolver)
{
    (void)resolver;
}

bool __wrap_resolver_renew(struct resolver *resolver)
{
    bool changed = servers_changed;

    (void)resolver;
    servers_changed = false;
    return changed;
}

const struct search *__wrap_resolver_search(const struct resolver *resolver)
{
    (void)resolver;
    return &search;
}

struct lookup *__wrap_resolver_lookup(struct resolver *resolver, const char *host, int family,
                                      lookup_done *done, void *owner)
{
    (void)resolver;
    snprintf(last_asked, sizeof last_asked, "%s", host);
    if (search.count == 0)
        assert_string_equal(host, HOST);
    assert_true(question_count < MAX_QUESTIONS);
    questions[question_count] = (struct lookup){ family, done, owner };
    return &questions[question_count++];
}

void __wrap_lookup_cancel(struct lookup *lookup)
{
    if (lookup != NULL)
        lookup->done = NULL;
}

/* --- answers ----------------------------------------------------------------------------- */

static void answer(size_t question, const struct lookup_answer *said)
{
    lookup_done *done = questions[question].done;

    assert_true(question < question_count);
    assert_non_null(done);
    questions[question].done = NULL;
    done(questions[question].owner, said);
}

/* An address with a TTL. */
static void say(size_t question, const char *text, unsigned ttl)
{
    struct address address;
    struct lookup_answer said = { .addresses = &address, .count = 1, .ttl = ttl };

    assert_true(address_parse(&address, text, 0));
    answer(question, &said);
}

static void refuse(size_t question, enum lookup_result result)
{
    answer(question, &(struct lookup_answer){ .result = result, .why_not = "because" });
}

/* The first address that is known, without the port; "" when none is, NULL when it must be waited
 * for. */
static const char *known(void)
{
    static char text[ADDRESS_TEXT];
    struct dns_answer said;

    if (!dns_cache_find(names, HOST, &said))
        return NULL;
    text[0] = '\0';
    if (said.count > 0) {
        address_print(&said.addresses[0], text);
        *strrchr(text, ':') = '\0';
    }
    assert_true((said.count > 0) == (said.why_not[0] == '\0'));
    return text;
}

static void on_name(void *owner, const struct dns_answer *said)
{
    struct heard *heard = owner;

    heard->times++;
    heard->count = said->count;
    if (said->count > 0)
        address_print(&said->addresses[0], heard->first);
}

static struct dns_wait *wait_for_name(struct heard *heard)
{
    struct dns_wait *wait = dns_cache_wait(names, HOST, on_name, heard);

    assert_non_null(wait);
    assert_int_equal(heard->times, 0);
    return wait;
}

static uint64_t counted(enum counter counter)
{
    return cell_get(&slot->counts[counter]);
}

/* The first round: an IPv4 address and no IPv6 one. */
static void learn_first(unsigned ttl)
{
    assert_null(known());
    say(0, "10.0.0.1", ttl);
    refuse(1, LOOKUP_NOT_FOUND);
}

static void write_hosts(const char *text)
{
    FILE *file = fopen(hosts, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int set_up(void **state)
{
    struct fault fault = { "" };

    (void)state;
    now = 1000;
    question_count = 0;
    servers_changed = false;
    search_clear(&search);
    strcpy(hosts, "/tmp/test_names.XXXXXX");
    close(mkstemp(hosts));
    config =
        (struct config){ .hosts = hosts, .dns_ttl_min = 1, .dns_ttl_max = 3600, .dns_stale = 600 };
    page = page_new(1);
    slot = page_take_slot(page, 1, NULL, 0);
    loop = ev_loop_new(EVFLAG_AUTO);
    names = dns_cache_new(loop, &config, slot, &page->shared_dns, &fault);
    assert_non_null(names);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    dns_cache_free(names);
    ev_loop_destroy(loop);
    page_free(page);
    unlink(hosts);
    return 0;
}

/* --- tests ------------------------------------------------------------------------------- */

static void test_both_families_are_asked_and_ipv4_comes_first(void **state)
{
    struct dns_answer said;

    (void)state;
    assert_null(known());
    assert_int_equal(question_count, 2);
    assert_int_equal(questions[0].family, AF_INET);
    assert_int_equal(questions[1].family, AF_INET6);
    say(1, "2001:db8::7", 60);
    say(0, "10.0.0.7", 60);
    assert_true(dns_cache_find(names, HOST, &said));
    assert_int_equal(said.count, 2);
    assert_int_equal(said.addresses[0].any.sa_family, AF_INET);
    assert_int_equal(said.addresses[1].any.sa_family, AF_INET6);
    assert_false(said.renewing);
    assert_int_equal(counted(COUNT_DNS_OK), 1);
}

static void test_one_family_alone_can_be_asked(void **state)
{
    (void)state;
    config.dns_family = DNS_IPV6;
    assert_null(known());
    assert_int_equal(question_count, 1);
    assert_int_equal(questions[0].family, AF_INET6);
    say(0, "2001:db8::7", 60);
    assert_string_equal(known(), "[2001:db8::7]");
}

static void test_N20_all_who_wait_share_one_question(void **state)
{
    struct heard heard[100] = { { 0 } };
    struct heard cancelled = { 0 };

    (void)state;
    for (size_t i = 0; i < 100; i++) {
        assert_null(known());
        wait_for_name(&heard[i]);
    }
    dns_wait_cancel(wait_for_name(&cancelled));
    dns_wait_cancel(NULL);
    assert_int_equal(question_count, 2);
    refuse(1, LOOKUP_NOT_FOUND);
    say(0, "10.0.0.1", 60);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(heard[i].times, 1);
        assert_string_equal(heard[i].first, "10.0.0.1:0");
    }
    assert_int_equal(cancelled.times, 0);
}

static void test_N7_a_silent_family_delays_the_other_only_briefly(void **state)
{
    struct heard heard = { 0 };

    (void)state;
    assert_null(known());
    wait_for_name(&heard);
    say(0, "10.0.0.1", 60);
    assert_int_equal(heard.times, 0);
    while (heard.times == 0)
        ev_run(loop, EVRUN_ONCE);
    assert_string_equal(heard.first, "10.0.0.1:0");
    say(1, "2001:db8::7", 60); /* late, but good for the next one */
    struct dns_answer said;
    assert_true(dns_cache_find(names, HOST, &said));
    assert_int_equal(said.count, 2);
    assert_int_equal(heard.times, 1);
}

static void test_N8_an_answer_is_kept_for_its_ttl_and_renewed_without_delay(void **state)
{
    (void)state;
    learn_first(30);
    now += 29;
    assert_string_equal(known(), "10.0.0.1");
    assert_int_equal(question_count, 2);
    now += 1;
    assert_string_equal(known(), "10.0.0.1");
    assert_string_equal(known(), "10.0.0.1");
    assert_int_equal(question_count, 4);
    say(2, "10.0.0.2", 30);
    assert_string_equal(known(), "10.0.0.2");
    refuse(3, LOOKUP_NOT_FOUND);
    assert_string_equal(known(), "10.0.0.2");
    assert_int_equal(counted(COUNT_DNS_OK), 2);
    assert_int_equal(counted(COUNT_DNS_STALE), 0);
}

static void test_N8_the_ttl_has_a_floor_and_a_ceiling(void **state)
{
    (void)state;
    learn_first(0);
    now += 0.9;
    known();
    assert_int_equal(question_count, 2);
    now += 0.2;
    known();
    assert_int_equal(question_count, 4);
    say(2, "10.0.0.1", 4000000000U);
    refuse(3, LOOKUP_NOT_FOUND);
    now += 3599;
    known();
    assert_int_equal(question_count, 4);
    now += 2;
    known();
    assert_int_equal(question_count, 6);
}

static void test_N9_one_who_connects_in_vain_may_wait_for_the_newer_answer(void **state)
{
    struct dns_answer said;
    struct heard heard = { 0 };

    (void)state;
    learn_first(30);
    now += 31;
    assert_true(dns_cache_find(names, HOST, &said));
    assert_true(said.renewing);
    wait_for_name(&heard);
    refuse(3, LOOKUP_NOT_FOUND);
    say(2, "10.0.0.2", 30);
    assert_int_equal(heard.times, 1);
    assert_string_equal(heard.first, "10.0.0.2:0");
}

/* The rounds that follow the first, each with one failure for both families. */
static void fail_round(enum lookup_result ipv4, enum lookup_result ipv6)
{
    assert_non_null(known());
    assert_non_null(questions[question_count - 1].done);
    refuse(question_count - 2, ipv4);
    refuse(question_count - 1, ipv6);
}

static void test_N2_N3_no_failure_takes_a_good_address_away(void **state)
{
    static const enum lookup_result failures[][2] = {
        { LOOKUP_FAILED, LOOKUP_FAILED },       { LOOKUP_FAILED, LOOKUP_NOT_FOUND },
        { LOOKUP_TIMEOUT, LOOKUP_TIMEOUT },     { LOOKUP_NOT_FOUND, LOOKUP_NOT_FOUND },
        { LOOKUP_NOT_FOUND, LOOKUP_FAILED },
    };

    (void)state;
    learn_first(30);
    now += 31;
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        fail_round(failures[i][0], failures[i][1]);
        assert_string_equal(known(), "10.0.0.1");
        assert_int_equal(counted(COUNT_DNS_STALE), 1);
        now += 6;
    }
    assert_int_equal(counted(COUNT_DNS_FAILED), 3);
    assert_int_equal(counted(COUNT_DNS_TIMEOUT), 1);
    assert_int_equal(counted(COUNT_DNS_NOT_FOUND), 1);
    known();
    say(question_count - 2, "10.0.0.2", 30);
    refuse(question_count - 1, LOOKUP_NOT_FOUND);
    assert_string_equal(known(), "10.0.0.2");
    assert_int_equal(counted(COUNT_DNS_STALE), 0);
}

static void test_a_stale_address_serves_for_dns_stale_and_not_longer(void **state)
{
    (void)state;
    learn_first(30);
    now += 31;
    fail_round(LOOKUP_FAILED, LOOKUP_FAILED);
    now += 598;
    assert_string_equal(known(), "10.0.0.1");
    refuse(question_count - 2, LOOKUP_FAILED);
    refuse(question_count - 1, LOOKUP_FAILED);
    now += 2;
    assert_null(known());
    assert_int_equal(counted(COUNT_DNS_STALE), 0);
    refuse(question_count - 2, LOOKUP_FAILED);
    refuse(question_count - 1, LOOKUP_FAILED);
    assert_string_equal(known(), "");
}

static void test_without_dns_stale_an_old_address_is_not_used(void **state)
{
    (void)state;
    config.dns_stale = 0;
    learn_first(30);
    now += 31;
    assert_null(known());
}

static void test_a_family_that_is_gone_is_forgotten_and_one_that_failed_is_not(void **state)
{
    struct dns_answer said;

    (void)state;
    assert_null(known());
    say(0, "10.0.0.1", 30);
    say(1, "2001:db8::7", 30);
    now += 31;
    known();
    say(2, "10.0.0.1", 3600);
    refuse(3, LOOKUP_FAILED);
    assert_true(dns_cache_find(names, HOST, &said));
    assert_int_equal(said.count, 2);
    now += 0.6; /* the failed one is asked for again although the other's time is not over */
    known();
    assert_int_equal(question_count, 6);
    say(4, "10.0.0.1", 3600);
    refuse(5, LOOKUP_NOT_FOUND);
    assert_true(dns_cache_find(names, HOST, &said));
    assert_int_equal(said.count, 1);
}

static void test_N1_N5_failures_are_kept_for_a_growing_while_of_at_most_five_seconds(void **state)
{
    size_t rounds = 0;

    (void)state;
    assert_null(known());
    refuse(0, LOOKUP_NOT_FOUND);
    refuse(1, LOOKUP_NOT_FOUND);
    assert_string_equal(known(), "");
    assert_int_equal(question_count, 2);
    for (double end = now + 20; now < end; now += 0.1) {
        if (known() != NULL)
            continue;
        refuse(question_count - 2, LOOKUP_FAILED);
        refuse(question_count - 1, LOOKUP_FAILED);
        question_count = 2;
        rounds++;
    }
    assert_in_range(rounds, 5, 7); /* after 0.5, 1, 2, 4, 5, 5 seconds */
    now += 5.1;
    assert_null(known());
    refuse(question_count - 1, LOOKUP_NOT_FOUND);
    say(question_count - 2, "10.0.0.1", 60);
    assert_string_equal(known(), "10.0.0.1");
}

static void test_N16_changed_servers_are_asked_at_once(void **state)
{
    (void)state;
    learn_first(3600);
    now += 2;
    servers_changed = true;
    assert_string_equal(known(), "10.0.0.1");
    assert_int_equal(question_count, 4);
    now += 2;
    servers_changed = true; /* once more, before the answer */
    known();
    say(2, "10.0.0.2", 3600);
    refuse(3, LOOKUP_NOT_FOUND);
    assert_int_equal(question_count, 4);
    assert_string_equal(known(), "10.0.0.2");
    assert_int_equal(question_count, 6);
}

static void search_for_two_domains(void)
{
    config.dns_timeout = 2;
    search_read_line(&search, "search a.test b.test");
    search_read_line(&search, "options ndots:5");
}

static void test_N21_a_short_name_is_the_first_of_the_list_that_exists(void **state)
{
    struct heard heard = { 0 };

    (void)state;
    search_for_two_domains();
    assert_null(known());
    assert_string_equal(last_asked, HOST ".a.test");
    wait_for_name(&heard);
    refuse(0, LOOKUP_NOT_FOUND);
    assert_int_equal(question_count, 2);
    refuse(1, LOOKUP_NOT_FOUND);
    assert_int_equal(question_count, 4);
    assert_string_equal(last_asked, HOST ".b.test");
    assert_int_equal(heard.times, 0);
    refuse(2, LOOKUP_NOT_FOUND);
    say(3, "2001:db8::7", 60);
    assert_int_equal(heard.times, 1);
    assert_string_equal(known(), "[2001:db8::7]");
    assert_int_equal(question_count, 4);
    assert_int_equal(counted(COUNT_DNS_OK), 1);
    assert_int_equal(counted(COUNT_DNS_NOT_FOUND), 0);
}

/* Or the IPv4 address of one host would come with the IPv6 address of another. */
static void test_N21_a_host_of_one_family_ends_the_search_for_both(void **state)
{
    (void)state;
    search_for_two_domains();
    assert_null(known());
    refuse(1, LOOKUP_NOT_FOUND);
    say(0, "10.0.0.7", 60);
    assert_int_equal(question_count, 2);
    assert_string_equal(known(), "10.0.0.7");
}

static void test_N21_a_search_ends_when_a_server_fails_or_the_time_is_over(void **state)
{
    (void)state;
    search_for_two_domains();
    assert_null(known());
    refuse(0, LOOKUP_NOT_FOUND);
    refuse(1, LOOKUP_TIMEOUT);
    assert_string_equal(known(), "");
    assert_int_equal(question_count, 2);

    now += 10;
    assert_null(known());
    now += 2.1;
    refuse(2, LOOKUP_NOT_FOUND);
    refuse(3, LOOKUP_NOT_FOUND);
    assert_string_equal(known(), "");
    assert_int_equal(question_count, 4);
}

static void test_N21_a_name_that_no_domain_completes_is_asked_for_as_it_is(void **state)
{
    (void)state;
    search_for_two_domains();
    assert_null(known());
    for (size_t i = 0; i < 6; i++)
        refuse(i, LOOKUP_NOT_FOUND);
    assert_int_equal(question_count, 6);
    assert_string_equal(last_asked, HOST);
    assert_string_equal(known(), "");
    assert_int_equal(counted(COUNT_DNS_NOT_FOUND), 1);
}

static void test_the_hosts_file_answers_at_once_and_asks_nobody(void **state)
{
    struct dns_answer said;

    (void)state;
    write_hosts("# 10.0.0.1 primary.test\n10.0.0.2 other Primary.Test # theirs\n"
                "nonsense primary.test\n\n::2 primary.test\n10.0.0.3 primary.test.example");
    assert_true(dns_cache_find(names, HOST, &said));
    assert_int_equal(said.count, 2);
    assert_int_equal(said.addresses[0].any.sa_family, AF_INET);
    assert_int_equal(said.addresses[1].any.sa_family, AF_INET6);
    write_hosts("10.0.0.9 primary.test\n");
    assert_string_equal(known(), "10.0.0.2");
    now += 1.1;
    assert_string_equal(known(), "10.0.0.9");
    assert_int_equal(question_count, 0);
}

static void test_a_hosts_file_that_is_not_there_is_a_fault(void **state)
{
    struct fault fault = { "" };

    (void)state;
    config.hosts = "/nowhere/hosts";
    assert_null(dns_cache_new(loop, &config, slot, &page->shared_dns, &fault));
    assert_string_equal(fault.text,
                        "cannot read the hosts file /nowhere/hosts: No such file or directory");
}

static void test_N18_names_may_go_with_questions_and_waits_open(void **state)
{
    struct heard heard = { 0 };

    (void)state;
    assert_null(known());
    wait_for_name(&heard);
    dns_cache_free(names);
    assert_int_equal(heard.times, 0);
    assert_null(questions[0].done);
    assert_null(questions[1].done);
    names = NULL;
}

static void on_name_ask_again(void *owner, const struct dns_answer *said)
{
    (void)said;
    now += 10;
    assert_null(known());
    wait_for_name(owner);
}

static void test_an_owner_may_wait_again_from_its_callback(void **state)
{
    struct heard heard = { 0 };

    (void)state;
    assert_null(known());
    assert_non_null(dns_cache_wait(names, HOST, on_name_ask_again, &heard));
    refuse(0, LOOKUP_TIMEOUT);
    refuse(1, LOOKUP_TIMEOUT);
    assert_int_equal(heard.times, 0);
    refuse(3, LOOKUP_NOT_FOUND);
    say(2, "10.0.0.1", 60);
    assert_int_equal(heard.times, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_both_families_are_asked_and_ipv4_comes_first),
        TEST(test_one_family_alone_can_be_asked),
        TEST(test_N20_all_who_wait_share_one_question),
        TEST(test_N7_a_silent_family_delays_the_other_only_briefly),
        TEST(test_N8_an_answer_is_kept_for_its_ttl_and_renewed_without_delay),
        TEST(test_N8_the_ttl_has_a_floor_and_a_ceiling),
        TEST(test_N9_one_who_connects_in_vain_may_wait_for_the_newer_answer),
        TEST(test_N2_N3_no_failure_takes_a_good_address_away),
        TEST(test_a_stale_address_serves_for_dns_stale_and_not_longer),
        TEST(test_without_dns_stale_an_old_address_is_not_used),
        TEST(test_a_family_that_is_gone_is_forgotten_and_one_that_failed_is_not),
        TEST(test_N1_N5_failures_are_kept_for_a_growing_while_of_at_most_five_seconds),
        TEST(test_N16_changed_servers_are_asked_at_once),
        TEST(test_N21_a_short_name_is_the_first_of_the_list_that_exists),
        TEST(test_N21_a_host_of_one_family_ends_the_search_for_both),
        TEST(test_N21_a_search_ends_when_a_server_fails_or_the_time_is_over),
        TEST(test_N21_a_name_that_no_domain_completes_is_asked_for_as_it_is),
        TEST(test_the_hosts_file_answers_at_once_and_asks_nobody),
        TEST(test_a_hosts_file_that_is_not_there_is_a_fault),
        TEST(test_N18_names_may_go_with_questions_and_waits_open),
        TEST(test_an_owner_may_wait_again_from_its_callback),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
