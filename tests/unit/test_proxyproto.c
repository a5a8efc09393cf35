/*
 * test_proxyproto.c — PROXY headers: what is one, what is none, and that pieces change nothing.
 */
#include "proxyproto/proxyproto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tls/tls_facts.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
/* 10.0.0.9:51312 to 10.0.1.5:443 */
#define IPV4      "\x0a\0\0\x09\x0a\0\1\5\xc8\x70\1\xbb"
/* [2001:db8::9]:1 to [2001:db8::5]:65535 */
#define IPV6                                                                                       \
    "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09"                                                     \
    "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\5\0\1\xff\xff"
#define X10  "xxxxxxxxxx"
#define X91  X10 X10 X10 X10 X10 X10 X10 X10 X10 "x"
#define X108 X91 X10 "xxxxxxx"

/* A header as it comes, and what it must be taken for.  source NULL: it tells of nobody. */
struct sample {
    const char *what;
    const char *bytes;
    size_t      length;
    const char *source;
    const char *destination;
    bool        is_mirrored;
};

#define BYTES(text) text, sizeof text - 1

static const struct sample good[] = {
    { "v1, TCP4", BYTES("PROXY TCP4 10.0.0.9 10.0.1.5 51312 443\r\n"), "10.0.0.9:51312",
      "10.0.1.5:443", false },
    { "v1, greatest", BYTES("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"),
      "255.255.255.255:65535", "255.255.255.255:65535", false },
    { "v1, port 0", BYTES("PROXY TCP4 10.0.0.9 10.0.1.5 0 443\r\n"), "10.0.0.9:0", "10.0.1.5:443",
      false },
    { "v1, TCP6", BYTES("PROXY TCP6 2001:DB8::9 ::1 1 65535\r\n"), "[2001:db8::9]:1", "[::1]:65535",
      false },
    { "v1, TCP6 mapped", BYTES("PROXY TCP6 ::ffff:10.0.0.9 ::ffff:10.0.1.5 1 2\r\n"), "10.0.0.9:1",
      "10.0.1.5:2", false },
    { "v1, UNKNOWN", BYTES("PROXY UNKNOWN\r\n"), NULL, NULL, false },
    { "v1, UNKNOWN and text", BYTES("PROXY UNKNOWN ffff::1 x=\x1b[31m 1 2\r\n"), NULL, NULL,
      false },
    { "v1, 107 bytes", BYTES("PROXY UNKNOWN " X91 "\r\n"), NULL, NULL, false },
    { "v2, IPv4", BYTES(SIGNATURE "\x21\x11\0\x0c" IPV4), "10.0.0.9:51312", "10.0.1.5:443", false },
    { "v2, IPv4 datagram", BYTES(SIGNATURE "\x21\x12\0\x0c" IPV4), "10.0.0.9:51312", "10.0.1.5:443",
      false },
    { "v2, IPv6", BYTES(SIGNATURE "\x21\x21\0\x24" IPV6), "[2001:db8::9]:1", "[2001:db8::5]:65535",
      false },
    { "v2, paths", BYTES(SIGNATURE "\x21\x31\0\xd8" X108 X108), "unix:" X91 X10 "xxxxxx",
      "unix:" X91 X10 "xxxxxx", false },
    { "v2, unspecified", BYTES(SIGNATURE "\x21\0\0\0"), NULL, NULL, false },
    { "v2, unspecified with junk", BYTES(SIGNATURE "\x21\0\0\3\xff\xff\xff"), NULL, NULL, false },
    { "v2, LOCAL", BYTES(SIGNATURE "\x20\0\0\0"), NULL, NULL, false },
    { "v2, LOCAL with addresses", BYTES(SIGNATURE "\x20\x11\0\x0c" IPV4), NULL, NULL, false },
    { "v2, LOCAL with junk", BYTES(SIGNATURE "\x20\xff\0\2\xff\xff"), NULL, NULL, false },
    { "v2, unknown values", BYTES(SIGNATURE "\x21\x11\0\x14" IPV4 "\x04\0\1x\xee\0\1y"),
      "10.0.0.9:51312", "10.0.1.5:443", false },
    { "v2, a copy",
      BYTES(SIGNATURE "\x21\x11\0\x1e" IPV4 "\xe0\0\x0f"
                      "doppel-mirrored"),
      "10.0.0.9:51312", "10.0.1.5:443", true },
    { "v2, somebody else's 0xe0",
      BYTES(SIGNATURE "\x21\x11\0\x14" IPV4 "\xe0\0\5"
                      "doppe"),
      "10.0.0.9:51312", "10.0.1.5:443", false },
    { "v2, checksum", BYTES(SIGNATURE "\x21\x11\0\x13" IPV4 "\3\0\4\x08\xba\x43\x34"),
      "10.0.0.9:51312", "10.0.1.5:443", false },
};

static const struct sample bad[] = {
    { .what = "no header", BYTES("GET / HTTP/1.1\r\n") },
    { .what = "lower case", BYTES("proxy TCP4 10.0.0.9 10.0.1.5 1 2\r\n") },
    { .what = "lower case family", BYTES("PROXY tcp4 10.0.0.9 10.0.1.5 1 2\r\n") },
    { .what = "two blanks", BYTES("PROXY TCP4  10.0.0.9 10.0.1.5 1 2\r\n") },
    { .what = "two blanks in front", BYTES("PROXY  TCP4 10.0.0.9 10.0.1.5 1 2\r\n") },
    { .what = "a blank at the end", BYTES("PROXY TCP4 10.0.0.9 10.0.1.5 1 2 \r\n") },
    { .what = "a word more", BYTES("PROXY TCP4 10.0.0.9 10.0.1.5 1 2 3\r\n") },
    { .what = "a word less", BYTES("PROXY TCP4 10.0.0.9 10.0.1.5 1\r\n") },
    { .what = "a tab", BYTES("PROXY\tTCP4 10.0.0.9 10.0.1.5 1 2\r\n") },
    { .what = "no family", BYTES("PROXY \r\n") },
    { .what = "another family", BYTES("PROXY UDP4 10.0.0.9 10.0.1.5 1 2\r\n") },
    { .what = "UNKNOWN and more", BYTES("PROXY UNKNOWNS\r\n") },
    { .what = "port 65536", BYTES("PROXY TCP4 10.0.0.9 10.0.1.5 65536 2\r\n") },
    { .what = "port 99999999999", BYTES("PROXY TCP4 10.0.0.9 10.0.1.5 99999999999 2\r\n") },
    { .what = "port 01", BYTES("PROXY TCP4 10.0.0.9 10.0.1.5 01 2\r\n") },
    { .what = "port -1", BYTES("PROXY TCP4 10.0.0.9 10.0.1.5 -1 2\r\n") },
    { .what = "port +1", BYTES("PROXY TCP4 10.0.0.9 10.0.1.5 +1 2\r\n") },
    { .what = "address 010.0.0.9", BYTES("PROXY TCP4 010.0.0.9 10.0.1.5 1 2\r\n") },
    { .what = "address 10.9", BYTES("PROXY TCP4 10.9 10.0.1.5 1 2\r\n") },
    { .what = "address 256.0.0.1", BYTES("PROXY TCP4 256.0.0.1 10.0.1.5 1 2\r\n") },
    { .what = "IPv6 as TCP4", BYTES("PROXY TCP4 ::1 ::1 1 2\r\n") },
    { .what = "IPv4 as TCP6", BYTES("PROXY TCP6 10.0.0.9 10.0.1.5 1 2\r\n") },
    { .what = "a zone", BYTES("PROXY TCP6 fe80::1%lo fe80::2 1 2\r\n") },
    { .what = "a name", BYTES("PROXY TCP4 localhost 10.0.1.5 1 2\r\n") },
    { .what = "a zero byte", BYTES("PROXY TCP4 10.0.0.9 10.0.1.5 1 2\0\r\n") },
    { .what = "a lone LF", BYTES("PROXY TCP4 10.0.0.9 10.0.1.5 1 2\n") },
    { .what = "a lone CR", BYTES("PROXY UNKNOWN \r x\r\n") },
    { .what = "CR CR LF", BYTES("PROXY UNKNOWN\r\r\n") },
    { .what = "108 bytes", BYTES("PROXY UNKNOWN " X91 "x\r\n") },
    { .what = "no end in 107 bytes", BYTES("PROXY UNKNOWN " X91 X10) },
    { .what = "version 1 in binary", BYTES(SIGNATURE "\x11\x11\0\x0c" IPV4) },
    { .what = "version 3", BYTES(SIGNATURE "\x31\x11\0\x0c" IPV4) },
    { .what = "command 2", BYTES(SIGNATURE "\x22\x11\0\x0c" IPV4) },
    { .what = "family 4", BYTES(SIGNATURE "\x21\x41\0\x0c" IPV4) },
    { .what = "transport 3", BYTES(SIGNATURE "\x21\x13\0\x0c" IPV4) },
    { .what = "transport 0", BYTES(SIGNATURE "\x21\x10\0\x0c" IPV4) },
    { .what = "unspecified family, stream", BYTES(SIGNATURE "\x21\1\0\x0c" IPV4) },
    { .what = "length 0xffff", BYTES(SIGNATURE "\x21\x11\xff\xff") },
    { .what = "4097 bytes", BYTES(SIGNATURE "\x20\x11\x0f\xf1") },
    { .what = "too short for IPv4", BYTES(SIGNATURE "\x21\x11\0\x0b" IPV4) },
    { .what = "too short for IPv6", BYTES(SIGNATURE "\x21\x21\0\x0c" IPV4) },
    { .what = "a value too long", BYTES(SIGNATURE "\x21\x11\0\x10" IPV4 "\4\0\2x") },
    { .what = "a value without length", BYTES(SIGNATURE "\x21\x11\0\x0e" IPV4 "\4\0") },
    { .what = "a wrong checksum", BYTES(SIGNATURE "\x21\x11\0\x13" IPV4 "\3\0\4\x08\xba\x43\x35") },
    { .what = "a short checksum", BYTES(SIGNATURE "\x21\x11\0\x12" IPV4 "\3\0\3\x08\xba\x43") },
    { .what = "a changed signature", BYTES("\r\n\r\n\0\r\nQUIP\n\x21\x11\0\x0c" IPV4) },
};

static enum proxy_reading read_some(const char *bytes, size_t length, struct proxy_header *header,
                                    size_t *used)
{
    const char *why = NULL;
    /* A block of its own: a byte too far is one that the sanitizer sees. */
    uint8_t *copy = malloc(length + (length == 0));

    memcpy(copy, bytes, length);
    enum proxy_reading reading = proxy_header_read(copy, length, header, used, &why);
    assert_true((reading == PROXY_REFUSED) == (why != NULL));
    free(copy);
    return reading;
}

static void assert_address(const char *what, const struct address *address, const char *wanted)
{
    char text[ADDRESS_TEXT] = "";

    if (wanted == NULL && address->length == 0)
        return;
    address_print(address, text);
    if (wanted == NULL || strcmp(text, wanted) != 0)
        fail_msg("%s: %s instead of %s", what, text, wanted != NULL ? wanted : "nothing");
}

static void assert_header(const struct sample *sample, const struct proxy_header *header)
{
    assert_address(sample->what, &header->source, sample->source);
    assert_address(sample->what, &header->destination, sample->destination);
    if (header->is_mirrored != sample->is_mirrored)
        fail_msg("%s: is_mirrored is %d", sample->what, header->is_mirrored);
}

static void test_a_good_header_is_taken_whole_and_not_one_byte_more(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        const struct sample *sample = &good[i];
        struct proxy_header  header;
        char                 bytes[PROXY_HEADER_MAX];
        size_t               used;

        for (size_t length = 0; length < sample->length; length++)
            if (read_some(sample->bytes, length, &header, &used) != PROXY_INCOMPLETE)
                fail_msg("%s: %zu of %zu bytes are enough", sample->what, length, sample->length);
        memcpy(bytes, sample->bytes, sample->length);
        memcpy(bytes + sample->length, "\r\nPROXY ", 8);
        for (size_t further = 0; further <= 8; further++) {
            if (read_some(bytes, sample->length + further, &header, &used) != PROXY_COMPLETE)
                fail_msg("%s: refused", sample->what);
            if (used != sample->length)
                fail_msg("%s: %zu bytes used of %zu", sample->what, used, sample->length);
            assert_header(sample, &header);
        }
    }
}

static void test_a_bad_header_is_refused_and_more_bytes_do_not_help(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const struct sample *sample = &bad[i];
        enum proxy_reading   before = PROXY_INCOMPLETE;
        struct proxy_header  header;
        size_t               used;

        for (size_t length = 0; length <= sample->length; length++) {
            enum proxy_reading reading = read_some(sample->bytes, length, &header, &used);

            if (reading == PROXY_COMPLETE || reading < before)
                fail_msg("%s: %zu bytes are taken", sample->what, length);
            before = reading;
        }
        if (before != PROXY_REFUSED)
            fail_msg("%s: not refused", sample->what);
    }
}

static void test_a_header_of_4096_bytes_is_the_longest(void **state)
{
    (void)state;
    char                bytes[PROXY_HEADER_MAX] = SIGNATURE "\x20\x11\x0f\xf0";
    struct proxy_header header;
    size_t              used;

    assert_int_equal(read_some(bytes, sizeof bytes - 1, &header, &used), PROXY_INCOMPLETE);
    assert_int_equal(read_some(bytes, sizeof bytes, &header, &used), PROXY_COMPLETE);
    assert_int_equal(used, PROXY_HEADER_MAX);
}

static struct proxy_header header_of(const char *source, const char *destination)
{
    struct proxy_header header = { .is_mirrored = false };

    assert_true(address_parse(&header.source, source, 51312));
    assert_true(address_parse(&header.destination, destination, 443));
    return header;
}

static void assert_line(const struct proxy_header *header, const char *line)
{
    uint8_t bytes[PROXY_HEADER_WRITTEN];
    size_t  length = proxy_header_write(bytes, PROXY_V1, header, NULL);

    assert_int_equal(length, strlen(line));
    assert_memory_equal(bytes, line, length);
}

static void test_lines_have_the_family_of_their_addresses(void **state)
{
    (void)state;
    struct proxy_header header = header_of("10.0.0.9", "10.0.1.5");

    assert_line(&header, "PROXY TCP4 10.0.0.9 10.0.1.5 51312 443\r\n");
    header = header_of("2001:db8::9", "::1");
    assert_line(&header, "PROXY TCP6 2001:db8::9 ::1 51312 443\r\n");
    header = header_of("::ffff:10.0.0.9", "::ffff:10.0.1.5");
    assert_line(&header, "PROXY TCP4 10.0.0.9 10.0.1.5 51312 443\r\n");
    header = header_of("::ffff:10.0.0.9", "::1");
    assert_line(&header, "PROXY TCP6 ::ffff:10.0.0.9 ::1 51312 443\r\n");
    header = header_of("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                       "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    uint8_t bytes[PROXY_HEADER_WRITTEN];
    assert_true(proxy_header_write(bytes, PROXY_V1, &header, NULL) <= 107);
    address_of_path(&header.source, "/run/a");
    assert_line(&header, "PROXY UNKNOWN\r\n");
    address_of_path(&header.destination, "/run/b");
    assert_line(&header, "PROXY UNKNOWN\r\n");
    assert_int_equal(proxy_header_write(bytes, PROXY_OFF, &header, NULL), 0);
}

static void assert_binary(const struct proxy_header *header, const char *wanted, size_t length)
{
    uint8_t bytes[PROXY_HEADER_WRITTEN];

    assert_int_equal(proxy_header_write(bytes, PROXY_V2, header, NULL), length);
    assert_memory_equal(bytes, wanted, length);
}

static void test_binary_headers_are_those_of_the_document(void **state)
{
    (void)state;
    struct proxy_header header = header_of("10.0.0.9", "10.0.1.5");

    assert_binary(&header, BYTES(SIGNATURE "\x21\x11\0\x0c" IPV4));
    header = header_of("2001:db8::9", "2001:db8::5");
    address_set_port(&header.source, 1);
    address_set_port(&header.destination, 65535);
    assert_binary(&header, BYTES(SIGNATURE "\x21\x21\0\x24" IPV6));
    address_of_path(&header.source, "/run/a");
    assert_binary(&header, BYTES(SIGNATURE "\x21\0\0\0"));
}

static void test_a_shadows_header_tells_what_it_gets(void **state)
{
    (void)state;
    static const char long_name[] = X108 X108;
    const struct proxy_marks marks = { .session = "1-2-3", .listener = "8080" };
    const struct proxy_marks long_marks = { .session = long_name, .listener = long_name };
    struct proxy_header      header = header_of("10.0.0.9", "10.0.1.5");
    uint8_t                  bytes[PROXY_HEADER_WRITTEN];
    static const char        wanted[] = SIGNATURE "\x21\x11\0\x2d" IPV4 "\xe0\0\x0f"
                                           "doppel-mirrored\5\0\5"
                                           "1-2-3\xe1\0\4"
                                           "8080";

    assert_int_equal(proxy_header_write(bytes, PROXY_V2, &header, &marks), sizeof wanted - 1);
    assert_memory_equal(bytes, wanted, sizeof wanted - 1);

    address_of_path(&header.source, long_name);
    address_of_path(&header.destination, long_name);
    size_t used;
    size_t length = proxy_header_write(bytes, PROXY_V2, &header, &long_marks);
    assert_int_equal(length, 16 + 216 + 3 + 15 + 2 * (3 + 128));
    assert_true(length <= sizeof bytes);
    assert_int_equal(read_some((const char *)bytes, length, &header, &used), PROXY_COMPLETE);
    assert_true(header.is_mirrored);
}

/* 20, of length 25: bits, verified or not, version, name, cipher; then whom it asked for, and how to
 * talk. */
static const struct {
    struct tls_facts tls;
    const char      *bytes;
    size_t           length;
} tls_samples[] = {
    { { .version = "TLSv1.3", .cipher = "A-B" },
      BYTES("\x20\0\x15\1\0\0\0\1\x21\0\7TLSv1.3\x23\0\3A-B") },
    { { .version = "TLSv1.2", .cipher = "A-B", .has_certificate = true },
      BYTES("\x20\0\x15\7\0\0\0\0\x21\0\7TLSv1.2\x23\0\3A-B") },
    { { .version = "TLSv1.2",
        .cipher = "A-B",
        .has_certificate = true,
        .was_resumed = true,
        .common_name = "al" },
      BYTES("\x20\0\x1a\5\0\0\0\0\x21\0\7TLSv1.2\x22\0\2al\x23\0\3A-B") },
    { { .version = "TLSv1.3", .cipher = "A-B", .server_name = "shop", .protocol = "h2" },
      BYTES("\x20\0\x15\1\0\0\0\1\x21\0\7TLSv1.3\x23\0\3A-B\2\0\4shop\1\0\2h2") },
};

static void test_a_shadows_header_tells_how_its_client_spoke_tls(void **state)
{
    const struct proxy_header header = header_of("10.0.0.9", "10.0.1.5");
    const struct proxy_marks  plain = { .session = "1", .listener = "2" };
    uint8_t                   bytes[PROXY_HEADER_WRITTEN];

    (void)state;
    const size_t before = proxy_header_write(bytes, PROXY_V2, &header, &plain);
    for (size_t i = 0; i < sizeof tls_samples / sizeof tls_samples[0]; i++) {
        const struct proxy_marks marks = { "1", "2", &tls_samples[i].tls };
        size_t                   length = proxy_header_write(bytes, PROXY_V2, &header, &marks);

        assert_int_equal(length, before + tls_samples[i].length);
        assert_memory_equal(bytes + before, tls_samples[i].bytes, tls_samples[i].length);
        assert_int_equal(bytes[14] << 8 | bytes[15], length - 16);
        assert_true(proxy_header_write(bytes, PROXY_V1, &header, &marks) <= 107);
    }
}

static void test_the_longest_header_has_its_bounds(void **state)
{
    char text[1000];

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    const struct tls_facts   tls = { text, text, text, text, text, true, false, IN_KERNEL_OFF };
    const struct proxy_marks marks = { text, text, &tls };
    struct proxy_header      header = header_of("10.0.0.9", "10.0.1.5");
    uint8_t                  bytes[PROXY_HEADER_WRITTEN];
    size_t                   used;

    address_of_path(&header.source, X108);
    address_of_path(&header.destination, X108);
    size_t length = proxy_header_write(bytes, PROXY_V2, &header, &marks);
    assert_int_equal(length,
                     16 + 216 + 3 + 15 + 2 * (3 + 128) + 3 + 5 + 2 * (3 + 64) + 3 * (3 + 255));
    assert_int_equal(read_some((const char *)bytes, length, &header, &used), PROXY_COMPLETE);
    assert_int_equal(used, length);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_good_header_is_taken_whole_and_not_one_byte_more),
        cmocka_unit_test(test_a_bad_header_is_refused_and_more_bytes_do_not_help),
        cmocka_unit_test(test_a_header_of_4096_bytes_is_the_longest),
        cmocka_unit_test(test_lines_have_the_family_of_their_addresses),
        cmocka_unit_test(test_binary_headers_are_those_of_the_document),
        cmocka_unit_test(test_a_shadows_header_tells_what_it_gets),
        cmocka_unit_test(test_a_shadows_header_tells_how_its_client_spoke_tls),
        cmocka_unit_test(test_the_longest_header_has_its_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
