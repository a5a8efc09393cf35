/*
 * service_links.h — variables that Kubernetes sets in every container for a Service of our name.
 *
 *     Service doppel        DOPPEL_SERVICE_HOST, DOPPEL_PORT, DOPPEL_PORT_8080_TCP_ADDR, ...
 *     Service doppel-admin  DOPPEL_ADMIN_SERVICE_HOST, ...
 *
 * Source: "Accessing the Service" in Kubernetes' documentation; Docker's old links use the same names.
 */
#ifndef CONFIG_SERVICE_LINKS_H
#define CONFIG_SERVICE_LINKS_H

#include <stdbool.h>

/* Whether it looks like one of them: then nobody meant an option of ours. */
bool service_links_set(const char *variable, const char *value);

#endif
