/*
 * runtime_settings.c — runtime settings are a few words of the shared page.
 *
 * The epoch is raised after a setting has changed, so that a worker that sees the new epoch sees
 * the new value, too.
 */
#include "admin/runtime_settings.h"

#include <assert.h>

#include "base/log.h"
#include "config/config.h"
#include "shared/page.h"

static void tell_workers(struct page *page)
{
    atomic_fetch_add(&page->epoch, 1);
}

/* A new --shadow-for begins, and a shadow that only the former one has paused goes on. */
static void begin_its_time(struct page *page, size_t row, double duration, double now)
{
    atomic_store(&page->rows[row].ends, duration > 0 ? now + duration : 0);
    if (page->rows[row].is_over)
        runtime_pause(page, row, false);
}

void runtime_offer(struct page *page, size_t row, const struct shadow_config *config, double now)
{
    struct shadow_row  *its = &page->rows[row];
    struct file_values *file = &its->file;

    if (!file->are_known || file->ramp != config->ramp)
        atomic_store(&its->begun, now);
    if (!file->are_known || file->duration != config->duration)
        begin_its_time(page, row, config->duration, now);
    if (!file->are_known || file->sample != config->sample)
        runtime_set_sample(page, row, config->sample);
    if (config->breaker.failures == 0)
        breaker_reset(&its->breaker); /* nobody would ever close it again */
    *file = (struct file_values){
        .are_known = true,
        .sample = config->sample,
        .ramp = config->ramp,
        .duration = config->duration,
    };
}

void runtime_tick(struct page *page, double now)
{
    for (size_t i = 0; i < page->row_count; i++) {
        struct shadow_row *row = &page->rows[i];
        double             ends = atomic_load(&row->ends);

        if (ends == 0 || now < ends)
            continue;
        bool was_paused = runtime_is_paused(page, i);
        atomic_store(&row->ends, 0);
        runtime_pause(page, i, true);
        row->is_over = !was_paused;
        log_info("supervisor", "shadow_paused", "shadow=%s why=%s", row->name,
                 "its --shadow-for is over");
    }
}

void runtime_pause(struct page *page, size_t row, bool paused)
{
    page->rows[row].is_over = false;
    atomic_store(&page->rows[row].is_paused, paused);
    tell_workers(page);
}

void runtime_set_sample(struct page *page, size_t row, double percent)
{
    assert(percent >= 0 && percent <= 100);
    atomic_store(&page->rows[row].sample, percent);
    tell_workers(page);
}

void runtime_set_mirroring(struct page *page, bool on, const char *by)
{
    atomic_store(&page->mirroring_is_off, !on);
    tell_workers(page);
    if (on)
        log_info("supervisor", "mirroring", "state=on by=%s", by);
    else
        log_warning("supervisor", "mirroring", "state=off by=%s", by);
}

bool runtime_is_paused(const struct page *page, size_t row)
{
    return atomic_load(&page->rows[row].is_paused);
}

double runtime_sample(const struct page *page, size_t row)
{
    return atomic_load(&page->rows[row].sample);
}

bool runtime_mirroring_is_on(const struct page *page)
{
    return !atomic_load(&page->mirroring_is_off);
}
