/*
 * value.c — switches, choices, texts, and whose business everything else is.
 */
#include "config/value.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/fault.h"
#include "config/addresses.h"
#include "config/config.h"
#include "config/cpus.h"
#include "config/lists.h"
#include "config/number.h"
#include "config/options.h"

#define QUOTED "\"%.120s\""

static bool set_workers(const struct option *option, struct config *config, const char *text,
                        struct fault *fault)
{
    uint64_t number;

    if (strcmp(text, "auto") == 0) {
        uint64_t cpus = cpus_usable();
        config->workers_auto = true;
        config->workers = cpus < option->max ? cpus : option->max;
        return true;
    }
    if (!number_read(option, text, &number, NULL))
        return fault_set(
            fault, QUOTED " is no number of workers; write %" PRIu64 " to %" PRIu64 ", or auto",
            text, option->min, option->max);
    config->workers_auto = false;
    config->workers = number;
    return true;
}

static bool set_switch(bool *field, const char *text, struct fault *fault)
{
    static const char *const on[] = { "on", "yes", "true", "1" };
    static const char *const off[] = { "off", "no", "false", "0" };

    for (size_t i = 0; i < sizeof on / sizeof on[0]; i++) {
        bool is_on = strcasecmp(text, on[i]) == 0;
        if (is_on || strcasecmp(text, off[i]) == 0) {
            *field = is_on;
            return true;
        }
    }
    return fault_set(fault, QUOTED " is neither on nor off; write on or off", text);
}

static const struct option breaker_time = { .kind = KIND_TIME, .min = 10, .max = 3600 * 1000 };

/* N/TIME: a number within the row's bounds, and a time with bounds of its own. */
static bool set_breaker(const struct option *option, struct breaker_config *field, const char *text,
                        struct fault *fault)
{
    const struct option row = { .kind = KIND_COUNT, .min = option->min, .max = option->max };
    const char           *slash = strchr(text, '/');
    struct breaker_config breaker = { 0 };
    struct fault          why;

    if (strcmp(text, option->none_word) == 0) {
        *field = breaker;
        return true;
    }
    if (slash == NULL)
        return fault_set(fault, QUOTED " has no slash; write N/TIME, as in 5/10s, or off", text);
    char *failures = xstrdup(text);
    failures[slash - text] = '\0';
    bool fine = number_set(&row, &breaker.failures, failures, &why) &&
                number_set(&breaker_time, &breaker.seconds, slash + 1, &why);
    free(failures);
    if (!fine)
        return fault_set(fault, QUOTED ": %.300s", text, why.text);
    *field = breaker;
    return true;
}

static void print_breaker(const struct option *option, const struct breaker_config *breaker,
                          FILE *to)
{
    if (breaker->failures == 0) {
        fputs(option->none_word, to);
        return;
    }
    fprintf(to, "%" PRIu64 "/", breaker->failures);
    number_print(&breaker_time, &breaker->seconds, to);
}

/* The word at this place of a list with blanks between; NULL behind the last. */
static const char *word_at(const char *words, unsigned place, size_t *length)
{
    for (;; place--, words += *length + 1) {
        *length = strcspn(words, " ");
        if (place == 0)
            return words;
        if (words[*length] == '\0')
            return NULL;
    }
}

/* "warn" for "warning". */
static bool refuse_choice(const struct option *option, const char *text, struct fault *fault)
{
    const char *word;
    size_t length;

    for (unsigned i = 0; (word = word_at(option->choices, i, &length)) != NULL; i++)
        if (text[0] != '\0' && strncasecmp(word, text, strlen(text)) == 0)
            return fault_set(fault, QUOTED " is unknown here; did you mean \"%.*s\"?", text,
                             (int)length, word);
    return fault_set(fault, QUOTED " is unknown here; write one of: %s", text, option->choices);
}

static bool set_choice(const struct option *option, void *field, const char *text,
                       struct fault *fault)
{
    const char *word;
    size_t length;

    for (unsigned i = 0; (word = word_at(option->choices, i, &length)) != NULL; i++) {
        if (strlen(text) == length && strncmp(word, text, length) == 0) {
            memcpy(field, &i, sizeof i); /* an enum without negatives is an unsigned */
            return true;
        }
    }
    return refuse_choice(option, text, fault);
}

static void print_choice(const struct option *option, const void *field, FILE *to)
{
    unsigned chosen;
    size_t length;

    memcpy(&chosen, field, sizeof chosen);
    const char *word = word_at(option->choices, chosen, &length);
    fprintf(to, "%.*s", (int)length, word);
}

static bool set_mode(const struct option *option, unsigned *field, const char *text,
                     struct fault *fault)
{
    char *end;
    unsigned long mode = strtoul(text, &end, 8);

    if (strspn(text, "01234567") != strlen(text) || text[0] == '\0' || mode > option->max)
        return fault_set(fault, QUOTED " is no file mode; write it in octal, as in 0660", text);
    *field = (unsigned)mode;
    return true;
}

/* What a file's line could not say is not accepted from elsewhere either, so that a printed
 * configuration always loads. */
static bool is_sayable(const char *text)
{
    size_t length = strlen(text);

    for (const char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return false;
        if (*c == ' ' && (c[1] == ';' || c[1] == '#'))
            return false;
    }
    return length == 0 || (strchr(" ;#\"'", text[0]) == NULL && text[length - 1] != ' ');
}

static bool set_text(const struct option *option, char **field, const char *text,
                     struct fault *fault)
{
    if (strlen(text) < option->min)
        return fault_set(fault, "it is empty; write %s", option->metavar);
    if (!is_sayable(text) || strlen(text) >= 4000) /* PATH_MAX, and a line of the file */
        return fault_set(fault,
                         QUOTED " is no path we take; write one under 4000 bytes without control "
                                "characters, outer blanks, quotes in front, \" ;\" and \" #\"",
                         text);
    free(*field);
    *field = text[0] != '\0' ? xstrdup(text) : NULL;
    return true;
}

static bool set_host(char **field, const char *text, struct fault *fault)
{
    char host[HOST_TEXT] = "";

    if (text[0] != '\0' && !host_parse(host, text, fault))
        return false;
    free(*field);
    *field = host[0] != '\0' ? xstrdup(host) : NULL;
    return true;
}

/* Each item must be sayable in a file, too. */
static bool add_texts(const struct option *option, struct text_list *list, const char *text,
                      bool is_first, struct fault *fault)
{
    if (!is_sayable(text))
        return fault_set(fault,
                         QUOTED
                         " cannot be said; leave out control characters, outer blanks, quotes in "
                         "front, \" ;\" and \" #\"",
                         text);
    return is_first ? lists_set_texts(list, text, option->none_word, fault)
                    : lists_add_texts(list, text, option->none_word, fault);
}

static bool set_admin(struct config *config, const char *text, struct fault *fault)
{
    struct endpoint endpoint;

    if (text[0] == '\0' || strcmp(text, "off") == 0) {
        config->admin_on = false;
        config->admin = (struct endpoint){ 0 };
        return true;
    }
    if (!addresses_read_endpoint(&endpoint, text, ENDPOINT_LISTEN, fault))
        return false;
    if (endpoint.tls)
        return fault_set(fault, QUOTED ": the admin endpoint has no TLS; write HOST:PORT", text);
    config->admin_on = true;
    config->admin = endpoint;
    return true;
}

static void print_admin(const struct config *config, FILE *to)
{
    if (config->admin_on)
        addresses_print(&config->admin, to);
    else
        fputs("off", to);
}

static void *field_of(const struct option *option, void *base)
{
    return (char *)base + option->field;
}

bool value_add(const struct option *option, void *base, const char *text, struct fault *fault)
{
    void *field = field_of(option, base);

    switch (option->kind) {
    case KIND_SWITCH:
        return set_switch(field, text, fault);
    case KIND_COUNT:
    case KIND_SIZE:
    case KIND_TIME:
    case KIND_PERCENT:
        return number_set(option, field, text, fault);
    case KIND_WORKERS:
        return set_workers(option, base, text, fault);
    case KIND_CHOICE:
        return set_choice(option, field, text, fault);
    case KIND_MODE:
        return set_mode(option, field, text, fault);
    case KIND_TEXT:
        return set_text(option, field, text, fault);
    case KIND_HOST:
        return set_host(field, text, fault);
    case KIND_NETWORKS:
        return lists_add_networks(field, text, option->none_word, fault);
    case KIND_SERVERS:
        return lists_add_servers(field, text, option->none_word, fault);
    case KIND_TEXTS:
        return add_texts(option, field, text, false, fault);
    case KIND_SOURCE:
        return lists_add_sources(field, text, option->none_word, fault);
    case KIND_BREAKER:
        return set_breaker(option, field, text, fault);
    case KIND_ADMIN:
        return set_admin(base, text, fault);
    case KIND_LISTENS:
    case KIND_PRIMARIES:
    case KIND_SOCKET:
    case KIND_SHADOWS:
    case KIND_FILE:
    case KIND_SHORTHAND:
    case KIND_ACTION:
    case KIND_QUESTION:
        break;
    }
    return fault_set(fault, "%s has no value of its own", option->name);
}

bool value_set(const struct option *option, void *base, const char *text, struct fault *fault)
{
    if (option->kind == KIND_NETWORKS)
        return lists_set_networks(field_of(option, base), text, option->none_word, fault);
    if (option->kind == KIND_SERVERS)
        return lists_set_servers(field_of(option, base), text, option->none_word, fault);
    if (option->kind == KIND_TEXTS)
        return add_texts(option, field_of(option, base), text, true, fault);
    if (option->kind == KIND_SOURCE)
        return lists_set_sources(field_of(option, base), text, option->none_word, fault);
    return value_add(option, base, text, fault);
}

void value_print(const struct option *option, const void *base, FILE *to)
{
    const void *field = (const char *)base + option->field;

    switch (option->kind) {
    case KIND_SWITCH:
        fputs(*(const bool *)field ? "on" : "off", to);
        break;
    case KIND_COUNT:
    case KIND_SIZE:
    case KIND_TIME:
    case KIND_PERCENT:
        number_print(option, field, to);
        break;
    case KIND_WORKERS:
        if (((const struct config *)base)->workers_auto)
            fputs("auto", to);
        else
            number_print(option, field, to);
        break;
    case KIND_CHOICE:
        print_choice(option, field, to);
        break;
    case KIND_MODE:
        fprintf(to, "%04o", *(const unsigned *)field);
        break;
    case KIND_TEXT:
    case KIND_HOST:
        fputs(*(char *const *)field != NULL ? *(char *const *)field : "", to);
        break;
    case KIND_NETWORKS:
        lists_print_networks(field, option->none_word, to);
        break;
    case KIND_SERVERS:
        lists_print_servers(field, option->none_word, to);
        break;
    case KIND_TEXTS:
        lists_print_texts(field, option->none_word, to);
        break;
    case KIND_SOURCE:
        lists_print_sources(field, option->none_word, to);
        break;
    case KIND_BREAKER:
        print_breaker(option, field, to);
        break;
    case KIND_ADMIN:
        print_admin(base, to);
        break;
    case KIND_LISTENS:
    case KIND_PRIMARIES:
    case KIND_SOCKET:
    case KIND_SHADOWS:
    case KIND_FILE:
    case KIND_SHORTHAND:
    case KIND_ACTION:
    case KIND_QUESTION:
        break;
    }
}

char *value_text(const struct option *option, const void *base)
{
    char *text = NULL;
    size_t size;
    FILE *to = xmemstream(&text, &size);

    value_print(option, base, to);
    fclose(to);
    return text;
}

bool value_is_default(const struct option *option, const void *base)
{
    char *text = value_text(option, base);
    bool is_nothing = option->none_word != NULL && strcmp(text, option->none_word) == 0;
    bool same =
        strcmp(text, option->preset) == 0 || (is_nothing && strcmp(option->preset, "0") == 0);

    free(text);
    return same;
}

void value_free(const struct option *option, void *base)
{
    if (option->kind == KIND_TEXT || option->kind == KIND_HOST) {
        char **text = field_of(option, base);
        free(*text);
        *text = NULL;
    }
    if (option->kind == KIND_NETWORKS) {
        struct network_list *list = field_of(option, base);
        free(list->networks);
        *list = (struct network_list){ 0 };
    }
    if (option->kind == KIND_TEXTS)
        lists_free_texts(field_of(option, base));
    if (option->kind == KIND_SERVERS) {
        struct address_list *list = field_of(option, base);
        free(list->addresses);
        *list = (struct address_list){ 0 };
    }
}
