/*
 * lists.c — values that are lists with commas: each item read, checked and put behind the others.
 */
#include "config/lists.h"

#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/fault.h"
#include "base/network.h"
#include "config/config.h"
#include "config/tokens.h"

#define MAX_NETWORKS 1024 /* each session looks at all of them */
#define MAX_TEXTS    256  /* certificates: each handshake looks at all of them */
#define MAX_SERVERS  8    /* each gets its share of --dns-timeout */
#define DNS_PORT      53
#define QUOTED        "\"%.120s\""

typedef bool add_item(void *list, const char *item, struct fault *fault);

static bool add_items(void *list, const char *text, const char *nothing, add_item *add,
                      struct fault *fault)
{
    char *item;
    bool fine = true;

    if (text[0] == '\0' || strcmp(text, nothing) == 0)
        return true;
    char *copy = xstrdup(text);
    for (char *rest = copy; fine && (item = tokens_next(&rest, ",")) != NULL;)
        fine = add(list, item, fault);
    free(copy);
    return fine;
}

static bool add_network(void *networks, const char *text, struct fault *fault)
{
    struct network_list *list = networks;
    struct network network;

    if (!network_parse(&network, text, fault))
        return false;
    if (list->count == MAX_NETWORKS)
        return fault_set(fault, "more than %d networks; write fewer, wider ones", MAX_NETWORKS);
    list->networks = xwidened(list->networks, list->count, sizeof network);
    list->networks[list->count++] = network;
    return true;
}

/* "10.0.0.2", "2001:db8::2", "10.0.0.2:54", "[2001:db8::2]:54" */
static bool parse_server(struct address *server, const char *text)
{
    struct endpoint endpoint;

    if (address_parse(server, text, DNS_PORT))
        return true;
    return endpoint_parse(&endpoint, text, ENDPOINT_CONNECT, NULL) &&
           endpoint.kind == ENDPOINT_TCP && !endpoint.tls &&
           address_parse(server, endpoint.host, endpoint.port);
}

static bool add_server(void *servers, const char *text, struct fault *fault)
{
    struct address_list *list = servers;
    struct address server;

    if (!parse_server(&server, text))
        return fault_set(fault, QUOTED " is no name server; write IP or IP:PORT, as in 10.0.0.2",
                         text);
    if (server.any.sa_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&server.v6.sin6_addr) &&
        server.v6.sin6_scope_id == 0)
        return fault_set(
            fault, QUOTED " is there on every link; name its interface, as in fe80::1%%eth0", text);
    if (list->count == MAX_SERVERS)
        return fault_set(fault, "more than %d name servers; write those that answer", MAX_SERVERS);
    list->addresses = xwidened(list->addresses, list->count, sizeof server);
    list->addresses[list->count++] = server;
    return true;
}

/* "10.0.0.9", "2001:db8::9": one of each family, because a connection has one. */
static bool add_source(void *sources, const char *text, struct fault *fault)
{
    struct source_addresses *both = sources;
    struct address source;

    if (!address_parse(&source, text, 0))
        return fault_set(
            fault, QUOTED " is no address of ours; write IP without a port, as in 10.0.0.9", text);
    if (address_is_wildcard(&source))
        return fault_set(fault, QUOTED " is every address; write one of ours, or auto", text);
    struct address *place = source.any.sa_family == AF_INET ? &both->v4 : &both->v6;
    if (place->length != 0)
        return fault_set(fault, QUOTED " is the second %s address; write one of each family", text,
                         source.any.sa_family == AF_INET ? "IPv4" : "IPv6");
    *place = source;
    return true;
}

bool lists_add_networks(struct network_list *list, const char *text, const char *nothing,
                        struct fault *fault)
{
    return add_items(list, text, nothing, add_network, fault);
}

bool lists_add_servers(struct address_list *list, const char *text, const char *nothing,
                       struct fault *fault)
{
    return add_items(list, text, nothing, add_server, fault);
}

bool lists_add_sources(struct source_addresses *sources, const char *text, const char *nothing,
                       struct fault *fault)
{
    return add_items(sources, text, nothing, add_source, fault);
}

bool lists_set_networks(struct network_list *list, const char *text, const char *nothing,
                        struct fault *fault)
{
    struct network_list fresh = { 0 };
    bool fine = lists_add_networks(&fresh, text, nothing, fault);

    free(fine ? list->networks : fresh.networks);
    if (fine)
        *list = fresh;
    return fine;
}

bool lists_set_servers(struct address_list *list, const char *text, const char *nothing,
                       struct fault *fault)
{
    struct address_list fresh = { 0 };
    bool fine = lists_add_servers(&fresh, text, nothing, fault);

    free(fine ? list->addresses : fresh.addresses);
    if (fine)
        *list = fresh;
    return fine;
}

bool lists_set_sources(struct source_addresses *sources, const char *text, const char *nothing,
                       struct fault *fault)
{
    struct source_addresses fresh = { 0 };
    bool fine = lists_add_sources(&fresh, text, nothing, fault);

    if (fine)
        *sources = fresh;
    return fine;
}

void lists_print_networks(const struct network_list *list, const char *nothing, FILE *to)
{
    char text[NETWORK_TEXT];

    if (list->count == 0)
        fputs(nothing, to);
    for (size_t i = 0; i < list->count; i++) {
        network_print(&list->networks[i], text);
        fprintf(to, "%s%s", i > 0 ? "," : "", text);
    }
}

void lists_print_servers(const struct address_list *list, const char *nothing, FILE *to)
{
    char text[ADDRESS_TEXT];

    if (list->count == 0)
        fputs(nothing, to);
    for (size_t i = 0; i < list->count; i++) {
        address_print(&list->addresses[i], text);
        fprintf(to, "%s%s", i > 0 ? "," : "", text);
    }
}

static bool add_text(void *texts, const char *text, struct fault *fault)
{
    struct text_list *list = texts;

    if (text[0] == '\0')
        return fault_set(fault, "an item of the list is empty; leave out a comma");
    if (list->count == MAX_TEXTS)
        return fault_set(fault, "more than %d items; leave some out", MAX_TEXTS);
    list->texts = xwidened(list->texts, list->count, sizeof list->texts[0]);
    list->texts[list->count++] = xstrdup(text);
    return true;
}

bool lists_add_texts(struct text_list *list, const char *text, const char *nothing,
                     struct fault *fault)
{
    return add_items(list, text, nothing, add_text, fault);
}

bool lists_set_texts(struct text_list *list, const char *text, const char *nothing,
                     struct fault *fault)
{
    struct text_list fresh = { 0 };
    bool fine = lists_add_texts(&fresh, text, nothing, fault);

    lists_free_texts(fine ? list : &fresh);
    if (fine)
        *list = fresh;
    return fine;
}

void lists_print_texts(const struct text_list *list, const char *nothing, FILE *to)
{
    if (list->count == 0)
        fputs(nothing, to);
    for (size_t i = 0; i < list->count; i++)
        fprintf(to, "%s%s", i > 0 ? "," : "", list->texts[i]);
}

void lists_free_texts(struct text_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->texts[i]);
    free(list->texts);
    *list = (struct text_list){ 0 };
}

void lists_print_sources(const struct source_addresses *sources, const char *nothing, FILE *to)
{
    const struct address *both[] = { &sources->v4, &sources->v6 };
    char text[ADDRESS_TEXT];
    bool is_first = true;

    for (size_t i = 0; i < 2; i++) {
        if (both[i]->length == 0)
            continue;
        address_print_host(both[i], text);
        fprintf(to, "%s%s", is_first ? "" : ",", text);
        is_first = false;
    }
    if (is_first)
        fputs(nothing, to);
}
