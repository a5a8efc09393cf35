/*
 * status.c — what doppel is doing now, as JSON.
 *
 * A piece that could not be made is NULL, jansson refuses to add it, and the text goes without it:
 * so only the last step is asked whether there was memory.
 */
#include "run/status.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/page.h"
#include "config/config.h"
#include "run/admin.h"

static json_t *count_of(uint64_t count)
{
    return json_integer((json_int_t)count);
}

static void set(json_t *object, const char *key, json_t *value)
{
    json_object_set_new(object, key, value);
}

static json_t *listeners(const struct admin_view *view)
{
    json_t *list = json_array();

    for (size_t i = 0; i < view->listener_count; i++) {
        char address[ADDRESS_TEXT];
        json_t *listener = json_object();

        address_print(&view->listeners[i].address, address);
        set(listener, "name", json_string(view->listeners[i].name));
        set(listener, "address", json_string(address));
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

static json_t *workers(const struct page *page)
{
    json_t *list = json_array();

    for (size_t i = 1; i < page->slots_used; i++) {
        enum worker_state state = (enum worker_state)atomic_load(&page->slots[i].state);
        if (state == WORKER_NONE)
            continue;
        json_t *worker = json_object();
        set(worker, "pid", json_integer(atomic_load(&page->slots[i].pid)));
        set(worker, "state", json_string(state_name(state)));
        json_array_append_new(list, worker);
    }
    return list;
}

static json_t *primaries(const struct config *config)
{
    json_t *list = json_array();

    for (size_t i = 0; i < config->primary_count; i++)
        json_array_append_new(list, json_string(config->primaries[i].name));
    return list;
}

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

static void add_sums(json_t *object, const struct page *page, size_t shadow)
{
    set(object, "active", count_of(page_sum_shadow(page, shadow, SHADOW_COUNT_ACTIVE)));
    set(object, "buffered_bytes", count_of(page_sum_shadow(page, shadow, SHADOW_COUNT_BUFFERED)));
    set(object, "bytes", shadow_bytes(page, shadow));
    set(object, "response_bytes", count_of(page_sum_shadow(page, shadow, SHADOW_COUNT_RESPONSE)));
    set(object, "results", shadow_results(page, shadow));
    set(object, "reasons", shadow_reasons(page, shadow));
}

static json_t *shadows(const struct admin_view *view)
{
    const struct page *page = view->page;
    json_t *list = json_array();

    for (size_t i = 0; i < view->config->shadow_count; i++) {
        const struct shadow_config *shadow = &view->config->shadows[i];
        char address[ENDPOINT_TEXT];
        json_t *object = json_object();

        endpoint_print(&shadow->target.endpoint, address);
        set(object, "name", json_string(shadow->name));
        set(object, "address", json_string(address));
        for (size_t row = 0; row < page->row_count; row++) {
            if (strcmp(page->rows[row].name, shadow->name) == 0)
                add_sums(object, page, row);
        }
        json_array_append_new(list, object);
    }
    return list;
}

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

char *status_print(const struct admin_view *view, double uptime_seconds)
{
    json_t *status = json_object();

    set(status, "version", json_string(stats_version()));
    set(status, "pid", json_integer(getpid()));
    set(status, "uptime_seconds", json_real(uptime_seconds));
    set(status, "ready", json_boolean(*view->ready));
    set(status, "listeners", listeners(view));
    set(status, "workers", workers(view->page));
    set(status, "primaries", primaries(view->config));
    set(status, "shadows", shadows(view));
    set(status, "sessions", sessions(view->page));
    set(status, "memory", memory(view->page));

    char *text = json_dumps(status, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    json_decref(status);
    return text;
}
