/*
 * test_compare.c — who differs where the other does not: known exchanges, and symmetry on random ones.
 */
#include "answers/compare.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct compare_scratch *scratch;

static int start(void **state)
{
    (void)state;
    scratch = compare_scratch_new();
    return scratch != NULL ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    compare_scratch_free(scratch);
    return 0;
}

static struct text text_of(const char *words)
{
    return (struct text){ (const uint8_t *)words, strlen(words) };
}

static void add_part(struct answer *answer, const char *name, const char *words)
{
    struct part *part = &answer->parts[answer->part_count++];

    *part = (struct part){ .name = name, .text = text_of(words) };
    part->is_status = strcmp(name, "status") == 0;
    part->is_masked = strcmp(name, "header date") == 0;
    answer->length += part->text.length;
}

static struct answer answer_of(const char *status, const char *body)
{
    struct answer answer = { .is_there = true };

    add_part(&answer, "status", status);
    add_part(&answer, "body", body);
    return answer;
}

static struct comparison compare(const struct answer *primary, const struct answer *candidate,
                                 const struct answer *control)
{
    struct comparison out;

    compare_answers(scratch, primary, candidate, control, &out);
    return out;
}

static void assert_bodies(const char *primary, const char *candidate, const char *control,
                          enum exchange_result result, bool b, bool c)
{
    struct answer     p = answer_of("200", primary), s = answer_of("200", candidate);
    struct answer     k = answer_of("200", control != NULL ? control : "");
    struct comparison out = compare(&p, &s, control != NULL ? &k : NULL);

    if (out.result != result || out.only_candidate[EVIDENCE_ALL] != b ||
        out.only_control[EVIDENCE_ALL] != c)
        fail_msg("%s | %s | %s: %s %d %d", primary, candidate, control,
                 exchange_result_word(out.result), out.only_candidate[EVIDENCE_ALL],
                 out.only_control[EVIDENCE_ALL]);
}

static void the_same_bytes_are_equal(void **state)
{
    (void)state;
    assert_bodies("a b", "a b", "a b", EXCHANGE_EQUAL, false, false);
    assert_bodies("a b", "a b", NULL, EXCHANGE_EQUAL, false, false);
    assert_bodies("a b", "a b", "a c", EXCHANGE_EQUAL, false, true);
}

static void an_id_that_always_varies_is_masked_and_hides_no_price(void **state)
{
    (void)state;
    assert_bodies("id=7 price=17", "id=8 price=17", "id=9 price=17", EXCHANGE_MASKED, false, false);
    assert_bodies("id=7 price=17", "id=8 price=18", "id=9 price=17", EXCHANGE_DIFFERENT, true,
                  false);
    assert_bodies("id=7 price=17", "id=8 price=17", "id=9 price=18", EXCHANGE_MASKED, false, true);
    assert_bodies("id=7 price=17", "id=8 price=18", NULL, EXCHANGE_DIFFERENT, true, false);
}

static void each_difference_has_its_class_and_place(void **state)
{
    struct answer p = answer_of("200", "one\ntwo\n"), s = answer_of("500", "one\ntwo\n");
    struct answer longer = answer_of("200", "one\ntwo\nthree\n");
    struct answer turned = answer_of("200", "two\none\n");
    struct answer other = answer_of("200", "one\nxyz\n");

    (void)state;
    struct comparison out = compare(&p, &s, NULL);
    assert_int_equal(out.class, DIFFERENCE_STATUS);
    assert_true(out.only_candidate[EVIDENCE_STATUS]);
    assert_string_equal(out.part, "status");
    assert_int_equal(compare(&p, &longer, NULL).class, DIFFERENCE_LENGTH);
    assert_int_equal(compare(&p, &turned, NULL).class, DIFFERENCE_ORDER);
    out = compare(&p, &other, NULL);
    assert_int_equal(out.class, DIFFERENCE_CONTENT);
    assert_string_equal(out.part, "body");
    assert_int_equal(out.at, 4);
    assert_false(out.only_candidate[EVIDENCE_STATUS]);
}

static void the_order_of_headers_is_none_and_date_is_masked(void **state)
{
    struct answer p = { .is_there = true }, s = { .is_there = true };

    (void)state;
    add_part(&p, "header a", "1");
    add_part(&p, "header b", "2");
    add_part(&p, "header date", "Mon");
    add_part(&s, "header date", "Tue");
    add_part(&s, "header b", "2");
    add_part(&s, "header a", "1");
    assert_int_equal(compare(&p, &s, NULL).result, EXCHANGE_MASKED);
    add_part(&s, "header c", "3");
    struct comparison out = compare(&p, &s, NULL);
    assert_int_equal(out.result, EXCHANGE_DIFFERENT);
    assert_string_equal(out.part, "header c");
    assert_int_equal(compare(&p, &s, &s).result, EXCHANGE_MASKED);
}

static void a_canary_that_says_nothing_is_different_and_a_control_that_does_is_unfinished(
    void **state)
{
    struct answer p = answer_of("200", "a"), none = { .is_there = false };

    (void)state;
    struct comparison out = compare(&p, &none, &p);
    assert_int_equal(out.result, EXCHANGE_DIFFERENT);
    assert_int_equal(out.class, DIFFERENCE_MISSING);
    assert_true(out.only_candidate[EVIDENCE_MISSING]);
    out = compare(&p, &p, &none);
    assert_int_equal(out.result, EXCHANGE_UNFINISHED);
    assert_int_equal(out.why, UNFINISHED_CONTROL);
    out = compare(&none, &p, &p);
    assert_int_equal(out.result, EXCHANGE_UNFINISHED);
    assert_int_equal(out.why, UNFINISHED_NO_ANSWER);
}

static void another_end_is_a_difference_unless_the_control_ends_so_too(void **state)
{
    struct answer p = answer_of("200", "a"), reset = p;

    (void)state;
    reset.end = ANSWER_RESET;
    struct comparison out = compare(&p, &reset, &p);
    assert_int_equal(out.class, DIFFERENCE_END);
    assert_true(out.only_candidate[EVIDENCE_END]);
    assert_int_equal(compare(&p, &reset, &reset).result, EXCHANGE_MASKED);
    assert_true(compare(&p, &p, &reset).only_control[EVIDENCE_END]);
}

static void beyond_the_window_equal_is_exact_and_noise_is_unfinished(void **state)
{
    static const uint64_t one[] = { 1, 2, 3 }, other[] = { 1, 9, 3 }, third[] = { 1, 8, 3 };
    struct answer         p = answer_of("200", "a"), s = p, k = p;

    (void)state;
    p.blocks = s.blocks = k.blocks = one;
    p.block_count = s.block_count = k.block_count = 3;
    assert_int_equal(compare(&p, &s, &k).result, EXCHANGE_EQUAL);
    s.blocks = other;
    struct comparison out = compare(&p, &s, &k);
    assert_int_equal(out.result, EXCHANGE_DIFFERENT);
    assert_int_equal(out.at, BLOCK_BYTES);
    k.blocks = third;
    out = compare(&p, &s, &k);
    assert_int_equal(out.result, EXCHANGE_UNFINISHED);
    assert_int_equal(out.why, UNFINISHED_WINDOW);
    s.blocks = one;
    s.block_count = 2;
    k.blocks = one;
    assert_int_equal(compare(&p, &s, &k).result, EXCHANGE_DIFFERENT);
}

static void an_answer_that_is_nearly_all_noise_says_so(void **state)
{
    struct answer p = answer_of("200", "aaaaaaaaaaaaaaaaaaaaaaa ok"), s = p;
    struct answer k = answer_of("200", "bbbbbbbbbbbbbbbbbbbbbbb ok");

    (void)state;
    assert_true(compare(&p, &s, &k).is_mostly_masked);
    assert_false(compare(&p, &s, &p).is_mostly_masked);
}

static unsigned seed;

static unsigned random_below(unsigned limit)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 16) % limit;
}

static void vary(char *text, const char *base)
{
    strcpy(text, base);
    for (unsigned edits = random_below(3); edits > 0; edits--)
        text[random_below((unsigned)strlen(base))] = (char)('a' + random_below(4));
}

static void swapping_candidate_and_control_swaps_what_counts(void **state)
{
    static const char base[] = "aa bb cc dd aa bb cc dd aa bb";
    char              texts[3][sizeof base];

    (void)state;
    for (seed = 1; seed < 20000; seed++) {
        unsigned kept = seed;
        for (int i = 0; i < 3; i++)
            vary(texts[i], base);
        struct answer p = answer_of("200", texts[0]), s = answer_of("200", texts[1]);
        struct answer k = answer_of(random_below(9) == 0 ? "500" : "200", texts[2]);
        if (random_below(9) == 0)
            s.end = ANSWER_CLOSED;
        struct comparison one = compare(&p, &s, &k), other = compare(&p, &k, &s);
        for (int i = 0; i < EVIDENCE_CLASSES; i++) {
            assert_int_equal(one.only_candidate[i], other.only_control[i]);
            assert_int_equal(one.only_control[i], other.only_candidate[i]);
        }
        assert_int_equal(one.result == EXCHANGE_DIFFERENT, one.only_candidate[EVIDENCE_ALL]);
        seed = kept;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_bytes_are_equal),
        cmocka_unit_test(an_id_that_always_varies_is_masked_and_hides_no_price),
        cmocka_unit_test(each_difference_has_its_class_and_place),
        cmocka_unit_test(the_order_of_headers_is_none_and_date_is_masked),
        cmocka_unit_test(
            a_canary_that_says_nothing_is_different_and_a_control_that_does_is_unfinished),
        cmocka_unit_test(another_end_is_a_difference_unless_the_control_ends_so_too),
        cmocka_unit_test(beyond_the_window_equal_is_exact_and_noise_is_unfinished),
        cmocka_unit_test(an_answer_that_is_nearly_all_noise_says_so),
        cmocka_unit_test(swapping_candidate_and_control_swaps_what_counts),
    };
    return cmocka_run_group_tests(tests, start, end);
}
