/* link: proxy/base/pool.o -Wl,--wrap=mmap,--wrap=munmap */
/*
 * test_pool.c — what the chunk pool promises about its memory.
 *
 * mmap and munmap are counted, so that "goes back to the system" is a number of bytes.
 */
#include "base/pool.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define SLAB_SIZE ((size_t)1 << 20)
#define CHUNKS    300 /* a few slabs */

static size_t mapped; /* bytes mmap() gave and munmap() did not get back */
static bool no_memory;

void *__real_mmap(void *where, size_t size, int protection, int flags, int file, off_t offset);
void *__wrap_mmap(void *where, size_t size, int protection, int flags, int file, off_t offset);
int __real_munmap(void *where, size_t size);
int __wrap_munmap(void *where, size_t size);

void *__wrap_mmap(void *where, size_t size, int protection, int flags, int file, off_t offset)
{
    void *memory = MAP_FAILED;

    errno = ENOMEM;
    if (!no_memory)
        memory = __real_mmap(where, size, protection, flags, file, offset);
    mapped += memory != MAP_FAILED ? size : 0;
    return memory;
}

int __wrap_munmap(void *where, size_t size)
{
    mapped -= size;
    return __real_munmap(where, size);
}

static char *chunks[CHUNKS];

/* What a failed test left behind must not fail the next one, too. */
static int start_clean(void **state)
{
    (void)state;
    mapped = 0;
    no_memory = false;
    memset(chunks, 0, sizeof chunks);
    return 0;
}

/* Fills the whole chunk with its own number, which nobody else writes. */
static void mark(size_t number)
{
    unsigned *words = (unsigned *)(void *)chunks[number];

    for (size_t i = 0; i < CHUNK_SIZE / sizeof words[0]; i++)
        words[i] = (unsigned)number;
}

static void check_mark(size_t number)
{
    const unsigned *words = (const unsigned *)(const void *)chunks[number];

    for (size_t i = 0; i < CHUNK_SIZE / sizeof words[0]; i++)
        assert_int_equal(words[i], number);
}

static void take(struct pool *pool, size_t number)
{
    chunks[number] = pool_take(pool);
    assert_non_null(chunks[number]);
    assert_int_equal((uintptr_t)chunks[number] % _Alignof(max_align_t), 0);
    mark(number);
}

static void give_back(struct pool *pool, size_t number)
{
    check_mark(number);
    pool_return(pool, chunks[number]);
    chunks[number] = NULL;
}

static void take_all(struct pool *pool)
{
    for (size_t i = 0; i < CHUNKS; i++)
        take(pool, i);
    assert_int_equal(pool->lent, CHUNKS);
}

static void close_pool(struct pool *pool)
{
    assert_int_equal(pool->lent, 0);
    pool_close(pool);
    assert_int_equal(mapped, 0);
}

static void test_chunks_are_distinct_and_whole(void **state)
{
    struct pool pool = { 0 };

    (void)state;
    take_all(&pool);
    for (size_t i = 0; i < CHUNKS; i++)
        give_back(&pool, i);
    close_pool(&pool);
}

static void test_a_pool_that_lent_nothing_holds_nothing(void **state)
{
    struct pool pool = { 0 };

    (void)state;
    assert_int_equal(mapped, 0);
    close_pool(&pool);
    for (int i = 0; i < 2; i++) { /* a closed pool is a new one */
        take(&pool, 0);
        give_back(&pool, 0);
        assert_int_equal(mapped, SLAB_SIZE);
        close_pool(&pool);
    }
}

static void test_a_returned_chunk_is_lent_again(void **state)
{
    struct pool pool = { 0 };

    (void)state;
    take(&pool, 0);
    size_t before = mapped;
    for (int i = 0; i < 1000; i++) {
        take(&pool, 1);
        give_back(&pool, 1);
    }
    assert_int_equal(mapped, before);
    assert_int_equal(before, SLAB_SIZE);
    give_back(&pool, 0);
    close_pool(&pool);
}

static void test_every_returned_chunk_is_lent_before_more_is_mapped(void **state)
{
    struct pool pool = { 0 };

    (void)state;
    take_all(&pool);
    size_t before = mapped;
    for (size_t i = 0; i < CHUNKS; i += 2)
        give_back(&pool, i);
    for (size_t i = 0; i < CHUNKS; i += 2)
        take(&pool, i);
    assert_int_equal(mapped, before);
    for (size_t i = 0; i < CHUNKS; i++)
        give_back(&pool, i);
    close_pool(&pool);
}

/* The kept slab is there for this: a load that swings around zero asks the system for nothing. */
static void test_a_load_that_comes_and_goes_maps_once(void **state)
{
    struct pool pool = { 0 };

    (void)state;
    take(&pool, 0);
    give_back(&pool, 0);
    no_memory = true;
    for (int i = 0; i < 100; i++) {
        take(&pool, 0);
        give_back(&pool, 0);
    }
    no_memory = false;
    assert_int_equal(mapped, SLAB_SIZE);
    close_pool(&pool);
}

static void test_a_burst_costs_its_chunks_and_little_more(void **state)
{
    struct pool pool = { 0 };

    (void)state;
    take_all(&pool);
    assert_in_range(mapped, (size_t)CHUNKS * CHUNK_SIZE, (size_t)CHUNKS * CHUNK_SIZE + SLAB_SIZE);
    for (size_t i = 0; i < CHUNKS; i++)
        give_back(&pool, i);
    close_pool(&pool);
}

/* How many slabs the lent chunks are in, by their addresses. */
static size_t slabs_in_use(void)
{
    size_t count = 0;

    for (size_t i = 0; i < CHUNKS; i++) {
        bool first = chunks[i] != NULL;

        for (size_t j = 0; first && j < i; j++)
            first = chunks[j] == NULL ||
                    (uintptr_t)chunks[j] / SLAB_SIZE != (uintptr_t)chunks[i] / SLAB_SIZE;
        count += first;
    }
    return count;
}

static void return_in_steps(size_t stride)
{
    struct pool pool = { 0 };

    take_all(&pool);
    for (size_t i = 0; i < CHUNKS; i++) {
        give_back(&pool, i * stride % CHUNKS);
        assert_true(mapped <= (slabs_in_use() + 1) * SLAB_SIZE);
    }
    assert_int_equal(mapped, SLAB_SIZE);
    close_pool(&pool);
}

static void test_slabs_go_back_when_empty_in_whatever_order(void **state)
{
    static const size_t strides[] = { 1, CHUNKS - 1, 7, 61, 149 }; /* none divides CHUNKS */

    (void)state;
    for (size_t i = 0; i < sizeof strides / sizeof strides[0]; i++)
        return_in_steps(strides[i]);
}

static void test_any_order_of_taking_and_returning_keeps_chunks_apart(void **state)
{
    struct pool pool = { 0 };
    uint64_t random = 1;
    size_t lent = 0;

    (void)state;
    for (int i = 0; i < 6000; i++) {
        random = random * 6364136223846793005 + 1442695040888963407;
        size_t number = (random >> 33) % CHUNKS;
        bool growing = i / 1000 % 2 == 0; /* mostly up, then mostly down */

        if (chunks[number] == NULL && (growing || i % 4 == 0)) {
            take(&pool, number);
            lent++;
        } else if (chunks[number] != NULL && (!growing || i % 4 == 0)) {
            give_back(&pool, number);
            lent--;
        }
        assert_int_equal(pool.lent, lent);
        assert_true(i % 50 != 0 || mapped <= (slabs_in_use() + 1) * SLAB_SIZE);
    }
    for (size_t i = 0; i < CHUNKS; i++)
        if (chunks[i] != NULL)
            give_back(&pool, i);
    close_pool(&pool);
}

static void test_no_memory_answers_null_and_harms_nobody(void **state)
{
    struct pool pool = { 0 };

    (void)state;
    no_memory = true;
    assert_null(pool_take(&pool));
    assert_int_equal(pool.lent, 0);
    no_memory = false;
    take(&pool, 0);
    no_memory = true;

    size_t count = 1;
    while (count < CHUNKS && (chunks[count] = pool_take(&pool)) != NULL)
        mark(count++);
    assert_in_range(count, SLAB_SIZE / CHUNK_SIZE - 1, SLAB_SIZE / CHUNK_SIZE);
    assert_int_equal(pool.lent, count);
    assert_null(pool_take(&pool));
    give_back(&pool, 0); /* with no memory left, what comes back is lent again */
    take(&pool, 0);
    no_memory = false;
    take(&pool, count++);
    for (size_t i = 0; i < count; i++)
        give_back(&pool, i);
    close_pool(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_chunks_are_distinct_and_whole, start_clean),
        cmocka_unit_test_setup(test_a_pool_that_lent_nothing_holds_nothing, start_clean),
        cmocka_unit_test_setup(test_a_returned_chunk_is_lent_again, start_clean),
        cmocka_unit_test_setup(test_every_returned_chunk_is_lent_before_more_is_mapped,
                               start_clean),
        cmocka_unit_test_setup(test_a_load_that_comes_and_goes_maps_once, start_clean),
        cmocka_unit_test_setup(test_a_burst_costs_its_chunks_and_little_more, start_clean),
        cmocka_unit_test_setup(test_slabs_go_back_when_empty_in_whatever_order, start_clean),
        cmocka_unit_test_setup(test_any_order_of_taking_and_returning_keeps_chunks_apart,
                               start_clean),
        cmocka_unit_test_setup(test_no_memory_answers_null_and_harms_nobody, start_clean),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
