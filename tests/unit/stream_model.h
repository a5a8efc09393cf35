/*
 * stream_model.h — what a stream must do, worked out from the contract in stream.h.
 *
 *     scripted source ──fill──▶ stream ──drain──▶ scripted sinks, each with a cursor
 *                                  │
 *                               settle
 *
 * The source gives a pattern in which every offset has its own bytes, and each sink compares what
 * it gets with the place it has reached: a byte lost, doubled, moved or foreign is found at once.
 * Every step goes through fill(), drain() and settle() below, which work out what must happen and
 * compare.  With pipes the same bytes go through real ones, whose calls fall short at random.
 *
 * Random runs are always the same ones; STREAM_SEED=n runs others, and a failure names its own.
 */
#ifndef TESTS_STREAM_MODEL_H
#define TESTS_STREAM_MODEL_H

#include "stream/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sanitizer/asan_interface.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/pool.h"
#include "shared/page.h"
#include "stream/pipes.h"

#define CONSUMERS  5
#define KIB        ((size_t)1024)
#define EVERYTHING ((size_t)1 << 30) /* more than any test moves */
#define MAX_ROOM  (16 * (size_t)CHUNK_SIZE)
#define SET_ASIDE_MAX (4096 * KIB)

static size_t requests;    /* calls of calloc() and pool_take() */
static size_t heap_blocks; /* what calloc() gave and free() did not get back */
static size_t failing;     /* the request from now that fails; 0: none */
static bool memory_has_failed;

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void __real_free(void *block);
void __wrap_free(void *block);
char *__real_pool_take(struct pool *pool);
char *__wrap_pool_take(struct pool *pool);

static bool request_fails(void)
{
    requests++;
    if (failing == 0 || --failing > 0)
        return false;
    memory_has_failed = true;
    return true;
}

void *__wrap_calloc(size_t count, size_t size)
{
    void *block = request_fails() ? NULL : __real_calloc(count, size);

    heap_blocks += block != NULL;
    return block;
}

void __wrap_free(void *block)
{
    heap_blocks -= block != NULL;
    __real_free(block);
}

char *__wrap_pool_take(struct pool *pool)
{
    return request_fails() ? NULL : __real_pool_take(pool);
}

static size_t short_copies; /* of tee(2): one in so many; 0: none */
static size_t no_pipes;     /* of pipe2(2): one in so many fails; 0: none */
static uint64_t kernel_random = 1;

ssize_t __real_tee(int from, int to, size_t length, unsigned flags);
ssize_t __wrap_tee(int from, int to, size_t length, unsigned flags);
int __real_pipe2(int ends[2], int flags);
int __wrap_pipe2(int ends[2], int flags);

#define PERIOD 131071 /* a prime: no chunk and no ring has a multiple of it */

/* The first bytes follow the last ones again, so that a chunk's worth can be read from any place. */
static unsigned char pattern[PERIOD + CHUNK_SIZE];

static uint64_t next_random(uint64_t *random)
{
    uint64_t z = *random += 0x9e3779b97f4a7c15; /* splitmix64 */

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static size_t below(uint64_t *random, size_t max)
{
    return next_random(random) % max;
}

static bool once_in(size_t often)
{
    return often > 0 && below(&kernel_random, often) == 0;
}

ssize_t __wrap_tee(int from, int to, size_t length, unsigned flags)
{
    if (once_in(short_copies)) {
        length = below(&kernel_random, length + 1);
        errno = EAGAIN;
        if (length == 0)
            return -1;
    }
    return __real_tee(from, to, length, flags);
}

int __wrap_pipe2(int ends[2], int flags)
{
    errno = EMFILE;
    return once_in(no_pipes) ? -1 : __real_pipe2(ends, flags);
}

static void make_pattern(void)
{
    uint64_t random = 1;

    for (size_t i = 0; i < PERIOD; i++)
        pattern[i] = (unsigned char)next_random(&random);
    memcpy(pattern + PERIOD, pattern, CHUNK_SIZE);
}

struct transport {
    uint64_t offset; /* of the next byte given, or expected */
    size_t calls;    /* reads, or writes */
    size_t offered;  /* bytes of space, or bytes, in the last call */
    int pieces;      /* and in how many pieces that was */
    /* a source */
    size_t has;   /* bytes it can give */
    size_t gives; /* of these, at most so many in one call */
    enum io then; /* what a read answers when it has none */
    bool silent;  /* transport_may_read() says no */
    bool copies;  /* transport_can_splice() says no */
    bool refuses; /* it will, once it is asked to */
    /* a sink */
    size_t takes; /* bytes it takes in the next call */
    bool gone;
};

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t total_of(const struct iovec *piece, int count)
{
    size_t total = 0;

    for (int i = 0; i < count; i++) {
        assert_non_null(piece[i].iov_base);
        assert_in_range(piece[i].iov_len, 1, CHUNK_SIZE);
        total += piece[i].iov_len;
    }
    return total;
}

bool transport_may_read(const struct transport *source)
{
    return !source->silent;
}

enum io transport_read(struct transport *source, const struct iovec *space, int count,
                       size_t *moved)
{
    source->calls++;
    source->offered = total_of(space, count);
    source->pieces = count;
    assert_true(source->offered > 0);
    *moved = min_size(min_size(source->has, source->gives), source->offered);

    size_t left = *moved;
    for (; left > 0; space++) {
        size_t length = min_size(left, space->iov_len);

        memcpy(space->iov_base, pattern + source->offset % PERIOD, length);
        source->offset += length;
        left -= length;
    }
    source->has -= *moved;
    return *moved > 0 ? IO_OK : source->then;
}

enum io transport_write(struct transport *sink, const struct iovec *bytes, int count, size_t *moved)
{
    sink->calls++;
    sink->offered = total_of(bytes, count);
    sink->pieces = count;
    assert_true(sink->offered > 0);
    *moved = sink->gone ? 0 : min_size(sink->takes, sink->offered);

    size_t left = *moved;
    for (; left > 0; bytes++) {
        size_t length = min_size(left, bytes->iov_len);

        assert_memory_equal(bytes->iov_base, pattern + sink->offset % PERIOD, length);
        sink->offset += length;
        left -= length;
    }
    if (sink->gone)
        return IO_FAILED;
    return *moved > 0 ? IO_OK : IO_AGAIN;
}

bool transport_can_splice(const struct transport *t)
{
    return !t->copies;
}

static bool is_refused(struct transport *t)
{
    t->copies |= t->refuses;
    return t->copies;
}

/* As many as there is room for: a pipe counts pieces, not bytes. */
enum io transport_splice_in(struct transport *source, int pipe, size_t max, size_t *moved)
{
    *moved = 0;
    if (is_refused(source))
        return IO_AGAIN;
    source->calls++;
    source->offered = max;
    max = min_size(min_size(source->has, source->gives), max);
    while (*moved < max) {
        size_t length = min_size(CHUNK_SIZE, max - *moved);
        ssize_t n = write(pipe, pattern + source->offset % PERIOD, length);

        if (n <= 0)
            break;
        *moved += (size_t)n;
        source->offset += (size_t)n;
        source->has -= (size_t)n;
    }
    return *moved > 0 ? IO_OK : source->then;
}

enum io transport_splice_out(struct transport *sink, int pipe, size_t bytes, size_t *moved)
{
    unsigned char piece[CHUNK_SIZE];

    *moved = 0;
    assert_true(bytes > 0);
    if (is_refused(sink))
        return IO_AGAIN;
    sink->calls++;
    sink->offered = bytes;
    if (sink->gone)
        return IO_FAILED;
    while (sink->takes > 0 && *moved < bytes) {
        size_t length = min_size(min_size(sizeof piece, sink->takes), bytes - *moved);

        assert_int_equal(read(pipe, piece, length), length);
        assert_memory_equal(piece, pattern + sink->offset % PERIOD, length);
        *moved += length;
        sink->offset += length;
        sink->takes -= length;
    }
    return *moved > 0 ? IO_OK : IO_AGAIN;
}

struct consumer {
    struct cursor cursor;
    struct transport sink;
    bool attached;
    uint64_t position;
    uint64_t last; /* the end of its share; UINT64_MAX: everything */
    size_t limit;
    enum overflow overflow;
    /* Once the rest of its share has been set aside: */
    bool is_aside;
    uint64_t aside_from;
    size_t aside_chunks; /* as of the last settle() */
};

struct scene {
    struct stream *stream;
    struct pipes *pipes;     /* NULL: memory alone */
    struct consumer *leader; /* whose pipe must be empty before more enters */
    struct transport source;
    struct consumer consumers[CONSUMERS];
    size_t count;
    uint64_t begin;
    uint64_t end;
    uint64_t empty_at;       /* where nothing was kept the last time */
    enum ending ending;
    size_t shadow_only_bytes;
};

static struct slot slot;

/* One for all runs, so that what one stream leaves in a chunk is there for the next to fall for. */
static struct pool pool;

/* What a failed test left behind must not fail the next one, too. */
static int start_clean(void **state)
{
    (void)state;
    if (pool.lent > 0 || heap_blocks > 0)
        pool = (struct pool){ 0 };
    heap_blocks = 0;
    failing = 0;
    short_copies = no_pipes = 0;
    return 0;
}

static size_t lag_of(const struct scene *s, const struct consumer *c)
{
    return c->attached ? (c->is_aside ? c->last : s->end) - c->position : 0;
}

static size_t bytes_aside(const struct scene *s)
{
    size_t bytes = 0;

    for (size_t i = 0; i < s->count; i++)
        bytes += s->consumers[i].is_aside ? lag_of(s, &s->consumers[i]) : 0;
    return bytes;
}

static size_t chunks_aside(const struct scene *s)
{
    size_t chunks = 0;

    for (size_t i = 0; i < s->count; i++)
        chunks += s->consumers[i].aside_chunks;
    return chunks;
}

/* Streams of their own, each with one cursor; those that somebody has left go with the next settle(). */
static size_t count_aside(const struct scene *s)
{
    size_t count = 0;

    for (size_t i = 0; i < s->count; i++)
        count += s->consumers[i].is_aside;
    return count;
}

/* How far it may go now. */
static uint64_t reach_of(const struct scene *s, const struct consumer *c)
{
    return c->last < s->end ? c->last : s->end;
}

/* The chunks that the bytes [from, to) touch, when one of them began with that byte. */
static size_t chunks_since(uint64_t began, uint64_t from, uint64_t to)
{
    from -= began;
    to -= began;
    return from < to ? (to + CHUNK_SIZE - 1) / CHUNK_SIZE - from / CHUNK_SIZE : 0;
}

/* The first of the stream's own began where nothing was kept. */
static size_t chunks_of(const struct scene *s, uint64_t from, uint64_t to)
{
    return chunks_since(s->empty_at, from, to);
}

/* The most that may enter at once, as far as the cursors are concerned. */
static size_t allowed(const struct scene *s)
{
    size_t max = EVERYTHING;

    for (size_t i = 0; i < s->count; i++) {
        const struct consumer *c = &s->consumers[i];

        if (!c->attached || c->is_aside)
            continue;
        size_t held_back = c->overflow == OVERFLOW_BLOCKS ? lag_of(s, c) : 0;
        assert_true(held_back <= c->limit);
        max = min_size(max, c->limit - held_back);
    }
    return max;
}

static bool waits_for_leader(const struct scene *s)
{
    return s->leader != NULL && s->leader->cursor.piped > 0;
}

/* What is kept is in memory, all of it, and nothing else is. */
static void check_memory(const struct scene *s)
{
    assert_int_equal(stream_shadow_only_bytes(s->stream), s->shadow_only_bytes);
    assert_int_equal(pool.lent, chunks_of(s, s->begin, s->end) + chunks_aside(s));
    /* Each stream, and perhaps a larger ring. */
    assert_in_range(heap_blocks, 1 + count_aside(s), 2 + 2 * count_aside(s));
}

/* What is kept is somewhere, and memory is not taken for more than that. */
static void check_memory_and_pipes(const struct scene *s)
{
    /* Where chunks begin depends on what came to memory first. */
    assert_true(pool.lent <= chunks_of(s, s->begin, s->end) + chunks_aside(s) + 1);
    for (size_t i = 0; i < s->count; i++) {
        const struct cursor *c = &s->consumers[i].cursor;

        assert_int_equal(c->pipes != NULL, c->piped > 0);
        assert_true(c->piped <= s->end - s->begin);
    }
}

static void check(const struct scene *s)
{
    size_t room = stream_room(s->stream);
    size_t min = waits_for_leader(s) ? 0 : min_size(allowed(s), CHUNK_SIZE);

    assert_in_range(room, min, waits_for_leader(s) ? 0 : min_size(allowed(s), MAX_ROOM));
    assert_int_equal(stream_wants_more(s->stream), s->ending == NOT_ENDED && min > 0);
    assert_int_equal(stream_ending(s->stream), s->ending);
    assert_int_equal(stream_total(s->stream), s->end);
    assert_int_equal(stream_buffered(s->stream), s->end - s->begin + bytes_aside(s));
    if (s->pipes == NULL)
        check_memory(s);
    else
        check_memory_and_pipes(s);
    for (size_t i = 0; i < s->count; i++) {
        const struct consumer *c = &s->consumers[i];

        assert_int_equal(c->cursor.stream != NULL, c->attached);
        assert_int_equal(c->cursor.position, c->position);
        assert_int_equal(c->sink.offset, c->position);
        assert_int_equal(cursor_lag(&c->cursor), lag_of(s, c));
    }
}

static void raise_scene_with(struct scene *s, struct pipes *pipes)
{
    *s = (struct scene){ .stream = stream_new(&pool, pipes), .pipes = pipes };
    s->source = (struct transport){ .gives = EVERYTHING, .then = IO_AGAIN };
    assert_non_null(s->stream);
    check(s);
}

/* Also in the middle of things: nothing may be left of the stream, nor of its hold on a cursor. */
static void clear_scene(struct scene *s)
{
    stream_free(s->stream);
    for (size_t i = 0; i < s->count; i++) {
        assert_null(s->consumers[i].cursor.stream);
        assert_int_equal(cursor_lag(&s->consumers[i].cursor), 0);
    }
    pipes_free(s->pipes);
    assert_int_equal(pool.lent, 0);
    assert_int_equal(heap_blocks, 0);
}

static struct consumer *join(struct scene *s, size_t limit, enum overflow overflow)
{
    struct consumer *c = &s->consumers[s->count++];

    *c = (struct consumer){ .sink.offset = s->end,
                            .attached = true,
                            .position = s->end,
                            .last = UINT64_MAX,
                            .limit = limit,
                            .overflow = overflow };
    stream_attach(s->stream, &c->cursor, limit, overflow);
    if (s->leader == NULL && overflow == OVERFLOW_BLOCKS)
        s->leader = c;
    check(s);
    return c;
}

/* Its share are so many bytes, from here on. */
static void stop_after(struct consumer *c, size_t bytes)
{
    c->last = c->position + bytes;
    cursor_stop_at(&c->cursor, c->last);
}

static void leave(struct scene *s, struct consumer *c)
{
    stream_detach(&c->cursor);
    c->attached = false;
    if (s->leader == c)
        s->leader = NULL;
    check(s);
}

/* What a fill must answer that was offered this much room. */
static enum io expected_of_fill(struct scene *s, size_t room, size_t moved)
{
    if (s->ending != NOT_ENDED || room == 0 || s->source.silent)
        return IO_AGAIN;
    if (memory_has_failed)
        return IO_FAILED;
    if (s->pipes == NULL)
        assert_int_equal(s->source.offered, room);
    assert_true(s->source.offered <= min_size(allowed(s), MAX_ROOM));
    return moved > 0 ? IO_OK : s->source.then;
}

static enum io fill(struct scene *s)
{
    size_t room = stream_room(s->stream);
    size_t calls = s->source.calls;
    uint64_t offset = s->source.offset;

    memory_has_failed = false;
    enum io io = stream_fill(s->stream, &s->source);
    size_t moved = s->source.offset - offset;
    enum io expected = expected_of_fill(s, room, moved);
    bool untouched = s->ending != NOT_ENDED || room == 0 || s->source.silent || memory_has_failed;

    assert_int_equal(io, expected);
    assert_int_equal(s->source.calls - calls, !untouched);
    s->end += moved;
    if (io == IO_END)
        s->ending = ENDED_FIN;
    if (io == IO_FAILED)
        s->ending = ENDED_RESET;
    check(s);
    return io;
}

/* due: what it might have got at best. */
static enum io expected_of_drain(const struct scene *s, const struct consumer *c, size_t moved,
                                 size_t due)
{
    if (!c->attached || (c->sink.gone && due > 0))
        return IO_FAILED;
    if (moved == due && (s->ending != NOT_ENDED || c->last <= s->end))
        return IO_END;
    return moved > 0 ? IO_OK : IO_AGAIN;
}

static enum io drain(struct scene *s, struct consumer *c, size_t takes)
{
    size_t due = c->attached ? reach_of(s, c) - c->position : 0;
    size_t calls = c->sink.calls;
    uint64_t offset = c->sink.offset;

    c->sink.takes = takes;
    enum io io = cursor_drain(&c->cursor, &c->sink);
    size_t moved = c->sink.offset - offset;

    assert_int_equal(io, expected_of_drain(s, c, moved, due));
    if (s->pipes == NULL)
        assert_int_equal(c->sink.calls - calls, due > 0);
    /* One drain offers what there is, up to 16 pieces, of which the first may be short. */
    if (s->pipes == NULL && due > 0)
        assert_in_range(c->sink.offered, min_size(due, 15 * CHUNK_SIZE + 1), due);
    c->position += moved;
    check(s);
    return io;
}

/* As far as one that is at its end would have it. */
static enum io drain_all(struct scene *s, struct consumer *c)
{
    enum io io = IO_OK;

    while (io == IO_OK)
        io = drain(s, c, EVERYTHING);
    assert_int_equal(c->position, reach_of(s, c));
    return io;
}

/* One that lags too much is cut, unless it has only the rest of a share to take. */
static bool apply_limit(struct scene *s, struct consumer *c)
{
    if (c->overflow != OVERFLOW_DETACHES || lag_of(s, c) <= c->limit)
        return false;
    if (c->last <= s->end && c->last - c->position <= min_size(c->limit, SET_ASIDE_MAX)) {
        c->is_aside = true;
        c->aside_from = c->position;
        return false;
    }
    c->attached = false;
    return true;
}

static void settle_aside(struct consumer *c)
{
    c->is_aside &= c->attached;
    c->aside_chunks = c->is_aside ? chunks_since(c->aside_from, c->position, c->last) : 0;
}

static bool settle(struct scene *s)
{
    uint64_t blocking = s->end;
    bool cut = false;

    s->begin = s->end;
    for (size_t i = 0; i < s->count; i++) {
        struct consumer *c = &s->consumers[i];

        cut |= apply_limit(s, c);
        settle_aside(c);
        if (!c->attached || c->is_aside)
            continue;
        if (c->position < s->begin)
            s->begin = c->position;
        if (c->overflow == OVERFLOW_BLOCKS && c->position < blocking)
            blocking = c->position;
    }
    /* What would come back if every cursor that may be detached were. */
    s->shadow_only_bytes =
        (chunks_of(s, s->begin, s->end) - chunks_of(s, blocking, s->end) + chunks_aside(s)) *
        CHUNK_SIZE;
    if (s->leader != NULL && !s->leader->attached)
        s->leader = NULL;
    assert_int_equal(stream_settle(s->stream), cut);
    if (s->begin == s->end) {
        s->empty_at = s->end;
        assert_int_equal(stream_shadow_only_bytes(s->stream), chunks_aside(s) * CHUNK_SIZE);
        assert_int_equal(pool.lent, chunks_aside(s));
    }
    if (s->begin == s->end && s->pipes == NULL && count_aside(s) == 0)
        assert_int_equal(heap_blocks, 1);
    check(s);
    return cut;
}

static void give(struct scene *s, size_t bytes)
{
    s->source.has += bytes;
}

#define RUNS      400
#define STEPS     600
#define RUN_BYTES (4096 * KIB) /* about; the whole test stays well below four seconds */

struct run {
    struct scene scene;
    uint64_t random;
    size_t portion;  /* the source's and the sinks' usual measure */
    size_t budget;   /* bytes the source may still get */
    int least_limit; /* the power of two of the smallest limit */
    bool lazy;       /* most consumers take nothing most of the time */
};

static uint64_t running; /* the seed of the run under way, or 0 */

static void tell_seed(void)
{
    if (running != 0)
        fprintf(stderr, "failed in the run that STREAM_SEED=%" PRIu64 " starts with\n", running);
    running = 0;
}

/* Sanitizer reports end the program: the seed must be told before. */
void __asan_on_error(void)
{
    tell_seed();
}

static void on_abort(int number)
{
    (void)number;
    tell_seed();
}

static int tell_seed_of_failure(void **state)
{
    (void)state;
    tell_seed();
    return 0;
}

static size_t some_limit(struct run *run)
{
    int max = run->lazy ? 27 : 21;

    return (size_t)1 << (run->least_limit + (int)below(&run->random, max - run->least_limit));
}

static void join_somehow(struct run *run)
{
    enum overflow overflow = below(&run->random, 2) ? OVERFLOW_BLOCKS : OVERFLOW_DETACHES;

    if (run->scene.count == CONSUMERS)
        return;
    struct consumer *c = join(&run->scene, some_limit(run), overflow);
    c->sink.copies = below(&run->random, 8) == 0;
    if (below(&run->random, 4) == 0)
        stop_after(c, 1 + below(&run->random, 4 * run->portion));
}

static void source_moves(struct run *run)
{
    size_t bytes = min_size(1 + below(&run->random, run->portion), run->budget);

    run->budget -= bytes;
    give(&run->scene, bytes);
    run->scene.source.gives = below(&run->random, 3) ? EVERYTHING : 1 + below(&run->random, 5000);
    run->scene.source.silent = below(&run->random, 16) == 0;
}

static void consumer_moves(struct run *run, struct consumer *c)
{
    static const size_t measures[] = { 0, 0, 1, 3000, CHUNK_SIZE, EVERYTHING, EVERYTHING };
    if (run->lazy && c != run->scene.leader && below(&run->random, 2))
        return;
    size_t which = below(&run->random, sizeof measures / sizeof measures[0] + 2);
    size_t takes = which < sizeof measures / sizeof measures[0] ? measures[which]
                                                                : below(&run->random, run->portion);
    enum io io = drain(&run->scene, c, takes);

    /* The owner's part: a consumer that failed, or has its share, has no cursor any more. */
    if (io == IO_FAILED || c->position == c->last)
        leave(&run->scene, c);
}

static void something_rare(struct run *run)
{
    struct scene *s = &run->scene;
    struct consumer *c = s->count > 0 ? &s->consumers[below(&run->random, s->count)] : NULL;

    switch (below(&run->random, 14)) {
    case 0:
        s->source.then = IO_END;
        break;
    case 1:
        s->source.then = IO_FAILED;
        break;
    case 2:
        stream_break(s->stream);
        s->ending = s->ending == NOT_ENDED ? ENDED_RESET : s->ending;
        break;
    case 3:
    case 4:
        if (c != NULL)
            c->sink.gone = true; /* it fails once it is written to */
        break;
    case 5:
        if (c != NULL)
            leave(s, c);
        break;
    case 6:
        if (c != NULL)
            c->sink.refuses = true; /* what is spliced to it has to be copied from then on */
        break;
    case 7:
        s->source.refuses = true;
        break;
    default:
        join_somehow(run);
    }
    check(s);
}

static void whole_turn(struct run *run)
{
    fill(&run->scene);
    for (size_t i = 0; i < run->scene.count; i++)
        consumer_moves(run, &run->scene.consumers[i]);
    settle(&run->scene);
}

static void step(struct run *run)
{
    struct scene *s = &run->scene;
    size_t kind = below(&run->random, 16);

    if (kind < 4)
        source_moves(run);
    else if (kind < 7)
        fill(s);
    else if (kind < 11 && s->count > 0)
        consumer_moves(run, &s->consumers[below(&run->random, s->count)]);
    else if (kind < 13)
        settle(s);
    else if (kind < 15)
        whole_turn(run);
    else
        something_rare(run);
}

/* Whoever is still there and alive gets all of it, then the end, and then the end again. */
static void run_to_the_end(struct run *run)
{
    struct scene *s = &run->scene;

    s->source.silent = false;
    s->source.gives = EVERYTHING;
    s->source.then = below(&run->random, 2) ? IO_END : IO_FAILED;
    while (s->ending == NOT_ENDED) {
        fill(s);
        for (size_t i = 0; i < s->count; i++)
            if (drain(s, &s->consumers[i], EVERYTHING) == IO_FAILED ||
                s->consumers[i].position == s->consumers[i].last)
                leave(s, &s->consumers[i]);
        settle(s);
    }
    for (size_t i = 0; i < s->count; i++) {
        if (!s->consumers[i].attached)
            continue;
        s->consumers[i].sink.gone = false;
        assert_int_equal(drain_all(s, &s->consumers[i]), IO_END);
        assert_int_equal(drain(s, &s->consumers[i], 0), IO_END);
        if (s->consumers[i].position == s->consumers[i].last)
            leave(s, &s->consumers[i]);
    }
    settle(s);
    assert_int_equal(pool.lent, 0);
}

/* Pipes from the first byte, for bulk, or never; few of them for consumers that lag far. */
enum piping { NO_PIPES, PIPES_FOR_BULK, PIPES_ALWAYS, FEW_PIPES };

static struct pipes *pipes_for(enum piping piping, struct run *run)
{
    static const size_t oftens[] = { 0, 0, 2, 10, 100 };

    if (piping == NO_PIPES)
        return NULL;
    kernel_random = next_random(&run->random);
    short_copies = oftens[below(&run->random, 5)];
    no_pipes = oftens[below(&run->random, 5)];
    if (piping == FEW_PIPES)
        short_copies = no_pipes = 0; /* after a failure pipes are left alone for long */
    return pipes_new(&slot, 6 + below(&run->random, piping == FEW_PIPES ? 30 : 100),
                     piping != PIPES_FOR_BULK);
}

/* Megabytes of lag, so that pipes run short and have to be read out all the time. */
static void make_laggards(struct run *run)
{
    run->portion = 400000;
    run->least_limit = 19;
    run->budget = 8 * RUN_BYTES;
    run->lazy = true;
}

static void run_once(uint64_t seed, enum piping piping)
{
    static const size_t portions[] = { 300, 5000, 40000, 400000 };
    struct run run = { .random = seed, .budget = RUN_BYTES };

    running = seed;
    run.portion = portions[below(&run.random, 4)];
    run.least_limit = 12 + (int)below(&run.random, 9); /* 4k to 1m */
    if (piping == FEW_PIPES)
        make_laggards(&run);
    raise_scene_with(&run.scene, pipes_for(piping, &run));
    for (size_t i = below(&run.random, CONSUMERS + 1); i > 0; i--)
        join_somehow(&run);
    for (size_t i = below(&run.random, run.lazy ? 3 * STEPS : STEPS); i > 0; i--)
        step(&run);
    if (below(&run.random, 4))
        run_to_the_end(&run);
    clear_scene(&run.scene);
    running = 0;
}

static void run_all(enum piping piping)
{
    const char *wanted = getenv("STREAM_SEED");
    uint64_t first = wanted != NULL ? strtoull(wanted, NULL, 10) : 1;

    for (uint64_t seed = first; seed < first + RUNS; seed++)
        run_once(seed, piping);
}

static int run_group(const struct CMUnitTest *tests, size_t count)
{
    make_pattern();
    signal(SIGABRT, on_abort);
    int failed = _cmocka_run_group_tests("stream", tests, count, NULL, NULL);
    if (failed == 0)
        pool_close(&pool);
    return failed;
}

#endif
