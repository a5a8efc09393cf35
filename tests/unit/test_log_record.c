/*
 * test_log_record.c — lines are bounded, whole, and cannot be forged by what is put into them.
 */
#include "base/log_record.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static struct log_record line;

/* Closes the line and answers it as a string, without its newline. */
static const char *finished(void)
{
    static char text[LOG_RECORD_MAX_BYTES + 1];
    size_t length = log_record_end(&line);

    assert_in_range(length, 1, LOG_RECORD_MAX_BYTES);
    assert_int_equal(line.bytes[length - 1], '\n');
    assert_null(memchr(line.bytes, '\n', length - 1));
    memcpy(text, line.bytes, length - 1);
    text[length - 1] = '\0';
    return text;
}

static void test_members_of_every_kind_stand_in_both_forms(void **state)
{
    static const char *const expected[] = {
        [FORMAT_TEXT] = "worker 2 name=canary bytes=18446744073709551615 seconds=4.201",
        [FORMAT_JSON] = "{\"whose\":\"worker 2\",\"name\":\"canary\","
                        "\"bytes\":18446744073709551615,\"seconds\":4.201}",
    };

    (void)state;
    for (enum log_format format = FORMAT_TEXT; format <= FORMAT_JSON; format++) {
        log_record_start(&line, format);
        log_record_word(&line, "whose", "worker 2");
        log_record_text(&line, "name", "canary");
        log_record_text(&line, "absent", NULL);
        log_record_number(&line, "bytes", UINT64_MAX);
        log_record_decimal(&line, "seconds", 4.2014, 3);
        log_record_decimal(&line, "unknown", (double)NAN, 3);
        assert_string_equal(finished(), expected[format]);
    }
}

static void test_columns_stand_below_each_other_in_text(void **state)
{
    static const char *const expected[] = {
        [FORMAT_TEXT] = "ab        12 longer-than-it \"a b\" ",
        [FORMAT_JSON] = "{\"name\":\"ab\",\"bytes\":\"12\",\"more\":\"longer-than-it\","
                        "\"odd\":\"a b\"}",
    };

    (void)state;
    for (enum log_format format = FORMAT_TEXT; format <= FORMAT_JSON; format++) {
        log_record_start(&line, format);
        log_record_column(&line, "name", "ab", -5);
        log_record_column(&line, "bytes", "12", 6);
        log_record_column(&line, "more", "longer-than-it", -4);
        log_record_column(&line, "odd", "a b", -4);
        log_record_column(&line, "absent", NULL, 4);
        assert_string_equal(finished(), expected[format]);
    }
}

static void test_text_is_escaped(void **state)
{
    static const struct {
        const char *value;
        const char *text;
        const char *json;
    } rows[] = {
        { "", "k=\"\"", "\"\"" },
        { "plain", "k=plain", "\"plain\"" },
        { "[::]:8080,a:(b)", "k=[::]:8080,a:(b)", "\"[::]:8080,a:(b)\"" },
        { "two words", "k=\"two words\"", "\"two words\"" },
        { "a=b", "k=\"a=b\"", "\"a=b\"" },
        { "say \"hi\"", "k=\"say \\\"hi\\\"\"", "\"say \\\"hi\\\"\"" },
        { "back\\slash", "k=\"back\\\\slash\"", "\"back\\\\slash\"" },
        { "one\ntwo", "k=\"one\\x0atwo\"", "\"one\\u000atwo\"" },
        { "\r\t\x1b[31m\x7f", "k=\"\\x0d\\x09\\x1b[31m\\x7f\"",
          "\"\\u000d\\u0009\\u001b[31m\\u007f\"" },
        { "gr\xc3\xbc\xc3\x9f", "k=gr\xc3\xbc\xc3\x9f", "\"gr\xc3\xbc\xc3\x9f\"" },
        { "\xf0\x9f\x90\x99", "k=\xf0\x9f\x90\x99", "\"\xf0\x9f\x90\x99\"" },
        { "\xc2\x9b[2J", "k=\"\\xc2\\x9b[2J\"", "\"\\u009b[2J\"" }, /* C1: CSI */
        { "\xe2\x80\xa8", "k=\"\\xe2\\x80\\xa8\"", "\"\\u2028\"" }, /* line separator */
        { "\xff\xfe", "k=\"\\xff\\xfe\"", "\"\\\\xff\\\\xfe\"" },
        { "\xc3", "k=\"\\xc3\"", "\"\\\\xc3\"" },                                 /* cut short */
        { "\xc0\xaf", "k=\"\\xc0\\xaf\"", "\"\\\\xc0\\\\xaf\"" },                 /* overlong '/' */
        { "\xe0\x80\x8a", "k=\"\\xe0\\x80\\x8a\"", "\"\\\\xe0\\\\x80\\\\x8a\"" }, /* overlong LF */
        { "\xed\xa0\x80", "k=\"\\xed\\xa0\\x80\"", "\"\\\\xed\\\\xa0\\\\x80\"" }, /* surrogate */
        { "\xf4\x90\x80\x80", "k=\"\\xf4\\x90\\x80\\x80\"",
          "\"\\\\xf4\\\\x90\\\\x80\\\\x80\"" }, /* above 10FFFF */
    };
    char json[200];

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        log_record_start(&line, FORMAT_TEXT);
        log_record_text(&line, "k", rows[i].value);
        assert_string_equal(finished(), rows[i].text);

        log_record_start(&line, FORMAT_JSON);
        log_record_text(&line, "k", rows[i].value);
        snprintf(json, sizeof json, "{\"k\":%s}", rows[i].json);
        assert_string_equal(finished(), json);
    }
}

static void put_two_shadows(enum log_format format)
{
    log_record_start(&line, format);
    log_record_text(&line, "name", "x");
    log_record_list(&line, "shadows");
    log_record_item(&line);
    log_record_text(&line, "name", "canary");
    log_record_number(&line, "sent_bytes", 12);
    assert_true(log_record_item_fits(&line));
    log_record_item(&line);
    log_record_text(&line, "name", "next");
    log_record_list_end(&line);
    log_record_number(&line, "after", 1);
}

static void test_a_list_of_objects_stands_in_both_forms(void **state)
{
    (void)state;
    put_two_shadows(FORMAT_JSON);
    assert_string_equal(finished(), "{\"name\":\"x\",\"shadows\":[{\"name\":\"canary\","
                                    "\"sent_bytes\":12},{\"name\":\"next\"}],\"after\":1}");
    put_two_shadows(FORMAT_TEXT);
    assert_string_equal(finished(), "name=x shadows.0.name=canary shadows.0.sent_bytes=12 "
                                    "shadows.1.name=next after=1");
}

static void test_an_empty_line_and_an_empty_list_are_valid(void **state)
{
    (void)state;
    log_record_start(&line, FORMAT_JSON);
    assert_string_equal(finished(), "{}");
    log_record_start(&line, FORMAT_TEXT);
    assert_string_equal(finished(), "");
    log_record_start(&line, FORMAT_JSON);
    log_record_list(&line, "shadows");
    log_record_list_end(&line);
    assert_string_equal(finished(), "{\"shadows\":[]}");
}

/* As the access log does it: objects until one does not fit, then their missing number. */
static int put_shadows_until_full(enum log_format format, size_t address_bytes)
{
    char address[5000];
    int omitted = 0;

    memset(address, 'a', sizeof address);
    address[address_bytes] = '\0';
    log_record_start(&line, format);
    log_record_text(&line, "session", "6b1f2c90-1-2a");
    log_record_list(&line, "shadows");
    for (int i = 0; i < 40; i++) {
        log_record_item(&line);
        log_record_text(&line, "name", "canary");
        log_record_text(&line, "address", address);
        log_record_number(&line, "sent_bytes", UINT64_MAX);
        omitted += !log_record_item_fits(&line);
    }
    log_record_list_end(&line);
    log_record_number(&line, "shadows_omitted", UINT64_MAX);
    return omitted;
}

static void test_an_object_that_does_not_fit_is_taken_back_whole(void **state)
{
    static const char *const expected[] = {
        [FORMAT_TEXT] = " shadows_omitted=18446744073709551615",
        [FORMAT_JSON] = "],\"shadows_omitted\":18446744073709551615}",
    };

    (void)state;
    for (enum log_format format = FORMAT_TEXT; format <= FORMAT_JSON; format++) {
        for (size_t bytes = 0; bytes < 4200; bytes += 7) {
            int omitted = put_shadows_until_full(format, bytes);
            assert_int_equal(line.overflowed, omitted > 0);
            const char *text = finished();
            const char *sent = text;
            int complete = 0;
            while ((sent = strstr(sent, "sent_bytes")) != NULL) {
                complete++;
                sent++;
            }
            assert_int_equal(complete + omitted, 40);
            assert_int_equal(line.item, complete);
            assert_non_null(strstr(text, expected[format]));
        }
    }
}

static void test_a_line_never_exceeds_its_bound_and_says_what_is_missing(void **state)
{
    char value[LOG_RECORD_MAX_BYTES + 100];

    (void)state;
    for (enum log_format format = FORMAT_TEXT; format <= FORMAT_JSON; format++) {
        for (size_t bytes = 3800; bytes < sizeof value; bytes++) {
            memset(value, bytes % 2 ? 'v' : '\n', bytes);
            value[bytes] = '\0';
            log_record_start(&line, format);
            log_record_text(&line, "first", "kept");
            log_record_text(&line, "value", value);
            log_record_number(&line, "last", 1);
            log_record_list(&line, "shadows");
            log_record_item(&line);
            log_record_text(&line, "name", value);
            log_record_list_end(&line);
            log_record_number(&line, "shadows_omitted", 1);
            bool left_out = line.cut;
            const char *text = finished();
            assert_int_equal(strstr(text, "truncated") != NULL, left_out);
            assert_non_null(strstr(text, "kept"));
            assert_non_null(strstr(text, "shadows_omitted"));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members_of_every_kind_stand_in_both_forms),
        cmocka_unit_test(test_columns_stand_below_each_other_in_text),
        cmocka_unit_test(test_text_is_escaped),
        cmocka_unit_test(test_a_list_of_objects_stands_in_both_forms),
        cmocka_unit_test(test_an_empty_line_and_an_empty_list_are_valid),
        cmocka_unit_test(test_an_object_that_does_not_fit_is_taken_back_whole),
        cmocka_unit_test(test_a_line_never_exceeds_its_bound_and_says_what_is_missing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
