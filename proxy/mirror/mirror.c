/*
 * mirror.c — what sessions are called.
 */
#include "mirror/mirror.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char key[] = "session=";

void session_name(const struct mirror *mirror, uint64_t number, char name[SESSION_NAME])
{
    snprintf(name, SESSION_NAME, "%s%s-%" PRIx64, key, mirror->session_prefix, number);
}

const char *session_id(const char *name)
{
    return name + strlen(key);
}
