/*
 * load.c — the file, and the way from an argument list to a configuration.
 *
 * inih reads the file, through a reader of ours that goes before it, because inih as distributions
 * build it cuts long lines, takes an indented line for a second value of the key above, reports
 * neither empty sections nor line numbers, and starts a comment in the middle of a value:
 *
 *     file ──line──▶ reader: counts, trims, refuses, notes sections ──▶ inih ──key, value──▶ settings
 *
 * A line that is too long for inih goes to it in pieces.  There an indented line continues the
 * value above, and no line of the file itself reaches inih indented.
 */
#include "config/load.h"

#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "config/build.h"
#include "config/config.h"
#include "config/options.h"
#include "config/settings.h"
#include "config/value.h"

#define MAX_LINE_BYTES 4096
#define MAX_SETTINGS   20000 /* more is no configuration, and would take long to compare */
#define BLANKS          " \t\r"
#define PLACE_ROOM      400
#define QUOTED          "\"%.120s\""

struct file {
    const char      *name;
    char            *next;  /* the text not yet read */
    const char      *rest;  /* of a line that goes to inih in pieces; NULL: none */
    bool             continues; /* what inih reports next belongs to the value above */
    bool             failed;
    unsigned         line;
    size_t           section;                  /* its number; 0: none yet */
    unsigned         said_in[OPTION_ROOM];     /* the line of each option, in this section */
    struct settings *settings;
    struct fault    *fault;
};

/* ---- faults */

static void print_place(const struct file *file, char place[PLACE_ROOM])
{
    snprintf(place, PLACE_ROOM, "%.300s:%u", file->name, file->line);
}

static bool refuse(struct file *file, const struct fault *why)
{
    char place[PLACE_ROOM];

    print_place(file, place);
    file->failed = true;
    return fault_set(file->fault, "%s: %s", place, why->text);
}

static bool refuse_line(struct file *file, const char *line, const char *reason)
{
    struct fault why;

    fault_set(&why, QUOTED " %s", line, reason);
    return refuse(file, &why);
}

/* ---- lines */

/* The next line without its end and outer blanks; NULL: there is none. */
static char *next_line(struct file *file)
{
    char *line = file->next;

    if (*line == '\0')
        return NULL;
    size_t length = strcspn(line, "\n");
    file->next = line + length + (line[length] == '\n');
    line[length] = '\0';
    file->line++;
    while (length > 0 && strchr(BLANKS, line[length - 1]) != NULL)
        line[--length] = '\0';
    return line + strspn(line, BLANKS);
}

static bool is_comment(const char *line) { return *line == '\0' || *line == ';' || *line == '#'; }

static bool has_control_characters(const char *line)
{
    for (; *line != '\0'; line++)
        if (((unsigned char)*line < ' ' && *line != '\t') || *line == 0x7f)
            return true;
    return false;
}

/* inih would cut the value at " ;"; at " #" a reader of the file would. */
static bool has_late_comment(const char *line)
{
    for (; *line != '\0'; line++)
        if ((line[0] == ' ' || line[0] == '\t') && (line[1] == ';' || line[1] == '#'))
            return true;
    return false;
}

/* As YAML writes it. */
static bool refuse_colon(struct file *file, const char *line, const char *colon)
{
    struct fault why;
    size_t key = strcspn(line, BLANKS ":");
    const char *value = colon + 1 + strspn(colon + 1, BLANKS);

    fault_set(&why, QUOTED " has a colon behind its key; write %.*s = %.120s", line, (int)key, line,
              value);
    return refuse(file, &why);
}

static bool check_setting(struct file *file, const char *line)
{
    const char *sign = strpbrk(line, "=:");

    if (sign != NULL && *sign == ':')
        return refuse_colon(file, line, sign);
    if (sign == NULL)
        return refuse_line(file, line, "has no key; write KEY = VALUE");
    if (sign == line)
        return refuse_line(file, line, "has no key in front of its =; write KEY = VALUE");
    if (has_late_comment(line))
        return refuse_line(file, line, "has a comment behind its value; give it a line of its own");
    return true;
}

/* The NAME of [shadow NAME], cut out of the line itself; NULL: it is another section. */
static char *section_name(char *line)
{
    char *word = line + 1 + strspn(line + 1, BLANKS);
    char *name = word + strlen("shadow");

    if (strncmp(word, "shadow", strlen("shadow")) != 0 || strspn(name, BLANKS) == 0)
        return NULL;
    name += strspn(name, BLANKS);
    size_t length = strcspn(name, BLANKS "]");
    char *end = name + length + strspn(name + length, BLANKS);
    if (length == 0 || strcmp(end, "]") != 0)
        return NULL;
    name[length] = '\0';
    return name;
}

static bool refuse_section(struct file *file, const char *line)
{
    bool is_shadow =
        strncmp(line, "[shadow ", strlen("[shadow ")) == 0 && strchr(line, ']') != NULL;

    return refuse_line(file, line,
                       is_shadow
                           ? "has a blank in its name; write one word, as in [shadow my-canary]"
                           : "is no section we know; write [shadow NAME]");
}

/* Everything that follows belongs to that shadow. */
static bool note_section(struct file *file, const char *line)
{
    char place[PLACE_ROOM];
    char *copy = xstrdup(line);
    char *name = section_name(copy);

    if (name != NULL) {
        memset(file->said_in, 0, sizeof file->said_in);
        print_place(file, place);
        struct setting *head = settings_add(file->settings, option_find(PLACE_FILE, "shadow"),
                                            SOURCE_FILE, name, place);
        head->section = ++file->section;
        head->heads = true;
    }
    free(copy);
    return name != NULL || refuse_section(file, line);
}

static bool check_line(struct file *file, const char *line)
{
    if (strlen(line) > MAX_LINE_BYTES)
        return refuse_line(file, line, "is longer than 4096 bytes; write it as several lines");
    if (has_control_characters(line))
        return refuse_line(file, line, "holds a control character; write plain text");
    if (file->settings->count >= MAX_SETTINGS)
        return refuse_line(file, line, "is more than we read; write fewer lines");
    return line[0] == '[' ? note_section(file, line) : check_setting(file, line);
}

/* ---- inih */

/* How much of this text goes into one of inih's lines.  A cut beside a blank would lose the blank,
 * and one before ; or # would lose what follows.  0: there is no place to cut. */
static size_t piece_length(const char *text, size_t max)
{
    size_t length = strlen(text);

    if (length <= max)
        return length;
    for (length = max; length > 0; length--)
        if (strchr(" \t;#", text[length]) == NULL && text[length - 1] != ' ' &&
            text[length - 1] != '\t')
            return length;
    return 0;
}

/* Writes one line for inih and keeps the rest of the text for the next one. */
static char *hand_over(struct file *file, char *line, size_t size, const char *indent,
                       const char *text)
{
    size_t length = piece_length(text, size - strlen(indent) - 2); /* line end and final zero */
    /* A cut in the key would make two keys of it; no key of ours is as long as that. */
    bool cuts_key = !file->continues && text[length] != '\0' && memchr(text, '=', length) == NULL;

    if (length == 0 || cuts_key) {
        refuse_line(file, text, "cannot be read in pieces; write it shorter");
        return NULL;
    }
    snprintf(line, size, "%s%.*s\n", indent, (int)length, text);
    file->rest = text[length] != '\0' ? text + length : NULL;
    return line;
}

/* An ini_reader: like fgets(3). */
static char *on_line_wanted(char *line, int size, void *owner)
{
    struct file *file = owner;
    char *text;

    if (file->failed)
        return NULL;
    file->continues = file->rest != NULL;
    if (file->continues)
        return hand_over(file, line, (size_t)size, " ", file->rest);
    do {
        text = next_line(file);
        if (text == NULL)
            return NULL;
    } while (is_comment(text));
    if (!check_line(file, text))
        return NULL;
    return hand_over(file, line, (size_t)size, "", text);
}

static bool refuse_key(struct file *file, const char *key)
{
    struct fault why;
    enum option_place place = file->section > 0 ? PLACE_SECTION : PLACE_FILE;

    if (file->section > 0 && option_find(PLACE_FILE, key) != NULL &&
        option_find(PLACE_FILE, key)->key == NULL)
        fault_set(&why, "\"%s\" is not a key of a shadow; write it above the first section", key);
    else
        settings_refuse_name(place, "key", key, &why);
    return refuse(file, &why);
}

static bool note_value(struct file *file, const struct option *option, const char *value)
{
    char place[PLACE_ROOM];
    unsigned *said_in = &file->said_in[option_index(option)];
    bool may_repeat =
        option_is_list(option) && (file->section == 0 || option->kind != KIND_SHADOWS);

    if (*said_in != 0 && !may_repeat) {
        struct fault why;
        fault_set(&why, "\"%s\" is said in line %u already; leave one of them out",
                  option_name(option, file->section > 0 ? PLACE_SECTION : PLACE_FILE), *said_in);
        return refuse(file, &why);
    }
    *said_in = file->line;
    print_place(file, place);
    struct setting *setting = settings_add(file->settings, option, SOURCE_FILE, value, place);
    setting->section = file->section;
    return true;
}

/* An ini_handler.  The section inih names is one the reader has noted already. */
static int on_value(void *owner, const char *section, const char *key, const char *value)
{
    struct file *file = owner;

    (void)section;
    if (file->continues) {
        settings_extend(file->settings, value);
        return 1;
    }
    const struct option *option = option_find(file->section > 0 ? PLACE_SECTION : PLACE_FILE, key);
    return option != NULL ? note_value(file, option, value) : refuse_key(file, key);
}

static bool read_file(struct settings *settings, const struct setting *said, struct fault *fault)
{
    struct fault why;
    char *text = settings_read_file(said->text, &why);

    if (text == NULL)
        return fault_set(fault, "%s: %s", said->place, why.text);
    char *name = xstrdup(said->text); /* what was said moves when more is added */
    settings_note_file(settings, name);
    struct file file = {
        .name = name,
        .next = text,
        .settings = settings,
        .fault = fault,
    };
    int bad_line = ini_parse_stream(on_line_wanted, &file, on_value, &file);
    if (bad_line != 0 && !file.failed)
        refuse_line(&file, "this line", "is not understood; write KEY = VALUE");
    free(name);
    free(text);
    return !file.failed;
}

/* ---- all of it */

/* Who sets one of these in a container's environment wants it to run. */
static bool environment_asks_to_run(char *const environment[])
{
    return settings_have_variable(environment, "DOPPEL_LISTEN") ||
           settings_have_variable(environment, "DOPPEL_LISTEN_FILE") ||
           settings_have_variable(environment, "DOPPEL_CONFIG");
}

static bool gather(struct settings *settings, const struct command *command,
                   enum config_action *action, struct fault *fault)
{
    return settings_read_flags(settings, command->argc, command->argv, action, fault) &&
           (*action == CONFIG_RUN || *action == CONFIG_CHECK);
}

/* Nothing else that was said matters, nor need it be right. */
static struct config *whom_to_ask(const struct settings *settings, struct fault *fault)
{
    const struct setting *said = settings_last(settings, "health");
    struct config *config = xcalloc(1, sizeof *config);
    struct fault why;
    bool known = value_set(option_find(PLACE_FLAG, "admin"), config, said->text, &why);

    if (known && config->admin_on)
        return config;
    if (known)
        fault_set(&why, QUOTED " is no address; write that of --admin", said->text);
    fault_set(fault, "%s: %s", said->place, why.text);
    config_free(config);
    return NULL;
}

static bool gather_file(struct settings *settings, struct fault *fault)
{
    const struct setting *said = settings_last(settings, "config");

    if (!settings_are_unquoted(settings, fault))
        return false;
    return said == NULL || said->text[0] == '\0' ||
           (read_file(settings, said, fault) && settings_are_unquoted(settings, fault));
}

struct config *config_load(const struct command *command, enum config_action *action,
                           struct config_warnings *warnings, struct fault *fault)
{
    struct settings settings = { 0 };
    struct config *config = NULL;

    fault_set(fault, "%s", "");
    *action = CONFIG_RUN;
    if (command->argc <= 1 && !environment_asks_to_run(command->environment)) {
        *action = CONFIG_NOTHING;
        return NULL;
    }
    if (gather(&settings, command, action, fault) &&
        settings_read_environment(&settings, command->environment, warnings, fault) &&
        gather_file(&settings, fault))
        config = config_build(&settings, warnings, fault);
    else if (*action == CONFIG_HEALTH)
        config = whom_to_ask(&settings, fault);
    if (config != NULL) {
        config->files = settings.files;
        settings.files = (struct text_list){ 0 };
    }
    settings_free(&settings);
    return config;
}
