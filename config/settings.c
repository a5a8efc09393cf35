/*
 * settings.c — the collection, and its readers of flags and environment.
 *
 * The reader of flags is our own and not getopt_long(3), because that one accepts abbreviations: a
 * script that says --shadow-b would change its meaning with the next version.
 */
#include "config/settings.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/files.h"
#include "base/log.h"
#include "config/lists.h"
#include "config/options.h"
#include "config/service_links.h"

#define MAX_FILE_BYTES (1024 * 1024)
#define PREFIX          "DOPPEL_"
#define PREFIX_LENGTH   (sizeof PREFIX - 1)
#define NAME_ROOM       64 /* longer names are unknown */
#define BYTE_ORDER_MARK "\xef\xbb\xbf" /* some editors begin a file with it */
#define QUOTED          "\"%.120s\""

/* ---- the collection */

struct setting *settings_add(struct settings *settings, const struct option *option,
                             enum source source, const char *text, const char *place)
{
    if (settings->count == settings->room) {
        size_t room = settings->room > 0 ? settings->room * 2 : 32;
        struct setting *items = xcalloc(room, sizeof items[0]);
        if (settings->count > 0)
            memcpy(items, settings->items, settings->count * sizeof items[0]);
        free(settings->items);
        settings->items = items;
        settings->room = room;
    }
    struct setting *added = &settings->items[settings->count++];
    *added = (struct setting){
        .option = option,
        .source = source,
        .text = xstrdup(text),
        .place = xstrdup(place),
    };
    return added;
}

void settings_note_file(struct settings *settings, const char *path)
{
    struct text_list *files = &settings->files;

    files->texts = xwidened(files->texts, files->count, sizeof files->texts[0]);
    files->texts[files->count++] = xstrdup(path);
}

void settings_extend(struct settings *settings, const char *text)
{
    assert(settings->count > 0);
    struct setting *last = &settings->items[settings->count - 1];
    size_t size = strlen(last->text) + strlen(text) + 1;
    char *longer = xcalloc(size, 1);

    snprintf(longer, size, "%s%s", last->text, text);
    free(last->text);
    last->text = longer;
}

const struct setting *settings_last(const struct settings *settings, const char *name)
{
    const struct setting *found = NULL;

    for (size_t i = 0; i < settings->count; i++) {
        const struct setting *setting = &settings->items[i];
        if (setting->option->name == NULL || strcmp(setting->option->name, name) != 0)
            continue;
        if (found == NULL || setting->source >= found->source)
            found = setting;
    }
    return found;
}

bool settings_are_unquoted(const struct settings *settings, struct fault *fault)
{
    for (size_t i = 0; i < settings->count; i++) {
        const struct setting *setting = &settings->items[i];
        if (setting->text[0] == '"' || setting->text[0] == '\'')
            return fault_set(fault,
                             "%.300s: " QUOTED " has quotes around its value; leave them out",
                             setting->place, setting->text);
    }
    return true;
}

void settings_free(struct settings *settings)
{
    for (size_t i = 0; i < settings->count; i++) {
        free(settings->items[i].text);
        free(settings->items[i].place);
    }
    free(settings->items);
    lists_free_texts(&settings->files);
    *settings = (struct settings){ 0 };
}

void settings_warn(struct config_warnings *warnings, const char *format, ...)
{
    struct fault sentence;
    va_list arguments;
    char raw[sizeof sentence.text];

    va_start(arguments, format);
    vsnprintf(raw, sizeof raw, format, arguments);
    va_end(arguments);
    fault_set(&sentence, "%s", raw);
    warnings->texts = xwidened(warnings->texts, warnings->count, sizeof warnings->texts[0]);
    warnings->texts[warnings->count++] = xstrdup(sentence.text);
}

void config_warnings_log(const struct config_warnings *warnings)
{
    for (size_t i = 0; i < warnings->count; i++)
        log_warning("supervisor", "configuration", "warning=%s", warnings->texts[i]);
}

void config_warnings_free(struct config_warnings *warnings)
{
    for (size_t i = 0; i < warnings->count; i++)
        free(warnings->texts[i]);
    free(warnings->texts);
    *warnings = (struct config_warnings){ 0 };
}

/* ---- files */

char *settings_read_file(const char *path, struct fault *fault)
{
    const struct file *file = files_read(path);
    const size_t mark = strlen(BYTE_ORDER_MARK);

    if (file == NULL && errno != EFBIG)
        fault_set(fault, "cannot read " QUOTED ": %s", path, strerrordesc_np(errno));
    else if (file == NULL || file->length > MAX_FILE_BYTES)
        fault_set(fault, QUOTED " has more than 1 MiB; that is no file of ours", path);
    else if (memchr(file->bytes, '\0', file->length) != NULL)
        fault_set(fault, QUOTED " holds zero bytes; write plain text", path);
    else
        return xstrdup(file->bytes + (strncmp(file->bytes, BYTE_ORDER_MARK, mark) == 0 ? mark : 0));
    return NULL;
}

/* ---- names */

bool settings_refuse_name(enum option_place place, const char *what, const char *name,
                          struct fault *fault)
{
    const char *dashes = place == PLACE_FLAG ? "--" : "";

    if (option_is_withheld(place, name))
        return fault_set(fault, "%s%.120s is not in this version", dashes, name);
    const char *nearest = option_nearest(place, name);
    if (nearest == NULL)
        return fault_set(fault, "unknown %s \"%s%.120s\"; doppel --help lists them", what, dashes,
                         name);
    return fault_set(fault, "unknown %s \"%s%.120s\"; did you mean \"%s%s\"?", what, dashes, name,
                     dashes, nearest);
}

/* ---- flags */

struct flags {
    struct settings *settings;
    enum config_action *action;
    char *const *next; /* the arguments not yet read; NULL ends them */
    struct fault *fault;
};

static bool is_over(const struct flags *flags)
{
    return *flags->action != CONFIG_RUN && *flags->action != CONFIG_CHECK;
}

/* A flag that stands alone. */
static void note_bare(struct flags *flags, const struct option *option, const char *place,
                      bool negated)
{
    bool is_letter = place[1] != '-';

    if (option->kind == KIND_ACTION)
        *flags->action = is_letter && option->letter_action != CONFIG_RUN ? option->letter_action
                                                                          : option->action;
    else if (option->kind == KIND_SHORTHAND)
        settings_add(flags->settings, option_find(PLACE_FLAG, option->alias_for), SOURCE_FLAG,
                     option->preset, place);
    else
        settings_add(flags->settings, option, SOURCE_FLAG, negated ? "off" : "on", place);
}

/* A flag with its value, which stands behind the flag or is the next argument. */
static bool note_value(struct flags *flags, const struct option *option, const char *value,
                       const char *place)
{
    if (value == NULL && *flags->next == NULL)
        return fault_set(flags->fault, "%s has no value; write %s %s", place, place,
                         option->metavar);
    if (value == NULL)
        value = *flags->next++;
    settings_add(flags->settings, option, SOURCE_FLAG, value, place);
    if (option->kind == KIND_QUESTION)
        *flags->action = option->action;
    return true;
}

static const struct option *switch_of(const char *name)
{
    if (strncmp(name, "no-", 3) != 0)
        return NULL;
    const struct option *option = option_find(PLACE_FLAG, name + 3);
    return option != NULL && option->kind == KIND_SWITCH ? option : NULL;
}

static bool refuse_flag(const char *name, struct fault *fault)
{
    bool is_negated = strncmp(name, "no-", 3) == 0;

    if (is_negated && option_is_withheld(PLACE_FLAG, name + 3))
        return fault_set(fault, "--%.120s is not in this version", name);
    return settings_refuse_name(PLACE_FLAG, "flag", name, fault);
}

/* --name, --no-name, --name=value, --name value */
static bool read_long(struct flags *flags, const char *argument)
{
    char name[NAME_ROOM];
    char place[NAME_ROOM + 2];
    const char *equals = strchr(argument, '=');
    const char *value = equals != NULL ? equals + 1 : NULL;
    size_t length = equals != NULL ? (size_t)(equals - argument) : strlen(argument);

    if (length >= sizeof name)
        return refuse_flag(argument, flags->fault);
    snprintf(name, sizeof name, "%.*s", (int)length, argument);
    snprintf(place, sizeof place, "--%s", name);
    const struct option *option = option_find(PLACE_FLAG, name);
    const struct option *negated = option == NULL ? switch_of(name) : NULL;
    if (option == NULL && negated == NULL)
        return refuse_flag(name, flags->fault);
    if (negated != NULL)
        option = negated;
    if (!option_is_bare(option))
        return note_value(flags, option, value, place);
    if (value != NULL && (negated != NULL || option->kind != KIND_SWITCH))
        return fault_set(flags->fault, "%s takes no value; write %s alone", place, place);
    if (value != NULL)
        return note_value(flags, option, value, place);
    note_bare(flags, option, place, negated != NULL);
    return true;
}

/* -listen, as Go's programs and Java's write it.  No value behind a letter is spelled like this. */
static bool is_long(const char *letters)
{
    char name[NAME_ROOM];
    size_t length = strcspn(letters, "=");

    if (length < 2 || length >= sizeof name)
        return false;
    snprintf(name, sizeof name, "%.*s", (int)length, letters);
    return option_find(PLACE_FLAG, name) != NULL;
}

/* -v, -vv, -l8080, -l 8080 */
static bool read_cluster(struct flags *flags, const char *letters)
{
    if (is_long(letters))
        return fault_set(flags->fault, "-%.*s: a long flag has two dashes; write --%.*s",
                         (int)strcspn(letters, "="), letters, (int)strcspn(letters, "="), letters);
    for (; *letters != '\0' && !is_over(flags); letters++) {
        const char place[] = { '-', *letters, '\0' };
        const char name[] = { *letters, '\0' };
        const struct option *option = option_of_short_name(*letters);
        if (option == NULL && option_is_withheld(PLACE_FLAG, name))
            return fault_set(flags->fault, "%s is not in this version", place);
        if (option == NULL)
            return fault_set(flags->fault, "unknown flag \"%s\"; doppel --help lists them", place);
        if (!option_is_bare(option))
            return note_value(flags, option, letters[1] != '\0' ? letters + 1 : NULL, place);
        note_bare(flags, option, place, false);
    }
    return true;
}

static bool read_argument(struct flags *flags, const char *argument)
{
    if (strncmp(argument, "--", 2) == 0 && argument[2] != '\0')
        return read_long(flags, argument + 2);
    if (argument[0] == '-' && argument[1] != '\0' && argument[1] != '-')
        return read_cluster(flags, argument + 1);
    return fault_set(flags->fault,
                     "unexpected argument " QUOTED "; an address needs a flag, as in -d %.120s",
                     argument, argument[0] == '-' ? "HOST:PORT" : argument);
}

bool settings_read_flags(struct settings *settings, int argc, char *const argv[],
                         enum config_action *action, struct fault *fault)
{
    struct flags flags = {
        .settings = settings,
        .action = action,
        .next = argc > 0 ? argv + 1 : argv,
        .fault = fault,
    };

    while (*flags.next != NULL && !is_over(&flags))
        if (!read_argument(&flags, *flags.next++))
            return false;
    return true;
}

/* ---- environment */

struct variables {
    struct settings *settings;
    char *const *environment;
    struct config_warnings *warnings;
    struct fault *fault;
};

/* DOPPEL_SHADOW_BUFFER is shadow-buffer.  False: no option is spelled like this. */
static bool name_of_variable(const char *variable, size_t length, char name[NAME_ROOM])
{
    if (length >= NAME_ROOM)
        return false;
    for (size_t i = 0; i < length; i++) {
        char c = variable[i];
        if (c != '_' && !isupper((unsigned char)c) && !isdigit((unsigned char)c))
            return false;
        name[i] = c == '_' ? '-' : (char)tolower((unsigned char)c);
    }
    name[length] = '\0';
    return true;
}

static void print_variable(const char *name, char variable[NAME_ROOM + PREFIX_LENGTH])
{
    char *to = variable + PREFIX_LENGTH;

    memcpy(variable, PREFIX, PREFIX_LENGTH);
    for (; *name != '\0'; name++)
        *to++ = *name == '-' ? '_' : (char)toupper((unsigned char)*name);
    *to = '\0';
}

bool settings_have_variable(char *const environment[], const char *variable)
{
    size_t length = strlen(variable);

    for (; *environment != NULL; environment++)
        if (strncmp(*environment, variable, length) == 0 && (*environment)[length] == '=')
            return true;
    return false;
}

/* Line ends at the end are the editor's, not the value's. */
static void cut_line_ends(char *text)
{
    size_t length = strlen(text);

    while (length > 0 && strchr("\r\n", text[length - 1]) != NULL)
        text[--length] = '\0';
}

static bool read_from_file(const struct variables *all, const struct option *option,
                           const char *place, const char *path)
{
    char plain[NAME_ROOM + PREFIX_LENGTH];
    struct fault why;

    if (path[0] == '"' || path[0] == '\'')
        return fault_set(all->fault, "%s: " QUOTED " has quotes around its value; leave them out",
                         place, path);
    print_variable(option->name, plain);
    if (settings_have_variable(all->environment, plain))
        return fault_set(all->fault, "%s and %s are both set; keep one", plain, place);
    char *text = settings_read_file(path, &why);
    if (text == NULL)
        return fault_set(all->fault, "%s: %s", place, why.text);
    cut_line_ends(text);
    settings_note_file(all->settings, path);
    settings_add(all->settings, option, SOURCE_ENVIRONMENT, text, place);
    free(text);
    return true;
}

static void warn_of_variable(const struct variables *all, const char *place, const char *name)
{
    char likely[NAME_ROOM + PREFIX_LENGTH];
    const char *nearest = option_nearest(PLACE_VARIABLE, name);

    if (nearest != NULL) {
        print_variable(nearest, likely);
        settings_warn(all->warnings, "unknown variable %.120s is ignored; did you mean %s?", place,
                      likely);
    } else {
        settings_warn(all->warnings, "unknown variable %.120s is ignored; doppel --help lists them",
                      place);
    }
}

/* The option that this name's file would speak for: buffer for buffer-file. */
static bool cut_file_suffix(char *name)
{
    size_t suffix = strlen("-file");
    size_t length = strlen(name);

    if (length <= suffix || strcmp(name + length - suffix, "-file") != 0)
        return false;
    name[length - suffix] = '\0';
    return true;
}

static bool read_variable(const struct variables *all, const char *place, const char *value)
{
    char name[NAME_ROOM] = "";
    char whole[NAME_ROOM] = "";
    const struct option *option;

    if (!name_of_variable(place + PREFIX_LENGTH, strlen(place + PREFIX_LENGTH), name)) {
        warn_of_variable(all, place, "");
        return true;
    }
    option = option_find(PLACE_VARIABLE, name);
    if (option != NULL) {
        settings_add(all->settings, option, SOURCE_ENVIRONMENT, value, place);
        return true;
    }
    memcpy(whole, name, sizeof whole);
    bool has_suffix = cut_file_suffix(name);
    option = has_suffix ? option_find(PLACE_VARIABLE, name) : NULL;
    if (option != NULL)
        return read_from_file(all, option, place, value);
    if (option_is_withheld(PLACE_VARIABLE, name) || option_is_withheld(PLACE_VARIABLE, whole))
        return fault_set(all->fault, "%s is not in this version", place);
    if (!service_links_set(place, value))
        warn_of_variable(all, place, whole);
    return true;
}

bool settings_read_environment(struct settings *settings, char *const environment[],
                               struct config_warnings *warnings, struct fault *fault)
{
    const struct variables all = { settings, environment, warnings, fault };

    for (; *environment != NULL; environment++) {
        if (strncmp(*environment, PREFIX, PREFIX_LENGTH) != 0 || strchr(*environment, '=') == NULL)
            continue;
        char *place = xstrdup(*environment);
        char *value = strchr(place, '=');
        *value++ = '\0';
        bool fine = read_variable(&all, place, value);
        free(place);
        if (!fine)
            return false;
    }
    return true;
}
