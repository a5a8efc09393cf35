/*
 * addresses.h — lists of addresses with names and options, as operators write them.
 *
 *     canary=tcp://stage:8443?sample=10&buffer=1m , [2001:db8::2]:82 , unix:/run/app.sock?mode=0660
 *     name   address          query
 *
 * In a query + separates what is itself a list.  %XX stands for a byte in a query and in the path
 * of a unix socket, where , ? & + and % need it.
 */
#ifndef CONFIG_ADDRESSES_H
#define CONFIG_ADDRESSES_H

#include <stdbool.h>
#include <stdio.h>

#include "base/address.h"

struct config;
struct fault;
struct listen_config;
struct shadow_config;
struct target_config;

/* Each adds a whole list to the configuration.  False: the fault says what is wrong and what would
 * be right, but not where it was said. */
bool addresses_add_listens(struct config *, const char *list, struct fault *);
bool addresses_add_primaries(struct config *, const char *list, struct fault *);
/* What an address's query does not say comes from the defaults. */
bool addresses_add_shadows(struct config *, const struct shadow_config *defaults, const char *list,
                           struct fault *);

/* The shadow of a [shadow NAME] section, without an address yet; the configuration owns it and the
 * pointer lives until the next shadow is added.  NULL: the fault says why. */
struct shadow_config *addresses_add_section(struct config *, const struct shadow_config *defaults,
                                            const char *name, struct fault *);
/* The address key of such a section: neither name nor query. */
bool addresses_set_target(struct target_config *, const char *text, struct fault *);

/* One address without name and query; the path of a unix socket may have escapes.  False: the fault
 * says what is wrong with it and what would be right. */
bool addresses_read_endpoint(struct endpoint *, const char *text, enum endpoint_use,
                             struct fault *);

void addresses_free_listens(struct config *);
void addresses_free_primaries(struct config *);
void addresses_free_shadows(struct config *);

/* Text for a file that reads back as the same address. */
void addresses_print_listen(const struct listen_config *, FILE *);
/* Without its query, which is said in other lines of the section. */
void addresses_print_target(const struct target_config *, FILE *);
/* The same with its query. */
void addresses_print_primary(const struct target_config *, FILE *);
void addresses_print(const struct endpoint *, FILE *);

/* "unix:" and this path with escapes; the caller frees it. */
char *addresses_of_path(const char *path);

#endif
