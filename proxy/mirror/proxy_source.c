/*
 * proxy_source.c — wanted or not, believed or not, and complete.
 */
#include "proxy_source.h"

#include "base/network.h"
#include "config/config.h"
#include "tls/tls.h"
#include "transport/transport.h"

bool proxy_source_is_wanted(const struct config *config, const struct listen_config *listener)
{
    bool wanted = listener->accept_proxy;

    for (size_t i = 0; i < config->primary_count; i++)
        wanted |= config->primaries[i].proxy != PROXY_OFF;
    for (size_t i = 0; i < config->shadow_count; i++)
        wanted |= config->shadows[i].target.proxy != PROXY_OFF;
    return wanted;
}

bool proxy_source_is_trusted(const struct config *config, const struct address *peer)
{
    const struct network_list *trusted = &config->proxy_trust;

    return peer->any.sa_family == AF_UNIX || /* its file's mode has let it in */
           networks_contain(trusted->networks, trusted->count, peer);
}

void proxy_source_complete(struct proxy_source *proxy_source, const struct mirror *mirror,
                           const struct listen_config *listener, uint64_t number,
                           const struct transport *client)
{
    if (proxy_source->header.source.length == 0) {
        transport_peer(client, &proxy_source->header.source);
        transport_destination(client, &proxy_source->header.destination);
        if (proxy_source->header.destination.length == 0) /* on a unix socket */
            transport_local(client, &proxy_source->header.destination);
    }
    session_name(mirror, number, proxy_source->name);
    proxy_source->marks.session = session_id(proxy_source->name);
    proxy_source->marks.listener = listener->name;
    if (transport_tls(client) != NULL)
        proxy_source->marks.tls = tls_facts(transport_tls(client));
}
