/*
 * print.c — the table as text: the configuration in effect, --help, the README's table, the sample.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/fault.h"
#include "base/line.h"
#include "base/network.h"
#include "config/addresses.h"
#include "config/config.h"
#include "config/load.h"
#include "config/options.h"
#include "config/value.h"

#define HELP_COLUMN 36 /* where the sentences begin */
#define HELP_WIDTH  96
#define KEY_WIDTH   18 /* of the longest key */

/* ---- the configuration in effect */

/* One line for each network: a list may be longer than a line of the file. */
static void print_networks(const char *key, const struct option *option, const void *base, FILE *to)
{
    const struct network_list *list =
        (const struct network_list *)(const void *)((const char *)base + option->field);
    char text[NETWORK_TEXT];

    if (list->count == 0)
        fprintf(to, "%-*s = %s\n", KEY_WIDTH, key, option->nothing);
    for (size_t i = 0; i < list->count; i++) {
        network_print(&list->networks[i], text);
        fprintf(to, "%-*s = %s\n", KEY_WIDTH, key, text);
    }
}

/* The same for texts. */
static void print_texts(const char *key, const struct option *option, const void *base, FILE *to)
{
    const struct text_list *list =
        (const struct text_list *)(const void *)((const char *)base + option->field);

    if (list->count == 0)
        fprintf(to, "%-*s =\n", KEY_WIDTH, key);
    for (size_t i = 0; i < list->count; i++)
        fprintf(to, "%-*s = %s\n", KEY_WIDTH, key, list->texts[i]);
}

static void print_setting(const char *key, const struct option *option, const void *base, FILE *to)
{
    if (option->kind == KIND_NETWORKS) {
        print_networks(key, option, base, to);
        return;
    }
    if (option->kind == KIND_TEXTS) {
        print_texts(key, option, base, to);
        return;
    }
    char *text = value_text(option, base);
    fprintf(to, "%-*s =%s%s\n", KEY_WIDTH, key, text[0] != '\0' ? " " : "", text);
    free(text);
}

static void print_addresses(const struct config *config, FILE *to)
{
    for (size_t i = 0; i < config->listen_count; i++) {
        fprintf(to, "%-*s = ", KEY_WIDTH, "listen");
        addresses_print_listen(&config->listens[i], to);
        fputc('\n', to);
    }
    for (size_t i = 0; i < config->primary_count; i++) {
        fprintf(to, "%-*s = ", KEY_WIDTH, "primary");
        addresses_print_primary(&config->primaries[i], to);
        fputc('\n', to);
    }
}

static void print_shadow(const struct shadow_config *shadow, FILE *to)
{
    const struct option *option;

    fprintf(to, "\n[shadow %s]\n%-*s = ", shadow->name, KEY_WIDTH, "address");
    addresses_print_target(&shadow->target, to);
    fputc('\n', to);
    for (size_t i = 0; (option = option_at(i)) != NULL; i++)
        if (option->scope == SCOPE_SHADOW)
            print_setting(option_name(option, PLACE_SECTION), option, shadow, to);
        else if (option->scope == SCOPE_TARGET && shadow->target.endpoint.tls)
            print_setting(option_name(option, PLACE_SECTION), option, &shadow->target, to);
}

/* Hidden options appear when somebody has used them. */
void config_print(const struct config *config, FILE *to)
{
    const struct option *option;

    print_addresses(config, to);
    for (size_t i = 0; (option = option_at(i)) != NULL; i++) {
        if (option->scope != SCOPE_GLOBAL || option_is_addresses(option))
            continue;
        if (!option->hidden || !value_is_initial(option, config))
            print_setting(option->name, option, config, to);
    }
    for (size_t i = 0; i < config->shadow_count; i++)
        print_shadow(&config->shadows[i], to);
}

/* ---- the same in one line */

static void describe_addresses(const struct config *config, struct line *line)
{
    char *texts[2] = { NULL };
    size_t size;
    FILE *listens = open_memstream(&texts[0], &size);
    FILE *primaries = open_memstream(&texts[1], &size);

    if (listens == NULL || primaries == NULL)
        die(1, "no memory to print the configuration");
    for (size_t i = 0; i < config->listen_count; i++)
        fprintf(listens, "%s%s", i > 0 ? "," : "", config->listens[i].name);
    for (size_t i = 0; i < config->primary_count; i++)
        fprintf(primaries, "%s%s", i > 0 ? "," : "", config->primaries[i].name);
    fclose(listens);
    fclose(primaries);
    line_text(line, "listen", texts[0]);
    line_text(line, "primary", texts[1]);
    free(texts[0]);
    free(texts[1]);
}

/* idle-timeout is idle_timeout, as members of lines are spelled. */
static void describe_setting(const struct option *option, const char *name, const void *base,
                             struct line *line)
{
    if (value_is_initial(option, base))
        return;
    char *text = value_text(option, base);
    char *key = xstrdup(name);

    for (char *dash = strchr(key, '-'); dash != NULL; dash = strchr(dash, '-'))
        *dash = '_';
    line_text(line, key, text);
    free(key);
    free(text);
}

static void describe_shadow(const struct shadow_config *shadow, struct line *line)
{
    const struct option *option;

    line_item(line);
    line_text(line, "name", shadow->name);
    line_text(line, "address", shadow->target.name);
    for (size_t i = 0; (option = option_at(i)) != NULL; i++)
        if (option->scope == SCOPE_SHADOW)
            describe_setting(option, option->key, shadow, line);
        else if (option->scope == SCOPE_TARGET)
            describe_setting(option, option->key, &shadow->target, line);
}

static void describe_shadows(const struct config *config, struct line *line)
{
    uint64_t omitted = 0;

    line_list(line, "shadows");
    for (size_t i = 0; i < config->shadow_count; i++) {
        describe_shadow(&config->shadows[i], line);
        omitted += !line_item_fits(line);
    }
    line_list_end(line);
    if (omitted > 0)
        line_number(line, "shadows_omitted", omitted);
}

void config_describe(const struct config *config, struct line *line)
{
    const struct option *option;

    describe_addresses(config, line);
    for (size_t i = 0; (option = option_at(i)) != NULL; i++)
        if (option->scope == SCOPE_GLOBAL && !option_is_addresses(option))
            describe_setting(option, option->name, config, line);
    describe_shadows(config, line);
}

/* ---- help */

/* Writes words from this column on, and goes to a new line where they would not fit. */
static void print_wrapped(const char *text, size_t column, size_t start, const char *margin,
                          FILE *to)
{
    while (*text != '\0') {
        size_t length = strcspn(text, " ");
        if (column > start && column + 1 + length > HELP_WIDTH) {
            fprintf(to, "\n%s%*s", margin, (int)(start - strlen(margin)), "");
            column = start;
        }
        column += (size_t)fprintf(to, "%s%.*s", column > start ? " " : "", (int)length, text);
        text += length + (text[length] == ' ');
    }
    fputc('\n', to);
}

/* The help, what else the flag is called, and its default, in one text the caller frees. */
static char *sentence_of(const struct option *option)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);

    if (to == NULL)
        die(1, "no memory to print %s", option->name);
    fputs(option->help, to);
    for (size_t i = 0; i < 2 && option->aliases[i] != NULL; i++)
        fprintf(to, "%s--%s", i == 0 ? "; also " : ", ", option->aliases[i]);
    if (option->scope == SCOPE_SHADOW)
        fprintf(to, "; %s= in an address", option->key);
    if (option->initial != NULL && option->initial[0] != '\0' && option->kind != KIND_SHORTHAND)
        fprintf(to, " [%s]", option->initial);
    fclose(to);
    return text;
}

static void print_flag(const struct option *option, FILE *to)
{
    int column =
        option->letter != '\0' ? fprintf(to, "  -%c, ", option->letter) : fprintf(to, "      ");

    column += fprintf(to, "--%s%s%s", option->name, option->metavar != NULL ? " " : "",
                      option->metavar != NULL ? option->metavar : "");
    if (column >= HELP_COLUMN) {
        fputc('\n', to);
        column = 0;
    }
    fprintf(to, "%*s", HELP_COLUMN - column, "");
    char *sentence = sentence_of(option);
    print_wrapped(sentence, HELP_COLUMN, HELP_COLUMN, "", to);
    free(sentence);
}

static void print_target_option(const struct option *option, FILE *to)
{
    int column = fprintf(to, "      %s=%s", option->key, option->metavar);

    fprintf(to, "%*s", HELP_COLUMN - column, "");
    char *sentence = sentence_of(option);
    print_wrapped(sentence, HELP_COLUMN, HELP_COLUMN, "", to);
    free(sentence);
}

static bool is_shown(const struct option *option)
{
    return option->name != NULL && !option->hidden;
}

static const char *title_of(enum option_group group)
{
    switch (group) {
    case GROUP_LISTENING:
        return "Listening";
    case GROUP_FORWARDING:
        return "Forwarding";
    case GROUP_SHADOWS:
        return "Shadows";
    case GROUP_TLS:
        return "TLS";
    case GROUP_NAMES:
        return "Names";
    case GROUP_LIMITS:
        return "Limits and timeouts";
    case GROUP_LOGS:
        return "Logs";
    case GROUP_OPERATING:
        return "Operating";
    }
    return "";
}

void config_print_help(FILE *to)
{
    const struct option *option;

    fputs(
        "Usage: doppel -l ADDR -r ADDR [-d LIST] [FLAG...]\n\n"
        "Forwards TCP connections to a primary, whose answers go back to the client, and sends a\n"
        "copy of the client's bytes to shadows, whose answers are discarded.\n\n"
        "  doppel -l 8080 -r localhost:8081 -d localhost:8082,localhost:8083 -v\n"
        "  doppel -l 8080 -r localhost:8081 -d 'canary=stage:8082?sample=10&buffer=1m'\n",
        to);
    for (unsigned group = 0; group < OPTION_GROUPS; group++) {
        fprintf(to, "\n%s:\n", title_of((enum option_group)group));
        for (size_t i = 0; (option = option_at(i)) != NULL; i++)
            if (is_shown(option) && option->group == group)
                print_flag(option, to);
    }
    fputs(
        "\nOf a tls:// primary or shadow, behind its address (tls://HOST:PORT?OPTION=VALUE&...):\n",
        to);
    for (size_t i = 0; (option = option_at(i)) != NULL; i++)
        if (option->scope == SCOPE_TARGET)
            print_target_option(option, to);
    fputs("\nTimes: 250ms 5s 2m 1h (a bare number is seconds).  Sizes: 64k 1m 1g.  Percent: 12.5\n"
          "A switch --x is undone by --no-x.  Every long flag that sets something is also a key of "
          "the\n"
          "file (shadow-buffer = 4m) and a variable (DOPPEL_SHADOW_BUFFER=4m, or a file that holds "
          "the\n"
          "value in DOPPEL_SHADOW_BUFFER_FILE).  Flags win over variables, variables over the "
          "file.\n",
          to);
}

/* ---- the README's table */

/* A | would end the cell. */
static void print_cell(const char *text, FILE *to)
{
    for (; *text != '\0'; text++) {
        if (*text == '|')
            fputc('\\', to);
        fputc(*text, to);
    }
}

static void print_variable(const struct option *option, FILE *to)
{
    const char *name = option_name(option, PLACE_VARIABLE);

    if (name == NULL)
        return;
    fputs("`DOPPEL_", to);
    for (; *name != '\0'; name++)
        fputc(*name == '-' ? '_' : toupper((unsigned char)*name), to);
    fputc('`', to);
}

static void print_row(const struct option *option, FILE *to)
{
    fputs("| `", to);
    if (option->letter != '\0')
        fprintf(to, "-%c, ", option->letter);
    fprintf(to, "--%s", option->name);
    if (option->metavar != NULL) {
        fputc(' ', to);
        print_cell(option->metavar, to);
    }
    fputs("`", to);
    for (size_t i = 0; i < 2 && option->aliases[i] != NULL; i++)
        fprintf(to, "%s`--%s`", i == 0 ? " also " : ", ", option->aliases[i]);
    if (option->scope == SCOPE_SHADOW)
        fprintf(to, " also `%s=`", option->key);
    fputs(" | ", to);
    print_variable(option, to);
    fputs(" | ", to);
    if (option->initial != NULL && option->initial[0] != '\0' && option->kind != KIND_SHORTHAND)
        fprintf(to, "`%s`", option->initial);
    fputs(" | ", to);
    print_cell(option->help, to);
    fputs(" |\n", to);
}

void config_print_table(FILE *to)
{
    const struct option *option;

    fputs("| flag | environment variable | default | what it does |\n|---|---|---|---|\n", to);
    for (size_t i = 0; (option = option_at(i)) != NULL; i++)
        if (is_shown(option))
            print_row(option, to);
}

/* ---- the sample */

/* A comment, and below it the key with its default, which a leading # keeps out of effect. */
static void print_key(const struct option *option, enum option_place place, const char *value,
                      FILE *to)
{
    bool is_said = value != NULL;

    fputs("\n# ", to);
    print_wrapped(option->help, 2, 2, "# ", to);
    fprintf(to, "%s%s =%s%s\n", is_said ? "" : "#", option_name(option, place),
            is_said || option->initial[0] != '\0' ? " " : "", is_said ? value : option->initial);
}

/* Without these lines the sample would not run. */
static const char *value_said(const struct option *option)
{
    if (option->kind == KIND_LISTENS)
        return "8080";
    return option->kind == KIND_PRIMARIES ? "localhost:8081" : NULL;
}

static bool is_in_sample(const struct option *option)
{
    return is_shown(option) && option_name(option, PLACE_FILE) != NULL &&
           option->kind != KIND_SOCKET && option->kind != KIND_SHADOWS;
}

void config_print_sample(FILE *to)
{
    const struct option *option;

    fputs("# doppel.conf — every key with its default.  Use it with: doppel -c doppel.conf\n"
          "#\n"
          "# Times: 250ms 5s 2m 1h (a bare number is seconds).  Sizes: 64k 1m 1g.  Percent: 12.5\n"
          "# A comment has a line of its own.  Flags and DOPPEL_ variables win over this file.\n",
          to);
    for (unsigned group = 0; group < OPTION_GROUPS; group++) {
        fprintf(to, "\n\n# %s\n", title_of((enum option_group)group));
        for (size_t i = 0; (option = option_at(i)) != NULL; i++)
            if (option->group == group && is_in_sample(option))
                print_key(option, PLACE_FILE, value_said(option), to);
    }
    fputs(
        "\n\n# One section for each shadow.  What it does not say, the shadow- keys above say.\n\n"
        "[shadow canary]\n\n# who gets the copy\naddress = localhost:8082\n",
        to);
    for (size_t i = 0; (option = option_at(i)) != NULL; i++)
        if (option->scope == SCOPE_SHADOW || option->scope == SCOPE_TARGET)
            print_key(option, PLACE_SECTION, NULL, to);
}
