/*
 * reload.c — the configuration, read once more from where it came from.
 *
 *     command ──config_load──▶ as it is said now ──keep_settings──▶ as it can take effect
 */
#include "process/reload.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "admin/authorization.h"
#include "base/fault.h"
#include "base/files.h"
#include "base/log.h"
#include "config/config.h"
#include "config/load.h"
#include "process/loops.h"
#include "tls/tls_contexts.h"

/* --- what takes a restart ---------------------------------------------------------------- */

static bool same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool keep_admin(struct config *fresh, const struct config *current)
{
    char was[ENDPOINT_TEXT];
    char is[ENDPOINT_TEXT];

    endpoint_print(&current->admin, was);
    endpoint_print(&fresh->admin, is);
    bool same = fresh->admin_on == current->admin_on && (!current->admin_on || same_text(was, is));
    fresh->admin_on = current->admin_on;
    fresh->admin = current->admin;
    return same;
}

static bool keep_text(char **fresh, const char *current)
{
    bool same = same_text(*fresh, current);

    free(*fresh);
    *fresh = current != NULL ? xstrdup(current) : NULL;
    return same;
}

static bool keep_pid_file(struct config *fresh, const struct config *current)
{
    return keep_text(&fresh->pid_file, current->pid_file);
}

static bool keep_user(struct config *fresh, const struct config *current)
{
    return keep_text(&fresh->user, current->user);
}

static bool keep_group(struct config *fresh, const struct config *current)
{
    return keep_text(&fresh->group, current->group);
}

static bool keep_core(struct config *fresh, const struct config *current)
{
    bool same = fresh->core == current->core;

    fresh->core = current->core;
    return same;
}

static void keep_settings(struct config *fresh, const struct config *current)
{
    static const struct {
        const char *name;
        bool (*keep)(struct config *, const struct config *); /* true: it was the same */
    } settings[] = {
        { "admin", keep_admin }, { "pid-file", keep_pid_file }, { "user", keep_user },
        { "group", keep_group }, { "core", keep_core },
    };

    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        if (!settings[i].keep(fresh, current))
            log_warning("supervisor", "needs_restart", "setting=%s why=%s", settings[i].name,
                        "a reload does not change it");
    }
}

/* --- reading ----------------------------------------------------------------------------- */

static struct config *load(const struct command *command, struct config_warnings *warnings,
                           struct fault *fault)
{
    enum config_action action;
    struct config *fresh = config_load(command, &action, warnings, fault);

    if (fresh == NULL || loops_check(fresh, fault))
        return fresh;
    config_free(fresh);
    return NULL;
}

/* Those are read by workers, who say themselves what is wrong with them. */
static void look_at_names(const struct config *config)
{
    files_read(config->hosts != NULL ? config->hosts : "/etc/hosts");
    files_read(config->resolv_conf != NULL ? config->resolv_conf : "/etc/resolv.conf");
}

bool reload_try(const struct command *command, struct fault *fault)
{
    struct config_warnings warnings = { 0 };
    struct token token;
    const struct config *config = load(command, &warnings, fault);

    if (config == NULL)
        return false;
    const struct log_options logs = config_log_options(config);
    if (tls_contexts_new(config, fault) == NULL ||
        !token_read(&token, config->admin_token_file, fault) || log_prepare(&logs, fault) == NULL)
        return false;
    look_at_names(config);
    return true;
}

struct config *reload_config(const struct command *command, const struct config *current,
                             struct fault *fault)
{
    struct config_warnings warnings = { 0 };
    struct config *fresh = load(command, &warnings, fault);

    config_warnings_log(&warnings);
    config_warnings_free(&warnings);
    if (fresh != NULL)
        keep_settings(fresh, current);
    return fresh;
}
