/*
 * conflicts.c — every listener against the others and the admin endpoint, every shadow against every
 * primary.
 *
 * A listener at one address beside one at every address is fine: the kernel gives a connection to
 * the socket that fits best, and to an IPv4 socket before a dual-stack one.  So [::]:80 beside
 * 0.0.0.0:80 gets IPv6 only.
 */
#include "config/conflicts.h"

#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/address.h"
#include "base/fault.h"
#include "base/host.h"
#include "config/config.h"

/* ---- paths */

/* Also where one is a link to the other, as far as both exist. */
static bool same_path(const char *a, const char *b)
{
    struct stat one;
    struct stat other;

    return strcmp(a, b) == 0 || (stat(a, &one) == 0 && stat(b, &other) == 0 &&
                                 one.st_dev == other.st_dev && one.st_ino == other.st_ino);
}

/* ---- where we listen */

static bool is_everywhere(const struct endpoint *endpoint)
{
    return endpoint->kind == ENDPOINT_TCP && endpoint->host[0] == '\0';
}

/* Where bind(2) puts it; every address is [::], which takes IPv4, too. */
static struct address place_of(const struct endpoint *endpoint)
{
    struct address known[2] = { { 0 } };

    if (is_everywhere(endpoint))
        address_parse(&known[0], "::", endpoint->port);
    else
        endpoint_known_addresses(endpoint, known); /* of localhost the first, as bind does */
    return known[0];
}

static bool is_port_of_both(const struct endpoint *a, const struct endpoint *b)
{
    return a->kind == ENDPOINT_TCP && b->kind == ENDPOINT_TCP && a->port == b->port && a->port != 0;
}

static bool same_place(const struct endpoint *a, const struct endpoint *b)
{
    if (a->kind == ENDPOINT_UNIX && b->kind == ENDPOINT_UNIX)
        return same_path(a->host, b->host);
    if (!is_port_of_both(a, b))
        return false;
    const struct address one = place_of(a);
    const struct address other = place_of(b);
    bool both_everywhere = address_is_wildcard(&one) && address_is_wildcard(&other);
    return address_equal(&one, &other) ||
           (both_everywhere && (is_everywhere(a) || is_everywhere(b)));
}

/* Nobody but the admin endpoint may have its address: it does not share ports. */
static bool overlap(const struct endpoint *a, const struct endpoint *b)
{
    if (!is_port_of_both(a, b))
        return same_place(a, b);
    const struct address one = place_of(a);
    const struct address other = place_of(b);
    bool same_family = one.any.sa_family == other.any.sa_family;
    bool first_takes = address_is_wildcard(&one) && (same_family || one.any.sa_family == AF_INET6);
    bool second_takes =
        address_is_wildcard(&other) && (same_family || other.any.sa_family == AF_INET6);
    return first_takes || second_takes || same_place(a, b);
}

static bool listeners_differ(const struct config *config, struct fault *fault)
{
    for (size_t i = 0; i < config->listen_count; i++)
        for (size_t k = 0; k < i; k++)
            if (same_place(&config->listens[i].endpoint, &config->listens[k].endpoint))
                return fault_set(fault,
                                 "--listen: \"%s\" and \"%s\" are the same address; "
                                 "leave one of them out",
                                 config->listens[k].name, config->listens[i].name);
    return true;
}

static bool admin_is_elsewhere(const struct config *config, struct fault *fault)
{
    for (size_t i = 0; config->admin_on && i < config->listen_count; i++)
        if (overlap(&config->listens[i].endpoint, &config->admin))
            return fault_set(fault, "--admin: \"%s\" is a listener's address; give it another one",
                             config->listens[i].name);
    return true;
}

/* ---- where we connect */

/* Connecting to every address reaches the loopback one. */
static bool same_address(const struct address *a, const struct address *b)
{
    return address_equal(a, b) || (address_is_wildcard(a) && address_is_loopback(b)) ||
           (address_is_loopback(a) && address_is_wildcard(b));
}

static bool share_an_address(const struct endpoint *a, const struct endpoint *b)
{
    struct address of_a[2];
    struct address of_b[2];
    size_t count_a = endpoint_known_addresses(a, of_a);
    size_t count_b = endpoint_known_addresses(b, of_b);

    for (size_t i = 0; i < count_a; i++)
        for (size_t k = 0; k < count_b; k++)
            if (same_address(&of_a[i], &of_b[k]))
                return true;
    return false;
}

/* Behind one address the name that is asked for (SNI) may choose between two servers. */
static bool asks_for_another(const struct target_config *a, const struct target_config *b)
{
    const char *one = a->sni != NULL ? a->sni : "";
    const char *other = b->sni != NULL ? b->sni : "";

    return a->endpoint.tls && b->endpoint.tls && strcasecmp(one, other) != 0;
}

static bool same_server(const struct target_config *a, const struct target_config *b)
{
    const struct endpoint *one = &a->endpoint;
    const struct endpoint *other = &b->endpoint;

    if (one->kind != other->kind || one->kind == ENDPOINT_ORIGINAL || asks_for_another(a, b))
        return false;
    if (one->kind == ENDPOINT_UNIX)
        return same_path(one->host, other->host);
    return one->port == other->port &&
           (host_equal(one->host, other->host) || share_an_address(one, other));
}

static bool shadows_are_elsewhere(const struct config *config, struct fault *fault)
{
    for (size_t i = 0; i < config->shadow_count; i++)
        for (size_t k = 0; k < config->primary_count; k++)
            if (same_server(&config->shadows[i].target, &config->primaries[k]))
                return fault_set(fault,
                                 "--shadow %s: %.200s is the primary, which would get every "
                                 "request twice; give another address, or --allow-loop",
                                 config->shadows[i].name, config->shadows[i].target.name);
    return true;
}

bool conflicts_check(const struct config *config, struct fault *fault)
{
    return listeners_differ(config, fault) && admin_is_elsewhere(config, fault) &&
           (config->allow_loop || shadows_are_elsewhere(config, fault));
}
