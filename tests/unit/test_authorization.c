/*
 * test_authorization.c — who may ask the admin endpoint: Host, Origin and the token.
 */
#include "admin/authorization.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/files.h"

static bool may_ask(const char *host, const char *origin, const char *admin_host)
{
    struct credentials credentials = { .host = host, .origin = origin };

    return authorization_refuses(&credentials, admin_host) == NULL;
}

static void test_a_host_is_an_address_or_localhost(void **state)
{
    static const char *const ours[] = { "127.0.0.1", "127.0.0.1:9901", "localhost", "LOCALHOST:1",
                                        "[::1]:9901", "[::1]", "::1", "10.1.2.3" };
    static const char *const others[] = { "",
                                          ":9901",
                                          "evil.example",
                                          "evil.example:9901",
                                          "localhost.evil.example",
                                          "127.0.0.1.evil.example",
                                          "[::1].evil.example",
                                          "[evil.example]",
                                          "localhost@evil.example",
                                          "127.0.0.1@evil.example:1" };

    (void)state;
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        assert_true(may_ask(ours[i], NULL, NULL));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (may_ask(others[i], NULL, NULL))
            fail_msg("Host %s is let in", others[i]);
    }
    assert_true(may_ask(NULL, NULL, NULL));
}

static void test_an_open_page_may_be_asked_for_under_any_name(void **state)
{
    const struct credentials scraper = { .host = "doppel.example:9901" };
    const struct credentials own = { .host = "evil.example", .origin = "http://evil.example" };
    const struct credentials other = { .host = "evil.example", .origin = "http://other.example" };

    (void)state;
    assert_null(authorization_refuses_origin(&scraper));
    assert_null(authorization_refuses_origin(&own));
    assert_non_null(authorization_refuses_origin(&other));
}

static void test_the_admin_host_is_let_in_by_its_whole_name(void **state)
{
    (void)state;
    assert_true(may_ask("doppel.example", NULL, "doppel.example"));
    assert_true(may_ask("Doppel.Example:9901", NULL, "doppel.example"));
    assert_true(may_ask("doppel.example.", NULL, "doppel.example"));
    assert_true(may_ask("doppel.example.:9901", NULL, "doppel.example"));
    assert_false(may_ask("doppel.example..", NULL, "doppel.example"));
    assert_false(may_ask(".", NULL, "doppel.example"));
    assert_false(may_ask("x.doppel.example", NULL, "doppel.example"));
    assert_false(may_ask("doppel.example.org", NULL, "doppel.example"));
    assert_true(may_ask("127.0.0.1", NULL, "doppel.example"));
}

static void test_a_host_that_is_longer_than_any_name_is_refused(void **state)
{
    char host[10000];

    (void)state;
    memset(host, '1', sizeof host);
    host[sizeof host - 1] = '\0';
    assert_false(may_ask(host, NULL, NULL));
}

static void test_an_origin_is_the_host_that_is_asked(void **state)
{
    static const char *const others[] = {
        "",
        "null",
        "http://",
        "http://evil.example",
        "http://127.0.0.1",
        "http://127.0.0.1:9902",
        "http://127.0.0.1:99011",
        "file://127.0.0.1:9901",
        "127.0.0.1:9901",
        "evil://http://127.0.0.1:9901",
    };

    (void)state;
    assert_true(may_ask("127.0.0.1:9901", "http://127.0.0.1:9901", NULL));
    assert_true(may_ask("127.0.0.1:9901", "https://127.0.0.1:9901", NULL));
    assert_true(may_ask("localhost:9901", "HTTP://LOCALHOST:9901", NULL));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (may_ask("127.0.0.1:9901", others[i], NULL))
            fail_msg("Origin %s is let in", others[i]);
    }
    assert_false(may_ask(NULL, "http://127.0.0.1:9901", NULL));
}

/* --- the token */

static char path[] = "/tmp/test_gate.XXXXXX";

static bool read_token(struct token *token, const char *text, size_t length, struct fault *fault)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, length, file), length);
    fclose(file);
    files_forget();
    return token_read(token, path, fault);
}

static bool opens(const struct token *token, const char *authorization)
{
    struct credentials credentials = { .authorization = authorization };

    return authorization_has_token(&credentials, token);
}

static void test_the_token_opens_and_nothing_else_does(void **state)
{
    static const char *const wrong[] = { "",
                                         "Bearer",
                                         "Bearer ",
                                         "Bearer s3cre",
                                         "Bearer s3cret2",
                                         "Bearer S3cret",
                                         "Bearer  s3cret",
                                         "Bearer s3cret ",
                                         "Basic s3cret",
                                         "Digest s3cret",
                                         "s3cret" };
    struct token token;
    struct fault fault;

    (void)state;
    assert_true(read_token(&token, "s3cret\n", 7, &fault));
    assert_true(opens(&token, "Bearer s3cret"));
    assert_true(opens(&token, "bearer s3cret"));
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (opens(&token, wrong[i]))
            fail_msg("\"%s\" opens", wrong[i]);
    }
    assert_false(opens(&token, NULL));
    assert_true(read_token(&token, "s3cret", 6, &fault));
    assert_true(opens(&token, "Bearer s3cret"));
}

static void test_without_a_token_nothing_opens(void **state)
{
    struct token token;
    struct fault fault;

    (void)state;
    assert_true(token_read(&token, NULL, &fault));
    assert_false(opens(&token, "Bearer "));
    assert_false(opens(&token, "Bearer x"));
    assert_false(opens(&token, NULL));
}

static void test_the_longest_token_opens_and_a_longer_one_is_refused(void **state)
{
    static char text[TOKEN_MAX + 2];
    static char header[TOKEN_MAX + 20];
    struct token token;
    struct fault fault;

    (void)state;
    memset(text, 'x', sizeof text);
    assert_false(read_token(&token, text, TOKEN_MAX + 1, &fault));
    assert_false(read_token(&token, text, TOKEN_MAX + 2, &fault));
    assert_non_null(strstr(fault.text, "at most 4096 bytes"));
    text[TOKEN_MAX] = '\n';
    assert_true(read_token(&token, text, TOKEN_MAX + 1, &fault));
    snprintf(header, sizeof header, "Bearer %.*s", TOKEN_MAX, text);
    assert_true(opens(&token, header));
    strcat(header, "x");
    assert_false(opens(&token, header));
}

static void test_what_is_no_token_is_refused_with_a_sentence(void **state)
{
    static const char *const wrong[] = {
        "", "\n", "two words\n", "two\nlines\n", "tab\t\n", "umlaut\xc3\xa4\n", "return\r\n"
    };
    struct token token;
    struct fault fault;

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_false(read_token(&token, wrong[i], strlen(wrong[i]), &fault));
        assert_non_null(strstr(fault.text, "--admin-token-file"));
        assert_int_equal(token.length, 0);
    }
    assert_false(read_token(&token, "nul\0byte", 8, &fault));
    assert_false(token_read(&token, "/nonexistent/token", &fault));
    assert_non_null(strstr(fault.text, "cannot be read: No such file"));
    assert_false(token_read(&token, "/", &fault));
}

static int make_path(void **state)
{
    (void)state;
    int fd = mkstemp(path);

    if (fd < 0)
        return -1;
    close(fd);
    return 0;
}

static int drop_path(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_host_is_an_address_or_localhost),
        cmocka_unit_test(test_an_open_page_may_be_asked_for_under_any_name),
        cmocka_unit_test(test_the_admin_host_is_let_in_by_its_whole_name),
        cmocka_unit_test(test_a_host_that_is_longer_than_any_name_is_refused),
        cmocka_unit_test(test_an_origin_is_the_host_that_is_asked),
        cmocka_unit_test(test_the_token_opens_and_nothing_else_does),
        cmocka_unit_test(test_without_a_token_nothing_opens),
        cmocka_unit_test(test_the_longest_token_opens_and_a_longer_one_is_refused),
        cmocka_unit_test(test_what_is_no_token_is_refused_with_a_sentence),
    };

    return cmocka_run_group_tests(tests, make_path, drop_path);
}
