/*
 * test_files.c — a file is read once, whatever it is, and another process gets all that was read.
 */
#include "base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"

static char folder[] = "/tmp/files-XXXXXX";
static char path[64];

static int start(void **state)
{
    (void)state;
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/file", folder);
    return 0;
}

static int end(void **state)
{
    (void)state;
    files_write(-1, NULL);
    files_forget();
    unlink(path);
    return rmdir(folder);
}

static void put(const char *bytes, size_t length)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void assert_reads(const char *bytes)
{
    const struct file *file = files_read(path);

    assert_non_null(file);
    assert_int_equal(file->length, strlen(bytes));
    assert_string_equal(file->bytes, bytes);
}

static void assert_fails(int error)
{
    assert_null(files_read(path));
    assert_int_equal(errno, error);
}

static void test_a_file_is_read_once_until_it_is_forgotten(void **state)
{
    (void)state;
    put("one", 3);
    assert_reads("one");
    put("another", 7);
    assert_reads("one");
    files_forget();
    assert_reads("another");
}

static void test_so_is_one_that_is_not_there(void **state)
{
    (void)state;
    assert_fails(ENOENT);
    put("late", 4);
    assert_fails(ENOENT);
    files_forget();
    assert_reads("late");
}

static void test_a_folder_is_no_file(void **state)
{
    (void)state;
    assert_null(files_read(folder));
    assert_int_equal(errno, EISDIR);
}

static void test_zero_bytes_and_permissions_are_told(void **state)
{
    (void)state;
    put("a\0b", 3);
    assert_int_equal(chmod(path, 0640), 0);
    const struct file *file = files_read(path);

    assert_non_null(file);
    assert_int_equal(file->length, 3);
    assert_memory_equal(file->bytes, "a\0b", 4);
    assert_int_equal(file->mode, 0640);
}

static void test_files_that_tell_no_size_are_read_to_their_end(void **state)
{
    (void)state;
    const struct file *file = files_read("/proc/self/smaps");

    assert_non_null(file);
    assert_true(file->length > 4096);
    assert_int_equal(file->bytes[file->length], '\0');
}

static void test_one_without_an_end_is_refused(void **state)
{
    (void)state;
    assert_null(files_read("/dev/zero"));
    assert_int_equal(errno, EFBIG);
}

static char *large(size_t size)
{
    char *bytes = calloc(1, size + 1);

    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)('a' + i % 23);
    return bytes;
}

static void assert_opens_now(const char *name, int error)
{
    FILE *file = files_open_now(name);

    assert_int_equal(file == NULL ? errno : 0, error);
    if (file != NULL)
        fclose(file);
}

static void test_who_cannot_wait_gets_only_files_that_answer(void **state)
{
    (void)state;
    assert_opens_now(path, ENOENT);
    assert_opens_now("/dev/null", 0);
    assert_opens_now("/proc/self/status", 0);
    assert_opens_now("/dev/zero", ENOTSUP);
    assert_opens_now(folder, ENOTSUP);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_opens_now(path, ENOTSUP);
    assert_int_equal(unlink(path), 0);
    put("x", 1);
    assert_opens_now(path, 0);
    assert_int_equal(truncate(path, FILES_MAX_BYTES + 1), 0);
    assert_opens_now(path, EFBIG);
}

/* As the supervisor does with what its child has read. */
static void test_what_was_read_can_be_taken_over_whole(void **state)
{
    char                 *bytes = large(300 * 1000);
    struct files_progress progress = { .path = "?" };
    struct fault          fault;
    int                   handed = memfd_create("files", MFD_CLOEXEC);

    (void)state;
    assert_true(handed >= 0);
    put(bytes, strlen(bytes));
    files_write(handed, &progress);
    assert_reads(bytes);
    assert_string_equal(progress.path, "");
    assert_true(progress.since > 0);
    assert_null(files_read("/missing"));
    files_write(-1, NULL);
    put("changed", 7);

    assert_true(files_take(handed, &fault));
    assert_reads(bytes);
    assert_null(files_read("/missing"));
    assert_int_equal(errno, ENOENT);
    assert_null(files_read(folder));
    assert_int_equal(errno, ESTALE);
    files_forget();
    assert_reads("changed");
    close(handed);
    free(bytes);
}

static void test_what_cannot_be_read_cannot_be_taken_over(void **state)
{
    struct fault fault;

    (void)state;
    assert_false(files_take(-1, &fault));
    assert_string_equal(fault.text, "cannot take over what was read: Bad file descriptor");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_file_is_read_once_until_it_is_forgotten),
        TEST(test_so_is_one_that_is_not_there),
        TEST(test_a_folder_is_no_file),
        TEST(test_zero_bytes_and_permissions_are_told),
        TEST(test_files_that_tell_no_size_are_read_to_their_end),
        TEST(test_one_without_an_end_is_refused),
        TEST(test_who_cannot_wait_gets_only_files_that_answer),
        TEST(test_what_was_read_can_be_taken_over_whole),
        TEST(test_what_cannot_be_read_cannot_be_taken_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
