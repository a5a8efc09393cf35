/*
 * main.c — what the command line asks for: run, check, print the configuration, help.
 */
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "admin/health.h"
#include "base/fault.h"
#include "config/config.h"
#include "config/help.h"
#include "config/load.h"
#include "process/check.h"
#include "process/loops.h"
#include "process/process.h"
#include "process/supervisor.h"
#include "process/version.h"

#define MIN_COLUMNS 60
#define MAX_COLUMNS  120

enum exit_status {
    EXIT_CLEAN = 0,
    EXIT_NOT_READY = 1,
    EXIT_NOT_RUN = 1,
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

/* No mistake: the machine is not as it is wanted. */
static int give_up(const struct fault *fault)
{
    refuse(fault);
    return EXIT_NOT_RUN;
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

    if (!loops_check(config, &fault) || !check_configuration(config, &more, &fault))
        status = refuse(&fault);
    else if (!check_machine(config, &fault))
        status = give_up(&fault);
    bool fine = status == EXIT_CLEAN;
    if (fine && action != CONFIG_RUN) {
        print_warnings(warnings);
        print_warnings(&more);
        config_print(config, stdout);
    }
    config_warnings_free(&more);
    if (fine && action == CONFIG_RUN)
        return supervisor_run(config, command, warnings);
    config_free(config);
    return status;
}

/* Of stdout, within what is good to read. */
static size_t width_of_terminal(void)
{
    struct winsize size;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        return 80;
    if (size.ws_col < MIN_COLUMNS)
        return MIN_COLUMNS;
    return size.ws_col < MAX_COLUMNS ? size.ws_col : MAX_COLUMNS;
}

static int say(enum config_action action, const struct fault *fault)
{
    switch (action) {
    case CONFIG_HELP:
        help_print_page(stdout);
        return EXIT_CLEAN;
    case CONFIG_HELP_ALL:
        help_print_all(stdout, width_of_terminal());
        return EXIT_CLEAN;
    case CONFIG_NOTHING:
        help_print_usage(stderr);
        return EXIT_USAGE;
    case CONFIG_VERSION:
        version_print(stdout);
        return EXIT_CLEAN;
    case CONFIG_TABLE:
        help_print_tables(stdout);
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
