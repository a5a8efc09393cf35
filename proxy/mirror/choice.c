/*
 * choice.c — paused? of the right network? in the sample? is there room?
 */
#include "choice.h"

#include <stdbool.h>

#include "base/address.h"
#include "base/page.h"
#include "config/config.h"
#include "mirror/mirror.h"
#include "mirror/sampler.h"

static uint64_t random_bits(struct mirror *mirror)
{
    mirror->random += 0x9e3779b97f4a7c15U;
    return mix64(mirror->random);
}

static const struct shadow_row *row_of(const struct mirror *mirror, size_t shadow)
{
    return &mirror->page->rows[mirror->rows[shadow]];
}

bool choice_is_paused(const struct mirror *mirror, size_t shadow)
{
    return atomic_load_explicit(&mirror->page->mirroring_is_off, memory_order_relaxed) ||
           atomic_load_explicit(&row_of(mirror, shadow)->is_paused, memory_order_relaxed);
}

static bool is_wanted_from(const struct network_list *from, const struct address *client)
{
    return from->count == 0 || networks_contain(from->networks, from->count, client);
}

static bool is_in_sample(struct mirror *mirror, size_t shadow, const struct address *client)
{
    const struct shadow_config *config = &mirror->config->shadows[shadow];
    double percent = atomic_load_explicit(&row_of(mirror, shadow)->sample, memory_order_relaxed);

    if (config->sample_by == SAMPLE_BY_SOURCE && sampler_knows(client))
        return sampler_takes(percent, sampler_bits(config->name, client));
    return sampler_takes(percent, random_bits(mirror));
}

enum shadow_result choice_of_session(struct mirror *mirror, size_t shadow,
                                     const struct address *client)
{
    if (choice_is_paused(mirror, shadow))
        return RESULT_PAUSED;
    if (!is_wanted_from(&mirror->config->shadows[shadow].from, client))
        return RESULT_FILTERED;
    return is_in_sample(mirror, shadow, client) ? RESULT_MIRRORED : RESULT_SAMPLED_OUT;
}

enum shadow_result choice_of_dial(const struct mirror *mirror, size_t shadow)
{
    uint64_t active = page_sum_shadow(mirror->page, mirror->rows[shadow], SHADOW_COUNT_ACTIVE);

    if (choice_is_paused(mirror, shadow))
        return RESULT_PAUSED;
    return active < mirror->config->shadows[shadow].max_sessions ? RESULT_MIRRORED : RESULT_LIMIT;
}
