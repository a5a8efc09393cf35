/*
 * test_bucket.c — the token bucket with a clock that the test sets, and with many workers.
 */
#include "shared/bucket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static size_t take_all(struct bucket *bucket, uint64_t rate, double now)
{
    size_t taken = 0;

    while (bucket_take(bucket, rate, now))
        taken++;
    return taken;
}

static void it_holds_one_seconds_tokens(void **state)
{
    struct bucket bucket = { 0 };

    (void)state;
    assert_int_equal(take_all(&bucket, 10, 100), 10);
    assert_int_equal(take_all(&bucket, 10, 100), 0);
    assert_int_equal(take_all(&bucket, 10, 1000), 10);
}

static void tokens_come_back_one_by_one(void **state)
{
    struct bucket bucket = { 0 };

    (void)state;
    assert_int_equal(take_all(&bucket, 10, 100), 10);
    assert_false(bucket_take(&bucket, 10, 100.05));
    assert_true(bucket_take(&bucket, 10, 100.11));
    assert_false(bucket_take(&bucket, 10, 100.11));
    assert_int_equal(take_all(&bucket, 10, 100.51), 4);
}

static void one_a_second_is_one_a_second(void **state)
{
    struct bucket bucket = { 0 };

    (void)state;
    for (int second = 0; second < 20; second++)
        assert_int_equal(take_all(&bucket, 1, 100 + second), 1);
}

static void a_rate_that_does_not_divide_a_second_never_gives_less(void **state)
{
    struct bucket bucket = { 0 };
    size_t        taken = 0;

    (void)state;
    for (int i = 0; i <= 1000; i++)
        taken += take_all(&bucket, 7, 100 + i / 100.0);
    assert_true(taken >= 7 * 10 && taken <= 7 * 11);
}

#define WORKERS 8
#define RATE    5000

struct shared {
    struct bucket    bucket;
    _Atomic uint64_t taken;
};

static void many_workers_get_no_more_together(void **state)
{
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int            status;

    (void)state;
    assert_ptr_not_equal(shared, MAP_FAILED);
    for (int i = 0; i < WORKERS; i++) {
        if (fork() == 0) {
            atomic_fetch_add(&shared->taken, take_all(&shared->bucket, RATE, 100));
            _exit(0);
        }
    }
    while (wait(&status) > 0)
        assert_int_equal(status, 0);
    assert_int_equal(atomic_load(&shared->taken), RATE);
    munmap(shared, sizeof *shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_holds_one_seconds_tokens),
        cmocka_unit_test(tokens_come_back_one_by_one),
        cmocka_unit_test(one_a_second_is_one_a_second),
        cmocka_unit_test(a_rate_that_does_not_divide_a_second_never_gives_less),
        cmocka_unit_test(many_workers_get_no_more_together),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
