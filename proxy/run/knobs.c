/*
 * knobs.c — live knobs are a few words of the shared page.
 *
 * The epoch is raised after the knob is turned, so that a worker that sees the new epoch sees the
 * new value, too.
 */
#include "run/knobs.h"

#include <assert.h>

#include "base/page.h"
#include "config/config.h"

static void tell_workers(struct page *page)
{
    atomic_fetch_add(&page->epoch, 1);
}

void knobs_offer(struct page *page, size_t row, const struct shadow_config *config)
{
    struct file_values *file = &page->rows[row].file;

    if (!file->are_known || file->sample != config->sample)
        knobs_sample(page, row, config->sample);
    if (config->breaker.failures == 0)
        breaker_reset(&page->rows[row].breaker); /* nobody would ever close it again */
    *file = (struct file_values){ .are_known = true, .sample = config->sample };
}

void knobs_pause(struct page *page, size_t row, bool paused)
{
    atomic_store(&page->rows[row].is_paused, paused);
    tell_workers(page);
}

void knobs_sample(struct page *page, size_t row, double percent)
{
    assert(percent >= 0 && percent <= 100);
    atomic_store(&page->rows[row].sample, percent);
    tell_workers(page);
}

void knobs_mirroring(struct page *page, bool on)
{
    atomic_store(&page->mirroring_is_off, !on);
    tell_workers(page);
}

bool knobs_is_paused(const struct page *page, size_t row)
{
    return atomic_load(&page->rows[row].is_paused);
}

double knobs_sample_of(const struct page *page, size_t row)
{
    return atomic_load(&page->rows[row].sample);
}

bool knobs_mirroring_is_on(const struct page *page)
{
    return !atomic_load(&page->mirroring_is_off);
}
