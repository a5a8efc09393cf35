/*
 * test_log.c — the log never waits, never writes half a line, and counts what it loses.
 *
 * The sinks are pointed at pipes and files by putting these in the place of stderr and stdout while
 * log_open() looks at them, as a shell would.
 */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "shared/page.h"

#define NOBODY 65534

static const struct log_options usual = {
    .level = LEVEL_INFO,
    .format = FORMAT_TEXT,
    .file = "-",
    .access_file = "off",
    .access_format = FORMAT_JSON,
};

static _Atomic uint64_t drops;
static struct fault fault;
static char heard[4 * 1024 * 1024];

/* Opens the sinks while stderr and stdout are these descriptors; -1: as they are. */
static bool open_on(const struct log_options *options, int as_stderr, int as_stdout)
{
    int kept_stderr = dup(STDERR_FILENO);
    int kept_stdout = dup(STDOUT_FILENO);

    if (as_stderr >= 0)
        dup2(as_stderr, STDERR_FILENO);
    if (as_stdout >= 0)
        dup2(as_stdout, STDOUT_FILENO);
    bool opened = log_open(options, &fault);
    dup2(kept_stderr, STDERR_FILENO);
    dup2(kept_stdout, STDOUT_FILENO);
    close(kept_stderr);
    close(kept_stdout);
    atomic_store(&drops, 0);
    log_count_drops(&drops);
    return opened;
}

static void open_log_on(int descriptor)
{
    assert_true(open_on(&usual, descriptor, -1));
}

/* A sink that is closed lets a reader see the end. */
static int close_log(void **state)
{
    struct log_options off = usual;

    (void)state;
    off.file = "off";
    log_count_drops(NULL);
    log_after_fork();
    return log_open(&off, NULL) ? 0 : -1;
}

/* Reads what is there now as a string. */
static const char *hear(int descriptor)
{
    size_t length = 0;
    ssize_t n = 0;

    fcntl(descriptor, F_SETFL, O_NONBLOCK);
    while ((n = read(descriptor, heard + length, sizeof heard - 1 - length)) > 0)
        length += (size_t)n;
    heard[length] = '\0';
    return heard;
}

static size_t count_of(const char *text, const char *part)
{
    size_t count = 0;

    while ((text = strstr(text, part)) != NULL) {
        count++;
        text++;
    }
    return count;
}

static void log_lines(int count)
{
    for (int i = 0; i < count; i++)
        log_info("supervisor", "filler", "number=%d text=%s", i,
                 "about a hundred bytes, as a usual line has");
}

/* Every line begins with a date and ends. */
static void assert_whole_lines(const char *text)
{
    while (*text != '\0') {
        const char *end = strchr(text, '\n');
        assert_non_null(end);
        assert_in_range(end - text, 26, LOG_RECORD_MAX_BYTES - 1);
        assert_memory_equal(text, "20", 2);
        assert_int_equal(text[10], 'T');
        assert_memory_equal(text + 23, "Z ", 2);
        text = end + 1;
    }
}

/* Behind the time, which is 24 characters long. */
static void assert_says(int descriptor, const char *expected)
{
    log_flush();
    const char *text = hear(descriptor);
    assert_whole_lines(text);
    assert_string_equal(strlen(text) > 25 ? text + 25 : text, expected);
}

static void test_a_line_says_when_how_grave_whose_and_what(void **state)
{
    int ends[2];

    (void)state;
    assert_return_code(pipe(ends), errno);
    open_log_on(ends[1]);
    log_info("supervisor", "listening", "listener=%s address=%s", ":8080", "[::]:8080");
    assert_says(ends[0], "info supervisor listening listener=:8080 address=[::]:8080\n");
    log_error("worker 2", "ready", " ");
    assert_says(ends[0], "error worker 2 ready\n");
    log_warning("session=6b1f2c90-1-2a", "shadow", "name=%s why=%s", "a b", "said \"no\"\nlevel=x");
    assert_says(ends[0], "warning session=6b1f2c90-1-2a shadow name=\"a b\" "
                         "why=\"said \\\"no\\\"\\x0alevel=x\"\n");
    close(ends[0]);
    close(ends[1]);
}

static void test_each_conversion_is_one_value(void **state)
{
    const char *volatile nothing = NULL; /* so that the compiler does not know better */
    int ends[2];

    (void)state;
    assert_return_code(pipe(ends), errno);
    open_log_on(ends[1]);
    log_info("x", "e", "a=%d b=%u c=%zu d=%" PRIu64 " e=%lu f=%.3f g=%x h=%c i=%lld", -5, 7u,
             (size_t)8, UINT64_MAX, 9ul, 1.5, 255u, 'q', -1ll);
    assert_says(ends[0],
                "info x e a=-5 b=7 c=8 d=18446744073709551615 e=9 f=1.500 g=ff h=q i=-1\n");
    log_info("x", "e", "state=on left=%s name=%s share=%.1f%% cut=%.*s wide=%03d", nothing, "",
             12.5, 3, "abcdef", 7);
    assert_says(ends[0], "info x e state=on name=\"\" share=12.5% cut=abc wide=007\n");
    log_info("x", "e", "pair=%s:%u what=%s", "h", 80u, "a=b");
    assert_says(ends[0], "info x e pair=h:80 what=\"a=b\"\n");
    log_info("x", "e", "cannot open %s: %s", "/x", "no such file");
    assert_says(ends[0], "info x e message=\"cannot open /x: no such file\"\n");
    close(ends[0]);
    close(ends[1]);
}

static void test_json_has_the_same_members_and_plain_numbers(void **state)
{
    struct log_options options = usual;
    int ends[2];

    (void)state;
    options.format = FORMAT_JSON;
    assert_return_code(pipe(ends), errno);
    assert_true(open_on(&options, ends[1], -1));
    log_info("session=1-2-3", "end", "count=%d minus=%d seconds=%.3f hex=%x why=%s", 3, -3, 0.25,
             10u, "a\"b");
    log_flush();
    const char *text = hear(ends[0]);
    assert_memory_equal(text, "{\"time\":\"20", 11);
    assert_string_equal(text + 35,
                        "\"level\":\"info\",\"session\":\"1-2-3\",\"event\":\"end\",\"count\":3,"
                        "\"minus\":-3,\"seconds\":0.250,\"hex\":\"a\",\"why\":\"a\\\"b\"}\n");
    close(ends[0]);
    close(ends[1]);
}

static void test_a_level_that_is_off_costs_no_line(void **state)
{
    struct log_options options = usual;
    int ends[2];

    (void)state;
    options.level = LEVEL_WARNING;
    assert_return_code(pipe(ends), errno);
    assert_true(open_on(&options, ends[1], -1));
    log_info("x", "e", " ");
    log_debug("x", "e", " ");
    assert_false(log_is_on(LEVEL_INFO));
    assert_true(log_is_on(LEVEL_ERROR));
    assert_says(ends[0], "");
    close(ends[0]);
    close(ends[1]);
}

static void test_a_value_that_is_too_long_is_cut_and_the_line_stays_one(void **state)
{
    static char value[8000];
    int ends[2];

    (void)state;
    assert_return_code(pipe(ends), errno);
    open_log_on(ends[1]);
    memset(value, '\n', sizeof value - 1);
    log_info("x", "e", "a=%s b=%s c=%s d=%s", "kept", value, value, value);
    log_flush();
    const char *text = hear(ends[0]);
    assert_whole_lines(text);
    assert_int_equal(count_of(text, "\n"), 1);
    assert_non_null(strstr(text, "a=kept"));
    assert_non_null(strstr(text, " truncated=true\n"));
    close(ends[0]);
    close(ends[1]);
}

/* Fills what nobody reads, then reads it: what came and what was dropped are all there was. */
static void fill_and_read(int reader)
{
    log_lines(20000);
    log_flush();
    uint64_t lost = atomic_load(&drops);
    assert_in_range(lost, 1, 19999);

    size_t came = 0;
    for (int i = 0; i < 100; i++) {
        const char *text = hear(reader);
        assert_whole_lines(text);
        came += count_of(text, "filler");
        if (strstr(text, "dropped") != NULL)
            break;
        log_flush();
    }
    char told[100];
    snprintf(told, sizeof told, "warning log dropped sink=log lines=%" PRIu64 "\n", lost);
    assert_non_null(strstr(heard, told));
    assert_int_equal(came + lost, 20000);
    assert_int_equal(atomic_load(&drops), lost);
}

static void test_a_full_pipe_drops_whole_lines_and_says_so_later(void **state)
{
    int ends[2];

    (void)state;
    assert_return_code(pipe(ends), errno);
    open_log_on(ends[1]);
    fill_and_read(ends[0]);
    assert_false(fcntl(ends[1], F_GETFL) & O_NONBLOCK); /* the shell's description is as it was */
    log_info("x", "again", " ");
    assert_says(ends[0], "info x again\n");
    close(ends[0]);
    close(ends[1]);
}

static void test_a_full_socket_drops_whole_lines_and_says_so_later(void **state)
{
    int ends[2];

    (void)state;
    assert_return_code(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), errno);
    open_log_on(ends[1]);
    fill_and_read(ends[0]);
    assert_false(fcntl(ends[1], F_GETFL) & O_NONBLOCK);
    close(ends[0]);
    close(ends[1]);
}

/* After setuid a pipe cannot be opened again (EACCES). */
static void test_a_pipe_of_somebody_else_is_not_waited_for(void **state)
{
    int ends[2];

    (void)state;
    if (geteuid() != 0)
        skip();
    assert_return_code(pipe(ends), errno);
    assert_return_code(seteuid(NOBODY), errno);
    open_log_on(ends[1]);
    assert_return_code(seteuid(0), errno);
    fill_and_read(ends[0]);
    assert_false(fcntl(ends[1], F_GETFL) & O_NONBLOCK);
    close(ends[0]);
    close(ends[1]);
}

static void test_a_reader_that_is_gone_costs_lines_only(void **state)
{
    int ends[2];

    (void)state;
    signal(SIGPIPE, SIG_DFL);
    assert_return_code(pipe(ends), errno);
    open_log_on(ends[1]);
    close(ends[0]);
    for (int i = 0; i < 10; i++) {
        log_lines(1);
        log_flush();
    }
    assert_int_equal(atomic_load(&drops), 10);
    close(ends[1]);
}

static void test_a_full_disk_costs_lines_only(void **state)
{
    struct log_options options = usual;

    (void)state;
    options.file = "/dev/full";
    assert_true(open_on(&options, -1, -1));
    log_lines(10);
    log_flush();
    log_flush();
    assert_int_equal(atomic_load(&drops), 10);
}

static void test_a_closed_stderr_is_no_log(void **state)
{
    int kept = dup(STDERR_FILENO);

    (void)state;
    close(STDERR_FILENO);
    bool opened = log_open(&usual, &fault);
    dup2(kept, STDERR_FILENO);
    close(kept);
    assert_true(opened);
    assert_false(log_is_on(LEVEL_ERROR));
    log_lines(1);
    log_flush();
}

static char directory[] = "/tmp/test_log.XXXXXX";

static int make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) != NULL ? 0 : -1;
}

static int remove_directory(void **state)
{
    (void)state;
    return rmdir(directory);
}

static const char *path_of(const char *name)
{
    static char path[200];

    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static const char *content_of(const char *path)
{
    int file = open(path, O_RDONLY);

    assert_return_code(file, errno);
    const char *text = hear(file);
    close(file);
    unlink(path);
    return text;
}

static void write_access_line(const char *session)
{
    struct log_record line;

    log_record_start(&line, access_log_format());
    log_record_text(&line, "session", session);
    log_record_end(&line);
    access_log_write(&line);
}

static void test_both_sinks_may_share_one_file(void **state)
{
    const char *path = path_of("both");
    struct log_options options = usual;
    struct stat about;

    (void)state;
    umask(0);
    options.file = path;
    options.access_file = path;
    assert_true(open_on(&options, -1, -1));
    assert_true(access_log_is_on());
    assert_int_equal(access_log_format(), FORMAT_JSON);
    for (int i = 0; i < 100; i++) {
        log_info("x", "e", " ");
        write_access_line("1-2-3");
        log_flush();
    }
    assert_return_code(stat(path, &about), errno);
    assert_int_equal(about.st_mode & 0777, 0640);
    const char *text = content_of(path);
    assert_int_equal(count_of(text, "info x e\n"), 100);
    assert_int_equal(count_of(text, "{\"session\":\"1-2-3\"}\n"), 100);
    assert_int_equal(atomic_load(&drops), 0);
}

static void test_a_file_behind_stdout_is_appended_to(void **state)
{
    struct log_options options = usual;
    FILE *file = tmpfile();

    (void)state;
    fputs("before\n", file);
    fflush(file);
    lseek(fileno(file), 0, SEEK_SET);
    options.file = "off";
    options.access_file = "-";
    assert_true(open_on(&options, -1, fileno(file)));
    write_access_line("1-2-3");
    log_flush();
    lseek(fileno(file), 0, SEEK_SET);
    assert_string_equal(hear(fileno(file)), "before\n{\"session\":\"1-2-3\"}\n");
    fclose(file);
}

static void test_lost_access_lines_are_told_in_the_log(void **state)
{
    struct log_options options = usual;
    int log[2];
    int access[2];

    (void)state;
    options.access_file = "-";
    assert_return_code(pipe(log), errno);
    assert_return_code(pipe(access), errno);
    assert_true(open_on(&options, log[1], access[1]));
    for (int i = 0; i < 20000; i++)
        write_access_line("1-2-3");
    log_flush();
    char told[100];
    snprintf(told, sizeof told, "warning log dropped sink=access lines=%" PRIu64 "\n",
             atomic_load(&drops));
    assert_true(atomic_load(&drops) > 0);
    for (int i = 0; i < 10; i++) {
        const char *lines = hear(access[0]);
        assert_int_equal(count_of(lines, "{\"session\":\"1-2-3\"}\n"), count_of(lines, "\n"));
        log_flush();
    }
    const char *text = hear(log[0]);
    assert_string_equal(text + 25, told);
    close(log[0]);
    close(log[1]);
    close(access[0]);
    close(access[1]);
}

/* The disk is full in the middle of a line; when there is room again, the next line is whole. */
static void test_a_half_written_line_swallows_no_other(void **state)
{
    const char *path = path_of("half");
    struct log_options options = usual;
    struct rlimit kept;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &kept);
    options.file = path;
    assert_true(open_on(&options, -1, -1));
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){ .rlim_cur = 150, .rlim_max = kept.rlim_max });
    log_lines(3);
    log_flush();
    log_lines(2);
    log_flush();
    setrlimit(RLIMIT_FSIZE, &kept);
    assert_int_equal(atomic_load(&drops), 4);
    log_info("x", "again", " ");
    log_flush();
    log_flush();
    const char *text = content_of(path);
    const char *again = strstr(text, "again\n");
    assert_non_null(again);
    assert_int_equal(count_of(text, "\n"), 4); /* a line, a half, again, dropped */
    assert_non_null(strstr(again, "warning log dropped sink=log lines=4\n"));
}

static void test_lines_of_several_processes_never_mix(void **state)
{
    static char filling[901];
    int ends[2];
    pid_t writers[3];

    (void)state;
    memset(filling, 'y', sizeof filling - 1);
    assert_return_code(pipe(ends), errno);
    open_log_on(ends[1]);
    log_info("x", "parent", " ");
    for (int w = 0; w < 3; w++) {
        writers[w] = fork();
        if (writers[w] != 0)
            continue;
        log_after_fork();
        for (int i = 0; i < 3000; i++) {
            log_info("x", "e", "text=%.*s", i % 900, filling);
            if (i % 50 == 0)
                log_flush();
        }
        log_flush();
        _exit(0);
    }
    size_t lines = 0;
    int alive = 3;
    while (alive > 0) {
        if (waitpid(-1, NULL, WNOHANG) > 0)
            alive--;
        const char *text = hear(ends[0]);
        const char *last = strrchr(text, '\n');
        assert_true(*text == '\0' || (last != NULL && last[1] == '\0'));
        assert_whole_lines(text);
        assert_int_equal(count_of(text, "parent"), 0);
        lines += count_of(text, "\n");
    }
    assert_true(lines > 0);
    hear(ends[0]);
    assert_says(ends[0], "info x parent\n");
    close(ends[0]);
    close(ends[1]);
}

/* Moves the log's file away, as logrotate does, and tells the log. */
static void rotate(const char *path, const char *old, _Atomic uint64_t *generation)
{
    assert_return_code(rename(path, old), errno);
    atomic_fetch_add(generation, 1);
}

static void test_lines_that_nobody_took_are_told_where_the_log_goes_on(void **state)
{
    struct log_options options = usual;
    char path[200];
    char told[100];
    int ends[2];

    (void)state;
    assert_return_code(pipe(ends), errno);
    open_log_on(ends[1]);
    log_lines(20000);
    snprintf(path, sizeof path, "%s", path_of("log"));
    options.file = path;
    log_change(log_prepare(&options, NULL));
    log_lines(1);
    log_flush();
    uint64_t lost = atomic_load(&drops);
    assert_int_equal(count_of(hear(ends[0]), "filler") + lost, 20000);
    const char *text = content_of(path);
    assert_int_equal(count_of(text, "filler"), 1);
    snprintf(told, sizeof told, "warning log dropped sink=log lines=%" PRIu64 "\n", lost);
    assert_int_equal(count_of(text, told), 1);
    close(ends[0]);
    close(ends[1]);
}

static void test_a_file_that_was_moved_away_is_opened_anew_when_told(void **state)
{
    char path[200];
    char old[200];
    _Atomic uint64_t generation = 7;
    struct log_options options = usual;

    (void)state;
    snprintf(path, sizeof path, "%s", path_of("log"));
    snprintf(old, sizeof old, "%s", path_of("log.1"));
    options.file = path;
    assert_true(open_on(&options, -1, -1));
    log_follow(&generation);
    log_lines(3);
    log_flush();
    log_lines(2);
    rotate(path, old, &generation);
    log_flush();
    log_lines(1);
    log_flush();
    log_follow(NULL);
    assert_int_equal(count_of(content_of(old), "filler"), 3);
    assert_int_equal(count_of(content_of(path), "filler"), 3);
    assert_int_equal(atomic_load(&drops), 0);
}

static void test_R06_the_old_file_stays_when_the_new_one_cannot_be_opened(void **state)
{
    char path[200];
    char old[200];
    _Atomic uint64_t generation = 0;
    struct log_options options = usual;
    struct rlimit kept;

    (void)state;
    snprintf(path, sizeof path, "%s", path_of("log"));
    snprintf(old, sizeof old, "%s", path_of("log.1"));
    options.file = path;
    assert_true(open_on(&options, -1, -1));
    log_follow(&generation);
    getrlimit(RLIMIT_NOFILE, &kept);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){ .rlim_cur = 3, .rlim_max = kept.rlim_max });
    rotate(path, old, &generation);
    log_lines(1);
    log_flush();
    log_lines(1);
    log_flush();
    setrlimit(RLIMIT_NOFILE, &kept);
    atomic_fetch_add(&generation, 1);
    log_lines(1);
    log_flush();
    log_follow(NULL);
    const char *text = content_of(old);
    assert_int_equal(count_of(text, "filler"), 2);
    assert_int_equal(count_of(text, "warning log not_reopened sink=log file="), 1);
    assert_int_equal(count_of(text, "why=\"Too many open files\""), 1);
    assert_int_equal(count_of(content_of(path), "filler"), 1);
    assert_int_equal(atomic_load(&drops), 0);
}

static void test_a_file_that_the_log_made_is_given_away_and_no_other(void **state)
{
    char made[200];
    char there[200];
    struct log_options options = usual;
    struct stat of_made;
    struct stat of_there;

    (void)state;
    if (geteuid() != 0)
        skip();
    snprintf(made, sizeof made, "%s", path_of("made"));
    snprintf(there, sizeof there, "%s", path_of("there"));
    close(open(there, O_WRONLY | O_CREAT, 0600));
    options.file = made;
    options.access_file = there;
    assert_true(open_on(&options, -1, -1));
    log_give_to(NOBODY, NOBODY);
    assert_return_code(stat(made, &of_made), errno);
    assert_return_code(stat(there, &of_there), errno);
    unlink(made);
    unlink(there);
    assert_int_equal(of_made.st_uid, NOBODY);
    assert_int_equal(of_made.st_gid, NOBODY);
    assert_int_equal(of_there.st_uid, 0);
}

static void test_a_file_that_cannot_be_opened_is_a_fault(void **state)
{
    struct log_options options = usual;

    (void)state;
    options.access_file = "/nonexistent/access";
    assert_false(open_on(&options, -1, -1));
    assert_string_equal(fault.text, "cannot open the access log file /nonexistent/access: "
                                    "No such file or directory");
}

static void test_the_descriptors_in_use_are_told(void **state)
{
    struct log_options options = usual;
    int descriptors[4];

    (void)state;
    options.file = "/dev/null";
    options.access_file = "-";
    assert_true(open_on(&options, -1, -1));
    assert_int_equal(log_descriptors(descriptors), 2);
    assert_true(descriptors[0] > STDERR_FILENO && descriptors[1] > STDERR_FILENO);
    assert_true(fcntl(descriptors[1], F_GETFD) & FD_CLOEXEC);
    close_log(NULL);
    assert_int_equal(log_descriptors(descriptors), 0);
    assert_false(access_log_is_on());
}

static void test_a_limit_lets_one_through_and_counts_the_others(void **state)
{
    struct log_limit limit = { 0 };
    uint64_t suppressed = 99;

    (void)state;
    assert_true(log_limit_passes(&limit, 5., 10., &suppressed));
    assert_int_equal(suppressed, 0);
    for (int i = 0; i < 12; i++)
        assert_false(log_limit_passes(&limit, 14.9, 10., &suppressed));
    assert_true(log_limit_passes(&limit, 15., 10., &suppressed));
    assert_int_equal(suppressed, 12);
    assert_true(log_limit_passes(&limit, 25., 10., &suppressed));
    assert_int_equal(suppressed, 0);
}

#define LOG_TEST(test) cmocka_unit_test_teardown(test, close_log)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(test_a_line_says_when_how_grave_whose_and_what),
        LOG_TEST(test_each_conversion_is_one_value),
        LOG_TEST(test_json_has_the_same_members_and_plain_numbers),
        LOG_TEST(test_a_level_that_is_off_costs_no_line),
        LOG_TEST(test_a_value_that_is_too_long_is_cut_and_the_line_stays_one),
        LOG_TEST(test_a_full_pipe_drops_whole_lines_and_says_so_later),
        LOG_TEST(test_a_full_socket_drops_whole_lines_and_says_so_later),
        LOG_TEST(test_a_pipe_of_somebody_else_is_not_waited_for),
        LOG_TEST(test_a_reader_that_is_gone_costs_lines_only),
        LOG_TEST(test_a_full_disk_costs_lines_only),
        LOG_TEST(test_a_closed_stderr_is_no_log),
        LOG_TEST(test_both_sinks_may_share_one_file),
        LOG_TEST(test_a_file_behind_stdout_is_appended_to),
        LOG_TEST(test_lost_access_lines_are_told_in_the_log),
        LOG_TEST(test_a_half_written_line_swallows_no_other),
        LOG_TEST(test_lines_of_several_processes_never_mix),
        LOG_TEST(test_lines_that_nobody_took_are_told_where_the_log_goes_on),
        LOG_TEST(test_a_file_that_was_moved_away_is_opened_anew_when_told),
        LOG_TEST(test_R06_the_old_file_stays_when_the_new_one_cannot_be_opened),
        LOG_TEST(test_a_file_that_the_log_made_is_given_away_and_no_other),
        LOG_TEST(test_a_file_that_cannot_be_opened_is_a_fault),
        LOG_TEST(test_the_descriptors_in_use_are_told),
        LOG_TEST(test_a_limit_lets_one_through_and_counts_the_others),
    };

    alarm(30); /* whatever blocks is a failure */
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
