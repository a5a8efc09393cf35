/*
 * main.c — what the command line asks for: run, check, print the configuration, help.
 */
#include <stdio.h>
#include <unistd.h>

#include "base/fault.h"
#include "config/config.h"
#include "config/load.h"
#include "run/check.h"
#include "run/health.h"
#include "run/loops.h"
#include "run/process.h"
#include "run/supervisor.h"
#include "run/version.h"

enum exit_status {
    EXIT_CLEAN = 0,
    EXIT_NOT_READY = 1,
    EXIT_USAGE = 2,
};

static void print_warnings(const struct config_warnings *warnings)
{
    for (size_t i = 0; i < warnings->count; i++)
        fprintf(stderr, "doppel: warning: %s\n", warnings->texts[i]);
}

static int refuse(const struct fault *fault)
{
    fprintf(stderr, "doppel: %s\n", fault->text);
    return EXIT_USAGE;
}

/* Takes the configuration. */
static int ask(struct config *config)
{
    struct fault fault = { { 0 } };
    bool         ready = health_ask(&config->admin, &fault);

    if (!ready)
        fprintf(stderr, "doppel: %s\n", fault.text);
    config_free(config);
    return ready ? EXIT_CLEAN : EXIT_NOT_READY;
}

/* Checks or runs; takes the configuration.  Who runs has the warnings in the log. */
static int use(struct config *config, const struct command *command, enum config_action action,
               const struct config_warnings *warnings)
{
    struct config_warnings more = { 0 }; /* of files; they come with the log, too */
    struct fault           fault = { { 0 } };
    int                    status = EXIT_CLEAN;

    if (action != CONFIG_RUN)
        print_warnings(warnings);
    bool fine = loops_check(config, &fault) && check_start(config, &more, &fault);
    if (!fine)
        status = refuse(&fault);
    if (fine && action != CONFIG_RUN) {
        print_warnings(&more);
        config_print(config, stdout);
    }
    config_warnings_free(&more);
    if (fine && action == CONFIG_RUN)
        return supervisor_run(config, command, warnings);
    config_free(config);
    return status;
}

static int say(enum config_action action, const struct fault *fault)
{
    switch (action) {
    case CONFIG_HELP:
        config_print_help(stdout);
        return EXIT_CLEAN;
    case CONFIG_NOTHING:
        config_print_help(stdout);
        return EXIT_USAGE;
    case CONFIG_VERSION:
        version_print(stdout);
        return EXIT_CLEAN;
    case CONFIG_TABLE:
        config_print_table(stdout);
        return EXIT_CLEAN;
    case CONFIG_RUN:
    case CONFIG_CHECK:
    case CONFIG_HEALTH:
        break;
    }
    return refuse(fault);
}

int main(int argc, char *argv[])
{
    enum config_action     action = CONFIG_RUN;
    struct config_warnings warnings = { 0 };
    struct fault           fault = { { 0 } };
    struct command         command = { argc, argv, environ };
    struct config         *config;
    int                    status;

    if (!process_begin(&fault)) {
        refuse(&fault);
        return EXIT_NOT_READY;
    }
    config = config_load(&command, &action, &warnings, &fault);
    if (config != NULL) {
        status = action == CONFIG_HEALTH ? ask(config) : use(config, &command, action, &warnings);
    } else {
        print_warnings(&warnings);
        status = say(action, &fault);
    }
    config_warnings_free(&warnings);
    return status;
}
