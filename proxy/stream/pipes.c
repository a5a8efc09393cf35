/*
 * pipes.c — pipes of one size, reused only when the kernel says that they are empty.
 *
 * A pipe with bytes in it would hand one client's bytes to another, so nobody's books are believed
 * when one comes back.  An unprivileged user has 16,384 pages of pipes, and gets pipes of two pages
 * after that (pipe(7)): a pipe that is not of our size is not used at all.
 */
#include "pipes.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fault.h"
#include "shared/page.h"

#define IDLE_MAX 32 /* kept for the next stream */

struct pipes {
    struct slot *slot;
    struct pipe *idle;
    size_t       idle_count;
    size_t       count; /* open ones */
    size_t       max;
    bool         eager;
};

struct pipes *pipes_new(struct slot *slot, size_t max, bool eager)
{
    struct pipes *pipes = xcalloc(1, sizeof *pipes);

    pipes->slot = slot;
    pipes->max = max;
    pipes->eager = eager;
    return pipes;
}

void pipes_free(struct pipes *pipes)
{
    if (pipes == NULL)
        return;
    pipes_rest(pipes);
    assert(pipes->count == 0);
    free(pipes);
}

bool pipes_are_eager(const struct pipes *pipes)
{
    return pipes->eager;
}

void pipes_count_fallback(struct pipes *pipes, enum counter why)
{
    cell_add(&pipes->slot->counts[why], 1);
}

static void pipe_close(struct pipes *pipes, struct pipe *pipe)
{
    close(pipe->in);
    close(pipe->out);
    free(pipe);
    pipes->count--;
}

/* NULL: *why says what was missing. */
static struct pipe *pipe_open(struct pipes *pipes, enum counter *why)
{
    struct pipe *pipe = calloc(1, sizeof *pipe);
    int          ends[2];

    *why = COUNT_SPLICE_NO_MEMORY;
    if (pipe == NULL)
        return NULL;
    if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) {
        if (errno == EMFILE || errno == ENFILE)
            *why = COUNT_SPLICE_NO_DESCRIPTOR;
        free(pipe);
        return NULL;
    }
    *pipe = (struct pipe){ .out = ends[0], .in = ends[1] };
    pipes->count++;
    if (fcntl(pipe->in, F_SETPIPE_SZ, (int)PIPE_SIZE) != (int)PIPE_SIZE) {
        *why = COUNT_SPLICE_PIPE_SIZE;
        pipe_close(pipes, pipe);
        return NULL;
    }
    return pipe;
}

struct pipe *pipes_take(struct pipes *pipes)
{
    struct pipe *pipe = pipes->idle;
    enum counter why = COUNT_SPLICE_LIMIT;

    if (pipe != NULL) {
        pipes->idle = pipe->next;
        pipes->idle_count--;
        pipe->next = NULL;
        return pipe;
    }
    if (pipes->count < pipes->max)
        pipe = pipe_open(pipes, &why);
    if (pipe == NULL)
        pipes_count_fallback(pipes, why);
    return pipe;
}

bool pipes_are_scarce(const struct pipes *pipes)
{
    return pipes->count - pipes->idle_count >= pipes->max / 2;
}

static bool is_empty(const struct pipe *pipe)
{
    int bytes = 0;

    return pipe->bytes == 0 && ioctl(pipe->out, FIONREAD, &bytes) == 0 && bytes == 0;
}

void pipes_return(struct pipes *pipes, struct pipe *pipe)
{
    if (pipes->idle_count == IDLE_MAX || !is_empty(pipe)) {
        pipe_close(pipes, pipe);
        return;
    }
    pipe->next = pipes->idle;
    pipes->idle = pipe;
    pipes->idle_count++;
}

void pipes_rest(struct pipes *pipes)
{
    while (pipes->idle != NULL) {
        struct pipe *pipe = pipes->idle;

        pipes->idle = pipe->next;
        pipe_close(pipes, pipe);
    }
    pipes->idle_count = 0;
}

bool pipe_read(struct pipe *pipe, struct iovec *pieces, int count)
{
    while (pipe->bytes > 0) {
        ssize_t n = readv(pipe->out, pieces, count);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        pipe->bytes -= (size_t)n;
        while (count > 0 && (size_t)n >= pieces->iov_len) {
            n -= (ssize_t)pieces->iov_len;
            pieces++;
            count--;
        }
        if (count > 0) {
            pieces->iov_base = (char *)pieces->iov_base + n;
            pieces->iov_len -= (size_t)n;
        }
    }
    return true;
}

size_t pipe_copy(struct pipe *from, struct pipe *to, size_t bytes)
{
    ssize_t n;

    do {
        n = tee(from->out, to->in, bytes, SPLICE_F_NONBLOCK);
    } while (n < 0 && errno == EINTR);
    return n > 0 ? (size_t)n : 0;
}
