/*
 * test_spans.c — where texts differ: known cases, and random edits against what a difference must be.
 */
#include "answers/spans.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct spans_scratch *scratch;

static int start(void **state)
{
    (void)state;
    scratch = spans_scratch_new();
    return scratch != NULL ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    spans_scratch_free(scratch);
    return 0;
}

static struct text text_of(const char *words)
{
    return (struct text){ (const uint8_t *)words, strlen(words) };
}

static struct spans find(const char *first, const char *other)
{
    struct text  a = text_of(first), b = text_of(other);
    struct spans spans;

    assert_true(spans_find(scratch, &a, &b, &spans));
    return spans;
}

/* wanted: what the spans cover, in brackets: "id: [8f] x". */
static void assert_spans(const char *first, const char *other, const char *wanted)
{
    struct spans spans = find(first, other);
    char         seen[512];
    size_t       length = 0, next = 0;

    for (uint32_t i = 0; i <= strlen(first); i++) {
        while (next < spans.count && spans.at[next].end == i && spans.at[next].begin < i) {
            seen[length++] = ']';
            next++;
        }
        if (next < spans.count && spans.at[next].begin == i) {
            seen[length++] = '[';
            if (spans.at[next].end == i) {
                seen[length++] = ']';
                next++;
            }
        }
        if (first[i] != '\0')
            seen[length++] = first[i];
    }
    seen[length] = '\0';
    assert_string_equal(seen, wanted);
}

static void spans_are_whole_tokens(void **state)
{
    (void)state;
    assert_spans("same", "same", "same");
    assert_spans("id: 8f3a-11 end", "id: 8f3a-12 end", "id: [8f3a-11] end");
    assert_spans("at 12:34:56 ok", "at 12:34:57 ok", "at [12:34:56] ok");
    assert_spans("total 17 EUR", "total 18 EUR", "total [17] EUR");
    assert_spans("a=1&b=2", "a=1&b=3", "a=1&b=[2]");
}

static void more_or_less_text_is_found_where_it_is(void **state)
{
    (void)state;
    assert_spans("[1,2,3]", "[1,2,3,4]", "[1,2,3[]]");
    assert_spans("", "more", "[]");
    assert_spans("gone", "", "[gone]");
    assert_spans("one two three", "two three", "[one ]two three");
    assert_spans("two three", "two three four", "two three[]");
}

static void noise_covers_only_what_it_lies_over(void **state)
{
    struct spans noise = find("id: aa total: 17", "id: bb total: 17");
    struct spans id = find("id: aa total: 17", "id: cc total: 17");
    struct spans total = find("id: aa total: 17", "id: cc total: 18");
    struct span  outside;

    (void)state;
    assert_false(spans_outside(&id, &noise, &outside));
    assert_false(spans_outside(&noise, &id, &outside));
    assert_true(spans_outside(&total, &noise, &outside));
    assert_int_equal(outside.begin, 14);
    assert_int_equal(outside.end, 16);
}

static void an_insertion_is_covered_by_noise_that_touches_it(void **state)
{
    struct spans noise = find("[1,2]", "[1,2,3]");
    struct spans more = find("[1,2]", "[1,2,3,4]");
    struct spans elsewhere = find("[1,2]", "[0,1,2]");
    struct span  outside;

    (void)state;
    assert_false(spans_outside(&more, &noise, &outside));
    assert_true(spans_outside(&elsewhere, &noise, &outside));
}

static void joined_spans_cover_what_each_covers(void **state)
{
    struct spans one = find("a b c d", "a x c d");
    struct spans other = find("a b c d", "a b c y");
    struct spans both = one;
    struct span  outside;

    (void)state;
    spans_join(&both, &other);
    assert_int_equal(both.count, 2);
    assert_int_equal(spans_bytes(&both), 2);
    assert_false(spans_outside(&one, &both, &outside));
    assert_false(spans_outside(&other, &both, &outside));
    assert_true(spans_outside(&both, &one, &outside));
}

static void too_many_differences_are_one_coarse_span(void **state)
{
    static char  first[40000], other[60000];
    size_t       a = 0, b = 0;
    struct spans spans;

    (void)state;
    for (int i = 0; i < 4000; i++) {
        a += (size_t)sprintf(first + a, "%d ", i);
        b += (size_t)sprintf(other + b, "x%d y ", i);
    }
    spans = find(first, other);
    assert_true(spans.is_coarse);
    assert_int_equal(spans.count, 1);
    assert_int_equal(spans.at[0].begin, 0);
}

static unsigned seed;

static unsigned random_below(unsigned limit)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 16) % limit;
}

/* What is left of the first text must stand in the other one, in order. */
static void assert_rest_is_in(const struct text *first, const struct text *other,
                              const struct spans *spans)
{
    size_t place = 0, next = 0;

    for (uint32_t i = 0; i < first->length; i++) {
        while (next < spans->count && spans->at[next].end <= i)
            next++;
        if (next < spans->count && spans->at[next].begin <= i)
            continue;
        while (place < other->length && other->bytes[place] != first->bytes[i])
            place++;
        assert_true(place < other->length);
        place++;
    }
}

static void random_edits_are_found_and_nothing_else_is_hidden(void **state)
{
    static const char alphabet[] = "ab12 ,\n";
    uint8_t first[300], other[400];

    (void)state;
    for (seed = 1; seed < 3000; seed++) {
        size_t length = random_below(sizeof first), out = 0;
        for (size_t i = 0; i < length; i++)
            first[i] = (uint8_t)alphabet[random_below(sizeof alphabet - 1)];
        bool changed = false;
        for (size_t i = 0; i < length; i++) {
            unsigned edit = random_below(60);
            if (edit == 0)
                changed = true;
            else
                other[out++] = edit == 1 ? 'Z' : first[i];
            if (edit == 2)
                other[out++] = 'Y';
            changed |= edit == 1 || edit == 2;
        }
        struct text  a = { first, length }, b = { other, out };
        struct spans spans;
        unsigned     kept = seed;
        assert_true(spans_find(scratch, &a, &b, &spans));
        bool same = length == out && memcmp(first, other, out) == 0;
        assert_int_equal(spans.count == 0, same);
        assert_true(changed || same);
        assert_rest_is_in(&a, &b, &spans);
        for (size_t i = 1; i < spans.count; i++)
            assert_true(spans.at[i].begin > spans.at[i - 1].end);
        seed = kept;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans_are_whole_tokens),
        cmocka_unit_test(more_or_less_text_is_found_where_it_is),
        cmocka_unit_test(noise_covers_only_what_it_lies_over),
        cmocka_unit_test(an_insertion_is_covered_by_noise_that_touches_it),
        cmocka_unit_test(joined_spans_cover_what_each_covers),
        cmocka_unit_test(too_many_differences_are_one_coarse_span),
        cmocka_unit_test(random_edits_are_found_and_nothing_else_is_hidden),
    };
    return cmocka_run_group_tests(tests, start, end);
}
