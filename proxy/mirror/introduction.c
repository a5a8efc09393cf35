/*
 * introduction.c — wanted or not, believed or not, and complete.
 */
#include "introduction.h"

#include "base/network.h"
#include "config/config.h"
#include "tls/tls.h"
#include "transport/transport.h"

bool introduction_is_wanted(const struct config *config, const struct listen_config *listener)
{
    bool wanted = listener->accept_proxy;

    for (size_t i = 0; i < config->primary_count; i++)
        wanted |= config->primaries[i].proxy != PROXY_OFF;
    for (size_t i = 0; i < config->shadow_count; i++)
        wanted |= config->shadows[i].target.proxy != PROXY_OFF;
    return wanted;
}

bool introduction_is_believed(const struct config *config, const struct address *peer)
{
    const struct network_list *trusted = &config->proxy_trust;

    return peer->any.sa_family == AF_UNIX || /* its file's mode has let it in */
           networks_contain(trusted->networks, trusted->count, peer);
}

void introduction_complete(struct introduction *introduction, const struct mirror *mirror,
                           const struct listen_config *listener, uint64_t number,
                           const struct transport *client)
{
    if (introduction->header.source.length == 0) {
        transport_peer(client, &introduction->header.source);
        transport_destination(client, &introduction->header.destination);
        if (introduction->header.destination.length == 0) /* on a unix socket */
            transport_local(client, &introduction->header.destination);
    }
    session_name(mirror, number, introduction->name);
    introduction->marks.session = session_id(introduction->name);
    introduction->marks.listener = listener->name;
    if (transport_tls(client) != NULL)
        introduction->marks.tls = tls_facts(transport_tls(client));
}
