/*
 * addresses_print.c — addresses as text that reads back as the same: names, addresses and queries.
 */
#include "config/addresses.h"

#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/fault.h"
#include "config/config.h"
#include "config/options.h"
#include "config/tokens.h"
#include "config/value.h"

/* ---- one address */

static void print_path(const char *path, FILE *to)
{
    fputs("unix:", to);
    for (; *path != '\0'; path++)
        tokens_put_escaped(*path, to);
}

char *addresses_of_path(const char *path)
{
    char *text = NULL;
    size_t size;
    FILE *to = xmemstream(&text, &size);

    print_path(path, to);
    fclose(to);
    return text;
}

void addresses_print(const struct endpoint *endpoint, FILE *to)
{
    char text[ENDPOINT_TEXT];

    if (endpoint->kind == ENDPOINT_UNIX) {
        print_path(endpoint->host, to);
    } else {
        endpoint_print(endpoint, text);
        fputs(text, to);
    }
}

/* ---- with name and query */

/* This text is read as this very endpoint. */
static bool reads_as(const char *text, enum endpoint_use use, const struct endpoint *endpoint)
{
    struct endpoint read;

    return addresses_read_endpoint(&read, text, use, NULL) && read.kind == endpoint->kind &&
           read.port == endpoint->port && read.tls == endpoint->tls &&
           read.is_complete == endpoint->is_complete && strcmp(read.host, endpoint->host) == 0;
}

/* A label that is the address itself needs no name in front. */
static void print_labelled(const char *label, const struct endpoint *endpoint,
                           enum endpoint_use use, FILE *to)
{
    fputs(label, to);
    if (reads_as(label, use, endpoint))
        return;
    fputc('=', to);
    addresses_print(endpoint, to);
}

void addresses_print_listen(const struct listen_config *listen, FILE *to)
{
    bool is_unix_socket = listen->endpoint.kind == ENDPOINT_UNIX;

    print_labelled(listen->name, &listen->endpoint, ENDPOINT_LISTEN, to);
    if (is_unix_socket) {
        fputs("?mode=", to);
        value_print(option_find(PLACE_LISTEN_QUERY, "mode"), listen, to);
    }
    if (listen->accept_proxy)
        fprintf(to, "%caccept-proxy=on", is_unix_socket ? '&' : '?');
}

void addresses_print_target(const struct target_config *target, FILE *to)
{
    print_labelled(target->name, &target->endpoint, ENDPOINT_PRIMARY, to);
}

/* What would mean something else in a query; + separates the items of a list. */
static void print_value(const struct option *option, const char *value, FILE *to)
{
    for (; *value != '\0'; value++) {
        if (*value == ',' && option_is_list(option))
            fputc('+', to);
        else
            tokens_put_escaped(*value, to);
    }
}

/* Only what differs from the default. */
static bool print_option(const struct option *option, const struct target_config *target,
                         char separator, FILE *to)
{
    if (value_is_default(option, target))
        return false;
    char *value = value_text(option, target);
    fprintf(to, "%c%s=", separator, option->key);
    print_value(option, value, to);
    free(value);
    return true;
}

void addresses_print_primary(const struct target_config *target, FILE *to)
{
    const struct option *option;
    char separator = '?';

    addresses_print_target(target, to);
    for (size_t i = 0; (option = option_at(i)) != NULL; i++)
        if (option_name(option, PLACE_PRIMARY_QUERY) != NULL &&
            print_option(option, target, separator, to))
            separator = '&';
}
