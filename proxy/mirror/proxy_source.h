/*
 * proxy_source.h — where a session's client comes from, as PROXY headers tell it.
 *
 *     header that came in ──┬─▶ proxy_source ──▶ headers for primary and shadows
 *     or the client's socket ───┘
 */
#ifndef MIRROR_PROXY_SOURCE_H
#define MIRROR_PROXY_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "mirror/mirror.h"
#include "proxyproto/proxyproto.h"

struct config;
struct listen_config;
struct transport;

struct proxy_source {
    struct proxy_header header;
    struct proxy_marks  marks; /* for shadows */
    char                name[SESSION_NAME];
};

/* Whether sessions of this listener read a header or write one. */
bool proxy_source_is_wanted(const struct config *, const struct listen_config *);
/* Whether this peer's word is taken for who its client is. */
bool proxy_source_is_trusted(const struct config *, const struct address *peer);
/* The client's transport is open: what no header has told, its socket says. */
void proxy_source_complete(struct proxy_source *, const struct mirror *,
                           const struct listen_config *, uint64_t number,
                           const struct transport *client);

#endif
