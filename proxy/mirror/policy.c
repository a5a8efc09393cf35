/*
 * policy.c — paused? of the right network? in the sample? is there room? is it well?
 */
#include "policy.h"

#include <inttypes.h>

#include "base/address.h"
#include "base/log.h"
#include "base/network.h"
#include "config/config.h"
#include "mirror/mirror.h"
#include "mirror/sampler.h"
#include "shared/page.h"

static uint64_t random_bits(struct mirror *mirror)
{
    mirror->random += 0x9e3779b97f4a7c15U;
    return mix64(mirror->random);
}

static struct shadow_row *row_of(const struct mirror *mirror, size_t shadow)
{
    return &mirror->page->rows[mirror->rows[shadow]];
}

static _Atomic uint64_t *active_cell(const struct mirror *mirror, size_t shadow)
{
    return &mirror->slot->shadows[mirror->rows[shadow]].counts[SHADOW_COUNT_ACTIVE];
}

bool policy_is_paused(const struct mirror *mirror, size_t shadow)
{
    return atomic_load_explicit(&mirror->page->mirroring_is_off, memory_order_relaxed) ||
           atomic_load_explicit(&row_of(mirror, shadow)->is_paused, memory_order_relaxed);
}

static bool is_wanted_from(const struct network_list *from, const struct address *client)
{
    return from->count == 0 || networks_contain(from->networks, from->count, client);
}

/* Percent: what the runtime setting says, or less while the ramp goes up. */
static double share_of(const struct shadow_config *config, const struct shadow_row *row, double now)
{
    double sample = atomic_load_explicit(&row->sample, memory_order_relaxed);
    double age = now - atomic_load_explicit(&row->begun, memory_order_relaxed);

    return age < config->ramp ? sample * age / config->ramp : sample;
}

static uint64_t bits_of(struct mirror *mirror, const struct shadow_config *config,
                        const struct address *client)
{
    uint64_t seed = mirror->config->sample_seed;

    if (config->sample_by == SAMPLE_BY_SESSION || !sampler_knows(client))
        return random_bits(mirror);
    return sampler_bits(seed != 0 ? seed : sampler_seed(config->name), client);
}

/* With overflow=block the operator wants every session, and is told of each failure. */
static bool has_breaker(const struct shadow_config *config)
{
    return config->breaker.failures > 0 && config->overflow != SHADOW_BLOCK;
}

static bool breaker_lets_by(const struct shadow_config *config, const struct shadow_row *row,
                            double now)
{
    return !has_breaker(config) || breaker_admits(&row->breaker, now);
}

enum shadow_result policy_for_session(struct mirror *mirror, size_t shadow,
                                      const struct address *client, double now)
{
    const struct shadow_config *config = &mirror->config->shadows[shadow];
    const struct shadow_row    *row = row_of(mirror, shadow);

    if (policy_is_paused(mirror, shadow))
        return RESULT_PAUSED;
    if (!is_wanted_from(&config->from, client))
        return RESULT_FILTERED;
    if (!sampler_takes(share_of(config, row, now), bits_of(mirror, config, client)))
        return RESULT_SAMPLED_OUT;
    return breaker_lets_by(config, row, now) ? RESULT_MIRRORED : RESULT_BREAKER;
}

/* A connect, a handshake and a greeting, each with its time; then another one may try. */
static double patience_with_probe(const struct shadow_config *config)
{
    return 2 * config->connect_timeout + config->greeting;
}

enum shadow_result policy_for_dial(struct mirror *mirror, size_t shadow, double now,
                                   uint64_t *probe)
{
    const struct shadow_config *config = &mirror->config->shadows[shadow];
    struct shadow_row          *row = row_of(mirror, shadow);

    *probe = 0;
    if (policy_is_paused(mirror, shadow))
        return RESULT_PAUSED;
    if (!part_take(&row->active, active_cell(mirror, shadow), config->max_sessions))
        return RESULT_LIMIT;
    enum shadow_result result = RESULT_MIRRORED;
    if (!breaker_lets_by(config, row, now))
        result = RESULT_BREAKER; /* and costs no token */
    else if (config->rate > 0 && !bucket_take(&row->bucket, config->rate, now))
        result = RESULT_RATE;
    else if (has_breaker(config) &&
             !breaker_enter(&row->breaker, now, patience_with_probe(config), probe))
        result = RESULT_BREAKER;
    if (result != RESULT_MIRRORED)
        policy_ended(mirror, shadow);
    return result;
}

void policy_ended(struct mirror *mirror, size_t shadow)
{
    part_give_back(&row_of(mirror, shadow)->active, active_cell(mirror, shadow));
}

void policy_reached(struct mirror *mirror, size_t shadow, uint64_t probe)
{
    const struct shadow_config *config = &mirror->config->shadows[shadow];

    if (has_breaker(config) && breaker_succeeded(&row_of(mirror, shadow)->breaker, probe))
        log_info("breaker", "breaker_closed", "shadow=%s", config->name);
}

/* Whether it says that the shadow is not well: not our own limits, nor the session's end. */
static bool is_a_failure(enum shadow_reason reason)
{
    switch (reason) {
    case SHADOW_RST:
    case SHADOW_REFUSED:
    case SHADOW_UNREACHABLE:
    case SHADOW_CONNECT_TIMEOUT:
    case SHADOW_DNS:
    case SHADOW_TLS:
    case SHADOW_STALL:
    case SHADOW_LOOP:
    case SHADOW_IO_ERROR:
        return true;
    case SHADOW_FIN:
    case SHADOW_RST_DELIVERED:
    case SHADOW_LAG:
    case SHADOW_MEMORY:
    case SHADOW_NO_DESCRIPTOR:
    case SHADOW_NO_PORT:
    case SHADOW_SESSION_ABORTED:
    case SHADOW_DRAIN:
    case SHADOW_ADMIN:
    case SHADOW_REASON_COUNT:
        break;
    }
    return false;
}

void policy_failed(struct mirror *mirror, size_t shadow, uint64_t probe, enum shadow_reason reason,
                   double now)
{
    const struct shadow_config *config = &mirror->config->shadows[shadow];
    const struct breaker_terms  terms = { config->breaker.failures, config->breaker.seconds };
    struct breaker             *breaker = &row_of(mirror, shadow)->breaker;

    if (!has_breaker(config))
        return;
    if (!is_a_failure(reason)) {
        breaker_unknown(breaker, probe, now);
        return;
    }
    const struct breaker_failure failure = { reason, now, random_bits(mirror) };
    if (breaker_failed(breaker, &terms, probe, &failure)) {
        log_warning("breaker", "breaker_opened",
                    "shadow=%s failures=%" PRIu64 " reason=%s seconds=%.3f", config->name,
                    terms.failures, shadow_reason_name(reason), breaker_until(breaker) - now);
    }
}
