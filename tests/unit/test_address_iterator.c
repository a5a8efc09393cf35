/*
 * test_address_iterator.c — which address comes next, with names that the test knows.
 */
#include "dial/address_iterator.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dns/dns_cache.h"

static struct address_iterator_settings settings;
static struct target_config       targets[3];
static struct address             original;
static struct address_iterator          iterator;

static enum failure failure; /* the latest */
static unsigned     called;  /* on_more() */

/* --- what is known of all names ---------------------------------------------------------- */

static struct dns_answer known;
static bool               is_known;
static dns_done         *done; /* whom to tell; NULL: nobody waits */
static void              *waiting;

bool              __wrap_dns_cache_find(struct dns_cache *, const char *, struct dns_answer *);
struct dns_wait *__wrap_dns_cache_wait(struct dns_cache *, const char *, dns_done *, void *);
void              __wrap_dns_wait_cancel(struct dns_wait *);

bool __wrap_dns_cache_find(struct dns_cache *names, const char *host, struct dns_answer *answer)
{
    (void)names;
    (void)host;
    *answer = known;
    return is_known;
}

struct dns_wait *__wrap_dns_cache_wait(struct dns_cache *names, const char *host, dns_done *tell,
                                       void *owner)
{
    static int wait;

    (void)names;
    (void)host;
    done = tell;
    waiting = owner;
    return (struct dns_wait *)&wait;
}

void __wrap_dns_wait_cancel(struct dns_wait *wait)
{
    if (wait != NULL)
        done = NULL;
}

/* From now on the names have these last digits; "": none. */
static void learn(const char *digits)
{
    known = (struct dns_answer){ .count = strlen(digits), .why_not = "no such name" };
    is_known = true;
    for (size_t i = 0; i < known.count; i++) {
        char host[20];

        snprintf(host, sizeof host, "10.0.0.%c", digits[i]);
        assert_true(address_parse(&known.addresses[i], host, 0));
    }
}

static void tell(void)
{
    dns_done *whom = done;

    assert_non_null(whom);
    done = NULL;
    whom(waiting, &known);
}

/* --- the candidates ---------------------------------------------------------------------- */

static void on_failure(void *owner, enum failure why, const char *text)
{
    assert_ptr_equal(owner, &iterator);
    assert_true(text[0] != '\0');
    failure = why;
}

static void on_more(void *owner)
{
    assert_ptr_equal(owner, &iterator);
    called++;
}

static int set_up(void **state)
{
    (void)state;
    settings = (struct address_iterator_settings){ .family = DNS_ANY };
    original = (struct address){ 0 };
    failure = FAILURE_NONE;
    called = 0;
    done = NULL;
    is_known = false;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    address_iterator_end(&iterator);
    assert_null(done);
    return 0;
}

static void start(const char *first, const char *second)
{
    const char                   *texts[] = { first, second };
    const struct address_iterator_terms terms = {
        .settings = &settings,
        .targets = targets,
        .target_count = second != NULL ? 2 : 1,
        .original = &original,
        .on_failure = on_failure,
        .on_more = on_more,
        .owner = &iterator,
    };

    for (size_t i = 0; i < terms.target_count; i++)
        assert_true(endpoint_parse(&targets[i].endpoint, texts[i], ENDPOINT_PRIMARY, NULL));
    address_iterator_start(&iterator, &terms);
}

static void expect_next(const char *address)
{
    char text[ADDRESS_TEXT];

    assert_int_equal(address_iterator_next(&iterator), NEXT_ADDRESS_FOUND);
    address_print(address_iterator_address(&iterator), text);
    assert_string_equal(text, address);
}

static void expect_none(void)
{
    assert_int_equal(address_iterator_next(&iterator), NEXT_ADDRESS_NONE);
}

static void test_targets_come_in_order_and_of_each_every_address(void **state)
{
    (void)state;
    learn("21");
    start("primary.test:80", "unix:/run/spare");
    expect_next("10.0.0.2:80");
    assert_ptr_equal(address_iterator_target(&iterator), &targets[0]);
    expect_next("10.0.0.1:80");
    expect_next("unix:/run/spare");
    assert_ptr_equal(address_iterator_target(&iterator), &targets[1]);
    expect_none();
    assert_int_equal(failure, FAILURE_NONE);
}

static void test_localhost_is_both_families_unless_one_is_not_wanted(void **state)
{
    (void)state;
    start("localhost:80", NULL);
    expect_next("127.0.0.1:80");
    expect_next("[::1]:80");
    expect_none();
    address_iterator_end(&iterator);

    settings.family = DNS_IPV6;
    start("localhost:80", NULL);
    expect_next("[::1]:80");
    expect_none();
}

static void test_what_failed_lately_comes_last_for_the_next_one(void **state)
{
    (void)state;
    learn("12");
    start("primary.test:80", NULL);
    expect_next("10.0.0.1:80");
    address_iterator_back_off(&iterator);
    address_iterator_end(&iterator);

    start("primary.test:80", NULL);
    expect_next("10.0.0.2:80");
    expect_next("10.0.0.1:80");
    address_iterator_mark_reachable(&iterator);
    address_iterator_end(&iterator);

    start("primary.test:80", NULL);
    expect_next("10.0.0.1:80");
}

static void test_a_name_that_does_not_resolve_is_passed_over_with_its_reason(void **state)
{
    (void)state;
    learn("");
    start("gone.test:80", "10.0.0.9:80");
    expect_next("10.0.0.9:80");
    assert_int_equal(failure, FAILURE_NAME);
    expect_none();
}

static void test_an_unknown_name_is_waited_for(void **state)
{
    (void)state;
    start("primary.test:80", NULL);
    assert_int_equal(address_iterator_next(&iterator), NEXT_ADDRESS_AWAITED);
    assert_int_equal(address_iterator_next(&iterator), NEXT_ADDRESS_AWAITED);
    assert_int_equal(called, 0);
    learn("3");
    tell();
    assert_int_equal(called, 1);
    expect_next("10.0.0.3:80");
    expect_none();
}

/* The only address has failed, and a lookup goes on. */
static void await_a_newer_answer(void)
{
    learn("1");
    known.renewing = true;
    start("primary.test:80", NULL);
    expect_next("10.0.0.1:80");
    assert_int_equal(address_iterator_next(&iterator), NEXT_ADDRESS_AWAITED);
}

static void test_when_old_addresses_have_failed_a_newer_answer_is_tried_once(void **state)
{
    (void)state;
    await_a_newer_answer();
    learn("12");
    tell();
    expect_next("10.0.0.2:80"); /* the other one was tried */
    expect_none();
}

static void test_a_newer_answer_without_addresses_changes_nothing(void **state)
{
    (void)state;
    await_a_newer_answer();
    learn("");
    tell();
    expect_none();
    assert_int_equal(failure, FAILURE_NONE);
}

static void test_the_original_destination_keeps_its_port(void **state)
{
    (void)state;
    assert_true(address_parse(&original, "192.0.2.1", 8443));
    start("original-dst", NULL);
    expect_next("192.0.2.1:8443");
    expect_none();
}

static void test_an_original_destination_that_is_not_known_is_a_failure(void **state)
{
    (void)state;
    start("original-dst", NULL);
    expect_none();
    assert_int_equal(failure, FAILURE_LOCAL);
}

static void test_whoever_gives_up_is_not_told_any_more(void **state)
{
    (void)state;
    start("primary.test:80", NULL);
    assert_int_equal(address_iterator_next(&iterator), NEXT_ADDRESS_AWAITED);
    address_iterator_end(&iterator);
    assert_null(done);
    iterator = (struct address_iterator){ .count = 0 };
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_targets_come_in_order_and_of_each_every_address),
        TEST(test_localhost_is_both_families_unless_one_is_not_wanted),
        TEST(test_what_failed_lately_comes_last_for_the_next_one),
        TEST(test_a_name_that_does_not_resolve_is_passed_over_with_its_reason),
        TEST(test_an_unknown_name_is_waited_for),
        TEST(test_when_old_addresses_have_failed_a_newer_answer_is_tried_once),
        TEST(test_a_newer_answer_without_addresses_changes_nothing),
        TEST(test_the_original_destination_keeps_its_port),
        TEST(test_an_original_destination_that_is_not_known_is_a_failure),
        TEST(test_whoever_gives_up_is_not_told_any_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
