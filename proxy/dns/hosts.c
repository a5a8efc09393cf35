/*
 * hosts.c — reads the hosts file line by line.
 *
 * c-ares reads it too, but takes a family that is missing there as a reason to ask a server, and
 * can be told of another file only through the environment.
 */
#include "dns/hosts.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/files.h"

#define SYSTEM_HOSTS "/etc/hosts"
#define BLANKS       " \t\r\n"

/* The address of a line that has the name among its names; cuts the line into words. */
static bool line_names(char *line, const char *host, struct address *address)
{
    char *rest = NULL;

    line[strcspn(line, "#")] = '\0';
    const char *text = strtok_r(line, BLANKS, &rest);
    if (text == NULL)
        return false;
    for (const char *name; (name = strtok_r(NULL, BLANKS, &rest)) != NULL;) {
        if (host_equal(name, host))
            return address_parse(address, text, 0);
    }
    return false;
}

size_t hosts_find(const char *path, const char *host, struct address *addresses, size_t max)
{
    FILE *file = files_open_now(path != NULL ? path : SYSTEM_HOSTS);
    char *line = NULL;
    size_t room = 0;
    size_t count = 0;

    if (file == NULL)
        return 0;
    while (count < max && getline(&line, &room, file) >= 0)
        count += line_names(line, host, &addresses[count]);
    free(line);
    fclose(file);
    return count;
}
