/*
 * test_histogram.c — times go into the right bucket, and percentiles come back out.
 */
#include "shared/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/cell.h"

static struct histogram_sum sum_of(const struct histogram *histogram)
{
    struct histogram_sum sum = { 0 };

    histogram_add(&sum, histogram);
    return sum;
}

static void test_the_bounds_rise(void **state)
{
    (void)state;
    for (size_t i = 1; i < HISTOGRAM_BOUNDS; i++)
        assert_true(histogram_bound(i) > histogram_bound(i - 1));
    assert_true(histogram_bound(0) > 0);
}

static void test_a_time_is_in_the_first_bucket_that_holds_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
        struct histogram histogram = { 0 };

        histogram_note(&histogram, histogram_bound(i));
        assert_int_equal(cell_get(&histogram.buckets[i]), 1);
        histogram_note(&histogram, histogram_bound(i) * 1.001);
        assert_int_equal(cell_get(&histogram.buckets[i + 1]), 1);
    }
}

static void test_nothing_and_a_clock_that_stands_still_are_in_the_first_bucket(void **state)
{
    struct histogram histogram = { 0 };

    (void)state;
    histogram_note(&histogram, 0);
    histogram_note(&histogram, -0.5);
    assert_int_equal(cell_get(&histogram.buckets[0]), 2);
    assert_int_equal(cell_get(&histogram.microseconds), 0);
}

static void test_the_sum_is_of_all_times(void **state)
{
    struct histogram histogram = { 0 };

    (void)state;
    histogram_note(&histogram, 0.5);
    histogram_note(&histogram, 100);
    struct histogram_sum sum = sum_of(&histogram);
    assert_int_equal(sum.microseconds, 100500000);
    assert_int_equal(histogram_count(&sum), 2);
}

static void test_percentiles_lie_in_the_bucket_of_their_times(void **state)
{
    struct histogram histogram = { 0 };

    (void)state;
    for (int i = 0; i < 90; i++)
        histogram_note(&histogram, 0.002);
    for (int i = 0; i < 10; i++)
        histogram_note(&histogram, 0.3);
    struct histogram_sum sum = sum_of(&histogram);
    assert_true(histogram_percentile(&sum, 50) > 0.001);
    assert_true(histogram_percentile(&sum, 50) < 0.0025);
    assert_true(histogram_percentile(&sum, 90) <= 0.0025);
    assert_true(histogram_percentile(&sum, 99) > 0.25);
    assert_true(histogram_percentile(&sum, 99) <= 0.5);
    assert_true(histogram_percentile(&sum, 100) <= 0.5);
}

static void test_without_times_there_is_no_percentile(void **state)
{
    struct histogram_sum none = { 0 };

    (void)state;
    assert_true(histogram_percentile(&none, 50) < 0);
}

static void test_beyond_the_last_bound_a_percentile_is_that_bound(void **state)
{
    struct histogram histogram = { 0 };

    (void)state;
    histogram_note(&histogram, 3600);
    struct histogram_sum sum = sum_of(&histogram);
    assert_true(histogram_percentile(&sum, 50) == histogram_bound(HISTOGRAM_BOUNDS - 1));
}

static void test_what_is_moved_is_added_there_and_gone_here(void **state)
{
    struct histogram from = { 0 };
    struct histogram to = { 0 };

    (void)state;
    histogram_note(&from, 0.002);
    histogram_note(&to, 0.002);
    histogram_note(&to, 5);
    histogram_move(&to, &from);
    struct histogram_sum moved = sum_of(&to);
    struct histogram_sum left = sum_of(&from);
    assert_int_equal(histogram_count(&moved), 3);
    assert_int_equal(moved.microseconds, 5004000);
    assert_int_equal(histogram_count(&left), 0);
    assert_int_equal(left.microseconds, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_bounds_rise),
        cmocka_unit_test(test_a_time_is_in_the_first_bucket_that_holds_it),
        cmocka_unit_test(test_nothing_and_a_clock_that_stands_still_are_in_the_first_bucket),
        cmocka_unit_test(test_the_sum_is_of_all_times),
        cmocka_unit_test(test_percentiles_lie_in_the_bucket_of_their_times),
        cmocka_unit_test(test_without_times_there_is_no_percentile),
        cmocka_unit_test(test_beyond_the_last_bound_a_percentile_is_that_bound),
        cmocka_unit_test(test_what_is_moved_is_added_there_and_gone_here),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
