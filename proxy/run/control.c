/*
 * control.c — each path is a row, and each row an action.
 */
#include "run/control.h"

#include <stddef.h>
#include <string.h>

#include "base/log.h"
#include "run/admin.h"

typedef struct answer control_action(const struct admin_view *, const struct control_request *);

static void log_change(const struct control_request *request)
{
    log_info("supervisor", "changed", "request=%s by=%s", request->path, request->by);
}

static struct answer drain(const struct admin_view *view, const struct control_request *request)
{
    log_change(request);
    view->actions.drain(view->actions.owner);
    return answer_plain(ANSWER_ACCEPTED, "draining\n");
}

static struct answer reload(const struct admin_view *view, const struct control_request *request)
{
    if (!view->actions.reload(view->actions.owner))
        return answer_plain(ANSWER_CONFLICT, "draining: nothing is reloaded any more\n");
    log_change(request);
    return answer_plain(ANSWER_ACCEPTED, "reloading; the log says how it went\n");
}

static const struct {
    const char     *path;
    control_action *action;
} rows[] = {
    { "/reload", reload },
    { "/drain", drain },
};

static control_action *find(const char *path)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].path, path) == 0)
            return rows[i].action;
    }
    return NULL;
}

bool control_has(const char *path)
{
    return find(path) != NULL;
}

struct answer control_do(const struct admin_view *view, const struct control_request *request)
{
    return find(request->path)(view, request);
}
