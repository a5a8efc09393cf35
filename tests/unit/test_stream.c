/*
 * test_stream.c — the stream against its model, and its promises one by one.
 */
#include "tests/unit/stream_model.h"

static void raise_scene(struct scene *s)
{
    raise_scene_with(s, NULL);
}

static void test_a_stream_agrees_with_its_model(void **state)
{
    (void)state;
    run_all(NO_PIPES);
}

static void test_an_idle_stream_holds_no_chunk(void **state)
{
    struct scene s;

    (void)state;
    raise_scene(&s);
    struct consumer *c = join(&s, 256 * KIB, OVERFLOW_BLOCKS);
    assert_int_equal(fill(&s), IO_AGAIN);
    assert_int_equal(pool.lent, 0);
    give(&s, 20000); /* ends inside a chunk */
    while (fill(&s) == IO_OK)
        drain_all(&s, c);
    settle(&s);
    assert_int_equal(pool.lent, 0);
    fill(&s);
    assert_int_equal(pool.lent, 0);
    clear_scene(&s);
}

static void test_a_source_that_has_nothing_to_read_costs_no_chunk(void **state)
{
    struct scene s;

    (void)state;
    raise_scene(&s);
    join(&s, 256 * KIB, OVERFLOW_BLOCKS);
    s.source.silent = true;
    requests = 0;
    assert_int_equal(fill(&s), IO_AGAIN);
    assert_int_equal(requests, 0);
    clear_scene(&s);
}

static void test_small_traffic_allocates_nothing_on_the_heap(void **state)
{
    struct scene s;
    uint64_t random = 1;

    (void)state;
    raise_scene(&s);
    struct consumer *primary = join(&s, 256 * KIB, OVERFLOW_BLOCKS);
    struct consumer *shadow = join(&s, 1024 * KIB, OVERFLOW_DETACHES);
    for (int i = 0; i < 500; i++) {
        give(&s, 1 + below(&random, 4000));
        fill(&s);
        drain_all(&s, primary);
        drain(&s, shadow, i % 2 ? EVERYTHING : 0); /* a request behind, every other time */
        settle(&s);
        assert_int_equal(heap_blocks, 1);
    }
    clear_scene(&s);
}

static void test_the_ring_grows_with_the_lag_and_goes_with_it(void **state)
{
    struct scene s;

    (void)state;
    raise_scene(&s);
    struct consumer *c = join(&s, 1024 * KIB, OVERFLOW_BLOCKS);
    for (int round = 0; round < 3; round++) {
        give(&s, 1000 * KIB + 1);
        requests = 0;
        while (fill(&s) == IO_OK)
            settle(&s);
        assert_int_equal(heap_blocks, 2);
        /* 63 chunks, up to 17 anew for each fill, and a ring that doubles: not one per chunk. */
        assert_in_range(requests, 63, 250);
        drain_all(&s, c);
        settle(&s);
        assert_int_equal(heap_blocks, 1);
    }
    clear_scene(&s);
}

/* A gigabyte goes by while one byte is always left behind: the ring must turn, not grow. */
static void test_the_ring_does_not_grow_without_lag(void **state)
{
    struct scene s;

    (void)state;
    raise_scene(&s);
    struct consumer *c = join(&s, CHUNK_SIZE, OVERFLOW_BLOCKS);
    give(&s, EVERYTHING);
    for (int i = 0; i < 1000; i++) {
        fill(&s);
        drain(&s, c, lag_of(&s, c) - 1);
        settle(&s);
        assert_int_equal(heap_blocks, 1);
        assert_in_range(pool.lent, 1, 2);
    }
    clear_scene(&s);
}

static void test_one_fill_is_not_larger_than_the_smallest_limit(void **state)
{
    struct scene s;

    (void)state;
    raise_scene(&s);
    struct consumer *primary = join(&s, 256 * KIB, OVERFLOW_BLOCKS);
    struct consumer *shadow = join(&s, 64 * KIB, OVERFLOW_DETACHES);
    give(&s, 4096 * KIB);
    while (fill(&s) == IO_OK) {
        assert_true(s.source.offered <= 64 * KIB);
        drain_all(&s, primary);
        drain_all(&s, shadow);
        assert_false(settle(&s)); /* one that keeps pace is never cut */
    }
    clear_scene(&s);
}

static void test_bulk_comes_in_by_the_quarter_megabyte_and_small_reads_by_the_chunk(void **state)
{
    struct scene s;

    (void)state;
    raise_scene(&s);
    struct consumer *c = join(&s, 1024 * KIB, OVERFLOW_BLOCKS);
    assert_int_equal(stream_room(s.stream), CHUNK_SIZE);
    give(&s, EVERYTHING);
    for (int i = 0; i < 10; i++) {
        fill(&s);
        drain_all(&s, c);
        settle(&s);
    }
    assert_int_equal(stream_room(s.stream), MAX_ROOM);
    s.source.gives = 100;
    for (int i = 0; i < 10; i++) {
        fill(&s);
        drain_all(&s, c);
        settle(&s);
    }
    assert_int_equal(stream_room(s.stream), CHUNK_SIZE);
    clear_scene(&s);
}

static void test_small_traffic_is_one_piece_to_every_call(void **state)
{
    struct scene s;

    (void)state;
    raise_scene(&s);
    struct consumer *primary = join(&s, 256 * KIB, OVERFLOW_BLOCKS);
    struct consumer *shadow = join(&s, 1024 * KIB, OVERFLOW_DETACHES);
    for (int i = 0; i < 1000; i++) {
        give(&s, 1000);
        fill(&s);
        drain_all(&s, primary);
        drain_all(&s, shadow);
        settle(&s);
        assert_int_equal(s.source.pieces, 1);
        assert_int_equal(primary->sink.pieces, 1);
        assert_int_equal(shadow->sink.pieces, 1);
    }
    clear_scene(&s);
}

static void test_nothing_enters_while_a_blocking_cursor_is_full(void **state)
{
    struct scene s;

    (void)state;
    raise_scene(&s);
    struct consumer *slow = join(&s, 100000, OVERFLOW_BLOCKS);
    struct consumer *fast = join(&s, 1024 * KIB, OVERFLOW_BLOCKS);
    give(&s, EVERYTHING);
    while (fill(&s) == IO_OK)
        drain_all(&s, fast);
    assert_int_equal(s.end, 100000);
    assert_false(stream_wants_more(s.stream));
    drain(&s, slow, 10);
    assert_int_equal(fill(&s), IO_OK);
    assert_int_equal(s.end, 100010);
    drain_all(&s, slow);
    assert_false(settle(&s));
    clear_scene(&s);
}

static void test_a_stalled_detaching_cursor_is_cut_and_holds_nobody_back(void **state)
{
    struct scene s;

    (void)state;
    raise_scene(&s);
    struct consumer *stalled = join(&s, 64 * KIB, OVERFLOW_DETACHES);
    struct consumer *primary = join(&s, 256 * KIB, OVERFLOW_BLOCKS);
    struct consumer *other = join(&s, 1024 * KIB, OVERFLOW_DETACHES);
    give(&s, 4096 * KIB);
    drain(&s, stalled, 0);
    size_t times_cut = 0;
    while (fill(&s) == IO_OK) {
        drain_all(&s, primary);
        drain_all(&s, other);
        drain(&s, stalled, s.end < 40000 ? 5000 : 0);
        times_cut += settle(&s);
        if (stalled->attached)
            assert_int_equal(stream_shadow_only_bytes(s.stream),
                             chunks_of(&s, s.begin, s.end) * CHUNK_SIZE);
    }
    assert_int_equal(times_cut, 1);
    assert_int_equal(s.end, 4096 * KIB);
    assert_int_equal(primary->position, s.end);
    assert_int_equal(other->position, s.end);
    assert_in_range(stalled->position, 1, 40000);
    assert_int_equal(drain(&s, stalled, EVERYTHING), IO_FAILED); /* never resumed */
    assert_int_equal(stream_shadow_only_bytes(s.stream), 0);
    clear_scene(&s);
}

static void test_a_limit_may_be_reached_but_not_passed(void **state)
{
    struct scene s;

    (void)state;
    raise_scene(&s);
    struct consumer *c = join(&s, CHUNK_SIZE, OVERFLOW_DETACHES);
    give(&s, CHUNK_SIZE);
    fill(&s);
    assert_false(settle(&s));
    give(&s, 1);
    fill(&s);
    assert_true(c->attached);
    assert_true(settle(&s));
    assert_int_equal(pool.lent, 0);
    clear_scene(&s);
}

static void end_with(enum io then, enum ending ending)
{
    struct scene s;

    raise_scene(&s);
    struct consumer *c = join(&s, 256 * KIB, OVERFLOW_BLOCKS);
    give(&s, 5000);
    s.source.then = then;
    assert_int_equal(fill(&s), IO_OK);
    assert_int_equal(drain(&s, c, 1000), IO_OK);
    assert_int_equal(fill(&s), then);
    assert_int_equal(stream_ending(s.stream), ending);
    assert_false(stream_wants_more(s.stream));
    assert_int_equal(fill(&s), IO_AGAIN);
    assert_int_equal(drain(&s, c, 3999), IO_OK);
    assert_int_equal(drain(&s, c, 0), IO_AGAIN);
    assert_int_equal(drain(&s, c, 1), IO_END);
    assert_int_equal(drain(&s, c, 0), IO_END);
    settle(&s);
    assert_int_equal(drain(&s, c, 0), IO_END);
    stream_break(s.stream); /* changes nothing any more */
    check(&s);
    clear_scene(&s);
}

static void test_the_end_is_told_with_the_last_byte_and_again(void **state)
{
    (void)state;
    end_with(IO_END, ENDED_FIN);
}

static void test_a_reset_is_told_after_what_was_received(void **state)
{
    (void)state;
    end_with(IO_FAILED, ENDED_RESET);
}

static void test_an_end_without_bytes_is_told_to_a_waiting_consumer(void **state)
{
    struct scene s;

    (void)state;
    raise_scene(&s);
    struct consumer *c = join(&s, 256 * KIB, OVERFLOW_BLOCKS);
    assert_int_equal(drain(&s, c, EVERYTHING), IO_AGAIN);
    s.source.then = IO_END;
    assert_int_equal(fill(&s), IO_END);
    assert_int_equal(pool.lent, 0);
    assert_int_equal(drain(&s, c, EVERYTHING), IO_END);
    assert_int_equal(c->sink.calls, 0);
    clear_scene(&s);
}

static void test_a_cursor_that_stops_gets_its_share_and_the_end_and_nothing_else(void **state)
{
    struct scene s;

    (void)state;
    raise_scene(&s);
    struct consumer *c = join(&s, 256 * KIB, OVERFLOW_DETACHES);
    stop_after(c, 20000);
    give(&s, 50000);
    while (s.end < 50000)
        fill(&s);
    assert_int_equal(drain(&s, c, 15000), IO_OK);
    assert_false(cursor_is_at_last(&c->cursor));
    assert_int_equal(drain(&s, c, EVERYTHING), IO_END);
    assert_true(cursor_is_at_last(&c->cursor));
    assert_int_equal(c->sink.offset, 20000);
    assert_int_equal(drain(&s, c, EVERYTHING), IO_END);
    assert_int_equal(c->sink.calls, 2);
    leave(&s, c);
    settle(&s);
    assert_int_equal(pool.lent, 0);
    clear_scene(&s);
}

/* A share of 60000 bytes, of which nothing has been taken, and much more that follows. */
static struct consumer *raise_share(struct scene *s)
{
    raise_scene(s);
    struct consumer *primary = join(s, 256 * KIB, OVERFLOW_BLOCKS);
    struct consumer *shadow = join(s, 100 * KIB, OVERFLOW_DETACHES);

    stop_after(shadow, 60000);
    give(s, 4096 * KIB);
    while (fill(s) == IO_OK && lag_of(s, shadow) <= shadow->limit) {
        drain_all(s, primary);
        settle(s);
    }
    drain_all(s, primary);
    return shadow;
}

static void test_what_follows_a_share_neither_counts_as_lag_nor_is_kept(void **state)
{
    struct scene s;

    (void)state;
    struct consumer *shadow = raise_share(&s);
    while (fill(&s) == IO_OK) {
        assert_false(settle(&s));
        drain_all(&s, &s.consumers[0]);
    }
    settle(&s);
    assert_int_equal(cursor_lag(&shadow->cursor), 60000);
    assert_int_equal(stream_shadow_only_bytes(s.stream), 4 * CHUNK_SIZE);
    assert_int_equal(pool.lent, 4);
    assert_int_equal(drain(&s, shadow, 40000), IO_OK);
    settle(&s);
    assert_int_equal(pool.lent, 2);
    assert_int_equal(drain_all(&s, shadow), IO_END);
    assert_int_equal(shadow->sink.offset, 60000);
    leave(&s, shadow);
    settle(&s);
    assert_int_equal(pool.lent, 0);
    clear_scene(&s);
}

/* The stream that it would need, its ring and its chunks. */
static bool is_cut_without_memory(size_t nth)
{
    struct scene s;
    struct consumer *shadow = raise_share(&s);

    memory_has_failed = false;
    failing = nth;
    bool cut = stream_settle(s.stream);
    failing = 0;
    assert_int_equal(cut, memory_has_failed);
    assert_int_equal(shadow->cursor.stream == NULL, cut);
    if (cut)
        assert_int_equal(pool.lent, 0);
    clear_scene(&s);
    return cut;
}

static void test_a_share_that_there_is_no_memory_to_set_aside_is_lost(void **state)
{
    size_t nth = 1;

    (void)state;
    while (is_cut_without_memory(nth))
        nth++;
    assert_true(nth > 5);
}

static void test_a_broken_stream_still_delivers_what_it_kept(void **state)
{
    struct scene s;

    (void)state;
    raise_scene(&s);
    struct consumer *c = join(&s, 256 * KIB, OVERFLOW_BLOCKS);
    give(&s, 70000);
    fill(&s);
    fill(&s);
    stream_break(s.stream);
    s.ending = ENDED_RESET;
    check(&s);
    assert_int_equal(fill(&s), IO_AGAIN); /* the source still has bytes; they stay there */
    assert_int_equal(drain_all(&s, c), IO_END);
    assert_int_equal(c->position, 3 * CHUNK_SIZE);
    clear_scene(&s);
}

static void test_a_failed_write_leaves_the_others_alone(void **state)
{
    struct scene s;

    (void)state;
    raise_scene(&s);
    struct consumer *failing_one = join(&s, 256 * KIB, OVERFLOW_BLOCKS);
    struct consumer *other = join(&s, 256 * KIB, OVERFLOW_BLOCKS);
    give(&s, 10000);
    fill(&s);
    drain(&s, failing_one, 100);
    failing_one->sink.gone = true;
    assert_int_equal(drain(&s, failing_one, 100), IO_FAILED);
    leave(&s, failing_one);
    leave(&s, failing_one); /* said twice, it does no harm */
    s.source.then = IO_END;
    fill(&s);
    assert_int_equal(drain_all(&s, other), IO_END);
    settle(&s);
    assert_int_equal(pool.lent, 0);
    clear_scene(&s);
}

static void test_without_cursors_all_bytes_are_forgotten(void **state)
{
    struct scene s;

    (void)state;
    raise_scene(&s);
    give(&s, 3000000);
    while (fill(&s) == IO_OK) {
        settle(&s);
        assert_int_equal(stream_buffered(s.stream), 0);
    }
    assert_int_equal(stream_total(s.stream), 3000000);
    clear_scene(&s);
}

static void test_a_new_cursor_sees_only_what_enters_later(void **state)
{
    struct scene s;

    (void)state;
    raise_scene(&s);
    struct consumer *early = join(&s, 256 * KIB, OVERFLOW_BLOCKS);
    give(&s, 1000);
    fill(&s);
    struct consumer *late = join(&s, 256 * KIB, OVERFLOW_BLOCKS);
    give(&s, 500);
    fill(&s);
    drain_all(&s, early);
    drain_all(&s, late);
    assert_int_equal(late->position, 1500);
    assert_int_equal(late->sink.offered, 500);
    clear_scene(&s);
}

static void test_freeing_a_stream_lets_its_cursors_and_chunks_go(void **state)
{
    struct scene s;

    (void)state;
    raise_scene(&s);
    for (int i = 0; i < CONSUMERS; i++)
        join(&s, 1024 * KIB, i % 2 ? OVERFLOW_BLOCKS : OVERFLOW_DETACHES);
    give(&s, 700000);
    while (fill(&s) == IO_OK)
        drain(&s, &s.consumers[0], 100);
    clear_scene(&s);
    stream_free(NULL);
}

/* One upload that makes the ring grow several times; the nth request for memory in it fails. */
static bool survive_failure(size_t nth)
{
    struct scene s;

    raise_scene(&s);
    struct consumer *slow = join(&s, 1024 * KIB, OVERFLOW_BLOCKS);
    struct consumer *fast = join(&s, 1024 * KIB, OVERFLOW_DETACHES);
    give(&s, 900000);
    memory_has_failed = false;
    failing = nth;
    while (fill(&s) == IO_OK) {
        drain_all(&s, fast);
        drain(&s, slow, 3000);
        settle(&s);
    }
    bool failed = memory_has_failed;
    assert_int_equal(stream_ending(s.stream), failed ? ENDED_RESET : NOT_ENDED);
    failing = 0;
    assert_int_equal(drain_all(&s, slow), failed ? IO_END : IO_AGAIN);
    assert_int_equal(drain_all(&s, fast), failed ? IO_END : IO_AGAIN);
    settle(&s);
    clear_scene(&s);
    return failed;
}

static void test_no_memory_ends_the_stream_and_keeps_what_was_there(void **state)
{
    size_t nth = 1;

    (void)state;
    while (survive_failure(nth))
        nth++;
    assert_true(nth > 60); /* every chunk and every wider ring had its turn */
}

static void test_no_memory_for_a_stream_answers_null(void **state)
{
    (void)state;
    failing = 1;
    assert_null(stream_new(&pool, NULL));
    assert_int_equal(heap_blocks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_stream_agrees_with_its_model, start_clean,
                                        tell_seed_of_failure),
        cmocka_unit_test_setup(test_an_idle_stream_holds_no_chunk, start_clean),
        cmocka_unit_test_setup(test_a_source_that_has_nothing_to_read_costs_no_chunk, start_clean),
        cmocka_unit_test_setup(test_small_traffic_allocates_nothing_on_the_heap, start_clean),
        cmocka_unit_test_setup(test_the_ring_grows_with_the_lag_and_goes_with_it, start_clean),
        cmocka_unit_test_setup(test_the_ring_does_not_grow_without_lag, start_clean),
        cmocka_unit_test_setup(test_one_fill_is_not_larger_than_the_smallest_limit, start_clean),
        cmocka_unit_test_setup(
            test_bulk_comes_in_by_the_quarter_megabyte_and_small_reads_by_the_chunk, start_clean),
        cmocka_unit_test_setup(test_small_traffic_is_one_piece_to_every_call, start_clean),
        cmocka_unit_test_setup(test_nothing_enters_while_a_blocking_cursor_is_full, start_clean),
        cmocka_unit_test_setup(test_a_stalled_detaching_cursor_is_cut_and_holds_nobody_back,
                               start_clean),
        cmocka_unit_test_setup(test_a_limit_may_be_reached_but_not_passed, start_clean),
        cmocka_unit_test_setup(test_the_end_is_told_with_the_last_byte_and_again, start_clean),
        cmocka_unit_test_setup(test_a_reset_is_told_after_what_was_received, start_clean),
        cmocka_unit_test_setup(test_an_end_without_bytes_is_told_to_a_waiting_consumer,
                               start_clean),
        cmocka_unit_test_setup(test_a_cursor_that_stops_gets_its_share_and_the_end_and_nothing_else,
                               start_clean),
        cmocka_unit_test_setup(test_what_follows_a_share_neither_counts_as_lag_nor_is_kept,
                               start_clean),
        cmocka_unit_test_setup(test_a_share_that_there_is_no_memory_to_set_aside_is_lost,
                               start_clean),
        cmocka_unit_test_setup(test_a_broken_stream_still_delivers_what_it_kept, start_clean),
        cmocka_unit_test_setup(test_a_failed_write_leaves_the_others_alone, start_clean),
        cmocka_unit_test_setup(test_without_cursors_all_bytes_are_forgotten, start_clean),
        cmocka_unit_test_setup(test_a_new_cursor_sees_only_what_enters_later, start_clean),
        cmocka_unit_test_setup(test_freeing_a_stream_lets_its_cursors_and_chunks_go, start_clean),
        cmocka_unit_test_setup(test_no_memory_ends_the_stream_and_keeps_what_was_there,
                               start_clean),
        cmocka_unit_test_setup(test_no_memory_for_a_stream_answers_null, start_clean),
    };

    return run_group(tests, sizeof tests / sizeof tests[0]);
}
