/*
 * print.c — the configuration in effect as text: as a file, and as one line of the log.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/fault.h"
#include "base/log_record.h"
#include "base/network.h"
#include "config/addresses.h"
#include "config/config.h"
#include "config/load.h"
#include "config/options.h"
#include "config/value.h"

#define KEY_WIDTH   18 /* of the longest key */

/* ---- the configuration in effect */

/* One line for each network: a list may be longer than a line of the file. */
static void print_networks(const char *key, const struct option *option, const void *base, FILE *to)
{
    const struct network_list *list =
        (const struct network_list *)(const void *)((const char *)base + option->field);
    char text[NETWORK_TEXT];

    if (list->count == 0)
        fprintf(to, "%-*s = %s\n", KEY_WIDTH, key, option->none_word);
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
        if (!option->hidden || !value_is_default(option, config))
            print_setting(option->name, option, config, to);
    }
    for (size_t i = 0; i < config->shadow_count; i++)
        print_shadow(&config->shadows[i], to);
}

/* ---- the same in one line */

static void describe_addresses(const struct config *config, struct log_record *line)
{
    char *texts[2] = { NULL };
    size_t size;
    FILE *listens = xmemstream(&texts[0], &size);
    FILE *primaries = xmemstream(&texts[1], &size);

    for (size_t i = 0; i < config->listen_count; i++)
        fprintf(listens, "%s%s", i > 0 ? "," : "", config->listens[i].name);
    for (size_t i = 0; i < config->primary_count; i++)
        fprintf(primaries, "%s%s", i > 0 ? "," : "", config->primaries[i].name);
    fclose(listens);
    fclose(primaries);
    log_record_text(line, "listen", texts[0]);
    log_record_text(line, "primary", texts[1]);
    free(texts[0]);
    free(texts[1]);
}

/* idle-timeout is idle_timeout, as members of lines are spelled. */
static void describe_setting(const struct option *option, const char *name, const void *base,
                             struct log_record *line)
{
    if (value_is_default(option, base))
        return;
    char *text = value_text(option, base);
    char *key = xstrdup(name);

    for (char *dash = strchr(key, '-'); dash != NULL; dash = strchr(dash, '-'))
        *dash = '_';
    log_record_text(line, key, text);
    free(key);
    free(text);
}

static void describe_shadow(const struct shadow_config *shadow, struct log_record *line)
{
    const struct option *option;

    log_record_item(line);
    log_record_text(line, "name", shadow->name);
    log_record_text(line, "address", shadow->target.name);
    for (size_t i = 0; (option = option_at(i)) != NULL; i++)
        if (option->scope == SCOPE_SHADOW)
            describe_setting(option, option->key, shadow, line);
        else if (option->scope == SCOPE_TARGET)
            describe_setting(option, option->key, &shadow->target, line);
}

static void describe_shadows(const struct config *config, struct log_record *line)
{
    uint64_t omitted = 0;

    log_record_list(line, "shadows");
    for (size_t i = 0; i < config->shadow_count; i++) {
        describe_shadow(&config->shadows[i], line);
        omitted += !log_record_item_fits(line);
    }
    log_record_list_end(line);
    if (omitted > 0)
        log_record_number(line, "shadows_omitted", omitted);
}

void config_describe(const struct config *config, struct log_record *line)
{
    const struct option *option;

    describe_addresses(config, line);
    for (size_t i = 0; (option = option_at(i)) != NULL; i++)
        if (option->scope == SCOPE_GLOBAL && !option_is_addresses(option))
            describe_setting(option, option->name, config, line);
    describe_shadows(config, line);
}
