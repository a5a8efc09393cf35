/*
 * test_policy.c — which sessions a shadow gets, with a clock and a page of the test's own.
 */
#include "mirror/policy.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/address.h"
#include "config/config.h"
#include "mirror/mirror.h"
#include "shared/page.h"

#define CLIENTS 2000
#define START   1000.0 /* seconds */

static char                 name[] = "canary";
static struct shadow_config shadow;
static struct config        config;
static struct mirror        mirror;
static uint16_t             row;

static int begin(void **state)
{
    (void)state;
    shadow = (struct shadow_config){
        .name = name,
        .sample_by = SAMPLE_BY_SOURCE,
        .max_sessions = 10,
        .connect_timeout = 2,
        .breaker = { .failures = 2, .seconds = 10 },
    };
    config = (struct config){ .shadows = &shadow, .shadow_count = 1 };
    mirror = (struct mirror){ .config = &config, .rows = &row };
    mirror.page = page_new(1);
    assert_non_null(mirror.page);
    assert_true(page_find_row(mirror.page, name, &row));
    mirror.slot = page_take_slot(mirror.page, 1, &row, 1);
    atomic_store(&mirror.page->rows[row].sample, 100);
    atomic_store(&mirror.page->rows[row].begun, START);
    return 0;
}

static int end(void **state)
{
    (void)state;
    page_free(mirror.page);
    return 0;
}

static struct address client_number(uint32_t number)
{
    struct sockaddr_in in = { .sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(0x0a000000 + number) };
    struct address     client;

    address_set(&client, (struct sockaddr *)&in, sizeof in);
    return client;
}

static enum shadow_result choose(double now)
{
    struct address client = client_number(1);

    return policy_for_session(&mirror, 0, &client, now);
}

static size_t count_mirrored(double now)
{
    size_t mirrored = 0;

    for (uint32_t i = 0; i < CLIENTS; i++) {
        struct address client = client_number(i);

        mirrored += policy_for_session(&mirror, 0, &client, now) == RESULT_MIRRORED;
    }
    return mirrored;
}

static enum shadow_result dial(double now)
{
    uint64_t probe;

    return policy_for_dial(&mirror, 0, now, &probe);
}

static void the_ramp_goes_up_in_a_straight_line(void **state)
{
    (void)state;
    shadow.ramp = 100;
    atomic_store(&mirror.page->rows[row].sample, 80);

    assert_int_equal(count_mirrored(START), 0);
    for (int tenth = 1; tenth <= 10; tenth++) {
        double wanted = CLIENTS * 0.8 * tenth / 10;

        assert_in_range(count_mirrored(START + 10 * tenth), (size_t)(wanted * 0.85),
                        (size_t)(wanted * 1.15));
    }
    assert_int_equal(count_mirrored(START + 100), count_mirrored(START + 100000));
}

static void the_knob_decides_and_not_the_file(void **state)
{
    (void)state;
    shadow.sample = 100;
    atomic_store(&mirror.page->rows[row].sample, 0);
    assert_int_equal(choose(START), RESULT_SAMPLED_OUT);
}

static void a_paused_shadow_gets_nothing_and_a_resumed_one_all(void **state)
{
    (void)state;
    atomic_store(&mirror.page->rows[row].is_paused, true);
    assert_int_equal(choose(START), RESULT_PAUSED);
    assert_int_equal(dial(START), RESULT_PAUSED);
    atomic_store(&mirror.page->rows[row].is_paused, false);
    assert_int_equal(choose(START), RESULT_MIRRORED);
    atomic_store(&mirror.page->mirroring_is_off, true);
    assert_int_equal(choose(START), RESULT_PAUSED);
    assert_int_equal(dial(START), RESULT_PAUSED);
}

static void failures_count_when_the_shadow_is_to_blame(void **state)
{
    static const enum shadow_reason innocent[] = { SHADOW_LAG,     SHADOW_MEMORY,
                                                   SHADOW_NO_PORT, SHADOW_NO_DESCRIPTOR,
                                                   SHADOW_DRAIN,   SHADOW_SESSION_ABORTED,
                                                   SHADOW_ADMIN };

    (void)state;
    for (size_t i = 0; i < sizeof innocent / sizeof innocent[0]; i++)
        policy_failed(&mirror, 0, 0, innocent[i], START);
    assert_int_equal(choose(START), RESULT_MIRRORED);
    policy_failed(&mirror, 0, 0, SHADOW_DNS, START);
    policy_failed(&mirror, 0, 0, SHADOW_TLS, START);
    assert_int_equal(choose(START), RESULT_BREAKER);
    assert_int_equal(dial(START), RESULT_BREAKER);
    assert_int_equal(choose(START + 11), RESULT_MIRRORED);
}

static void a_session_that_is_refused_by_the_breaker_costs_no_token(void **state)
{
    (void)state;
    shadow.rate = 1;
    policy_failed(&mirror, 0, 0, SHADOW_REFUSED, START);
    policy_failed(&mirror, 0, 0, SHADOW_REFUSED, START);

    assert_int_equal(dial(START), RESULT_BREAKER);
    assert_int_equal(dial(START + 11), RESULT_MIRRORED); /* the probe */
    assert_int_equal(dial(START + 11), RESULT_BREAKER);
    breaker_reset(&mirror.page->rows[row].breaker);
    assert_int_equal(dial(START + 11), RESULT_RATE);
}

/* A connect, a handshake and a greeting may take their time; then another one may try. */
static void a_probe_that_is_not_heard_of_again_is_followed_by_another(void **state)
{
    (void)state;
    shadow.connect_timeout = 2;
    shadow.greeting = 7;
    policy_failed(&mirror, 0, 0, SHADOW_REFUSED, START);
    policy_failed(&mirror, 0, 0, SHADOW_REFUSED, START);

    assert_int_equal(dial(START + 11), RESULT_MIRRORED);
    assert_int_equal(dial(START + 11 + 10.9), RESULT_BREAKER);
    assert_int_equal(dial(START + 11 + 11.1), RESULT_MIRRORED);
}

static void a_blocking_shadow_has_no_breaker(void **state)
{
    (void)state;
    shadow.overflow = SHADOW_BLOCK;
    for (int i = 0; i < 10; i++)
        policy_failed(&mirror, 0, 0, SHADOW_REFUSED, START);
    assert_int_equal(choose(START), RESULT_MIRRORED);
    assert_int_equal(dial(START), RESULT_MIRRORED);
}

static void at_max_sessions_nothing_more_is_dialled(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < shadow.max_sessions; i++)
        assert_int_equal(dial(START), RESULT_MIRRORED);
    assert_int_equal(choose(START), RESULT_MIRRORED); /* there may be room when it is time */
    assert_int_equal(dial(START), RESULT_LIMIT);
    policy_ended(&mirror, 0);
    assert_int_equal(dial(START), RESULT_MIRRORED);
    assert_int_equal(dial(START), RESULT_LIMIT);
}

static void what_is_refused_for_another_reason_takes_no_place(void **state)
{
    (void)state;
    shadow.rate = 1;
    assert_int_equal(dial(START), RESULT_MIRRORED);
    for (uint64_t i = 0; i < 2 * shadow.max_sessions; i++)
        assert_int_equal(dial(START), RESULT_RATE);
    assert_int_equal(page_sum_shadow(mirror.page, row, SHADOW_COUNT_ACTIVE), 1);
    assert_int_equal(atomic_load(&mirror.page->rows[row].active), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_ramp_goes_up_in_a_straight_line),
        TEST(the_knob_decides_and_not_the_file),
        TEST(a_paused_shadow_gets_nothing_and_a_resumed_one_all),
        TEST(failures_count_when_the_shadow_is_to_blame),
        TEST(a_session_that_is_refused_by_the_breaker_costs_no_token),
        TEST(a_probe_that_is_not_heard_of_again_is_followed_by_another),
        TEST(a_blocking_shadow_has_no_breaker),
        TEST(at_max_sessions_nothing_more_is_dialled),
        TEST(what_is_refused_for_another_reason_takes_no_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
