/*
 * servers.c — name servers as one line of text, which is what c-ares takes and what can be compared.
 *
 * A resolv.conf is read again and again, because containers get a new one while they run: it is
 * edited in place, so that only its content tells.
 */
#include "dns/servers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/files.h"
#include "config/config.h"

/* "fe80::2%eth0" or "[fe80::2%eth0]:53" */
static void note_zone(struct servers *servers, const char *server)
{
    char host[HOST_TEXT];
    const char *from = server + (*server == '[');

    snprintf(host, sizeof host, "%.*s", (int)strcspn(from, "]"), from);
    if (strchr(host, '%') != NULL && servers->zoned_count < SERVERS_ZONED &&
        address_parse(&servers->zoned[servers->zoned_count], host, 0))
        servers->zoned_count++;
}

static void add_server(struct servers *servers, const char *server)
{
    size_t length = strlen(servers->text);

    if (length + strlen(server) + 2 > sizeof servers->text)
        return;
    snprintf(servers->text + length, sizeof servers->text - length, "%s%s", length > 0 ? "," : "",
             server);
    servers->count++;
    note_zone(servers, server);
}

void servers_set(struct servers *servers, const struct address_list *list)
{
    char text[ADDRESS_TEXT];

    *servers = (struct servers){ .count = 0 };
    search_clear(&servers->search);
    for (size_t i = 0; i < list->count; i++) {
        address_print(&list->addresses[i], text);
        add_server(servers, text);
    }
}

bool servers_read(struct servers *servers, const char *path)
{
    char *line = NULL;
    size_t room = 0;
    char server[100];
    FILE *file = files_open_now(path);

    *servers = (struct servers){ .count = 0 };
    search_clear(&servers->search);
    if (file == NULL)
        return false;
    while (getline(&line, &room, file) >= 0) {
        if (sscanf(line, " nameserver %99s", server) == 1)
            add_server(servers, server);
        search_read_line(&servers->search, line);
    }
    search_read_environment(&servers->search);
    free(line);
    fclose(file);
    return true;
}

void servers_write(const struct servers *servers, bool zones, char text[SERVERS_TEXT])
{
    const char *zone = "";
    size_t zone_length = 0;

    for (const char *from = servers->text;; from++) {
        if (*from == '%') {
            zone = from;
            zone_length = strcspn(from, "],");
            from += zone_length;
        }
        if (*from == ',' || *from == '\0') {
            text = mempcpy(text, zone, zones ? zone_length : 0);
            zone_length = 0;
        }
        *text++ = *from;
        if (*from == '\0')
            return;
    }
}

void servers_set_zone(const struct servers *servers, struct address *server)
{
    for (size_t i = 0; i < servers->zoned_count; i++) {
        struct address zoneless = servers->zoned[i];

        zoneless.v6.sin6_scope_id = 0;
        if (address_same_host(&zoneless, server)) {
            server->v6.sin6_scope_id = servers->zoned[i].v6.sin6_scope_id;
            return;
        }
    }
}

bool servers_are_equal(const struct servers *one, const struct servers *other)
{
    return strcmp(one->text, other->text) == 0 && search_equal(&one->search, &other->search);
}
