/*
 * loops.c — every target against every listener, as far as their addresses are known.
 */
#include "loops.h"

#include "base/address.h"
#include "base/fault.h"
#include "config/config.h"
#include "dial/own_listeners.h"

static bool listener_address(const struct endpoint *endpoint, struct address *address)
{
    struct address known[2];
    bool           everywhere = endpoint->kind == ENDPOINT_TCP && endpoint->host[0] == '\0';

    if (endpoint->kind == ENDPOINT_TCP && endpoint->port == 0)
        return false;
    if (everywhere)
        return address_parse(address, "::", endpoint->port);
    if (endpoint_known_addresses(endpoint, known) == 0)
        return false;
    *address = known[0];
    return true;
}

static bool check_target(const struct config *config, const char *flag,
                         const struct target_config *target, struct fault *fault)
{
    struct address known[2];
    size_t         count = endpoint_known_addresses(&target->endpoint, known);

    for (size_t i = 0; i < config->listen_count; i++) {
        struct address listener;

        if (!listener_address(&config->listens[i].endpoint, &listener))
            continue;
        for (size_t j = 0; j < count; j++) {
            if (address_is_own_listener(&known[j], &listener, 1))
                return fault_set(
                    fault,
                    "%s %s is our own listener %s: a loop; give another address, or --allow-loop",
                    flag, target->name, config->listens[i].name);
        }
    }
    return true;
}

bool loops_check(const struct config *config, struct fault *fault)
{
    if (config->allow_loop)
        return true;
    for (size_t i = 0; i < config->primary_count; i++) {
        if (!check_target(config, "--primary", &config->primaries[i], fault))
            return false;
    }
    for (size_t i = 0; i < config->shadow_count; i++) {
        if (!check_target(config, "--shadow", &config->shadows[i].target, fault))
            return false;
    }
    return true;
}
