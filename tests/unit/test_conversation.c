/*
 * test_conversation.c — sessions in, exchanges out, wherever TCP cut the bytes and whoever was first.
 */
#include "answers/conversation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "answers/parts.h"

static struct reply_scratch scratch;
static struct kept_budget          budget = { .max = 64 << 20 };
static char                        seen[65536]; /* a line for each exchange */
static size_t                      seen_length;

static int start(void **state)
{
    (void)state;
    scratch.compare = compare_scratch_new();
    for (int i = 0; i < 3; i++)
        scratch.parts[i] = parts_scratch_new();
    return 0;
}

static int end(void **state)
{
    (void)state;
    compare_scratch_free(scratch.compare);
    for (int i = 0; i < 3; i++)
        parts_scratch_free(scratch.parts[i]);
    return 0;
}

static void on_exchange(void *owner, const struct exchange *exchange)
{
    const struct comparison *c = &exchange->comparison;
    const char *more = "";

    (void)owner;
    if (c->result == EXCHANGE_DIFFERENT)
        more = difference_class_word(c->class);
    if (c->result == EXCHANGE_UNFINISHED)
        more = unfinished_why_word(c->why);
    seen_length +=
        (size_t)snprintf(seen + seen_length, sizeof seen - seen_length, "%zu.%d %s: %s%s%s\n",
                         exchange->shadow, (int)exchange->number, exchange->label,
                         exchange_result_word(c->result), *more != '\0' ? " " : "", more);
}

static struct conversation *begin(enum frames frames, size_t shadows, int control)
{
    const struct conversation_terms terms = {
        .frames = frames,
        .shadow_count = shadows,
        .control = control,
        .budget = &budget,
        .scratch = &scratch,
        .on_exchange = on_exchange,
    };
    struct conversation *c = conversation_new(&terms);

    assert_non_null(c);
    seen_length = 0;
    seen[0] = '\0';
    return c;
}

static void finish(struct conversation *c, const char *wanted)
{
    conversation_end(c);
    conversation_free(c);
    assert_string_equal(seen, wanted);
    assert_int_equal(budget.used, 0);
}

static void ask(struct conversation *c, const char *text)
{
    conversation_request(c, (const uint8_t *)text, strlen(text));
}

static void tell(struct conversation *c, size_t leg, const char *text)
{
    conversation_answer(c, leg, (const uint8_t *)text, strlen(text));
}

#define OK(body) "HTTP/1.1 200 OK\r\nContent-Length: " body
#define GET      "GET /a/7 HTTP/1.1\r\n\r\n"

static void exchanges_of_http_are_compared_one_by_one(void **state)
{
    struct conversation *c = begin(FRAMES_AUTO, 2, 1);

    (void)state;
    ask(c, GET GET "POST /b HTTP/1.1\r\nContent-Length: 1\r\n\r\nx");
    tell(c, 0, OK("4\r\nX-Id: 1\r\n\r\nsame") OK("3\r\n\r\none") OK("0\r\n\r\n"));
    tell(c, 1, OK("4\r\nX-Id: 2\r\n\r\nsame") OK("3\r\n\r\ntwo"));
    assert_string_equal(seen, "");
    tell(c, 2, OK("4\r\nX-Id: 3\r\n\r\nsame") OK("3\r\n\r\none") OK("0\r\n\r\n"));
    assert_string_equal(seen, "0.1 GET /a/#: masked\n1.1 GET /a/#: different content\n"
                              "0.2 GET /a/#: different content\n1.2 GET /a/#: equal\n");
    seen_length = 0;
    tell(c, 1, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    finish(c, "0.3 POST /b: different status\n1.3 POST /b: equal\n");
}

static void chunks_and_length_of_the_same_body_are_no_difference(void **state)
{
    struct conversation *c = begin(FRAMES_AUTO, 1, -1);

    (void)state;
    ask(c, GET);
    tell(c, 0, OK("5\r\n\r\nhello"));
    tell(c, 1,
         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n");
    finish(c, "0.1 GET /a/#: equal\n");
}

static void redis_is_compared_command_by_command_without_pushes(void **state)
{
    struct conversation *c = begin(FRAMES_AUTO, 1, -1);

    (void)state;
    ask(c, "*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n");
    tell(c, 0, "$1\r\nx\r\n>2\r\n+invalidate\r\n*0\r\n+PONG\r\n");
    tell(c, 1, "$1\r\nx\r\n-ERR unknown\r\n");
    finish(c, "0.1 GET: equal\n0.2 PING: different status\n");
}

static void an_unknown_protocol_is_one_exchange(void **state)
{
    struct conversation *c = begin(FRAMES_AUTO, 1, -1);

    (void)state;
    tell(c, 0, "220 hi\r\n");
    tell(c, 1, "220 hi\r\n");
    ask(c, "HELO x\r\n");
    tell(c, 0, "250 ok\r\n");
    tell(c, 1, "550 no\r\n");
    conversation_leg_ends(c, 0, LEG_CLOSED, 0);
    finish(c, "0.1 : different content\n");
}

static void a_canary_that_hangs_or_is_cut_is_told_apart(void **state)
{
    struct conversation *c = begin(FRAMES_AUTO, 2, -1);

    (void)state;
    ask(c, GET GET);
    for (size_t leg = 0; leg < 3; leg++)
        tell(c, leg, OK("0\r\n\r\n"));
    tell(c, 0, OK("0\r\n\r\n"));
    conversation_leg_ends(c, 2, LEG_CUT, UNFINISHED_LAG);
    seen_length = 0;
    finish(c, "0.2 GET /a/#: different missing\n1.2 GET /a/#: unfinished lag\n");
}

static void a_control_that_is_gone_makes_nothing_alike(void **state)
{
    struct conversation *c = begin(FRAMES_AUTO, 2, 1);

    (void)state;
    ask(c, GET GET);
    conversation_leg_ends(c, 2, LEG_RESET, 0);
    tell(c, 0, OK("0\r\n\r\n") OK("0\r\n\r\n"));
    tell(c, 1, OK("0\r\n\r\n") OK("0\r\n\r\n"));
    finish(c, "0.1 GET /a/#: unfinished control\n1.1 GET /a/#: different missing\n"
              "0.2 GET /a/#: unfinished control\n1.2 GET /a/#: different missing\n");
}

static void what_follows_an_upgrade_is_opaque(void **state)
{
    static const char upgraded[] = "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\nabc";
    struct conversation *c = begin(FRAMES_AUTO, 1, -1);

    (void)state;
    ask(c, GET "GET /ws HTTP/1.1\r\nUpgrade: x\r\n\r\n");
    tell(c, 0, OK("0\r\n\r\n"));
    tell(c, 1, OK("0\r\n\r\n"));
    tell(c, 0, upgraded);
    tell(c, 1, upgraded);
    ask(c, "\x81\x02hi");
    tell(c, 0, "more");
    finish(c, "0.1 GET /a/#: equal\n0.2 GET /ws: opaque\n");
}

static void answers_beyond_the_window_are_compared_by_blocks(void **state)
{
    static uint8_t       large[3 * KEPT_WINDOW];
    struct conversation *c = begin(FRAMES_SESSION, 1, -1);

    (void)state;
    ask(c, "x");
    conversation_answer(c, 0, large, sizeof large);
    large[sizeof large - 1] = 1;
    conversation_answer(c, 1, large, sizeof large);
    large[sizeof large - 1] = 0;
    finish(c, "0.1 : different content\n");
}

static void without_memory_the_rest_is_unfinished(void **state)
{
    static uint8_t       large[4096];
    struct conversation *c;

    (void)state;
    budget.max = 2048;
    c = begin(FRAMES_SESSION, 1, -1);
    ask(c, "x");
    conversation_answer(c, 0, large, sizeof large);
    finish(c, "0.1 : unfinished memory\n");
    budget.max = 64 << 20;
}

static unsigned seed;

static unsigned random_below(unsigned limit)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 16) % limit;
}

/* Requests first as TCP has it, then every leg in pieces, in any order. */
static void play(const char *requests, const char *const *legs, size_t count)
{
    struct conversation *c = begin(FRAMES_AUTO, count - 1, count > 2 ? 1 : -1);
    size_t               at[4] = { 0 }, asked = 0, length = strlen(requests);

    while (asked < length) {
        size_t now = 1 + random_below(40);
        now = now < length - asked ? now : length - asked;
        conversation_request(c, (const uint8_t *)requests + asked, now);
        asked += now;
    }
    for (bool is_over = false; !is_over;) {
        is_over = true;
        for (size_t leg = 0; leg < count; leg++) {
            size_t left = strlen(legs[leg]) - at[leg], now = random_below(30);
            now = now < left ? now : left;
            conversation_answer(c, leg, (const uint8_t *)legs[leg] + at[leg], now);
            at[leg] += now;
            is_over = is_over && now == left;
        }
    }
    conversation_end(c);
    conversation_free(c);
    assert_int_equal(budget.used, 0);
}

static void the_result_does_not_depend_on_how_tcp_cut_the_bytes(void **state)
{
    static const char requests[] = GET "HEAD /h HTTP/1.1\r\n\r\n" GET GET;
    static const char *const legs[] = {
        OK("2\r\nA: 1\r\n\r\nab") OK("9\r\n\r\n") OK("1\r\n\r\nc") OK("0\r\n\r\n"),
        OK("2\r\nA: 2\r\n\r\nab") OK("9\r\n\r\n") OK("2\r\n\r\ncd") "HTTP/1.1 204 N\r\n\r\n",
        OK("2\r\nA: 3\r\n\r\nab") OK("9\r\n\r\n") OK("1\r\n\r\nc") OK("0\r\n\r\n"),
    };
    char first[sizeof seen];

    (void)state;
    seed = 1;
    play(requests, legs, 3);
    memcpy(first, seen, sizeof seen);
    assert_non_null(strstr(first, "0.1 GET /a/#: masked\n"));
    assert_non_null(strstr(first, "0.2 HEAD /h: equal\n"));
    assert_non_null(strstr(first, "0.3 GET /a/#: different length\n"));
    assert_non_null(strstr(first, "0.4 GET /a/#: different status\n"));
    for (unsigned i = 2; i < 3000; i++) {
        seed = i;
        play(requests, legs, 3);
        assert_string_equal(seen, first);
    }
}

static void random_bytes_never_break_it(void **state)
{
    static const char alphabet[] = "GET /HTP1.\r\n*$3+-:>200 Content-Length: \x01\xff";

    (void)state;
    for (unsigned i = 1; i < 3000; i++) {
        char legs[3][200];
        const char *all[3] = { legs[0], legs[1], legs[2] };
        char requests[200];
        seed = i;
        for (int n = 0; n < 3; n++) {
            for (size_t j = 0; j < sizeof legs[n] - 1; j++)
                legs[n][j] = alphabet[random_below(sizeof alphabet - 1)];
            legs[n][random_below(sizeof legs[n])] = '\0';
            legs[n][sizeof legs[n] - 1] = '\0';
        }
        strcpy(requests, random_below(2) ? GET : "*1\r\n$4\r\nPING\r\n");
        play(requests, all, 3);
        seed = i;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exchanges_of_http_are_compared_one_by_one),
        cmocka_unit_test(chunks_and_length_of_the_same_body_are_no_difference),
        cmocka_unit_test(redis_is_compared_command_by_command_without_pushes),
        cmocka_unit_test(an_unknown_protocol_is_one_exchange),
        cmocka_unit_test(a_canary_that_hangs_or_is_cut_is_told_apart),
        cmocka_unit_test(a_control_that_is_gone_makes_nothing_alike),
        cmocka_unit_test(what_follows_an_upgrade_is_opaque),
        cmocka_unit_test(answers_beyond_the_window_are_compared_by_blocks),
        cmocka_unit_test(without_memory_the_rest_is_unfinished),
        cmocka_unit_test(the_result_does_not_depend_on_how_tcp_cut_the_bytes),
        cmocka_unit_test(random_bytes_never_break_it),
    };
    return cmocka_run_group_tests(tests, start, end);
}
