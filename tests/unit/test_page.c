/*
 * test_page.c — the shared page: sums over the workers, and books that balance whatever happened.
 */
#include "shared/page.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin/metrics.h"

#define SLOTS 3

static struct page       *page;
static const char *const  names[] = { "canary", "odd\"name\\" };
static uint16_t           rows[2];

static struct slot *take_slot(void)
{
    return page_take_slot(page, 1, rows, 2);
}

static int make_page(void **state)
{
    (void)state;
    page = page_new(SLOTS);
    assert_non_null(page);
    page->generation = 1;
    for (size_t i = 0; i < 2; i++)
        assert_true(page_find_row(page, names[i], &rows[i]));
    return 0;
}

static int drop_page(void **state)
{
    (void)state;
    page_free(page);
    page = NULL;
    return 0;
}

static uint64_t sum_closed(void)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < SESSION_REASON_COUNT; i++)
        sum += page_sum_closed(page, (enum session_reason)i);
    return sum;
}

static uint64_t sum_results(size_t shadow)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < SHADOW_RESULT_COUNT; i++)
        sum += page_sum_result(page, shadow, (enum shadow_result)i);
    return sum;
}

static void assert_books_balance(void)
{
    assert_int_equal(page_sum(page, COUNT_SESSIONS), sum_closed());
    for (size_t i = 0; i < page->row_count; i++) {
        assert_int_equal(page_sum_shadow(page, i, SHADOW_COUNT_OFFERED),
                         page_sum_shadow(page, i, SHADOW_COUNT_SENT) +
                             page_sum_shadow(page, i, SHADOW_COUNT_LOST) +
                             page_sum_shadow(page, i, SHADOW_COUNT_SKIPPED) +
                             page_sum_shadow(page, i, SHADOW_COUNT_BUFFERED));
        assert_int_equal(sum_results(i), sum_closed());
    }
}

/* Ten sessions, seven over; shadow 0 has a backlog, shadow 1 had two sessions sampled out. */
static void fill_slot(struct slot *slot)
{
    struct shadow_cells *shadow = slot->shadows;

    cell_add(&slot->counts[COUNT_SESSIONS], 10);
    cell_add(&slot->counts[COUNT_SESSIONS_ACTIVE], 3);
    cell_add(&slot->counts[COUNT_CLIENTS_OPEN], 2);
    cell_add(&slot->counts[COUNT_BUFFERED_BYTES], 5000);
    cell_add(&slot->counts[COUNT_REQUEST_BYTES], 700);
    cell_add(&slot->closed[SESSION_CLIENT_FIN], 6);
    cell_add(&slot->closed[SESSION_PRIMARY_RST], 1);
    cell_add(&shadow[0].counts[SHADOW_COUNT_ACTIVE], 3);
    cell_add(&shadow[0].counts[SHADOW_COUNT_OFFERED], 700);
    cell_add(&shadow[0].counts[SHADOW_COUNT_SENT], 400);
    cell_add(&shadow[0].counts[SHADOW_COUNT_LOST], 50);
    cell_add(&shadow[0].counts[SHADOW_COUNT_BUFFERED], 250);
    cell_add(&shadow[0].results[RESULT_MIRRORED], 7);
    cell_add(&shadow[0].reasons[SHADOW_FIN], 7);
    cell_add(&shadow[1].counts[SHADOW_COUNT_OFFERED], 700);
    cell_add(&shadow[1].counts[SHADOW_COUNT_SKIPPED], 700);
    cell_add(&shadow[1].results[RESULT_SAMPLED_OUT], 7);
    cell_add(&shadow[1].decided[RESULT_SAMPLED_OUT], 2);
    atomic_fetch_add(&page->clients_open, 2);
}

static void test_a_sum_goes_over_all_workers(void **state)
{
    (void)state;
    fill_slot(take_slot());
    fill_slot(take_slot());
    cell_add(&page->slots[0].counts[COUNT_SESSIONS], 1);
    assert_int_equal(page_sum(page, COUNT_SESSIONS), 21);
    assert_int_equal(page_sum_closed(page, SESSION_CLIENT_FIN), 12);
    assert_int_equal(page_sum_shadow(page, 0, SHADOW_COUNT_SENT), 800);
    assert_int_equal(page_sum_result(page, 1, RESULT_SAMPLED_OUT), 14);
    assert_int_equal(page_sum_reason(page, 0, SHADOW_FIN), 14);
}

static void test_what_a_worker_counts_is_seen_by_the_supervisor(void **state)
{
    struct slot *slot = take_slot();
    int status = 0;

    (void)state;
    pid_t worker = fork();
    if (worker == 0) {
        fill_slot(slot);
        _exit(0);
    }
    waitpid(worker, &status, 0);
    assert_int_equal(page_sum(page, COUNT_SESSIONS), 10);
    assert_int_equal(page->clients_open, 2);
}

static void test_slots_are_given_until_none_is_free(void **state)
{
    struct slot *taken[SLOTS];

    (void)state;
    for (size_t i = 0; i < SLOTS; i++) {
        taken[i] = take_slot();
        assert_non_null(taken[i]);
        assert_ptr_not_equal(taken[i], &page->slots[0]);
        assert_int_equal(taken[i]->state, WORKER_STARTING);
    }
    assert_null(take_slot());
    page_retire_slot(page, taken[1]);
    assert_ptr_equal(take_slot(), taken[1]);
}

static void test_the_books_balance_after_a_worker_was_killed(void **state)
{
    struct slot *slot = take_slot();

    (void)state;
    fill_slot(slot);
    page_retire_slot(page, slot);
    assert_books_balance();
    assert_int_equal(page_sum_closed(page, SESSION_INTERNAL), 3);
    assert_int_equal(page_sum_result(page, 0, RESULT_DETACHED), 3);
    assert_int_equal(page_sum_reason(page, 0, SHADOW_IO_ERROR), 3);
    assert_int_equal(page_sum_reason(page, 0, SHADOW_FIN), 7);
    assert_int_equal(page_sum_result(page, 1, RESULT_DETACHED), 0);
    assert_int_equal(page_sum_result(page, 1, RESULT_SAMPLED_OUT), 9);
    assert_int_equal(page_sum_result(page, 1, RESULT_NO_DATA), 1);
    assert_int_equal(page_sum_shadow(page, 0, SHADOW_COUNT_LOST), 300);
    assert_int_equal(page_sum_shadow(page, 1, SHADOW_COUNT_LOST), 0);
}

static uint64_t sum_reasons(size_t shadow)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < SHADOW_REASON_COUNT; i++)
        sum += page_sum_reason(page, shadow, (enum shadow_reason)i);
    return sum;
}

/* All sessions are fine, except that the last event was written down in part. */
static void kill_in_the_middle(void (*write_part)(struct shadow_cells *))
{
    struct slot *slot = take_slot();
    struct shadow_cells *shadow = &slot->shadows[rows[0]];

    cell_add(&slot->counts[COUNT_SESSIONS], 10);
    cell_add(&slot->closed[SESSION_CLIENT_FIN], 9);
    cell_add(&shadow->results[RESULT_MIRRORED], 9);
    cell_add(&shadow->reasons[SHADOW_FIN], 9);
    write_part(shadow);
    page_retire_slot(page, slot);

    assert_int_equal(sum_closed(), 10);
    assert_int_equal(sum_results(rows[0]), 10);
    assert_int_equal(sum_reasons(rows[0]), page_sum_result(page, rows[0], RESULT_MIRRORED) +
                                               page_sum_result(page, rows[0], RESULT_DETACHED));
}

static void write_the_result_of_a_decided_one(struct shadow_cells *shadow)
{
    cell_add(&shadow->reasons[SHADOW_FIN], 1);
    cell_add(&shadow->decided[RESULT_MIRRORED], 1);
    cell_add(&shadow->results[RESULT_MIRRORED], 1);
}

static void write_the_reason_alone(struct shadow_cells *shadow)
{
    cell_add(&shadow->reasons[SHADOW_LAG], 1);
}

static void write_the_reason_of_a_live_one(struct shadow_cells *shadow)
{
    cell_add(&shadow->counts[SHADOW_COUNT_ACTIVE], 1);
    cell_add(&shadow->reasons[SHADOW_LAG], 1);
}

static void write_the_decision_of_a_live_one(struct shadow_cells *shadow)
{
    cell_add(&shadow->counts[SHADOW_COUNT_ACTIVE], 1);
    cell_add(&shadow->decided[RESULT_DETACHED], 1);
}

static void test_the_books_balance_wherever_a_worker_was_killed(void **state)
{
    static void (*const parts[])(struct shadow_cells *) = {
        write_the_result_of_a_decided_one,
        write_the_reason_alone,
        write_the_reason_of_a_live_one,
        write_the_decision_of_a_live_one,
    };

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        drop_page(state);
        make_page(state);
        kill_in_the_middle(parts[i]);
    }
}

static void test_a_dead_worker_leaves_no_gauge(void **state)
{
    struct slot *slot = take_slot();

    (void)state;
    fill_slot(slot);
    page_retire_slot(page, slot);
    assert_int_equal(page_sum(page, COUNT_SESSIONS_ACTIVE), 0);
    assert_int_equal(page_sum(page, COUNT_CLIENTS_OPEN), 0);
    assert_int_equal(page_sum(page, COUNT_BUFFERED_BYTES), 0);
    assert_int_equal(page_sum_shadow(page, 0, SHADOW_COUNT_ACTIVE), 0);
    assert_int_equal(page_sum_shadow(page, 0, SHADOW_COUNT_BUFFERED), 0);
    assert_int_equal(page->clients_open, 0);
    assert_int_equal(page_sum(page, COUNT_REQUEST_BYTES), 700);
}

static void test_retiring_twice_and_with_neighbours_keeps_every_number(void **state)
{
    struct slot *neighbour = take_slot();

    (void)state;
    cell_add(&neighbour->counts[COUNT_CLIENTS_OPEN], 1);
    atomic_fetch_add(&page->clients_open, 1);
    for (int i = 0; i < 4; i++) {
        struct slot *slot = take_slot();
        fill_slot(slot);
        page_retire_slot(page, slot);
        page_retire_slot(page, slot);
    }
    assert_books_balance();
    assert_int_equal(page_sum(page, COUNT_SESSIONS), 40);
    assert_int_equal(page->clients_open, 1);
}

static void test_clients_never_fall_below_none(void **state)
{
    struct slot *slot = take_slot();

    (void)state;
    cell_add(&slot->counts[COUNT_CLIENTS_OPEN], 1); /* killed before it told the page */
    page_retire_slot(page, slot);
    assert_int_equal(page->clients_open, 0);
}

static void test_parts_are_taken_up_to_the_most_over_all_workers(void **state)
{
    struct slot      *one = take_slot();
    struct slot      *two = take_slot();
    _Atomic uint64_t *mine = &one->shadows[0].counts[SHADOW_COUNT_ACTIVE];
    _Atomic uint64_t *theirs = &two->shadows[0].counts[SHADOW_COUNT_ACTIVE];
    _Atomic uint64_t *all = &page->rows[0].active;

    (void)state;
    page->row_count = 1;
    assert_true(part_take(all, mine, 3));
    assert_true(part_take(all, theirs, 3));
    assert_true(part_take(all, theirs, 3));
    assert_false(part_take(all, mine, 3));
    part_give_back(all, theirs);
    assert_true(part_take(all, mine, 3));
    page_retire_slot(page, one);
    assert_int_equal(atomic_load(all), 1);
    assert_int_equal(page_sum_shadow(page, 0, SHADOW_COUNT_ACTIVE), 1);
}

/* Rounds that the worker has begun, told to its parent. */
static _Atomic unsigned *rounds;

/* It counts as fast as it can until it is killed, which may be between the two numbers. */
_Noreturn static void take_and_give_for_ever(struct slot *slot)
{
    _Atomic uint64_t *memory = &slot->counts[COUNT_SHADOW_MEMORY];

    for (;;) {
        atomic_fetch_add(rounds, 1);
        part_take(&page->clients_open, &slot->counts[COUNT_CLIENTS_OPEN], 100);
        part_change(&page->shadow_memory, memory, 0, 1000);
        part_give_back(&page->clients_open, &slot->counts[COUNT_CLIENTS_OPEN]);
        part_change(&page->shadow_memory, memory, 1000, 0);
    }
}

static void test_wherever_a_worker_is_killed_the_others_parts_remain(void **state)
{
    struct slot *neighbour = take_slot();

    (void)state;
    rounds = mmap(NULL, sizeof *rounds, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(rounds, MAP_FAILED);
    part_take(&page->clients_open, &neighbour->counts[COUNT_CLIENTS_OPEN], 100);
    part_change(&page->shadow_memory, &neighbour->counts[COUNT_SHADOW_MEMORY], 0, 50);
    for (unsigned i = 0; i < 50; i++) {
        struct slot *slot = take_slot();

        atomic_store(rounds, 0);
        pid_t worker = fork();
        if (worker == 0)
            take_and_give_for_ever(slot);
        while (atomic_load(rounds) <= 97 * i) /* another moment each time */
            continue;
        kill(worker, SIGKILL);
        waitpid(worker, NULL, 0);
        page_retire_slot(page, slot);
        assert_in_range(page->clients_open, 1, 2 + i);
        assert_in_range(page->shadow_memory, 50, 1050 + 1000 * i);
    }
    part_give_back(&page->clients_open, &neighbour->counts[COUNT_CLIENTS_OPEN]);
    assert_in_range(page->clients_open, 0, 50);
    munmap((void *)rounds, sizeof *rounds);
}

/* One time on each leg, and one more towards the second shadow. */
static void note_times(struct slot *slot)
{
    for (size_t leg = 0; leg < LEG_SHADOW; leg++)
        histogram_note(&slot->times[leg][TIMING_CONNECT], 0.002);
    histogram_note(&slot->shadows[0].times[TIMING_CONNECT], 0.03);
    histogram_note(&slot->shadows[1].times[TIMING_CONNECT], 0.03);
    histogram_note(&slot->shadows[1].times[TIMING_CONNECT], 0.3);
}

static uint64_t count_times(enum leg leg)
{
    struct histogram_sum sum = page_sum_times(page, leg, TIMING_CONNECT);

    return histogram_count(&sum);
}

static void test_times_are_summed_over_workers_that_are_gone_too(void **state)
{
    struct slot *gone = take_slot();

    (void)state;
    note_times(gone);
    page_retire_slot(page, gone);
    note_times(take_slot());
    assert_int_equal(count_times(LEG_CLIENT), 2);
    assert_int_equal(count_times(LEG_PRIMARY), 2);
    assert_int_equal(count_times(LEG_SHADOW), 6);
    struct histogram_sum second = page_sum_shadow_times(page, 1, TIMING_CONNECT);
    assert_int_equal(histogram_count(&second), 4);
    assert_int_equal(second.microseconds, 660000);
}

static void test_the_most_lag_and_the_newest_error_outlive_their_workers(void **state)
{
    struct slot *gone = take_slot();
    struct slot *alive = take_slot();
    enum shadow_reason reason;

    (void)state;
    assert_true(page_last_error(page, 0, &reason) == 0);
    cell_raise(&gone->shadows[0].max_lag, 5000);
    cell_raise(&alive->shadows[0].max_lag, 300);
    page_note_error(&gone->shadows[0], SHADOW_DNS);
    double first = page_last_error(page, 0, &reason);
    assert_int_equal(reason, SHADOW_DNS);
    assert_true(first >= page->started - 1 && first < page->started + 3600);
    page_retire_slot(page, gone);
    assert_int_equal(page_max_lag(page, 0), 5000);
    assert_true(page_last_error(page, 0, &reason) == first);
    do
        page_note_error(&alive->shadows[0], SHADOW_LAG);
    while (page_last_error(page, 0, &reason) == first); /* times are in milliseconds */
    assert_true(page_last_error(page, 0, &reason) > first);
    assert_int_equal(reason, SHADOW_LAG);
    assert_int_equal(page_max_lag(page, 1), 0);
}

/* Answers the metrics page; the caller frees it. */
static char *metrics(void)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);

    assert_non_null(out);
    metrics_print(page, out);
    fclose(out);
    return text;
}

static void test_every_metric_has_its_sum_and_its_labels(void **state)
{
    static const char *const expected[] = {
        "\ndoppel_bytes_total{direction=\"request\"} 700\n",
        "\ndoppel_sessions_closed_total{reason=\"client_fin\"} 6\n",
        "\ndoppel_sessions_closed_total{reason=\"internal\"} 0\n",
        "\ndoppel_shadow_bytes_total{shadow=\"canary\",fate=\"sent\"} 400\n",
        "\ndoppel_shadow_bytes_total{shadow=\"odd\\\"name\\\\\",fate=\"skipped\"} 700\n",
        "\ndoppel_shadow_active{shadow=\"canary\"} 3\n",
        "\ndoppel_shadow_sessions_total{shadow=\"canary\",result=\"mirrored\"} 7\n",
        "\ndoppel_shadow_closed_total{shadow=\"canary\",reason=\"fin\"} 7\n",
        "\ndoppel_connect_seconds_bucket{leg=\"primary\",le=\"0.001\"} 0\n",
        "\ndoppel_connect_seconds_bucket{leg=\"primary\",le=\"0.0025\"} 1\n",
        "\ndoppel_connect_seconds_bucket{leg=\"shadow\",le=\"0.1\"} 2\n",
        "\ndoppel_connect_seconds_bucket{leg=\"shadow\",le=\"+Inf\"} 3\n",
        "\ndoppel_connect_seconds_sum{leg=\"shadow\"} 0.360000\n",
        "\ndoppel_connect_seconds_count{leg=\"shadow\"} 3\n",
        "\ndoppel_first_byte_seconds_count{leg=\"client\"} 0\n",
        "\ndoppel_workers{generation=\"1\"} 1\n",
        "\nprocess_open_fds ",
        "\nprocess_cpu_seconds_total ",
    };
    struct slot *slot = take_slot();

    (void)state;
    fill_slot(slot);
    note_times(slot);
    atomic_store(&slot->state, WORKER_READY);
    atomic_store(&slot->pid, getpid());
    char *text = metrics();
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        assert_non_null(strstr(text, expected[i]));
    assert_int_equal(text[strlen(text) - 1], '\n');
    free(text);
}

/* The format's rule: one HELP and one TYPE, then all lines of that metric and no other's. */
static void test_the_lines_of_a_metric_stand_under_their_one_head(void **state)
{
    char current[100] = "";
    bool is_histogram = false;
    char *rest = NULL;
    char *text = metrics();
    char *copy = strdup(text);

    (void)state;
    for (char *row = strtok_r(copy, "\n", &rest); row; row = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(row, "# HELP ", 7) == 0) {
            char head[110];
            snprintf(current, sizeof current, "%.*s", (int)strcspn(row + 7, " "), row + 7);
            snprintf(head, sizeof head, "# HELP %s ", current);
            char *first = strstr(text, head);
            assert_null(strstr(first + 1, head));
            assert_true(strlen(row) > strlen(head));
            row = strtok_r(NULL, "\n", &rest);
            assert_int_equal(strncmp(row, "# TYPE ", 7), 0);
            is_histogram = strstr(row, " histogram") != NULL;
            assert_true(strstr(row, " counter") != NULL || strstr(row, " gauge") != NULL ||
                        is_histogram);
        } else {
            assert_true(strcspn(row, "{ ") == strlen(current) || is_histogram);
            assert_int_equal(strncmp(row, current, strlen(current)), 0);
        }
    }
    free(copy);
    free(text);
}

static void test_every_reason_and_result_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (int i = 0; i < SESSION_REASON_COUNT; i++) {
        for (int other = 0; other < i; other++)
            assert_string_not_equal(session_reason_name((enum session_reason)i),
                                    session_reason_name((enum session_reason)other));
    }
    assert_string_equal(session_reason_name(SESSION_INTERNAL), "internal");
    assert_string_equal(shadow_result_name(RESULT_LIMIT), "limit");
    assert_string_equal(shadow_reason_name(SHADOW_IO_ERROR), "io_error");
}

#define PAGE_TEST(test) cmocka_unit_test_setup_teardown(test, make_page, drop_page)

static void test_a_shadow_keeps_its_row(void **state)
{
    uint16_t row;

    (void)state;
    assert_true(page_find_row(page, "third", &row));
    assert_int_equal(row, 2);
    assert_true(page_find_row(page, names[1], &row));
    assert_int_equal(row, 1);
    assert_int_equal(page->row_count, 3);
}

static void test_the_last_row_is_refused_to_nobody_but_new_names(void **state)
{
    char     name[PAGE_SHADOW_NAME];
    uint16_t row;

    (void)state;
    for (int i = 2; i < PAGE_SHADOWS; i++) {
        snprintf(name, sizeof name, "shadow%d", i);
        assert_true(page_find_row(page, name, &row));
    }
    assert_false(page_find_row(page, "one too many", &row));
    assert_true(page_find_row(page, names[0], &row));
    assert_int_equal(row, 0);
}

/* After a reload workers of both configurations die alike. */
static void test_a_killed_worker_has_no_results_for_shadows_it_did_not_know(void **state)
{
    struct slot *slot = page_take_slot(page, 2, &rows[1], 1);

    (void)state;
    cell_add(&slot->counts[COUNT_SESSIONS], 4);
    page_retire_slot(page, slot);
    assert_int_equal(sum_results(0), 0);
    assert_int_equal(sum_results(1), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PAGE_TEST(test_a_sum_goes_over_all_workers),
        PAGE_TEST(test_what_a_worker_counts_is_seen_by_the_supervisor),
        PAGE_TEST(test_slots_are_given_until_none_is_free),
        PAGE_TEST(test_the_books_balance_after_a_worker_was_killed),
        PAGE_TEST(test_the_books_balance_wherever_a_worker_was_killed),
        PAGE_TEST(test_a_dead_worker_leaves_no_gauge),
        PAGE_TEST(test_retiring_twice_and_with_neighbours_keeps_every_number),
        PAGE_TEST(test_clients_never_fall_below_none),
        PAGE_TEST(test_parts_are_taken_up_to_the_most_over_all_workers),
        PAGE_TEST(test_wherever_a_worker_is_killed_the_others_parts_remain),
        PAGE_TEST(test_times_are_summed_over_workers_that_are_gone_too),
        PAGE_TEST(test_the_most_lag_and_the_newest_error_outlive_their_workers),
        PAGE_TEST(test_every_metric_has_its_sum_and_its_labels),
        PAGE_TEST(test_the_lines_of_a_metric_stand_under_their_one_head),
        PAGE_TEST(test_every_reason_and_result_has_a_name_of_its_own),
        PAGE_TEST(test_a_shadow_keeps_its_row),
        PAGE_TEST(test_the_last_row_is_refused_to_nobody_but_new_names),
        PAGE_TEST(test_a_killed_worker_has_no_results_for_shadows_it_did_not_know),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
