/*
 * test_resp.c — the Redis protocol is cut at the right bytes, wherever TCP cut it.
 */
#include "answers/resp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* As many bytes at a time; answers how many the first message has, -1 when it goes on, -2: opaque. */
static int cut_by(struct resp_cut *cut, const char *text, size_t length, size_t step)
{
    size_t   total = 0;
    enum cut what = CUT_MORE;

    while (total < length && what == CUT_MORE) {
        size_t taken, now = length - total < step ? length - total : step;
        what = resp_cut(cut, (const uint8_t *)text + total, now, &taken);
        assert_true(taken <= now);
        assert_true(what != CUT_MORE || taken == now);
        total += taken;
    }
    if (what == CUT_OPAQUE)
        return -2;
    return what == CUT_WHOLE ? (int)total : -1;
}

static void assert_cut(bool is_answer, const char *text, size_t length, int wanted)
{
    for (size_t step = 1; step <= length; step++) {
        struct resp_cut cut;
        (is_answer ? resp_answers_start : resp_requests_start)(&cut);
        int seen = cut_by(&cut, text, length, step);
        if (seen != wanted)
            fail_msg("%s by %zu: %d instead of %d", text, step, seen, wanted);
    }
}

#define ANSWER(text, wanted)  assert_cut(true, text, sizeof text - 1, wanted)
#define REQUEST(text, wanted) assert_cut(false, text, sizeof text - 1, wanted)
#define WHOLE_ANSWER(text)    ANSWER(text, (int)sizeof text - 1)

static void each_type_of_answer_has_its_end(void **state)
{
    (void)state;
    WHOLE_ANSWER("+OK\r\n");
    WHOLE_ANSWER("-ERR no\r\n");
    WHOLE_ANSWER(":-17\r\n");
    WHOLE_ANSWER("$5\r\nhello\r\n");
    WHOLE_ANSWER("$0\r\n\r\n");
    WHOLE_ANSWER("$-1\r\n");
    WHOLE_ANSWER("*-1\r\n");
    WHOLE_ANSWER("*0\r\n");
    WHOLE_ANSWER("*2\r\n$1\r\na\r\n*2\r\n:1\r\n*0\r\n");
    WHOLE_ANSWER("_\r\n");
    WHOLE_ANSWER(",1.5\r\n");
    WHOLE_ANSWER("#t\r\n");
    WHOLE_ANSWER("(3492890328409238509324850943850943825024385\r\n");
    WHOLE_ANSWER("!5\r\nERR x\r\n");
    WHOLE_ANSWER("=7\r\ntxt:abc\r\n");
    WHOLE_ANSWER("%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n:2\r\n");
    WHOLE_ANSWER("~1\r\n+a\r\n");
    WHOLE_ANSWER("|1\r\n+ttl\r\n:10\r\n$1\r\nx\r\n");
    WHOLE_ANSWER("*1\r\n|1\r\n+ttl\r\n:10\r\n$1\r\nx\r\n");
    WHOLE_ANSWER(">2\r\n+message\r\n+x\r\n");
    ANSWER("$5\r\nhel", -1);
    ANSWER("+OK\r\n+NEXT\r\n", 5);
}

static void what_is_no_resp_is_opaque(void **state)
{
    (void)state;
    ANSWER("HTTP/1.1 200 OK\r\n", -2);
    ANSWER("$x\r\n", -2);
    ANSWER("$-2\r\n", -2);
    ANSWER("$\r\n", -2);
    ANSWER("$99999999999999999999\r\n", -2);
    ANSWER("+a\rb\r\n", -2);
    ANSWER("+a\n", -2);
    ANSWER("$1\r\nab\r\n", -2);
    ANSWER("*1\r\n>1\r\n+x\r\n", -2);
    REQUEST("*1\r\n:1\r\n", -2);
    REQUEST("*0\r\n", -2);
    REQUEST("\x16\x03\x01", -2);
}

static void nesting_is_bounded(void **state)
{
    char   text[4 * 40 + 1];
    size_t length = 0;

    (void)state;
    for (int i = 0; i < 40; i++)
        length += (size_t)sprintf(text + length, "*1\r\n");
    assert_cut(true, text, length, -2);
}

static void a_request_is_called_by_its_command(void **state)
{
    struct resp_cut cut;

    (void)state;
    REQUEST("*2\r\n$3\r\nGET\r\n$1\r\na\r\n", 20);
    REQUEST("ping\r\n", 6);
    REQUEST("set a b\r\nget", 9);
    resp_requests_start(&cut);
    assert_int_equal(cut_by(&cut, "*2\r\n$3\r\nget\r\n$1\r\na\r\n", 20, 3), 20);
    assert_string_equal(cut.request.label, "GET");
    assert_int_equal(cut_by(&cut, "ping x y z\r\n", 12, 5), 12);
    assert_string_equal(cut.request.label, "PING");
}

static void after_subscribe_nothing_is_understood(void **state)
{
    static const char *const last[] = { "SUBSCRIBE a\r\n", "monitor\r\n", "CLIENT REPLY OFF\r\n",
                                        "PSYNC x 1\r\n" };
    struct resp_cut cut;
    size_t          taken;

    (void)state;
    for (size_t i = 0; i < sizeof last / sizeof *last; i++) {
        resp_requests_start(&cut);
        assert_int_equal(cut_by(&cut, last[i], strlen(last[i]), 4), (int)strlen(last[i]));
        assert_int_equal(resp_cut(&cut, (const uint8_t *)"ping\r\n", 6, &taken), CUT_OPAQUE);
    }
    resp_requests_start(&cut);
    assert_int_equal(cut_by(&cut, "client id\r\n", 11, 4), 11);
    assert_int_equal(resp_cut(&cut, (const uint8_t *)"ping\r\n", 6, &taken), CUT_WHOLE);
}

static void pushes_and_errors_are_told_apart(void **state)
{
    struct resp_cut cut;
    size_t          taken;

    (void)state;
    resp_answers_start(&cut);
    assert_int_equal(resp_cut(&cut, (const uint8_t *)">1\r\n+x\r\n-ERR\r\n+OK\r\n", 19, &taken),
                     CUT_WHOLE);
    assert_true(cut.is_push && !cut.is_error);
    assert_int_equal(resp_cut(&cut, (const uint8_t *)"-ERR\r\n", 6, &taken), CUT_WHOLE);
    assert_true(!cut.is_push && cut.is_error);
    assert_int_equal(resp_cut(&cut, (const uint8_t *)"+OK\r\n", 5, &taken), CUT_WHOLE);
    assert_true(!cut.is_push && !cut.is_error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type_of_answer_has_its_end),
        cmocka_unit_test(what_is_no_resp_is_opaque),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(a_request_is_called_by_its_command),
        cmocka_unit_test(after_subscribe_nothing_is_understood),
        cmocka_unit_test(pushes_and_errors_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
