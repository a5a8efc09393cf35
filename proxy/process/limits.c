/*
 * limits.c — one division of the descriptors.
 */
#include "limits.h"

#include <sys/resource.h>

#include "config/config.h"

#define SPARE_DESCRIPTORS   128 /* a worker's logs, pipes, epoll sets, DNS, sockets being closed */
#define MAX_DESCRIPTORS    1048576 /* a container's limit may be 10^9; never size by it */
#define MAX_PER_WORKER     65536   /* sessions */
#define FALLBACK            1024    /* descriptors, where the limit cannot be read */
#define DESCRIPTORS_SESSION 2       /* client and primary */
#define DESCRIPTORS_PIPE    2
#define MIN_FOR_PIPES     256     /* so many are for sockets alone */
#define SHARE_OF_PIPES      16      /* one in so many of the others is a pipe's */
#define MAX_PIPES          1024 /* 256 MiB of them, as much as --shadow-memory allows by default */

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Where few descriptors are allowed, half of them is spare. */
static size_t usable_descriptors(const struct config *config, size_t descriptors)
{
    size_t sockets = config->listen_count * config->workers;
    size_t spare = min_size(SPARE_DESCRIPTORS, descriptors / 2) + sockets;

    return descriptors > spare + DESCRIPTORS_SESSION ? descriptors - spare : DESCRIPTORS_SESSION;
}

static size_t max_pipes(const struct config *config, size_t usable)
{
    if (config->io == IO_MODE_COPY || usable < MIN_FOR_PIPES)
        return 0;
    return min_size((usable - MIN_FOR_PIPES) / SHARE_OF_PIPES / DESCRIPTORS_PIPE, MAX_PIPES);
}

struct limits limits_choose(const struct config *config, size_t descriptors)
{
    size_t all = usable_descriptors(config, descriptors);
    size_t pipes = max_pipes(config, all);
    size_t usable = all - DESCRIPTORS_PIPE * pipes;
    size_t max = min_size(usable / DESCRIPTORS_SESSION, MAX_PER_WORKER);
    size_t with_shadows = min_size(usable / (DESCRIPTORS_SESSION + config->shadow_count), max);
    size_t each = with_shadows > 0 ? with_shadows : 1;
    size_t wished = config->max_sessions;

    if (wished > 0)
        each = min_size(wished, max);

    struct limits limits = {
        .sessions = each * config->workers,
        .sessions_per_worker = each,
        .shadows_per_worker = usable - DESCRIPTORS_SESSION * each,
        .pipes_per_worker = pipes,
    };
    limits.is_lowered = wished > limits.sessions;
    if (wished > 0)
        limits.sessions = min_size(wished, limits.sessions);
    return limits;
}

/* Of a request stream: what the slowest of those that hold the client back may lag. */
static uint64_t max_request_bytes(const struct config *config)
{
    uint64_t max = config->buffer;

    for (size_t i = 0; i < config->shadow_count; i++) {
        const struct shadow_config *shadow = &config->shadows[i];

        if (shadow->overflow == SHADOW_BLOCK && shadow->buffer > max)
            max = shadow->buffer;
    }
    return max;
}

double limits_worst_memory(const struct config *config, const struct limits *limits)
{
    double each = (double)max_request_bytes(config) + (double)config->buffer;

    return (double)limits->sessions * each + (double)config->shadow_memory;
}

size_t limits_raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return FALLBACK;
    size_t max = min_size(limit.rlim_max, MAX_DESCRIPTORS);
    if (limit.rlim_cur < max) {
        struct rlimit higher = { max, limit.rlim_max };

        if (setrlimit(RLIMIT_NOFILE, &higher) == 0)
            limit = higher;
    }
    return min_size(limit.rlim_cur, MAX_DESCRIPTORS);
}
