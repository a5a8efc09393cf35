/*
 * control.c — each path is a row, and each row an action.
 *
 * The new state is said as /status says it: of a shadow its whole entry there.
 */
#include "admin/control.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "admin/admin.h"
#include "admin/runtime_settings.h"
#include "admin/status.h"
#include "base/fault.h"
#include "base/log.h"
#include "config/config.h"
#include "config/options.h"
#include "config/value.h"

typedef struct response control_action(const struct admin_view *, const struct control_request *);
typedef struct response shadow_action(const struct admin_view *, const struct control_request *,
                                      size_t shadow);

static void say_change(const struct control_request *request)
{
    log_info("supervisor", "changed", "request=%s by=%s", request->path, request->by);
}

/* --- of all ------------------------------------------------------------------------------ */

static struct response switch_mirroring(const struct admin_view *view,
                                        const struct control_request *request, bool on)
{
    runtime_set_mirroring(view->page, on, request->by);
    return response_json(RESPONSE_OK,
                         strdup(on ? "{\"mirroring\": true}" : "{\"mirroring\": false}"));
}

static struct response mirroring_on(const struct admin_view *view,
                                    const struct control_request *request)
{
    return switch_mirroring(view, request, true);
}

static struct response mirroring_off(const struct admin_view *view,
                                     const struct control_request *request)
{
    return switch_mirroring(view, request, false);
}

static struct response reload(const struct admin_view *view, const struct control_request *request)
{
    if (!view->actions.reload(view->actions.owner))
        return response_plain(RESPONSE_CONFLICT, "draining: nothing is reloaded any more\n");
    say_change(request);
    return response_json(RESPONSE_ACCEPTED, strdup("{\"reloading\": true}"));
}

static struct response drain(const struct admin_view *view, const struct control_request *request)
{
    say_change(request);
    view->actions.drain(view->actions.owner);
    return response_json(RESPONSE_ACCEPTED, strdup("{\"draining\": true}"));
}

static control_action *find_action(const char *path)
{
    static const struct {
        const char *path;
        control_action *action;
    } rows[] = {
        { "/mirroring/on", mirroring_on },
        { "/mirroring/off", mirroring_off },
        { "/reload", reload },
        { "/drain", drain },
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].path, path) == 0)
            return rows[i].action;
    }
    return NULL;
}

/* --- of one shadow ----------------------------------------------------------------------- */

static struct response pause_shadow(const struct admin_view *view,
                                    const struct control_request *request, size_t shadow)
{
    runtime_pause(view->page, view->rows[shadow], true);
    say_change(request);
    return response_json(RESPONSE_OK, status_print_shadow(view, shadow));
}

static struct response resume_shadow(const struct admin_view *view,
                                     const struct control_request *request, size_t shadow)
{
    runtime_pause(view->page, view->rows[shadow], false);
    say_change(request);
    return response_json(RESPONSE_OK, status_print_shadow(view, shadow));
}

/* The number is read as that of sample= is, with the same bounds. */
static struct response sample_shadow(const struct admin_view *view,
                                     const struct control_request *request, size_t shadow)
{
    const struct option *option = option_find(PLACE_SECTION, "sample");
    struct shadow_config said = { 0 };
    struct fault fault;

    if (request->percent == NULL)
        return response_plain(RESPONSE_BAD_REQUEST, "say how much: /sample?percent=12.5\n");
    if (!value_set(option, &said, request->percent, &fault))
        return response_plain(RESPONSE_BAD_REQUEST, "percent: %s\n", fault.text);
    runtime_set_sample(view->page, view->rows[shadow], said.sample);
    log_info("supervisor", "changed", "request=%s percent=%.4f by=%s", request->path, said.sample,
             request->by);
    return response_json(RESPONSE_OK, status_print_shadow(view, shadow));
}

/* /shadows/NAME/ACTION, taken apart. */
struct shadow_path {
    const char *name;
    size_t name_length;
    shadow_action *action;
};

static shadow_action *find_shadow_action(const char *word)
{
    static const struct {
        const char *word;
        shadow_action *action;
    } rows[] = {
        { "pause", pause_shadow },
        { "resume", resume_shadow },
        { "sample", sample_shadow },
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].word, word) == 0)
            return rows[i].action;
    }
    return NULL;
}

static bool take_apart(const char *path, struct shadow_path *parts)
{
    static const char start[] = "/shadows/";

    if (strncmp(path, start, sizeof start - 1) != 0)
        return false;
    parts->name = path + sizeof start - 1;
    parts->name_length = strcspn(parts->name, "/");
    if (parts->name[parts->name_length] != '/')
        return false;
    parts->action = find_shadow_action(parts->name + parts->name_length + 1);
    return parts->action != NULL;
}

static struct response do_to_shadow(const struct admin_view *view,
                                    const struct control_request *request,
                                    const struct shadow_path *parts)
{
    for (size_t i = 0; i < view->config->shadow_count; i++) {
        const char *name = view->config->shadows[i].name;

        if (strlen(name) == parts->name_length && memcmp(name, parts->name, strlen(name)) == 0)
            return parts->action(view, request, i);
    }
    return response_plain(RESPONSE_NOT_FOUND, "no shadow has this name; /status names them\n");
}

/* --- the way to them --------------------------------------------------------------------- */

bool control_has(const char *path)
{
    struct shadow_path parts;

    return find_action(path) != NULL || take_apart(path, &parts);
}

struct response control_do(const struct admin_view *view, const struct control_request *request)
{
    control_action *action = find_action(request->path);
    struct shadow_path parts;

    if (action != NULL)
        return action(view, request);
    if (take_apart(request->path, &parts))
        return do_to_shadow(view, request, &parts);
    return response_plain(RESPONSE_NOT_FOUND, "not found\n");
}
