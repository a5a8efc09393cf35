/*
 * test_http1.c — HTTP/1 is cut at the right bytes, wherever TCP cut it, and doubts are opaque.
 */
#include "answers/http1.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Gives the bytes in two pieces; answers how many belong to the first message, -1 when it goes on, -2
 * when it is opaque. */
static int cut_in_two(struct http1_cut *cut, const char *text, size_t first)
{
    size_t   length = strlen(text), taken = 0, more = 0;
    enum cut what = http1_cut(cut, (const uint8_t *)text, first, &taken);

    assert_true(taken <= first);
    if (what == CUT_MORE) {
        assert_int_equal(taken, first);
        what = http1_cut(cut, (const uint8_t *)text + taken, length - taken, &more);
        taken += more;
        assert_true(taken <= length);
    }
    if (what == CUT_OPAQUE)
        return -2;
    return what == CUT_WHOLE ? (int)taken : -1;
}

static void assert_request(const char *text, int wanted, const char *label)
{
    for (size_t first = 0; first <= strlen(text); first++) {
        struct http1_cut cut = { 0 };
        http1_requests_start(&cut);
        int seen = cut_in_two(&cut, text, first);
        if (seen != wanted)
            fail_msg("\"%s\" cut at %zu: %d instead of %d", text, first, seen, wanted);
        http1_free(&cut);
        if (label != NULL)
            assert_string_equal(cut.request.label, label);
    }
}

static void assert_answer(const struct cut_request *request, const char *text, int wanted)
{
    static const struct cut_request get = { .label = "GET /" };

    for (size_t first = 0; first <= strlen(text); first++) {
        struct http1_cut cut = { 0 };
        http1_answer_start(&cut, request != NULL ? request : &get);
        int seen = cut_in_two(&cut, text, first);
        if (seen != wanted)
            fail_msg("\"%s\" cut at %zu: %d instead of %d", text, first, seen, wanted);
        http1_free(&cut);
    }
}

#define WHOLE(text) (int)strlen(text)

static void a_request_ends_behind_its_head_or_body(void **state)
{
    (void)state;
    assert_request("GET /a/17?x=1 HTTP/1.1\r\nHost: x\r\n\r\nGET", 35, "GET /a/#");
    assert_request("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET", 41, "POST /");
    assert_request("\r\nGET / HTTP/1.0\r\n\r\n", WHOLE("\r\nGET / HTTP/1.0\r\n\r\n"), "GET /");
    assert_request("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nX", 59,
                   "PUT /");
    assert_request("GET / HTTP/1.1\r\nHost: x\r\n", -1, NULL);
}

static void an_answer_ends_by_length_chunks_or_status(void **state)
{
    static const char *const whole[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200\r\ncontent-length:0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5;x=y\r\nhello\r\nA\r\n0123456789\r\n"
        "0\r\nTrailer: x\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    };

    (void)state;
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        assert_answer(NULL, whole[i], WHOLE(whole[i]));
    assert_answer(NULL, "HTTP/1.1 200 OK\r\n\r\nuntil the end", -1);
}

static void an_answer_to_head_has_no_body(void **state)
{
    struct cut_request  head = { .label = "HEAD /", .is_head = true };
    static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";

    (void)state;
    assert_answer(&head, text, WHOLE(text));
}

static void an_upgrade_and_a_tunnel_are_opaque(void **state)
{
    struct cut_request connect = { .label = "CONNECT", .is_connect = true };

    (void)state;
    assert_answer(NULL, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81", -2);
    assert_answer(&connect, "HTTP/1.1 200 OK\r\n\r\nanything", -2);
    assert_answer(&connect, "HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n",
                  WHOLE("HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"));
}

static void what_two_programs_might_read_in_two_ways_is_opaque(void **state)
{
    static const char *const requests[] = {
        "GET / HTTP/1.1\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\n\r\n",
        "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1 \r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET /\r\n\r\n",
        "\x16\x03\x01",
        "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nContent-Length: 9999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct http1_cut cut = { 0 };
        size_t           taken;
        http1_requests_start(&cut);
        if (http1_cut(&cut, (const uint8_t *)requests[i], strlen(requests[i]), &taken) !=
            CUT_OPAQUE)
            fail_msg("\"%s\" is not opaque", requests[i]);
        /* And it stays so. */
        assert_int_equal(http1_cut(&cut, (const uint8_t *)"GET / HTTP/1.1\r\n\r\n", 18, &taken),
                         CUT_OPAQUE);
        assert_int_equal(taken, 0);
    }
}

static void a_head_without_end_is_opaque_and_not_kept(void **state)
{
    struct http1_cut cut = { 0 };
    size_t           taken;
    enum cut         what = CUT_MORE;

    (void)state;
    http1_requests_start(&cut);
    assert_int_equal(http1_cut(&cut, (const uint8_t *)"GET / HTTP/1.1\r\n", 16, &taken), CUT_MORE);
    for (int i = 0; i < 100000 && what == CUT_MORE; i++)
        what = http1_cut(&cut, (const uint8_t *)"A: b\r\n", 6, &taken);
    assert_int_equal(what, CUT_OPAQUE);
}

static void pipelined_requests_are_cut_one_by_one(void **state)
{
    static const char text[] =
        "GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 1\r\n\r\nx"
        "HEAD /three HTTP/1.1\r\n\r\n";
    static const char *const labels[] = { "GET /#", "POST /#", "HEAD /three" };
    struct http1_cut cut = { 0 };
    size_t           at = 0, count = 0;

    (void)state;
    http1_requests_start(&cut);
    while (at < strlen(text)) {
        size_t taken;
        assert_int_equal(http1_cut(&cut, (const uint8_t *)text + at, strlen(text) - at, &taken),
                         CUT_WHOLE);
        assert_string_equal(cut.request.label, labels[count]);
        assert_int_equal(cut.request.is_head, count == 2);
        at += taken;
        count++;
    }
    assert_int_equal(count, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_ends_behind_its_head_or_body),
        cmocka_unit_test(an_answer_ends_by_length_chunks_or_status),
        cmocka_unit_test(an_answer_to_head_has_no_body),
        cmocka_unit_test(an_upgrade_and_a_tunnel_are_opaque),
        cmocka_unit_test(what_two_programs_might_read_in_two_ways_is_opaque),
        cmocka_unit_test(a_head_without_end_is_opaque_and_not_kept),
        cmocka_unit_test(pipelined_requests_are_cut_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
