/*
 * test_stream_pipes.c — the stream against its model when bytes go through pipes, and what that adds
 * to its promises.
 */
#include "tests/unit/stream_model.h"

static void test_a_stream_in_pipes_agrees_with_its_model(void **state)
{
    (void)state;
    run_all(PIPES_ALWAYS);
}

static void test_Z14_a_stream_that_changes_its_form_agrees_with_its_model(void **state)
{
    (void)state;
    run_all(PIPES_FOR_BULK);
}

static uint64_t counted(enum counter why)
{
    return cell_get(&slot.counts[why]);
}

static void test_laggards_that_run_out_of_pipes_agree_with_their_model(void **state)
{
    (void)state;
    run_all(FEW_PIPES);
}

/* A primary that takes all, and a source with more than enough. */
static struct consumer *raise_upload(struct scene *s, size_t max_pipes)
{
    raise_scene_with(s, pipes_new(&slot, max_pipes, true));
    give(s, EVERYTHING);
    return join(s, 256 * KIB, OVERFLOW_BLOCKS);
}

static void test_bytes_in_pipes_take_no_memory(void **state)
{
    struct scene s;
    struct consumer *primary = raise_upload(&s, 16);
    struct consumer *shadow = join(&s, 4096 * KIB, OVERFLOW_DETACHES);

    (void)state;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(fill(&s), IO_OK);
        assert_int_equal(pool.lent, 0);
        drain_all(&s, primary);
        drain_all(&s, shadow);
        settle(&s);
    }
    clear_scene(&s);
}

static void test_Z03_nothing_enters_before_the_leader_has_taken_what_came(void **state)
{
    struct scene s;
    struct consumer *primary = raise_upload(&s, 16);

    (void)state;
    fill(&s);
    drain(&s, primary, 1000);
    assert_false(stream_wants_more(s.stream));
    assert_int_equal(fill(&s), IO_AGAIN);
    s.source.then = IO_END;
    s.source.has = 0;
    assert_int_equal(fill(&s), IO_AGAIN); /* the end is not looked for behind a full pipe */
    drain_all(&s, primary);
    assert_int_equal(fill(&s), IO_END);
    assert_int_equal(drain(&s, primary, 0), IO_END);
    clear_scene(&s);
}

/* Pieces of 64 KiB, of which one pipe takes several: only what is too much comes to memory. */
static void test_a_laggard_keeps_its_bytes_in_pipes_as_long_as_there_are_some(void **state)
{
    struct scene s;
    struct consumer *primary = raise_upload(&s, 256);
    struct consumer *shadow = join(&s, 65536 * KIB, OVERFLOW_DETACHES);

    (void)state;
    s.source.gives = 64 * KIB;
    while (pool.lent == 0) {
        fill(&s);
        drain_all(&s, primary);
        settle(&s);
        assert_true(stream_shadow_only_bytes(s.stream) >= lag_of(&s, shadow));
    }
    assert_in_range(lag_of(&s, shadow), 32 * 64 * KIB, 33 * PIPE_SIZE);
    drain_all(&s, shadow);
    settle(&s);
    assert_int_equal(pool.lent, 0);
    clear_scene(&s);
}

static void test_a_laggard_that_catches_up_leaves_the_others_their_turns(void **state)
{
    struct scene s;
    struct consumer *primary = raise_upload(&s, 256);
    struct consumer *shadow = join(&s, 65536 * KIB, OVERFLOW_DETACHES);

    (void)state;
    while (lag_of(&s, shadow) < 4096 * KIB) {
        fill(&s);
        drain_all(&s, primary);
        settle(&s);
    }
    while (lag_of(&s, shadow) > 0) {
        uint64_t before = shadow->position;

        drain(&s, shadow, EVERYTHING);
        assert_in_range(shadow->position - before, 1, 768 * KIB);
        settle(&s);
    }
    clear_scene(&s);
}

static void test_Z13_a_pipe_with_one_byte_counts_as_a_whole_one(void **state)
{
    struct scene s;
    struct consumer *primary = raise_upload(&s, 16);
    struct consumer *shadow = join(&s, 4096 * KIB, OVERFLOW_DETACHES);

    (void)state;
    fill(&s);
    drain_all(&s, primary);
    drain(&s, shadow, lag_of(&s, shadow) - 1);
    settle(&s);
    assert_int_equal(stream_shadow_only_bytes(s.stream), PIPE_SIZE);
    drain_all(&s, shadow);
    settle(&s);
    assert_int_equal(stream_shadow_only_bytes(s.stream), 0);
    clear_scene(&s);
}

/* Each little piece takes a place in a pipe, and may keep a page: a small limit is for few pipes. */
static void test_Z13_the_pipes_of_a_laggard_stay_within_its_limit(void **state)
{
    struct scene s;
    struct consumer *primary = raise_upload(&s, 256);
    struct consumer *shadow = join(&s, 512 * KIB, OVERFLOW_DETACHES);

    (void)state;
    s.source.gives = 10;
    for (int i = 0; i < 3000; i++) {
        fill(&s);
        drain_all(&s, primary);
        settle(&s);
        assert_true(stream_shadow_only_bytes(s.stream) <=
                    512 * KIB + lag_of(&s, shadow) + CHUNK_SIZE);
    }
    assert_int_equal(lag_of(&s, shadow), 30000);
    drain_all(&s, shadow);
    clear_scene(&s);
}

/* One that is ahead has to leave its pipes, and takes along one that is behind it: that one has had
 * its copy of what comes just now, and must not lose it. */
static void test_a_laggard_that_is_read_out_for_another_one_loses_nothing(void **state)
{
    struct scene s;
    struct consumer *primary = raise_upload(&s, 16);
    struct consumer *ahead = join(&s, 65536 * KIB, OVERFLOW_DETACHES);
    struct consumer *behind = join(&s, 65536 * KIB, OVERFLOW_DETACHES); /* gets its copy first */

    (void)state;
    for (int i = 0; i < 12; i++) {
        fill(&s);
        drain_all(&s, primary);
        settle(&s);
    }
    while (lag_of(&s, ahead) > 100 * KIB)
        drain(&s, ahead, lag_of(&s, ahead) - 100 * KIB);
    settle(&s);
    for (int i = 0; i < 4; i++) {
        fill(&s);
        drain_all(&s, primary);
        settle(&s);
    }
    drain_all(&s, behind);
    drain_all(&s, ahead);
    clear_scene(&s);
}

static void test_without_memory_for_a_laggard_only_it_is_cut_off(void **state)
{
    struct scene s;
    struct consumer *primary = raise_upload(&s, 4); /* half of them are for the first pipes */
    struct consumer *shadow = join(&s, 65536 * KIB, OVERFLOW_DETACHES);

    (void)state;
    fill(&s);
    drain_all(&s, primary);
    failing = 1;
    while (shadow->cursor.stream != NULL) {
        stream_fill(s.stream, &s.source);
        primary->sink.takes = EVERYTHING;
        while (cursor_drain(&primary->cursor, &primary->sink) == IO_OK)
            continue;
    }
    failing = 0;
    assert_int_equal(stream_ending(s.stream), NOT_ENDED);
    assert_int_equal(primary->cursor.position, stream_total(s.stream));
    assert_true(shadow->cursor.position < stream_total(s.stream));
    clear_scene(&s);
}

static void test_the_first_bytes_can_be_looked_at_in_a_pipe(void **state)
{
    struct scene s;
    struct consumer *primary = raise_upload(&s, 16);
    unsigned char start[100];

    (void)state;
    fill(&s);
    assert_int_equal(stream_peek(s.stream, 0, start, sizeof start), sizeof start);
    assert_memory_equal(start, pattern, sizeof start);
    assert_int_equal(pool.lent, 0);
    drain_all(&s, primary); /* and they are all still there */
    clear_scene(&s);
}

static void test_pipes_that_fail_are_tried_again_after_a_while(void **state)
{
    struct scene s;
    uint64_t before = counted(COUNT_SPLICE_NO_DESCRIPTOR);
    struct consumer *primary = raise_upload(&s, 16);

    (void)state;
    no_pipes = 1; /* all of them */
    int reads = 0;
    for (; reads < 1000 && primary->cursor.piped == 0; reads++) {
        drain_all(&s, primary);
        settle(&s);
        fill(&s);
        if (reads == 300)
            no_pipes = 0;
    }
    assert_in_range(reads, 400, 800); /* twice the pause, then they are there */
    assert_int_equal(counted(COUNT_SPLICE_NO_DESCRIPTOR), before + 2);
    clear_scene(&s);
}

/* --- the pool ---------------------------------------------------------------------------- */

static void test_Z12_a_pipe_with_bytes_in_it_is_not_used_again(void **state)
{
    struct pipes *pipes = pipes_new(&slot, 4, true);
    struct pipe *pipe = pipes_take(pipes);
    char byte;

    (void)state;
    assert_int_equal(write(pipe->in, "x", 1), 1); /* nobody has counted it */
    pipes_return(pipes, pipe);
    for (int i = 0; i < 4; i++) {
        pipe = pipes_take(pipes);
        assert_int_equal(read(pipe->out, &byte, 1), -1);
        assert_int_equal(errno, EAGAIN);
        pipes_return(pipes, pipe);
    }
    pipes_free(pipes);
}

static void test_there_are_never_more_pipes_than_allowed(void **state)
{
    struct pipes *pipes = pipes_new(&slot, 2, true);
    uint64_t before = counted(COUNT_SPLICE_LIMIT);
    struct pipe *one = pipes_take(pipes);
    struct pipe *other = pipes_take(pipes);

    (void)state;
    assert_null(pipes_take(pipes));
    assert_int_equal(counted(COUNT_SPLICE_LIMIT), before + 1);
    pipes_return(pipes, one);
    assert_ptr_equal(pipes_take(pipes), one);
    pipes_return(pipes, one);
    pipes_return(pipes, other);
    pipes_free(pipes);
}

static void test_no_more_than_32_pipes_are_kept_for_later(void **state)
{
    struct pipes *pipes = pipes_new(&slot, 40, true);
    struct pipe *taken[40];
    int ends[40];
    size_t open = 0;

    (void)state;
    for (size_t i = 0; i < 40; i++) {
        taken[i] = pipes_take(pipes);
        ends[i] = taken[i]->in;
    }
    for (size_t i = 0; i < 40; i++)
        pipes_return(pipes, taken[i]);
    for (size_t i = 0; i < 40; i++)
        open += fcntl(ends[i], F_GETFD) != -1;
    assert_int_equal(open, 32);
    pipes_free(pipes);
}

/* tee(2) answers EAGAIN there, also when nobody will ever write. */
static void test_Z09_there_is_nothing_to_copy_from_an_empty_pipe(void **state)
{
    struct pipes *pipes = pipes_new(&slot, 2, true);
    struct pipe *one = pipes_take(pipes);
    struct pipe *other = pipes_take(pipes);

    (void)state;
    assert_int_equal(pipe_copy(one, other, 100), 0);
    pipes_return(pipes, one);
    pipes_return(pipes, other);
    pipes_free(pipes);
}

static void test_Z10_a_copy_begins_where_the_pipe_does_now(void **state)
{
    struct pipes *pipes = pipes_new(&slot, 2, true);
    struct pipe *from = pipes_take(pipes);
    struct pipe *to = pipes_take(pipes);
    char bytes[8] = { 0 };

    (void)state;
    assert_int_equal(write(from->in, "abcdef", 6), 6);
    assert_int_equal(read(from->out, bytes, 2), 2);
    assert_int_equal(pipe_copy(from, to, 100), 4);
    assert_int_equal(read(to->out, bytes, sizeof bytes), 4);
    assert_memory_equal(bytes, "cdef", 4);
    assert_int_equal(read(from->out, bytes, sizeof bytes), 4);
    assert_memory_equal(bytes, "cdef", 4);
    pipes_return(pipes, from);
    pipes_return(pipes, to);
    pipes_free(pipes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_stream_in_pipes_agrees_with_its_model, start_clean,
                                        tell_seed_of_failure),
        cmocka_unit_test_setup_teardown(
            test_Z14_a_stream_that_changes_its_form_agrees_with_its_model, start_clean,
            tell_seed_of_failure),
        cmocka_unit_test_setup_teardown(test_laggards_that_run_out_of_pipes_agree_with_their_model,
                                        start_clean, tell_seed_of_failure),
        cmocka_unit_test_setup(test_bytes_in_pipes_take_no_memory, start_clean),
        cmocka_unit_test_setup(test_Z03_nothing_enters_before_the_leader_has_taken_what_came,
                               start_clean),
        cmocka_unit_test_setup(test_a_laggard_keeps_its_bytes_in_pipes_as_long_as_there_are_some,
                               start_clean),
        cmocka_unit_test_setup(test_a_laggard_that_catches_up_leaves_the_others_their_turns,
                               start_clean),
        cmocka_unit_test_setup(test_Z13_a_pipe_with_one_byte_counts_as_a_whole_one, start_clean),
        cmocka_unit_test_setup(test_Z13_the_pipes_of_a_laggard_stay_within_its_limit, start_clean),
        cmocka_unit_test_setup(test_a_laggard_that_is_read_out_for_another_one_loses_nothing,
                               start_clean),
        cmocka_unit_test_setup(test_without_memory_for_a_laggard_only_it_is_cut_off, start_clean),
        cmocka_unit_test_setup(test_the_first_bytes_can_be_looked_at_in_a_pipe, start_clean),
        cmocka_unit_test_setup(test_pipes_that_fail_are_tried_again_after_a_while, start_clean),
        cmocka_unit_test_setup(test_Z12_a_pipe_with_bytes_in_it_is_not_used_again, start_clean),
        cmocka_unit_test_setup(test_there_are_never_more_pipes_than_allowed, start_clean),
        cmocka_unit_test_setup(test_no_more_than_32_pipes_are_kept_for_later, start_clean),
        cmocka_unit_test_setup(test_Z09_there_is_nothing_to_copy_from_an_empty_pipe, start_clean),
        cmocka_unit_test_setup(test_Z10_a_copy_begins_where_the_pipe_does_now, start_clean),
    };

    return run_group(tests, sizeof tests / sizeof tests[0]);
}
