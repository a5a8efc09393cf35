/*
 * check.c — each thing that a start opens, looked at without opening it.
 */
#include "process/check.h"

#include <errno.h>
#include <ev.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "admin/authorization.h"
#include "base/address.h"
#include "base/fault.h"
#include "config/config.h"
#include "config/settings.h"
#include "dial/own_listeners.h"
#include "dns/resolver.h"
#include "listen/inherit.h"
#include "listen/privileges.h"
#include "tls/tls_contexts.h"

/* --- paths ------------------------------------------------------------------------------- */

/* Errno where the path's directory cannot hold a file; 0: it can, or only its owner knows. */
static int error_of_directory(const char *path)
{
    struct stat status;
    char       *copy = xstrdup(path);
    int         error = stat(dirname(copy), &status) == 0 ? 0 : errno;

    if (error == 0 && !S_ISDIR(status.st_mode))
        error = ENOTDIR;
    free(copy);
    return error == EACCES ? 0 : error;
}

static bool may_be_log(const char *what, const char *path, struct fault *fault)
{
    struct stat status;

    if (strcmp(path, "-") == 0 || strcmp(path, "off") == 0)
        return true;
    int error = error_of_directory(path);
    if (error == 0 && stat(path, &status) == 0 && S_ISDIR(status.st_mode))
        error = EISDIR;
    return error == 0 || fault_set(fault, "cannot open the %s file %.300s: %s", what, path,
                                   strerrordesc_np(error));
}

/* It is put in the place of a file or of a link, whatever that leads to. */
static bool may_be_pid_file(const char *path, struct fault *fault)
{
    struct stat status;
    int         error = path != NULL ? error_of_directory(path) : 0;

    if (error != 0)
        return fault_set(fault, "cannot write the pid file %.300s: %s", path,
                         strerrordesc_np(error));
    if (path != NULL && lstat(path, &status) == 0 && !S_ISREG(status.st_mode) &&
        !S_ISLNK(status.st_mode))
        return fault_set(fault, "cannot write the pid file %.300s: it is no regular file", path);
    return true;
}

static bool may_be_socket(const char *path, struct fault *fault)
{
    struct stat status;
    int         error = error_of_directory(path);

    if (error != 0)
        return fault_set(fault, "cannot listen on unix:%s: %s", path, strerrordesc_np(error));
    if (lstat(path, &status) == 0 && !S_ISSOCK(status.st_mode))
        return fault_set(fault, "cannot listen on unix:%s: it is there already, and no socket",
                         path);
    return true;
}

/* --- addresses --------------------------------------------------------------------------- */

static bool is_of_another_machine(const struct endpoint *endpoint)
{
    struct address known[2];

    return endpoint->host[0] != '\0' && endpoint_known_addresses(endpoint, known) > 0 &&
           address_is_elsewhere(&known[0]);
}

static bool may_listen(const struct config *config, const struct endpoint *endpoint,
                       struct fault *fault)
{
    char text[ENDPOINT_TEXT];

    if (endpoint->kind == ENDPOINT_UNIX)
        return may_be_socket(endpoint->host, fault);
    if (config->transparent || inherit_is_offered() || !is_of_another_machine(endpoint))
        return true;
    endpoint_print(endpoint, text);
    return fault_set(fault, "cannot listen on %s: this machine does not have that address", text);
}

static bool may_listen_everywhere(const struct config *config, struct fault *fault)
{
    for (size_t i = 0; i < config->listen_count; i++)
        if (!may_listen(config, &config->listens[i].endpoint, fault))
            return false;
    return !config->admin_on || may_listen(config, &config->admin, fault);
}

/* --- what others read --------------------------------------------------------------------- */

static void on_tls_warning(void *owner, const char *event, const char *file, const char *why)
{
    (void)event;
    settings_warn(owner, "%.300s: %s", file, why);
}

static bool may_use_tls(const struct config *config, struct config_warnings *warnings,
                        struct fault *fault)
{
    struct tls_contexts *tls = tls_contexts_new(config, fault);

    if (tls != NULL)
        tls_contexts_warn(tls, config, on_tls_warning, warnings);
    tls_contexts_free(tls);
    return tls != NULL;
}

/* Servers of our own; those of resolv.conf are read when somebody asks. */
static bool may_use_resolver(const struct config *config, struct fault *fault)
{
    if (config->resolvers.count == 0)
        return true;
    struct ev_loop  *loop = ev_loop_new(EVFLAG_NOENV);
    struct resolver *resolver = loop != NULL ? resolver_new(loop, config, fault) : NULL;

    resolver_free(resolver);
    if (loop == NULL)
        return fault_set(fault, "cannot make an event loop");
    ev_loop_destroy(loop);
    return resolver != NULL;
}

bool check_configuration(const struct config *config, struct config_warnings *warnings,
                         struct fault *fault)
{
    struct token token;

    return may_use_tls(config, warnings, fault) &&
           token_read(&token, config->admin_token_file, fault) && privileges_find(config, fault) &&
           may_use_resolver(config, fault);
}

bool check_machine(const struct config *config, struct fault *fault)
{
    return may_be_log("log", config->log_file, fault) &&
           may_be_log("access log", config->access_log, fault) &&
           may_be_pid_file(config->pid_file, fault) && may_listen_everywhere(config, fault);
}
