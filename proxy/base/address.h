/*
 * address.h — where to listen and where to connect: the address grammar, and socket addresses.
 *
 *     PORT  :PORT  *:PORT   (listen only)      endpoint    what an operator wrote
 *     HOST:PORT  [V6]:PORT  tcp://HOST:PORT       │ names are resolved elsewhere
 *     tls://HOST:PORT  unix:/path                 ▼
 *     original-dst          (primary only)     address     what a socket call takes
 *
 * A v4-mapped IPv6 address (::ffff:10.0.0.9) is the IPv4 address everywhere.
 */
#ifndef BASE_ADDRESS_H
#define BASE_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/host.h"

struct fault;

enum endpoint_kind {
    ENDPOINT_TCP,
    ENDPOINT_UNIX,
    ENDPOINT_ORIGINAL, /* original-dst: where the client was going */
};

enum endpoint_use {
    ENDPOINT_LISTEN,
    ENDPOINT_CONNECT,
    ENDPOINT_PRIMARY, /* to connect as well; here alone original-dst is understood */
};

struct endpoint {
    enum endpoint_kind kind;
    uint16_t           port;      /* TCP; 0 only to listen: the kernel chooses */
    bool               tls;       /* tls:// was in front */
    bool               is_complete; /* the name had a final dot: no search list applies */
    char host[HOST_TEXT]; /* TCP: as base/host.h spells it, "" = every address; unix: the path */
};

/* Long enough for every text that endpoint_print() and address_print() make. */
#define ENDPOINT_TEXT 300
#define ADDRESS_TEXT  128

/* Reads one address of the grammar above, without name and query.  False: the fault says what is
 * wrong with it and what would be right. */
bool endpoint_parse(struct endpoint *, const char *text, enum endpoint_use, struct fault *);
/* The canonical text, which parses to the same endpoint. */
void endpoint_print(const struct endpoint *, char text[ENDPOINT_TEXT]);

struct address {
    socklen_t length; /* 0: unknown */
    union {
        struct sockaddr     any;
        struct sockaddr_in  v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un  local;
    };
};

/* A numeric IPv4 or IPv6 host (a zone as in fe80::1%eth0 is understood).  False: it is a name. */
bool address_parse(struct address *, const char *host, uint16_t port);
void address_of_path(struct address *, const char *path);
/* From what accept(2), getsockname(2) or a resolver gave; unmaps. */
void address_set(struct address *, const struct sockaddr *, socklen_t length);
/* "10.0.0.9:51312", "[2001:db8::1]:443", "unix:/path" ("unix:" where the peer has no name). */
void address_print(const struct address *, char text[ADDRESS_TEXT]);
/* The host alone: "10.0.0.9", "fe80::1%eth0"; IPv4 and IPv6 only. */
void address_print_host(const struct address *, char text[ADDRESS_TEXT]);
uint16_t address_port(const struct address *);             /* 0 for unix */
void     address_set_port(struct address *, uint16_t port);
bool     address_equal(const struct address *, const struct address *);      /* with the port */
bool     address_same_host(const struct address *, const struct address *);  /* without it */
bool     address_is_wildcard(const struct address *);
bool     address_is_loopback(const struct address *);

/* Numeric hosts, "localhost" and unix paths need no resolver: writes at most 2 addresses and answers
 * how many; 0: a name, or original-dst. */
size_t endpoint_known_addresses(const struct endpoint *, struct address addresses[2]);

#endif
