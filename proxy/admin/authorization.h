/*
 * authorization.h — who may ask the admin endpoint, and who may change something there.
 *
 *     any request over TCP   Host: an IP address, localhost or --admin-host; Origin: absent, or Host
 *     GET of an open page    Host: any, because scrapers and probes are told names
 *     POST over TCP          Authorization: Bearer TOKEN, as --admin-token-file has it
 *     over a unix socket     whoever may open it may do all
 *
 * Knows no connection and no HTTP library: it is given the headers, as they came from the network.
 */
#ifndef ADMIN_AUTHORIZATION_H
#define ADMIN_AUTHORIZATION_H

#include <stdbool.h>
#include <stddef.h>

struct fault;

#define TOKEN_MAX 4096 /* bytes */

struct token {
    size_t length;      /* 0: there is none, and nobody has it */
    char   text[TOKEN_MAX];
};

/* Reads the file's only line; NULL: no token.  False: the file cannot be read, is empty or longer
 * than TOKEN_MAX, or holds what cannot stand in a header. */
bool token_read(struct token *, const char *file, struct fault *);
/* Warns if others may read or change the file; NULL is fine. */
void token_warn(const char *file);

/* The headers' values; NULL: the request has none. */
struct credentials {
    const char *host;
    const char *origin;
    const char *authorization;
};

/* A name that an attacker's server resolves to us makes a browser send us its page's requests (DNS
 * rebinding); another page's request carries its origin.  NULL: it may ask; else a sentence that
 * says why not.  admin_host may be NULL. */
const char *authorization_refuses(const struct credentials *, const char *admin_host);
/* The same for pages that are nobody's secret, under whatever name. */
const char *authorization_refuses_origin(const struct credentials *);
/* True: it carries the token.  Takes as long for any wrong one. */
bool authorization_has_token(const struct credentials *, const struct token *);

#endif
