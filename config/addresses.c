/*
 * addresses.c — lists of addresses, read: each item's name, address and query.
 *
 * An item is cut (config/tokens.h) in this order: at the commas, at the first ?, at the first = of
 * what is before it, at the & of the query.  Escapes are undone last, in each part by itself, so
 * that they protect everything.
 */
#include "config/addresses.h"

#include <ctype.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/fault.h"
#include "base/network.h"
#include "config/config.h"
#include "config/options.h"
#include "config/tokens.h"
#include "config/value.h"

#define NAME_LENGTH 32
#define MODE_UNSAID UINT_MAX
#define QUOTED      "\"%.120s\""

struct item {
    char *name; /* NULL: none was written */
    char *address;
    char *query; /* NULL: none was written */
};

/* ---- one address */

static bool is_unix(const char *text) { return strncasecmp(text, "unix:", strlen("unix:")) == 0; }

bool addresses_read_endpoint(struct endpoint *endpoint, const char *text, enum endpoint_use use,
                             struct fault *fault)
{
    char *address = xstrdup(text);
    bool fine = (!is_unix(text) || tokens_unescape(address, fault)) &&
                endpoint_parse(endpoint, address, use, fault);

    free(address);
    return fine;
}

/* ---- one item */

/* A comma that was meant otherwise makes an item that nobody understands. */
static bool blame_comma(const struct item *before, const struct item *item, struct fault *fault)
{
    const struct fault why = *fault;

    if (before->address == NULL || item->name != NULL || item->query != NULL)
        return false;
    if (before->query != NULL)
        return fault_set(fault, "%s; inside a query + separates, not a comma", why.text);
    if (is_unix(before->address))
        return fault_set(fault, "%s; a comma in a path is written %%2C", why.text);
    return false;
}

static struct item cut_item(char *text)
{
    struct item item = { .address = text };

    item.query = strchr(text, '?');
    if (item.query != NULL)
        *item.query++ = '\0';
    char *equals = strchr(text, '=');
    /* An = behind one of these is part of a path. */
    if (equals != NULL && strcspn(text, ":/[") > (size_t)(equals - text)) {
        *equals = '\0';
        item.name = tokens_trim(text);
        item.address = equals + 1;
    }
    item.address = tokens_trim(item.address);
    return item;
}

static bool is_good_name(const char *name, struct fault *fault)
{
    size_t length = strlen(name);
    size_t good = 0;

    while (
        isascii((unsigned char)name[good]) &&
        (isalnum((unsigned char)name[good]) || (name[good] != '\0' && strchr("-_.", name[good]))))
        good++;
    if (length == 0 || length > NAME_LENGTH || good != length)
        return fault_set(fault, QUOTED " is no name; write 1 to %d letters, digits, - _ or .", name,
                         NAME_LENGTH);
    return true;
}

/* What logs call an address: what was written, but a path always in one spelling, so that it can
 * stand in a file. */
static char *label_of(const struct item *item, const struct endpoint *endpoint)
{
    if (item->name != NULL)
        return xstrdup(item->name);
    return endpoint->kind == ENDPOINT_UNIX ? addresses_of_path(endpoint->host)
                                           : xstrdup(item->address);
}

/* Whose option it is; NULL: nobody's. */
static const char *owner_of(const char *key)
{
    if (option_find(PLACE_SHADOW_QUERY, key) != NULL)
        return option_find(PLACE_PRIMARY_QUERY, key) != NULL ? "targets" : "shadows";
    if (option_find(PLACE_PRIMARY_QUERY, key) != NULL)
        return "primaries";
    return option_find(PLACE_LISTEN_QUERY, key) != NULL ? "listeners" : NULL;
}

/* What stands behind an address, while it is read. */
struct query {
    const char       *address; /* for sentences */
    enum option_place place;
    void             *base;    /* the struct that the place's options fill */
    bool              seen[OPTION_ROOM];
};

static bool refuse_key(const struct query *query, const char *key, struct fault *fault)
{
    const char *address = query->address;

    if (option_is_withheld(query->place, key))
        return fault_set(fault, "option " QUOTED " of " QUOTED " is not in this version", key,
                         address);
    const char *owner = owner_of(key);
    if (owner != NULL)
        return fault_set(fault, "option " QUOTED " of " QUOTED " is for %s only; leave it out", key,
                         address, owner);
    const struct option *global = option_find(PLACE_FILE, key);
    if (global != NULL && global->key == NULL)
        return fault_set(fault, "option " QUOTED " of " QUOTED " is said for all; write --%s", key,
                         address, key);
    const char *nearest = option_nearest(query->place, key);
    if (nearest != NULL)
        return fault_set(fault, "unknown option " QUOTED " of " QUOTED "; did you mean \"%s\"?",
                         key, address, nearest);
    return fault_set(fault, "unknown option " QUOTED " of " QUOTED "; leave it out%s", key, address,
                     is_unix(address) ? ", or write %3F for a ? in a path" : "");
}

/* In a query + separates the items of a list. */
static bool set_option(const struct query *query, const struct option *option, char *value,
                       struct fault *fault)
{
    bool  is_inside = option->scope == SCOPE_TARGET && query->place == PLACE_SHADOW_QUERY;
    void *base = is_inside ? &((struct shadow_config *)query->base)->target : query->base;

    for (char *c = value; option_is_list(option) && *c != '\0'; c++)
        if (*c == '+')
            *c = ',';
    return tokens_unescape(value, fault) && value_set(option, base, value, fault);
}

static bool read_pair(struct query *query, char *pair, struct fault *fault)
{
    struct fault why;
    char *value = strchr(pair, '=');

    if (value != NULL)
        *value++ = '\0';
    const struct option *option = option_find(query->place, pair);
    if (pair[0] == '\0')
        return fault_set(fault, "an option of " QUOTED " is empty; leave out a ? or &",
                         query->address);
    if (option == NULL)
        return refuse_key(query, pair, fault);
    if (value == NULL)
        return fault_set(fault, "%s of " QUOTED " has no value; write %s=%s", pair, query->address,
                         pair, option->metavar);
    if (query->seen[option_index(option)])
        return fault_set(fault, "%s of " QUOTED " is said twice; leave one", pair, query->address);
    query->seen[option_index(option)] = true;
    return set_option(query, option, value, &why) ||
           fault_set(fault, "%s of " QUOTED ": %s", pair, query->address, why.text);
}

static bool read_query(const struct item *item, enum option_place place, void *base,
                       struct fault *fault)
{
    struct query query = { .address = item->address, .place = place, .base = base };
    char *rest = item->query;
    char *pair;

    while ((pair = tokens_next(&rest, "&")) != NULL)
        if (!read_pair(&query, pair, fault))
            return false;
    return true;
}

/* ---- targets */

static void set_target_defaults(struct target_config *target)
{
    const struct option *option;

    for (size_t i = 0; (option = option_at(i)) != NULL; i++)
        if (option->scope == SCOPE_TARGET)
            value_set(option, target, option->preset, NULL);
}

static void free_target(struct target_config *target)
{
    const struct option *option;

    for (size_t i = 0; (option = option_at(i)) != NULL; i++)
        if (option->scope == SCOPE_TARGET)
            value_free(option, target);
    free(target->name);
}

/* ---- lists */

/* Only a unix socket has a mode. */
static bool settle_mode(struct listen_config *listen, const struct item *item, struct fault *fault)
{
    const struct option *mode = option_find(PLACE_LISTEN_QUERY, "mode");

    if (listen->mode == MODE_UNSAID)
        return value_set(mode, listen, mode->preset, fault);
    if (listen->endpoint.kind == ENDPOINT_UNIX)
        return true;
    return fault_set(fault, "mode of " QUOTED " is for unix sockets only; leave it out",
                     item->address);
}

/* What the items of a list are added to. */
struct addition {
    struct config              *config;
    const struct shadow_config *defaults; /* shadows only */
};

static bool add_listen(const struct addition *to, const struct item *item, struct fault *fault)
{
    struct config *config = to->config;
    struct listen_config listen = { .mode = MODE_UNSAID };

    if (config->listen_count == CONFIG_MAX_LISTENS)
        return fault_set(fault, "more than %d listeners; leave some out", CONFIG_MAX_LISTENS);
    if (item->name != NULL && !is_good_name(item->name, fault))
        return false;
    if (!addresses_read_endpoint(&listen.endpoint, item->address, ENDPOINT_LISTEN, fault))
        return false;
    if (!read_query(item, PLACE_LISTEN_QUERY, &listen, fault) || !settle_mode(&listen, item, fault))
        return false;
    listen.name = label_of(item, &listen.endpoint);
    config->listens = xwidened(config->listens, config->listen_count, sizeof listen);
    config->listens[config->listen_count++] = listen;
    return true;
}

static bool add_primary(const struct addition *to, const struct item *item, struct fault *fault)
{
    struct config *config = to->config;
    struct target_config primary = { 0 };

    if (config->primary_count == CONFIG_MAX_PRIMARIES)
        return fault_set(fault, "more than %d primaries; leave some out", CONFIG_MAX_PRIMARIES);
    if (item->name != NULL && !is_good_name(item->name, fault))
        return false;
    set_target_defaults(&primary);
    if (!addresses_read_endpoint(&primary.endpoint, item->address, ENDPOINT_PRIMARY, fault) ||
        !read_query(item, PLACE_PRIMARY_QUERY, &primary, fault)) {
        free_target(&primary);
        return false;
    }
    primary.name = label_of(item, &primary.endpoint);
    config->primaries = xwidened(config->primaries, config->primary_count, sizeof primary);
    config->primaries[config->primary_count++] = primary;
    return true;
}

static bool name_is_free(const struct config *config, const char *name, struct fault *fault)
{
    for (size_t i = 0; i < config->shadow_count; i++)
        if (strcmp(config->shadows[i].name, name) == 0)
            return fault_set(fault, "two shadows are called \"%s\"; give one another name", name);
    return true;
}

static void copy_networks(struct network_list *list)
{
    struct network *copy = xcalloc(list->count + 1, sizeof copy[0]);

    if (list->count > 0)
        memcpy(copy, list->networks, list->count * sizeof copy[0]);
    list->networks = copy;
}

struct shadow_config *addresses_add_section(struct config *config,
                                            const struct shadow_config *defaults, const char *name,
                                            struct fault *fault)
{
    if (config->shadow_count == CONFIG_MAX_SHADOWS) {
        fault_set(fault, "more than %d shadows; leave some out", CONFIG_MAX_SHADOWS);
        return NULL;
    }
    if (!is_good_name(name, fault) || !name_is_free(config, name, fault))
        return NULL;
    config->shadows = xwidened(config->shadows, config->shadow_count, sizeof config->shadows[0]);
    struct shadow_config *shadow = &config->shadows[config->shadow_count++];
    *shadow = *defaults;
    copy_networks(&shadow->from);
    shadow->name = xstrdup(name);
    shadow->target = (struct target_config){ .source = defaults->target.source,
                                             .proxy = defaults->target.proxy };
    set_target_defaults(&shadow->target);
    return shadow;
}

static bool add_shadow(const struct addition *to, const struct item *item, struct fault *fault)
{
    struct config *config = to->config;
    char position[NAME_LENGTH];

    snprintf(position, sizeof position, "shadow%zu", config->shadow_count);
    const char *name = item->name != NULL ? item->name : position;
    struct shadow_config *shadow = addresses_add_section(config, to->defaults, name, fault);
    if (shadow == NULL)
        return false;
    const struct item nameless = { .address = item->address };
    if (!addresses_read_endpoint(&shadow->target.endpoint, item->address, ENDPOINT_CONNECT,
                                 fault) ||
        !read_query(item, PLACE_SHADOW_QUERY, shadow, fault))
        return false;
    shadow->target.name = label_of(&nameless, &shadow->target.endpoint);
    return true;
}

bool addresses_set_target(struct target_config *target, const char *text, struct fault *fault)
{
    char *copy = xstrdup(text);
    const struct item item = cut_item(copy);
    bool fine = item.name == NULL && item.query == NULL && strchr(item.address, ',') == NULL;

    if (!fine)
        fault_set(fault,
                  QUOTED " is not one plain address; its name and options are lines of the section",
                  text);
    else
        fine = addresses_read_endpoint(&target->endpoint, item.address, ENDPOINT_CONNECT, fault);
    free(target->name);
    target->name = fine ? label_of(&item, &target->endpoint) : NULL;
    free(copy);
    return fine;
}

typedef bool add_item(const struct addition *, const struct item *, struct fault *);

static bool add_each(const struct addition *to, add_item *add, const char *list,
                     struct fault *fault)
{
    char *copy = xstrdup(list);
    struct item before = { 0 };
    char *text;
    bool fine = true;

    for (char *rest = copy; fine && (text = tokens_next(&rest, ",")) != NULL;) {
        const struct item item = cut_item(text);
        fine = add(to, &item, fault) || blame_comma(&before, &item, fault);
        before = item;
    }
    free(copy);
    return fine;
}

bool addresses_add_listens(struct config *config, const char *list, struct fault *fault)
{
    const struct addition to = { .config = config };

    return add_each(&to, add_listen, list, fault);
}

bool addresses_add_primaries(struct config *config, const char *list, struct fault *fault)
{
    const struct addition to = { .config = config };

    return add_each(&to, add_primary, list, fault);
}

bool addresses_add_shadows(struct config *config, const struct shadow_config *defaults,
                           const char *list, struct fault *fault)
{
    const struct addition to = { config, defaults };
    bool none = list[strspn(list, " \t")] == '\0';

    return none || add_each(&to, add_shadow, list, fault);
}

void addresses_free_listens(struct config *config)
{
    for (size_t i = 0; i < config->listen_count; i++)
        free(config->listens[i].name);
    free(config->listens);
    config->listens = NULL;
    config->listen_count = 0;
}

void addresses_free_primaries(struct config *config)
{
    for (size_t i = 0; i < config->primary_count; i++)
        free_target(&config->primaries[i]);
    free(config->primaries);
    config->primaries = NULL;
    config->primary_count = 0;
}

void addresses_free_shadows(struct config *config)
{
    for (size_t i = 0; i < config->shadow_count; i++) {
        free(config->shadows[i].name);
        free_target(&config->shadows[i].target);
        free(config->shadows[i].from.networks);
    }
    free(config->shadows);
    config->shadows = NULL;
    config->shadow_count = 0;
}
