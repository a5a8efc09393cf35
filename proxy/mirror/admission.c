/*
 * admission.c — the client's address is known, from its socket or from a PROXY header: what follows
 * from it is decided, once.
 */
#include "admission.h"

#include "base/address.h"
#include "base/network.h"
#include "config/config.h"
#include "mirror/mirror.h"
#include "mirror/proxy_source.h"
#include "mirror/session_log.h"
#include "mirror/session_parts.h"
#include "mirror/shadow.h"
#include "shared/page.h"
#include "shared/sources.h"
#include "transport/transport.h"

static bool is_allowed(const struct network_list *allow, const struct address *client)
{
    return allow->count == 0 || client->any.sa_family == AF_UNIX ||
           networks_contain(allow->networks, allow->count, client);
}

void admission_refuse(struct session *s, enum session_reason reason)
{
    session_remember(s, reason);
    s->request_is_over = s->response_is_over = true;
}

static bool enter_source(struct session *s, const struct address *client)
{
    struct mirror *mirror = s->mirror;

    if (mirror->sources == NULL)
        return true;
    enum source_entry entry = sources_enter(mirror->sources, mirror->sources_table, client,
                                            mirror->config->max_sessions_per_source);
    s->is_in_sources = entry == SOURCE_COUNTED;
    return entry != SOURCE_REFUSED;
}

bool admission_is_due(const struct session *s)
{
    return !s->is_admitted && (!s->listener->accept_proxy || transport_is_open(s->client));
}

void admission_decide(struct session *s, double now)
{
    struct mirror *mirror = s->mirror;
    struct address client;

    s->is_admitted = true;
    transport_peer(s->client, &client);
    session_log_begun(s);
    for (size_t i = 0; i < s->shadow_count; i++) {
        if (s->proxy_source != NULL && s->proxy_source->header.is_mirrored)
            shadow_filter(&s->shadows[i]);
        else
            shadow_choose(&s->shadows[i], &client, now);
    }
    if (!is_allowed(&mirror->config->allow, &client))
        admission_refuse(s, SESSION_DENIED);
    else if (!enter_source(s, &client))
        admission_refuse(s, SESSION_LIMIT);
    s->moved_at = now;
}

void admission_leave(struct session *s)
{
    struct address client;

    if (!s->is_in_sources)
        return;
    transport_peer(s->client, &client);
    sources_leave(s->mirror->sources, s->mirror->sources_table, &client);
}

bool admission_take_place(struct mirror *mirror, size_t max_sessions)
{
    return part_take(&mirror->page->clients_open, &mirror->slot->counts[COUNT_CLIENTS_OPEN],
                     max_sessions);
}

void admission_give_place_back(struct mirror *mirror)
{
    part_give_back(&mirror->page->clients_open, &mirror->slot->counts[COUNT_CLIENTS_OPEN]);
}
