/*
 * test_runtime_settings.c — settings changed by hand, or by a configuration that says something new.
 */
#include "admin/runtime_settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "config/config.h"
#include "shared/page.h"

static struct page *page;
static uint16_t     row;
static double       now = 1000;

static int make_page(void **state)
{
    (void)state;
    page = page_new(1);
    assert_non_null(page);
    assert_true(page_find_row(page, "canary", &row));
    return 0;
}

static int drop_page(void **state)
{
    (void)state;
    page_free(page);
    return 0;
}

static void offer(double sample)
{
    const struct shadow_config config = { .sample = sample };

    runtime_offer(page, row, &config, now);
}

static void each_turn_of_a_knob_raises_the_epoch(void **state)
{
    uint64_t epoch = atomic_load(&page->epoch);

    (void)state;
    runtime_pause(page, row, true);
    assert_int_equal(atomic_load(&page->epoch), epoch + 1);
    runtime_set_sample(page, row, 12.5);
    assert_int_equal(atomic_load(&page->epoch), epoch + 2);
    runtime_set_mirroring(page, false, "USR2");
    assert_int_equal(atomic_load(&page->epoch), epoch + 3);

    assert_true(runtime_is_paused(page, row));
    assert_true(runtime_sample(page, row) == 12.5);
    assert_false(runtime_mirroring_is_on(page));
}

static void a_knob_turned_by_hand_survives_a_reload_of_the_same_file(void **state)
{
    (void)state;
    offer(100);
    runtime_set_sample(page, row, 5);
    runtime_pause(page, row, true);

    offer(100);

    assert_true(runtime_sample(page, row) == 5);
    assert_true(runtime_is_paused(page, row));
}

static void a_file_that_says_something_new_wins(void **state)
{
    (void)state;
    offer(100);
    runtime_set_sample(page, row, 5);

    offer(50);

    assert_true(runtime_sample(page, row) == 50);
}

static void mirroring_is_on_at_first_and_each_shadow_as_its_file_says(void **state)
{
    (void)state;
    offer(0);
    assert_true(runtime_mirroring_is_on(page));
    assert_false(runtime_is_paused(page, row));
    assert_true(runtime_sample(page, row) == 0);
}

static void a_shadows_time_counts_from_the_file_that_says_it(void **state)
{
    struct shadow_config config = { .duration = 60, .sample = 100 };

    (void)state;
    runtime_offer(page, row, &config, now);
    runtime_tick(page, now + 59);
    assert_false(runtime_is_paused(page, row));

    runtime_offer(page, row, &config, now + 50); /* says nothing new */
    runtime_tick(page, now + 60);
    assert_true(runtime_is_paused(page, row));

    runtime_pause(page, row, false); /* by hand: it stays on */
    runtime_tick(page, now + 1000);
    assert_false(runtime_is_paused(page, row));

    config.duration = 5;
    runtime_offer(page, row, &config, now + 2000);
    runtime_tick(page, now + 2004);
    assert_false(runtime_is_paused(page, row));
    runtime_tick(page, now + 2005);
    assert_true(runtime_is_paused(page, row));
}

static void offer_time(double duration, double ramp)
{
    const struct shadow_config config = { .duration = duration, .ramp = ramp, .sample = 100 };

    runtime_offer(page, row, &config, now);
}

static void a_shadow_whose_time_was_over_goes_on_when_its_file_gives_it_another(void **state)
{
    (void)state;
    offer_time(60, 0);
    runtime_tick(page, now + 60);
    assert_true(runtime_is_paused(page, row));

    offer_time(120, 0);
    assert_false(runtime_is_paused(page, row));
    runtime_tick(page, now + 120);
    assert_true(runtime_is_paused(page, row));

    offer_time(0, 0);
    assert_false(runtime_is_paused(page, row));
}

static void a_pause_by_hand_survives_a_new_time(void **state)
{
    (void)state;
    offer_time(60, 0);
    runtime_pause(page, row, true);
    runtime_tick(page, now + 60);

    offer_time(120, 0);

    assert_true(runtime_is_paused(page, row));
    runtime_pause(page, row, false);
    runtime_tick(page, now + 120); /* its time is over, and then somebody pauses it, too */
    runtime_pause(page, row, true);
    offer_time(240, 0);

    assert_true(runtime_is_paused(page, row));
}

static void ramp_and_time_begin_anew_each_for_itself(void **state)
{
    const double began = now;

    (void)state;
    offer_time(60, 10);
    now += 30;
    offer_time(60, 20); /* a new ramp gives no more time */
    runtime_tick(page, began + 60);
    assert_true(runtime_is_paused(page, row));

    now += 30;
    offer_time(90, 20); /* and a new time no new ramp */
    assert_true(atomic_load(&page->rows[row].begun) == began + 30);
    now = began;
}

static void a_file_without_a_breaker_closes_the_one_that_is_open(void **state)
{
    struct breaker            *breaker = &page->rows[row].breaker;
    const struct breaker_terms terms = { .failures = 1, .seconds = 10 };
    struct shadow_config       config = { .breaker = { .failures = 1, .seconds = 10 } };

    (void)state;
    breaker_failed(breaker, &terms, 0, &(struct breaker_failure){ 0, now, 0 });
    runtime_offer(page, row, &config, now);
    assert_int_equal(breaker_state(breaker), BREAKER_OPEN);
    config.breaker.failures = 0;
    runtime_offer(page, row, &config, now);
    assert_int_equal(breaker_state(breaker), BREAKER_CLOSED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_page, drop_page)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_turn_of_a_knob_raises_the_epoch),
        TEST(a_knob_turned_by_hand_survives_a_reload_of_the_same_file),
        TEST(a_file_that_says_something_new_wins),
        TEST(a_shadows_time_counts_from_the_file_that_says_it),
        TEST(a_shadow_whose_time_was_over_goes_on_when_its_file_gives_it_another),
        TEST(a_pause_by_hand_survives_a_new_time),
        TEST(ramp_and_time_begin_anew_each_for_itself),
        TEST(a_file_without_a_breaker_closes_the_one_that_is_open),
        TEST(mirroring_is_on_at_first_and_each_shadow_as_its_file_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
