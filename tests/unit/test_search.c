/*
 * test_search.c — a search list is read and applied as the C library does it.
 */
#include "dns/search.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Reads these lines, separated by |. */
static struct search read_lines(const char *lines)
{
    struct search search;
    char *copy = strdup(lines);

    search_clear(&search);
    for (char *line = strtok(copy, "|"); line != NULL; line = strtok(NULL, "|"))
        search_read_line(&search, line);
    free(copy);
    return search;
}

/* The names to ask for, with a blank between. */
static void assert_asks(const char *lines, const char *host, const char *expected)
{
    const struct search search = read_lines(lines);
    char name[HOST_TEXT];
    char all[2000] = "";
    size_t place = 0;

    while (search_next(&search, host, &place, name))
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", all[0] != '\0' ? " " : "",
                 name);
    assert_string_equal(all, expected);
}

static void test_a_short_name_is_completed_before_it_is_asked_for_as_it_is(void **state)
{
    (void)state;
    assert_asks("search a.test b.test", "db", "db.a.test db.b.test db");
    assert_asks("search\ta.test.  b.test\t\r\n", "db", "db.a.test db.b.test db");
    assert_asks("domain a.test b.test", "db", "db.a.test db");
}

static void test_a_name_with_enough_dots_is_asked_for_as_it_is_first(void **state)
{
    (void)state;
    assert_asks("search a.test", "db.b", "db.b db.b.a.test");
    assert_asks("search a.test|options edns0 ndots:2 trust-ad", "db.b", "db.b.a.test db.b");
    assert_asks("search a.test|options ndots:5", "w.x.y.z", "w.x.y.z.a.test w.x.y.z");
    assert_asks("search a.test|options ndots:0", "db", "db db.a.test");
    assert_asks("search a.test|options ndots:99", "a.b.c", "a.b.c.a.test a.b.c");
}

static void test_a_final_dot_and_an_empty_list_make_a_name_complete(void **state)
{
    (void)state;
    assert_asks("search a.test|options ndots:5", "db.b.", "db.b");
    assert_asks("nameserver 127.0.0.1", "db", "db");
    assert_asks("search .", "db", "db");
    assert_asks("search a.test|search", "db", "db");
}

static void test_the_last_list_counts_and_comments_do_not(void **state)
{
    (void)state;
    assert_asks("search a.test|domain b.test", "db", "db.b.test db");
    assert_asks("domain a.test|search b.test c.test", "db", "db.b.test db.c.test db");
    assert_asks("search a.test # ours|; search b.test|#search c.test|searching d.test", "db",
                "db.a.test db");
    assert_asks("search ..x a.test", "db", "db.a.test db");
}

static void test_the_environment_wins_over_the_file(void **state)
{
    struct search search = read_lines("search a.test|options ndots:1");
    size_t place = 0;
    char name[HOST_TEXT];

    (void)state;
    setenv("LOCALDOMAIN", "b.test", 1);
    setenv("RES_OPTIONS", "ndots:3", 1);
    search_read_environment(&search);
    unsetenv("LOCALDOMAIN");
    unsetenv("RES_OPTIONS");
    assert_true(search_next(&search, "db.x", &place, name));
    assert_string_equal(name, "db.x.b.test");
    assert_int_equal(search.ndots, 3);
}

static void test_lists_and_names_are_bounded(void **state)
{
    char line[40 * SEARCH_DOMAINS] = "search";
    char host[HOST_TEXT] = "";
    char name[HOST_TEXT];
    size_t place = 0;
    size_t count = 0;

    (void)state;
    for (size_t i = 0; i < 2 * SEARCH_DOMAINS; i++)
        snprintf(line + strlen(line), sizeof line - strlen(line), " d%zu.test", i);
    struct search search = read_lines(line);
    while (search_next(&search, "db", &place, name))
        count++;
    assert_int_equal(count, SEARCH_DOMAINS + 1);

    /* 250 characters leave no room for a domain: what is too long is left out. */
    for (size_t i = 0; i < 50; i++)
        strcat(host, "abcd.");
    host[249] = '\0';
    place = count = 0;
    while (search_next(&search, host, &place, name))
        count++;
    assert_int_equal(count, 1);
}

static void test_lists_are_compared_by_what_they_say(void **state)
{
    const struct search one = read_lines("search a.test b.test");
    const struct search same = read_lines("search  a.test\tb.test.");
    const struct search other = read_lines("search b.test a.test");
    const struct search deeper = read_lines("search a.test b.test|options ndots:2");

    (void)state;
    assert_true(search_equal(&one, &same));
    assert_false(search_equal(&one, &other));
    assert_false(search_equal(&one, &deeper));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_short_name_is_completed_before_it_is_asked_for_as_it_is),
        cmocka_unit_test(test_a_name_with_enough_dots_is_asked_for_as_it_is_first),
        cmocka_unit_test(test_a_final_dot_and_an_empty_list_make_a_name_complete),
        cmocka_unit_test(test_the_last_list_counts_and_comments_do_not),
        cmocka_unit_test(test_the_environment_wins_over_the_file),
        cmocka_unit_test(test_lists_and_names_are_bounded),
        cmocka_unit_test(test_lists_are_compared_by_what_they_say),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
