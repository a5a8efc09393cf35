/*
 * status.c — what doppel is doing now, as JSON.
 *
 * A piece that could not be made is NULL, jansson refuses to add it, and the text goes without it:
 * so only the last step is asked whether there was memory.
 */
#include "admin/status.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "admin/admin.h"
#include "admin/runtime_settings.h"
#include "base/clock.h"
#include "config/config.h"
#include "shared/page.h"

static json_t *count_of(uint64_t count)
{
    return json_integer((json_int_t)count);
}

static void set(json_t *object, const char *key, json_t *value)
{
    json_object_set_new(object, key, value);
}

/* Bytes that are not ASCII as in the log: \xe9. */
static json_t *escaped(const char *text)
{
    char *ascii = NULL;
    size_t length;
    FILE *out = open_memstream(&ascii, &length);

    if (out == NULL)
        return NULL;
    for (const char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x80)
            fputc(*c, out);
        else
            fprintf(out, "\\x%02x", (unsigned)(unsigned char)*c);
    }
    fclose(out);
    json_t *string = json_string(ascii);
    free(ascii);
    return string;
}

/* JSON is UTF-8; paths, and so what names them, may be any bytes. */
static json_t *string_of(const char *text)
{
    json_t *string = json_string(text);

    return string != NULL ? string : escaped(text);
}

/* To the microsecond: more is noise. */
static json_t *seconds_of(double seconds)
{
    return json_real(round(seconds * 1e6) / 1e6);
}

/* "2026-11-21T10:00:00.123Z", as in the log. */
static json_t *moment_of(double since_1970)
{
    char text[40];
    time_t whole = (time_t)since_1970;
    struct tm parts;

    gmtime_r(&whole, &parts);
    size_t length = strftime(text, sizeof text, "%FT%T", &parts);
    snprintf(text + length, sizeof text - length, ".%03dZ",
             (int)((since_1970 - (double)whole) * 1000));
    return json_string(text);
}

/* --- how long things took ---------------------------------------------------------------- */

static json_t *percentiles(const struct histogram_sum *sum)
{
    static const struct {
        const char *name;
        double percent;
    } wanted[] = { { "p50", 50 }, { "p90", 90 }, { "p99", 99 } };
    json_t *object = json_object();

    set(object, "count", count_of(histogram_count(sum)));
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0] && histogram_count(sum) > 0; i++)
        set(object, wanted[i].name, seconds_of(histogram_percentile(sum, wanted[i].percent)));
    return object;
}

static const char *const timing_names[TIMING_COUNT] = {
    [TIMING_CONNECT] = "connect_seconds",
    [TIMING_FIRST_BYTE] = "first_byte_seconds",
};

static json_t *leg(const struct page *page, enum leg which)
{
    json_t *object = json_object();

    for (size_t i = 0; i < TIMING_COUNT; i++) {
        struct histogram_sum sum = page_sum_times(page, which, (enum timing)i);
        set(object, timing_names[i], percentiles(&sum));
    }
    return object;
}

/* --- listeners, workers, primaries ------------------------------------------------------- */

static json_t *listeners(const struct admin_view *view)
{
    json_t *list = json_array();

    for (size_t i = 0; i < view->listener_count; i++) {
        char address[ADDRESS_TEXT];
        json_t *listener = json_object();

        address_print(&view->listeners[i].address, address);
        set(listener, "name", string_of(view->listeners[i].name));
        set(listener, "address", string_of(address));
        json_array_append_new(list, listener);
    }
    return list;
}

static const char *state_name(enum worker_state state)
{
    switch (state) {
    case WORKER_NONE:
        return "none";
    case WORKER_STARTING:
        return "starting";
    case WORKER_READY:
        return "ready";
    case WORKER_DRAINING:
        return "draining";
    }
    return "none";
}

/* NULL: the slot is free. */
static json_t *worker(const struct slot *slot)
{
    enum worker_state state = (enum worker_state)atomic_load(&slot->state);

    if (state == WORKER_NONE)
        return NULL;
    json_t *object = json_object();
    set(object, "pid", json_integer(atomic_load(&slot->pid)));
    set(object, "state", json_string(state_name(state)));
    set(object, "generation", json_integer(slot->generation));
    set(object, "sessions", count_of(cell_get(&slot->counts[COUNT_SESSIONS_ACTIVE])));
    return object;
}

static json_t *workers(const struct page *page)
{
    json_t *list = json_array();

    for (size_t i = 1; i < page->slots_used; i++)
        json_array_append_new(list, worker(&page->slots[i]));
    return list;
}

static json_t *primaries(const struct config *config)
{
    json_t *list = json_array();

    for (size_t i = 0; i < config->primary_count; i++)
        json_array_append_new(list, string_of(config->primaries[i].name));
    return list;
}

/* --- shadows ----------------------------------------------------------------------------- */

static json_t *shadow_bytes(const struct page *page, size_t shadow)
{
    static const struct {
        const char *name;
        enum shadow_counter counter;
    } fates[] = {
        { "offered", SHADOW_COUNT_OFFERED }, { "sent", SHADOW_COUNT_SENT },
        { "lost", SHADOW_COUNT_LOST },       { "skipped", SHADOW_COUNT_SKIPPED },
        { "unacked", SHADOW_COUNT_UNACKED },
    };
    json_t *bytes = json_object();

    for (size_t i = 0; i < sizeof fates / sizeof fates[0]; i++)
        set(bytes, fates[i].name, count_of(page_sum_shadow(page, shadow, fates[i].counter)));
    return bytes;
}

static json_t *shadow_results(const struct page *page, size_t shadow)
{
    json_t *results = json_object();

    for (size_t i = 0; i < SHADOW_RESULT_COUNT; i++) {
        enum shadow_result result = (enum shadow_result)i;
        set(results, shadow_result_name(result), count_of(page_sum_result(page, shadow, result)));
    }
    return results;
}

static json_t *shadow_reasons(const struct page *page, size_t shadow)
{
    json_t *reasons = json_object();

    for (size_t i = 0; i < SHADOW_REASON_COUNT; i++) {
        enum shadow_reason reason = (enum shadow_reason)i;
        set(reasons, shadow_reason_name(reason), count_of(page_sum_reason(page, shadow, reason)));
    }
    return reasons;
}

static void add_sums(json_t *object, const struct page *page, size_t row)
{
    set(object, "active", count_of(page_sum_shadow(page, row, SHADOW_COUNT_ACTIVE)));
    set(object, "buffered_bytes", count_of(page_sum_shadow(page, row, SHADOW_COUNT_BUFFERED)));
    set(object, "most_lag_bytes", count_of(page_max_lag(page, row)));
    set(object, "bytes", shadow_bytes(page, row));
    set(object, "response_bytes", count_of(page_sum_shadow(page, row, SHADOW_COUNT_RESPONSE)));
    set(object, "results", shadow_results(page, row));
    set(object, "reasons", shadow_reasons(page, row));
    for (size_t i = 0; i < TIMING_COUNT; i++) {
        struct histogram_sum sum = page_sum_shadow_times(page, row, (enum timing)i);
        set(object, timing_names[i], percentiles(&sum));
    }
}

static json_t *breaker(const struct breaker *breaker)
{
    static const char *const names[] = {
        [BREAKER_CLOSED] = "closed",
        [BREAKER_OPEN] = "open",
        [BREAKER_HALF_OPEN] = "half_open",
    };
    enum breaker_state state = breaker_state(breaker);
    json_t *object = json_object();

    set(object, "state", json_string(names[state]));
    if (state == BREAKER_CLOSED)
        return object;
    enum shadow_reason cause = (enum shadow_reason)atomic_load(&breaker->cause);
    set(object, "cause", json_string(shadow_reason_name(cause)));
    set(object, "next_probe_seconds", seconds_of(fmax(breaker_until(breaker) - clock_now(), 0)));
    return object;
}

/* NULL: there was none. */
static json_t *last_error(const struct page *page, size_t row)
{
    enum shadow_reason reason;
    double when = page_last_error(page, row, &reason);

    if (when <= 0)
        return NULL;
    json_t *object = json_object();
    set(object, "reason", json_string(shadow_reason_name(reason)));
    set(object, "time", moment_of(when));
    return object;
}

static json_t *shadow(const struct admin_view *view, size_t index)
{
    const struct shadow_config *config = &view->config->shadows[index];
    size_t row = view->rows[index];
    char address[ENDPOINT_TEXT];
    json_t *object = json_object();

    endpoint_print(&config->target.endpoint, address);
    set(object, "name", json_string(config->name));
    set(object, "address", string_of(address));
    set(object, "paused", json_boolean(runtime_is_paused(view->page, row)));
    set(object, "sample", json_real(runtime_sample(view->page, row)));
    set(object, "breaker", breaker(&view->page->rows[row].breaker));
    set(object, "last_error", last_error(view->page, row));
    add_sums(object, view->page, row);
    return object;
}

static json_t *shadows(const struct admin_view *view)
{
    json_t *list = json_array();

    for (size_t i = 0; i < view->config->shadow_count; i++)
        json_array_append_new(list, shadow(view, i));
    return list;
}

/* --- all of it --------------------------------------------------------------------------- */

static json_t *sessions(const struct page *page)
{
    json_t *object = json_object();
    json_t *closed = json_object();

    for (size_t i = 0; i < SESSION_REASON_COUNT; i++) {
        enum session_reason reason = (enum session_reason)i;
        set(closed, session_reason_name(reason), count_of(page_sum_closed(page, reason)));
    }
    set(object, "total", count_of(page_sum(page, COUNT_SESSIONS)));
    set(object, "active", count_of(page_sum(page, COUNT_SESSIONS_ACTIVE)));
    set(object, "closed", closed);
    return object;
}

static json_t *memory(const struct page *page)
{
    json_t *object = json_object();

    set(object, "buffered_bytes", count_of(page_sum(page, COUNT_BUFFERED_BYTES)));
    set(object, "shadow_memory_bytes", count_of(page_sum(page, COUNT_SHADOW_MEMORY)));
    return object;
}

/* Takes the object. */
static char *text_of(json_t *object)
{
    char *text = json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(12));

    json_decref(object);
    return text;
}

char *status_print_shadow(const struct admin_view *view, size_t index)
{
    return text_of(shadow(view, index));
}

char *status_print(const struct admin_view *view, const char *configuration, double uptime_seconds)
{
    json_t *status = json_object();

    set(status, "version", json_string(stats_version()));
    set(status, "pid", json_integer(getpid()));
    set(status, "uptime_seconds", seconds_of(uptime_seconds));
    set(status, "ready", json_boolean(*view->ready));
    set(status, "mirroring", json_boolean(runtime_mirroring_is_on(view->page)));
    set(status, "generation", json_integer(view->page->generation));
    set(status, "configuration", string_of(configuration));
    set(status, "listeners", listeners(view));
    set(status, "workers", workers(view->page));
    set(status, "primaries", primaries(view->config));
    set(status, "client", leg(view->page, LEG_CLIENT));
    set(status, "primary", leg(view->page, LEG_PRIMARY));
    set(status, "shadows", shadows(view));
    set(status, "sessions", sessions(view->page));
    set(status, "memory", memory(view->page));
    return text_of(status);
}
