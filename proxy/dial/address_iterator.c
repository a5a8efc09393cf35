/*
 * address_iterator.c — a list of addresses for one target at a time, which only grows while it lasts.
 */
#include "dial/address_iterator.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/host.h"
#include "dns/dns_cache.h"

#define NAME_ROOM (HOST_TEXT + 1) /* with a final dot */

static void on_name(void *, const struct dns_answer *);

void address_iterator_start(struct address_iterator *c, const struct address_iterator_terms *terms)
{
    *c = (struct address_iterator){ .terms = *terms };
}

void address_iterator_end(struct address_iterator *c)
{
    dns_wait_cancel(c->wait);
    free(c->addresses);
}

const struct address *address_iterator_address(const struct address_iterator *c)
{
    return &c->addresses[c->next - 1];
}

const struct target_config *address_iterator_target(const struct address_iterator *c)
{
    return &c->terms.targets[c->target - 1];
}

void address_iterator_back_off(struct address_iterator *c)
{
    backoff_add(&c->terms.settings->backoff, address_iterator_address(c), clock_now());
}

void address_iterator_mark_reachable(struct address_iterator *c)
{
    backoff_clear(&c->terms.settings->backoff, address_iterator_address(c));
}

static const struct endpoint *endpoint_of(const struct address_iterator *c)
{
    return &address_iterator_target(c)->endpoint;
}

static void fail(const struct address_iterator *c, enum failure failure, const char *why)
{
    c->terms.on_failure(c->terms.owner, failure, why);
}

static bool was_tried(const struct address_iterator *c, const struct address *address)
{
    for (size_t i = 0; i < c->count; i++) {
        if (address_equal(&c->addresses[i], address))
            return true;
    }
    return false;
}

/* Puts the addresses behind those of the same target that have been tried; a new target has none. */
static void add(struct address_iterator *c, const struct address *addresses, size_t count)
{
    struct address *wider = realloc(c->addresses, (c->count + count) * sizeof addresses[0]);
    size_t          tried = c->count;

    if (wider == NULL) {
        fail(c, FAILURE_NO_MEMORY, "no memory");
        return;
    }
    c->addresses = wider;
    for (size_t i = 0; i < count; i++) {
        struct address address = addresses[i];
        if (endpoint_of(c)->kind == ENDPOINT_TCP)
            address_set_port(&address, endpoint_of(c)->port);
        if (!was_tried(c, &address))
            c->addresses[c->count++] = address;
    }
    backoff_put_last(&c->terms.settings->backoff, &c->addresses[tried], c->count - tried,
                     clock_now());
}

static void take_answer(struct address_iterator *c, const struct dns_answer *answer)
{
    if (answer->count > 0)
        add(c, answer->addresses, answer->count);
    else
        fail(c, FAILURE_NAME, answer->why_not);
}

/* A newer answer without addresses says nothing about those that have failed. */
static void on_name(void *owner, const struct dns_answer *answer)
{
    struct address_iterator *c = owner;

    c->wait = NULL;
    if (answer->count > 0 || c->count == 0)
        take_answer(c, answer);
    c->terms.on_more(c->terms.owner);
}

/* As it was written, with the final dot that says that it is complete. */
static const char *name_of(const struct address_iterator *c, char name[NAME_ROOM])
{
    const struct endpoint *endpoint = endpoint_of(c);

    snprintf(name, NAME_ROOM, "%s%s", endpoint->host, endpoint->is_complete ? "." : "");
    return name;
}

static void wait_for_name(struct address_iterator *c)
{
    char name[NAME_ROOM];

    c->wait = dns_cache_wait(c->terms.settings->dns_cache, name_of(c, name), on_name, c);
}

/* What is known of the name serves; otherwise there is a wait. */
static void ask_name(struct address_iterator *c)
{
    struct dns_answer answer;
    char name[NAME_ROOM];

    if (!dns_cache_find(c->terms.settings->dns_cache, name_of(c, name), &answer)) {
        wait_for_name(c);
        if (c->wait == NULL)
            fail(c, FAILURE_NO_MEMORY, "no memory");
        return;
    }
    c->is_renewing = answer.renewing;
    take_answer(c, &answer);
}

/* All addresses have failed, but they were old: what is known now, or once the question is answered,
 * may be better.  Without memory to wait, their failure stays the reason. */
static void ask_again(struct address_iterator *c)
{
    struct dns_answer answer;
    char name[NAME_ROOM];

    c->is_renewing = false;
    if (!dns_cache_find(c->terms.settings->dns_cache, name_of(c, name), &answer) || answer.renewing)
        wait_for_name(c);
    else if (answer.count > 0)
        add(c, answer.addresses, answer.count);
}

/* "localhost" has both families, unless one of them is not wanted. */
static size_t known_addresses(const struct address_iterator *c, struct address known[2])
{
    size_t          count = endpoint_known_addresses(endpoint_of(c), known);
    enum dns_family family = c->terms.settings->family;

    if (count < 2 || family == DNS_ANY)
        return count;
    if (family == DNS_IPV6)
        known[0] = known[1];
    return 1;
}

/* The client came by a rule that we can look behind, or else by no address that we know. */
static void take_original(struct address_iterator *c)
{
    if (c->terms.original->length > 0)
        add(c, c->terms.original, 1);
    else
        fail(c, FAILURE_LOCAL, "where the client was going is not known");
}

/* Numeric and local targets have their addresses at once, names are asked for. */
static void begin_target(struct address_iterator *c)
{
    struct address known[2];

    c->target++;
    c->next = c->count = 0;
    c->is_renewing = false;
    size_t count = known_addresses(c, known);
    if (endpoint_of(c)->kind == ENDPOINT_ORIGINAL)
        take_original(c);
    else if (count > 0)
        add(c, known, count);
    else
        ask_name(c);
}

enum next_address address_iterator_next(struct address_iterator *c)
{
    while (c->wait == NULL) {
        if (c->next < c->count) {
            c->next++;
            return NEXT_ADDRESS_FOUND;
        }
        if (c->is_renewing)
            ask_again(c);
        else if (c->target < c->terms.target_count)
            begin_target(c);
        else
            return NEXT_ADDRESS_NONE;
    }
    return NEXT_ADDRESS_AWAITED;
}
