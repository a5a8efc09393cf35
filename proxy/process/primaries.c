/*
 * primaries.c — each primary by itself; a name when it has been answered.
 */
#include "process/primaries.h"

#include <stddef.h>
#include <stdio.h>

#include "base/address.h"
#include "base/host.h"
#include "base/log.h"
#include "config/config.h"
#include "dial/reach.h"
#include "dns/dns_cache.h"

/* Every address is out of reach: says so of the last. */
static void look_at(const struct target_config *primary, struct address *addresses, size_t count)
{
    const char *obstacle = NULL;
    char        text[ADDRESS_TEXT];

    for (size_t i = 0; i < count; i++) {
        address_set_port(&addresses[i], primary->endpoint.port);
        obstacle = reach_obstacle(&addresses[i]);
        if (obstacle == NULL)
            return;
    }
    if (count == 0)
        return;
    address_print(&addresses[count - 1], text);
    log_warning("supervisor", "primary_unreachable", "primary=%s address=%s why=%s", primary->name,
                text, obstacle);
}

/* A name that does not resolve is said by the cache itself. */
static void on_name(void *owner, const struct dns_answer *answer)
{
    const struct target_config *primary = owner;
    struct address              addresses[DNS_ADDRESSES];

    for (size_t i = 0; i < answer->count; i++)
        addresses[i] = answer->addresses[i];
    look_at(primary, addresses, answer->count);
}

static void ask(struct target_config *primary, struct dns_cache *cache)
{
    struct dns_answer answer;
    char               name[HOST_TEXT + 1];

    snprintf(name, sizeof name, "%s%s", primary->endpoint.host,
             primary->endpoint.is_complete ? "." : "");
    if (dns_cache_find(cache, name, &answer))
        on_name(primary, &answer);
    else
        dns_cache_wait(cache, name, on_name, primary);
}

void primaries_look(const struct config *config, struct dns_cache *cache)
{
    for (size_t i = 0; i < config->primary_count; i++) {
        struct target_config *primary = &config->primaries[i];
        struct address        known[2];
        size_t                count = endpoint_known_addresses(&primary->endpoint, known);

        if (count > 0)
            look_at(primary, known, count);
        else if (primary->endpoint.kind == ENDPOINT_TCP)
            ask(primary, cache);
    }
}
