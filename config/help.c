/*
 * help.c — the table of options, in groups and wrapped into lines.
 */
#include "config/help.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "config/options.h"

#define HELP_COLUMN  30 /* where the sentences begin */
#define SAMPLE_WIDTH 96

/* ---- what all have in common */

/* Where sentences stand. */
struct block {
    size_t      start; /* their column */
    size_t      width; /* of whole lines */
    const char *margin;
};

/* Writes words from this column on, and goes to a new line where they would not fit. */
static void print_wrapped(const char *text, size_t column, const struct block *block, FILE *to)
{
    size_t start = block->start;

    while (*text != '\0') {
        size_t length = strcspn(text, " ");
        if (column > start && column + 1 + length > block->width) {
            fprintf(to, "\n%s%*s", block->margin, (int)(start - strlen(block->margin)), "");
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
    FILE *to = xmemstream(&text, &size);

    fputs(option->help, to);
    for (size_t i = 0; i < 2 && option->aliases[i] != NULL; i++)
        fprintf(to, "%s--%s", i == 0 ? "; also " : ", ", option->aliases[i]);
    if (option->scope == SCOPE_SHADOW)
        fprintf(to, "; %s= in an address", option->key);
    if (option->preset != NULL && option->preset[0] != '\0' && option->kind != KIND_SHORTHAND)
        fprintf(to, " [%s]", option->preset);
    fclose(to);
    return text;
}

/* What is before the sentence has had so many columns. */
static void print_sentence(const struct option *option, int column, size_t width, FILE *to)
{
    const struct block block = { HELP_COLUMN, width, "" };

    if (column > HELP_COLUMN - 2) {
        fputc('\n', to);
        column = 0;
    }
    fprintf(to, "%*s", HELP_COLUMN - column, "");
    char *sentence = sentence_of(option);
    print_wrapped(sentence, HELP_COLUMN, &block, to);
    free(sentence);
}

/* Answers how many columns it took. */
static int print_name(const struct option *option, FILE *to)
{
    int column = option->short_name != '\0' ? fprintf(to, "  -%c, ", option->short_name)
                                            : fprintf(to, "      ");

    return column + fprintf(to, "--%s%s%s", option->name, option->metavar != NULL ? " " : "",
                            option->metavar != NULL ? option->metavar : "");
}

static void print_flag(const struct option *option, size_t width, FILE *to)
{
    print_sentence(option, print_name(option, to), width, to);
}

static void print_target_option(const struct option *option, size_t width, FILE *to)
{
    print_sentence(option, fprintf(to, "      %s=%s", option->key, option->metavar), width, to);
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
    case GROUP_PRIMARY:
        return "Primary";
    case GROUP_SHADOWS:
        return "Shadows";
    case GROUP_TLS:
        return "TLS";
    case GROUP_NAMES:
        return "Names";
    case GROUP_LIMITS:
        return "Limits";
    case GROUP_LOGGING:
        return "Logging";
    case GROUP_PROCESSES:
        return "Processes";
    case GROUP_ADMIN:
        return "Admin";
    }
    return "";
}

/* ---- help */

#define PURPOSE                                                                                    \
    "Forwards TCP connections to a primary, which answers the client, and sends a\n"               \
    "copy of the client's bytes to shadows, whose answers are discarded.\n"

void help_print_usage(FILE *to)
{
    fputs("Usage: doppel -l ADDR -r ADDR [-d LIST] [FLAG...]\n"
          "As in: doppel -l 8080 -r localhost:8081 -d localhost:8082\n"
          "doppel -h prints the flags of a first use, doppel --help all of them.\n",
          to);
}

void help_print_page(FILE *to)
{
    static const struct {
        const char *name;
        const char *text; /* shorter than the option's own */
    } rows[] = {
        { "listen", "accept clients here: 8080, 127.0.0.1:8080, ..." },
        { "primary", "forward to this server, which answers the client" },
        { "shadow", "send a copy to these: NAME=HOST:PORT, ..." },
        { "shadow-sample", "percentage of sessions to mirror [100]" },
        { "tls-cert", "certificate and key of tls://HOST:PORT listeners" },
        { "access-log", "one line per session: file, - (stdout) or off [-]" },
        { "verbose", "log events and byte counts, never payload" },
        { "admin", "serve /metrics and /status here [off]" },
        { "config", "read this configuration file" },
        { "check", "check, print what would be in effect, and exit" },
        { "workers", "number of worker processes [auto]" },
        { "help", "print this page (-h), or all flags (--help)" },
        { "version", "print the versions of doppel and its libraries" },
    };

    fputs("Usage: doppel -l ADDR -r ADDR [-d LIST] [FLAG...]\n\n" PURPOSE "\n"
          "  doppel -l 8080 -r localhost:8081 -d localhost:8082,localhost:8083\n"
          "  doppel -l 8080 -r localhost:8081 -d 'canary=stage:8082?sample=10'\n\n",
          to);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int column = print_name(option_find(PLACE_FLAG, rows[i].name), to);
        fprintf(to, "%*s%s\n", HELP_COLUMN - column, "", rows[i].text);
    }
    fputs("\nEvery long flag that sets something is also a variable (DOPPEL_LISTEN=8080)\n"
          "and a key of the file (listen = 8080).\n",
          to);
}

static void print_groups(size_t width, FILE *to)
{
    const struct option *option;

    for (unsigned group = 0; group < OPTION_GROUPS; group++) {
        fprintf(to, "\n%s:\n", title_of((enum option_group)group));
        for (size_t i = 0; (option = option_at(i)) != NULL; i++)
            if (is_shown(option) && option->group == group)
                print_flag(option, width, to);
    }
    fputs("\nOptions of a tls:// primary or shadow (tls://HOST:PORT?OPTION=VALUE&...):\n", to);
    for (size_t i = 0; (option = option_at(i)) != NULL; i++)
        if (option->scope == SCOPE_TARGET)
            print_target_option(option, width, to);
    fputs("\nOptions of one primary or one listener (ADDRESS?OPTION=VALUE&...):\n", to);
    for (size_t i = 0; (option = option_at(i)) != NULL; i++)
        if (option->scope == SCOPE_PRIMARY || option->scope == SCOPE_LISTEN)
            print_target_option(option, width, to);
}

void help_print_all(FILE *to, size_t width)
{
    const struct block block = { 0, width, "" };

    fputs("Usage: doppel -l ADDR -r ADDR [-d LIST] [FLAG...]\n\n" PURPOSE "\n"
          "  doppel -l 8080 -r localhost:8081 -d localhost:8082,localhost:8083 -v\n"
          "  doppel -l 8080 -r localhost:8081 -d 'canary=stage:8082?sample=10&buffer=1m'\n",
          to);
    print_groups(width, to);
    fputc('\n', to);
    print_wrapped(
        "Times: 250ms 5s 2m 1h (a bare number is seconds). Sizes: 64k 1m 1g. Percent: 12.5. "
        "--no-x turns a switch --x off. Every long flag that sets something is also a key "
        "of the file (shadow-buffer = 4m) and a variable (DOPPEL_SHADOW_BUFFER=4m, or "
        "DOPPEL_SHADOW_BUFFER_FILE with the name of a file that contains the value). Flags "
        "take precedence over variables, and variables over the file.",
        0, &block, to);
}

/* ---- the README's tables */

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
    if (option->short_name != '\0')
        fprintf(to, "-%c, ", option->short_name);
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
    if (option->preset != NULL && option->preset[0] != '\0' && option->kind != KIND_SHORTHAND)
        fprintf(to, "`%s`", option->preset);
    fputs(" | ", to);
    print_cell(option->help, to);
    fputs(" |\n", to);
}

void help_print_tables(FILE *to)
{
    const struct option *option;

    for (unsigned group = 0; group < OPTION_GROUPS; group++) {
        fprintf(to, "%s**%s**\n\n", group > 0 ? "\n" : "", title_of((enum option_group)group));
        fputs("| flag | environment variable | default | what it does |\n|---|---|---|---|\n", to);
        for (size_t i = 0; (option = option_at(i)) != NULL; i++)
            if (is_shown(option) && option->group == group)
                print_row(option, to);
    }
}

/* ---- the sample */

/* A comment, and below it the key with its default, which a leading # keeps out of effect. */
static void print_key(const struct option *option, enum option_place place, const char *value,
                      FILE *to)
{
    const struct block block = { 2, SAMPLE_WIDTH, "# " };
    bool is_said = value != NULL;

    fputs("\n# ", to);
    print_wrapped(option->help, 2, &block, to);
    fprintf(to, "%s%s =%s%s\n", is_said ? "" : "#", option_name(option, place),
            is_said || option->preset[0] != '\0' ? " " : "", is_said ? value : option->preset);
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

void help_print_sample(FILE *to)
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
        "[shadow canary]\n\n# the server that gets the copy\naddress = localhost:8082\n",
        to);
    for (size_t i = 0; (option = option_at(i)) != NULL; i++)
        if (option->scope == SCOPE_SHADOW || option->scope == SCOPE_TARGET)
            print_key(option, PLACE_SECTION, NULL, to);
}
