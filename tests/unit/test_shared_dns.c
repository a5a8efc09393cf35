/*
 * test_shared_dns.c — what one process notes, others find; what does not belong together nobody believes.
 */
#include "shared/shared_dns.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define NAMES   256 /* as many as doppel may have targets */
#define WRITERS 4
#define ROUNDS  20000

static struct shared_dns *known;

static int start(void **state)
{
    (void)state;
    known = mmap(NULL, sizeof *known, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return known != MAP_FAILED ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    return munmap(known, sizeof *known);
}

/* 10.0.0.n or 2001:db8::n, n + 1, ... */
static struct shared_dns_answer answer_of(int family, unsigned first, size_t count)
{
    struct shared_dns_answer answer = { .count = count, .expires = 1.5 * first };
    char                host[64];

    for (size_t i = 0; i < count; i++) {
        unsigned number = (first + (unsigned)i) % 250;

        snprintf(host, sizeof host, family == AF_INET ? "10.0.0.%u" : "2001:db8::%u", number);
        assert_true(address_parse(&answer.addresses[i], host, 0));
    }
    return answer;
}

static void note(const char *host, int family, unsigned first, size_t count)
{
    struct shared_dns_answer answer = answer_of(family, first, count);

    shared_dns_store(known, host, family, &answer);
}

static void assert_equal(const struct shared_dns_answer *found, struct shared_dns_answer wanted)
{
    assert_int_equal(found->count, wanted.count);
    assert_true(found->expires == wanted.expires);
    for (size_t i = 0; i < wanted.count; i++)
        assert_true(address_equal(&found->addresses[i], &wanted.addresses[i]));
}

static void assert_known(const char *host, int family, unsigned first, size_t count)
{
    struct shared_dns_answer found;

    assert_true(shared_dns_find(known, host, family, &found));
    assert_equal(&found, answer_of(family, first, count));
}

static void assert_unknown(const char *host, int family)
{
    struct shared_dns_answer found;

    assert_false(shared_dns_find(known, host, family, &found));
}

static void test_what_was_noted_is_found_in_order_for_each_family(void **state)
{
    (void)state;
    assert_unknown("primary.test", AF_INET);
    note("primary.test", AF_INET, 1, 3);
    assert_unknown("primary.test", AF_INET6);
    note("primary.test", AF_INET6, 7, 2);

    assert_known("primary.test", AF_INET, 1, 3);
    assert_known("PRIMARY.test", AF_INET6, 7, 2);
    assert_unknown("primary.tes", AF_INET);
}

static void test_a_newer_answer_takes_the_place_of_the_older(void **state)
{
    (void)state;
    note("a.test", AF_INET, 1, 8);
    note("a.test", AF_INET, 9, 1);
    assert_known("a.test", AF_INET, 9, 1);

    note("a.test", AF_INET, 0, 0);
    assert_unknown("a.test", AF_INET);
    note("a.test", AF_INET, 5, 2);
    assert_known("a.test", AF_INET, 5, 2);
}

static void test_more_addresses_than_there_is_room_for_are_cut(void **state)
{
    struct shared_dns_answer answer = answer_of(AF_INET, 1, SHARED_DNS_ADDRESSES);

    (void)state;
    answer.count = SHARED_DNS_ADDRESSES + 5;
    shared_dns_store(known, "many.test", AF_INET, &answer);

    assert_known("many.test", AF_INET, 1, SHARED_DNS_ADDRESSES);
}

static void test_as_many_names_as_there_are_targets_find_room_in_both_families(void **state)
{
    char host[64];

    (void)state;
    for (unsigned i = 0; i < NAMES; i++) {
        snprintf(host, sizeof host, "target-%u.example.test", i);
        note(host, AF_INET, i, 4);
        note(host, AF_INET6, i, 2);
    }
    for (unsigned i = 0; i < NAMES; i++) {
        snprintf(host, sizeof host, "target-%u.example.test", i);
        assert_known(host, AF_INET, i, 4);
        assert_known(host, AF_INET6, i, 2);
    }
}

/* As the sum is made in shared_dns.c. */
static void seal(struct shared_dns_cell *cell)
{
    uint64_t sum = 0xcbf29ce484222325U;

    for (size_t i = 0; i < SHARED_DNS_WORDS; i++) {
        sum = (sum ^ atomic_load(&cell->words[i])) * 0x100000001b3U;
        sum ^= sum >> 32;
    }
    atomic_store(&cell->sum, sum);
}

static struct shared_dns_cell *only_cell(void)
{
    size_t i = 0;

    while (atomic_load(&known->cells[i].sum) == 0)
        i++;
    return &known->cells[i];
}

/* The last words of a record are the time, and the count beside the family. */
static void test_words_that_belong_together_and_make_no_sense_are_not_used(void **state)
{
    const uint64_t counts[] = { SHARED_DNS_ADDRESSES + 1, 1000000, UINT32_MAX };

    (void)state;
    note("odd.test", AF_INET, 1, 3);
    struct shared_dns_cell *cell = only_cell();
    uint64_t           last = atomic_load(&cell->words[SHARED_DNS_WORDS - 1]);
    seal(cell);
    assert_known("odd.test", AF_INET, 1, 3);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        uint32_t pair[2];

        memcpy(pair, &last, sizeof pair);
        pair[0] = (uint32_t)counts[i];
        uint64_t word;
        memcpy(&word, pair, sizeof word);
        atomic_store(&cell->words[SHARED_DNS_WORDS - 1], word);
        seal(cell);
        assert_unknown("odd.test", AF_INET);
    }
    note("odd.test", AF_INET, 2, 1);
    assert_known("odd.test", AF_INET, 2, 1);
}

static void test_more_names_than_there_is_room_for_do_no_harm(void **state)
{
    struct shared_dns_answer found;
    char                host[64];

    (void)state;
    for (unsigned i = 0; i < 4 * SHARED_DNS_CELLS; i++) {
        snprintf(host, sizeof host, "target-%u.example.test", i);
        note(host, AF_INET, i, 1);
        assert_true(shared_dns_find(known, host, AF_INET, &found));
    }
}

static void test_half_written_words_are_not_believed_and_the_next_answer_is(void **state)
{
    (void)state;
    note("a.test", AF_INET, 1, 2);
    for (size_t i = 0; i < SHARED_DNS_CELLS; i++) {
        if (atomic_load(&known->cells[i].sum) != 0)
            atomic_fetch_xor(&known->cells[i].words[SHARED_DNS_HOST / 8],
                             1); /* of the first address */
    }
    assert_unknown("a.test", AF_INET);

    note("a.test", AF_INET, 3, 1);
    assert_known("a.test", AF_INET, 3, 1);
}

/* Each writes addresses that follow each other: others were mixed. */
static void write_for_ever(unsigned seed)
{
    for (unsigned i = seed;; i += WRITERS)
        note("shared.test", AF_INET, i % 200, 1 + i % SHARED_DNS_ADDRESSES);
}

static void test_answers_of_several_writers_are_never_mixed_even_when_they_are_killed(void **state)
{
    struct shared_dns_answer found;
    pid_t               writers[WRITERS];
    size_t              seen = 0;

    (void)state;
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = fork();
        if (writers[i] == 0)
            write_for_ever(i);
    }
    for (unsigned i = 0; i < ROUNDS || seen == 0; i++) {
        if (!shared_dns_find(known, "shared.test", AF_INET, &found))
            continue;
        seen++;
        unsigned first = (unsigned)(found.expires / 1.5);
        assert_equal(&found, answer_of(AF_INET, first, found.count));
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        kill(writers[i], SIGKILL);
        waitpid(writers[i], NULL, 0);
    }
    note("shared.test", AF_INET, 1, 1);
    assert_known("shared.test", AF_INET, 1, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_was_noted_is_found_in_order_for_each_family,
                                        start, end),
        cmocka_unit_test_setup_teardown(test_a_newer_answer_takes_the_place_of_the_older, start,
                                        end),
        cmocka_unit_test_setup_teardown(test_more_addresses_than_there_is_room_for_are_cut, start,
                                        end),
        cmocka_unit_test_setup_teardown(
            test_as_many_names_as_there_are_targets_find_room_in_both_families, start, end),
        cmocka_unit_test_setup_teardown(
            test_words_that_belong_together_and_make_no_sense_are_not_used, start, end),
        cmocka_unit_test_setup_teardown(test_more_names_than_there_is_room_for_do_no_harm, start,
                                        end),
        cmocka_unit_test_setup_teardown(
            test_half_written_words_are_not_believed_and_the_next_answer_is, start, end),
        cmocka_unit_test_setup_teardown(
            test_answers_of_several_writers_are_never_mixed_even_when_they_are_killed, start, end),
    };

    return cmocka_run_group_tests_name("shared_dns", tests, NULL, NULL);
}
