/*
 * service_links.c — the names that a Service makes, as patterns.
 */
#include "config/service_links.h"

#include <fnmatch.h>
#include <stddef.h>
#include <string.h>

bool service_links_set(const char *variable, const char *value)
{
    static const char *const patterns[] = {
        "*_SERVICE_HOST",      "*_SERVICE_PORT",        "*_SERVICE_PORT_*",
        "*_PORT_[0-9]*_TCP",   "*_PORT_[0-9]*_TCP_*",   "*_PORT_[0-9]*_UDP",
        "*_PORT_[0-9]*_UDP_*", "*_PORT_[0-9]*_SCTP",    "*_PORT_[0-9]*_SCTP_*",
    };

    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++)
        if (fnmatch(patterns[i], variable, 0) == 0)
            return true;
    return fnmatch("*_PORT", variable, 0) == 0 && strstr(value, "://") != NULL;
}
