/*
 * address.c — text to endpoints and addresses, and back.
 *
 * Hosts are kept in one spelling (base/host.h), so that two texts of the same one compare equal.
 * Nothing here asks the network; a zone's name asks the kernel.
 */
#include "base/address.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/fault.h"

#define HOST_SIZE   sizeof((struct endpoint *)NULL)->host
#define PATH_SIZE   sizeof((struct sockaddr_un *)NULL)->sun_path
#define ORIGINAL    "original-dst"
#define QUOTED      "\"%.120s\"" /* enough to recognise what was typed */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool starts_with(const char *text, const char *prefix)
{
    return strncasecmp(text, prefix, strlen(prefix)) == 0;
}

static bool has_control_characters(const char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            return true;
    return false;
}

/* ---- addresses */

/* The interface of fe80::1%eth0; a number is taken as it is.  0: there is none. */
static uint32_t zone_index(const char *zone)
{
    char *end;

    if (!is_digit(zone[0]))
        return if_nametoindex(zone);
    unsigned long index = strtoul(zone, &end, 10);
    return *end == '\0' && index <= UINT32_MAX ? (uint32_t)index : 0;
}

static void set_v4(struct address *address, const struct in_addr *host, uint16_t port)
{
    *address = (struct address){ .length = sizeof address->v4 };
    address->v4.sin_family = AF_INET;
    address->v4.sin_port = htons(port);
    address->v4.sin_addr = *host;
}

static void set_v6(struct address *address, const struct in6_addr *host, uint16_t port,
                   uint32_t zone)
{
    if (IN6_IS_ADDR_V4MAPPED(host)) {
        struct in_addr inner;
        memcpy(&inner, &host->s6_addr[12], sizeof inner);
        set_v4(address, &inner, port);
        return;
    }
    *address = (struct address){ .length = sizeof address->v6 };
    address->v6.sin6_family = AF_INET6;
    address->v6.sin6_port = htons(port);
    address->v6.sin6_addr = *host;
    address->v6.sin6_scope_id = zone;
}

bool address_parse(struct address *address, const char *host, uint16_t port)
{
    char bare[INET6_ADDRSTRLEN];
    struct in_addr v4;
    struct in6_addr v6;

    if (inet_pton(AF_INET, host, &v4) == 1) {
        set_v4(address, &v4, port);
        return true;
    }
    size_t length = strcspn(host, "%");
    if (length >= sizeof bare)
        return false;
    memcpy(bare, host, length);
    bare[length] = '\0';
    uint32_t zone = host[length] == '%' ? zone_index(host + length + 1) : 0;
    if (inet_pton(AF_INET6, bare, &v6) != 1 || (host[length] == '%' && zone == 0))
        return false;
    set_v6(address, &v6, port, zone);
    return true;
}

void address_of_path(struct address *address, const char *path)
{
    size_t length = strnlen(path, PATH_SIZE - 1);

    *address = (struct address){ 0 };
    address->local.sun_family = AF_UNIX;
    memcpy(address->local.sun_path, path, length);
    address->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
}

void address_set(struct address *address, const struct sockaddr *from, socklen_t length)
{
    struct address copy = { 0 };

    memcpy(&copy.any, from, length < sizeof copy.local ? length : sizeof copy.local);
    copy.length = length < sizeof copy.local ? length : sizeof copy.local;
    if (length >= sizeof copy.v6 && copy.any.sa_family == AF_INET6)
        set_v6(address, &copy.v6.sin6_addr, ntohs(copy.v6.sin6_port), copy.v6.sin6_scope_id);
    else
        *address = copy;
}

/* The host alone, as inet_ntop writes it, with its zone. */
static void print_host(const struct address *address, char *text, size_t size)
{
    char zone[IF_NAMESIZE];

    if (address->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &address->v4.sin_addr, text, (socklen_t)size);
        return;
    }
    inet_ntop(AF_INET6, &address->v6.sin6_addr, text, (socklen_t)size);
    size_t length = strlen(text);
    uint32_t index = address->v6.sin6_scope_id;
    if (index != 0 && if_indextoname(index, zone) != NULL)
        snprintf(text + length, size - length, "%%%s", zone);
    else if (index != 0)
        snprintf(text + length, size - length, "%%%u", index);
}

/* A peer without a name has none to show; an abstract name starts with a zero byte, shown as @. */
static void print_local(const struct address *address, char text[ADDRESS_TEXT])
{
    size_t start = offsetof(struct sockaddr_un, sun_path);
    size_t length = address->length > start ? address->length - start : 0;
    const char *path = address->local.sun_path;

    if (length > PATH_SIZE)
        length = PATH_SIZE;
    if (length > 0 && path[0] == '\0')
        snprintf(text, ADDRESS_TEXT, "unix:@%.*s", (int)(length - 1), path + 1);
    else
        snprintf(text, ADDRESS_TEXT, "unix:%.*s", (int)length, path);
}

void address_print(const struct address *address, char text[ADDRESS_TEXT])
{
    char host[ADDRESS_TEXT - 10]; /* leaves room for brackets, colon, port and the final zero */

    if (address->length == 0) {
        snprintf(text, ADDRESS_TEXT, "unknown");
    } else if (address->any.sa_family == AF_UNIX) {
        print_local(address, text);
    } else {
        print_host(address, host, sizeof host);
        const char *shape = address->any.sa_family == AF_INET6 ? "[%s]:%u" : "%s:%u";
        snprintf(text, ADDRESS_TEXT, shape, host, (unsigned)address_port(address));
    }
}

void address_print_host(const struct address *address, char text[ADDRESS_TEXT])
{
    print_host(address, text, ADDRESS_TEXT);
}

uint16_t address_port(const struct address *address)
{
    if (address->any.sa_family == AF_INET)
        return ntohs(address->v4.sin_port);
    return address->any.sa_family == AF_INET6 ? ntohs(address->v6.sin6_port) : 0;
}

void address_set_port(struct address *address, uint16_t port)
{
    if (address->any.sa_family == AF_INET)
        address->v4.sin_port = htons(port);
    else if (address->any.sa_family == AF_INET6)
        address->v6.sin6_port = htons(port);
}

bool address_equal(const struct address *a, const struct address *b)
{
    return address_same_host(a, b) && address_port(a) == address_port(b);
}

bool address_same_host(const struct address *a, const struct address *b)
{
    if (a->length == 0 || b->length == 0 || a->any.sa_family != b->any.sa_family)
        return false;
    if (a->any.sa_family == AF_INET)
        return a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
    if (a->any.sa_family == AF_INET6)
        return IN6_ARE_ADDR_EQUAL(&a->v6.sin6_addr, &b->v6.sin6_addr) &&
               a->v6.sin6_scope_id == b->v6.sin6_scope_id;
    /* What lies behind the length is zero, and an abstract name may hold zeros. */
    return memcmp(a->local.sun_path, b->local.sun_path, PATH_SIZE) == 0;
}

bool address_is_wildcard(const struct address *address)
{
    if (address->any.sa_family == AF_INET)
        return address->v4.sin_addr.s_addr == htonl(INADDR_ANY);
    return address->any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&address->v6.sin6_addr);
}

bool address_is_loopback(const struct address *address)
{
    if (address->any.sa_family == AF_INET)
        return ntohl(address->v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    return address->any.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr);
}

/* ---- endpoints */

static const char *how_to_write(enum endpoint_use use)
{
    return use == ENDPOINT_LISTEN ? "PORT, HOST:PORT or unix:/path" : "HOST:PORT or unix:/path";
}

static bool parse_port(uint16_t *port, const char *text, enum endpoint_use use, struct fault *fault)
{
    unsigned value = 0;
    size_t length = strlen(text);

    for (const char *c = text; *c != '\0'; c++) {
        if (!is_digit(*c) || length > 5)
            return fault_set(fault, QUOTED " is not a port; write a number up to 65535", text);
        value = value * 10 + (unsigned)(*c - '0');
    }
    if (length == 0)
        return fault_set(fault, "the port is missing; write %s", how_to_write(use));
    if (value > UINT16_MAX)
        return fault_set(fault, QUOTED " is not a port; write a number up to 65535", text);
    if (value == 0 && use != ENDPOINT_LISTEN)
        return fault_set(fault, "port 0 cannot be connected to; write a number from 1 to 65535");
    *port = (uint16_t)value;
    return true;
}

static bool set_numeric(struct endpoint *endpoint, const char *host)
{
    struct address address;

    if (!address_parse(&address, host, endpoint->port))
        return false;
    print_host(&address, endpoint->host, sizeof endpoint->host);
    return true;
}

static bool set_listen_host(struct endpoint *endpoint, const char *host, struct fault *fault)
{
    if (host[0] == '\0' || strcmp(host, "*") == 0) {
        endpoint->host[0] = '\0';
        return true;
    }
    if (host_equal(host, "localhost"))
        host = "127.0.0.1";
    return set_numeric(endpoint, host) ||
           fault_set(fault, QUOTED " is no host to listen on; write an IP address, localhost or *",
                     host);
}

static bool set_connect_host(struct endpoint *endpoint, const char *host, struct fault *fault)
{
    if (host[0] == '\0')
        return fault_set(fault, "the host is missing; write HOST:PORT");
    endpoint->is_complete = host[strlen(host) - 1] == '.';
    return host_parse(endpoint->host, host, fault);
}

static bool set_host(struct endpoint *endpoint, const char *host, enum endpoint_use use,
                     struct fault *fault)
{
    return use == ENDPOINT_LISTEN ? set_listen_host(endpoint, host, fault)
                                  : set_connect_host(endpoint, host, fault);
}

/* The same link-local address may be on every link (RFC 4007, 6). */
static bool has_its_interface(const char *host, struct fault *fault)
{
    struct address address;

    if (!address_parse(&address, host, 0) || address.any.sa_family != AF_INET6 ||
        !IN6_IS_ADDR_LINKLOCAL(&address.v6.sin6_addr) || address.v6.sin6_scope_id != 0)
        return true;
    return fault_set(fault,
                     QUOTED " is there on every link; name its interface, as in [%.60s%%eth0]",
                     host, host);
}

/* [2001:db8::1]:443 */
static bool parse_bracketed(struct endpoint *endpoint, char *text, enum endpoint_use use,
                            struct fault *fault)
{
    char *end = strchr(text, ']');

    if (end == NULL || end[1] != ':')
        return fault_set(fault, QUOTED " is not complete; write [IPv6]:PORT", text);
    *end = '\0';
    if (!parse_port(&endpoint->port, end + 2, use, fault))
        return false;
    if (strchr(text + 1, ':') == NULL || !set_numeric(endpoint, text + 1))
        return fault_set(fault, QUOTED " is not an IPv6 address; write one as in [2001:db8::1]:443",
                         text + 1);
    return has_its_interface(text + 1, fault);
}

static bool parse_host_and_port(struct endpoint *endpoint, char *text, enum endpoint_use use,
                                struct fault *fault)
{
    char *colon = strrchr(text, ':');

    if (colon == NULL && use == ENDPOINT_LISTEN && is_digit(text[0]) && strchr(text, '.') == NULL)
        return parse_port(&endpoint->port, text, use, fault);
    if (colon == NULL && strspn(text, "0123456789") == strlen(text))
        return fault_set(fault, QUOTED " has no host; write localhost:%.120s", text, text);
    if (colon == NULL)
        return fault_set(fault, QUOTED " has no port; write %s", text, how_to_write(use));
    if (strchr(text, ':') != colon)
        return fault_set(fault, QUOTED " has several colons; write an IPv6 address as [IPv6]:PORT",
                         text);
    *colon = '\0';
    return parse_port(&endpoint->port, colon + 1, use, fault) &&
           set_host(endpoint, text, use, fault);
}

static bool parse_tcp(struct endpoint *endpoint, const char *text, enum endpoint_use use,
                      struct fault *fault)
{
    char copy[HOST_SIZE + 16]; /* brackets, colon and port */

    endpoint->kind = ENDPOINT_TCP;
    if (strlen(text) >= sizeof copy)
        return fault_set(fault, QUOTED "... is too long for an address; write HOST:PORT", text);
    snprintf(copy, sizeof copy, "%s", text);
    if (copy[0] == '[')
        return parse_bracketed(endpoint, copy, use, fault);
    return parse_host_and_port(endpoint, copy, use, fault);
}

static bool parse_path(struct endpoint *endpoint, const char *path, struct fault *fault)
{
    endpoint->kind = ENDPOINT_UNIX;
    if (path[0] == '\0')
        return fault_set(fault, "the path is missing; write unix:/path");
    if (path[0] == '@')
        return fault_set(fault, QUOTED " is an abstract name; write the path of a socket file",
                         path);
    if (strlen(path) >= PATH_SIZE)
        return fault_set(fault, "\"%.40s...\" has %zu bytes; the path of a socket has at most %zu",
                         path, strlen(path), PATH_SIZE - 1);
    snprintf(endpoint->host, sizeof endpoint->host, "%s", path);
    return true;
}

static bool parse_original(struct endpoint *endpoint, enum endpoint_use use, struct fault *fault)
{
    if (use != ENDPOINT_PRIMARY)
        return fault_set(fault, "original-dst is for --primary only; write HOST:PORT");
    endpoint->kind = ENDPOINT_ORIGINAL;
    return true;
}

/* A scheme that only a later version understands, or nobody. */
static bool parse_scheme(struct endpoint *endpoint, const char *text, enum endpoint_use use,
                         struct fault *fault)
{
    const char *mark = strstr(text, "://");

    endpoint->tls = starts_with(text, "tls://");
    if (endpoint->tls)
        return parse_tcp(endpoint, text + strlen("tls://"), use, fault);
    if (starts_with(text, "file:"))
        return fault_set(fault, QUOTED ": file: is not in this version; write HOST:PORT", text);
    if (starts_with(text, "tcp://"))
        return parse_tcp(endpoint, text + strlen("tcp://"), use, fault);
    if (mark != NULL)
        return fault_set(fault,
                         QUOTED " has an unknown scheme; write HOST:PORT, tcp://HOST:PORT, "
                                "tls://HOST:PORT or unix:/path",
                         text);
    return parse_tcp(endpoint, text, use, fault);
}

bool endpoint_parse(struct endpoint *endpoint, const char *text, enum endpoint_use use,
                    struct fault *fault)
{
    *endpoint = (struct endpoint){ 0 };
    if (text[0] == '\0')
        return fault_set(fault, "an address is missing; write %s", how_to_write(use));
    if (has_control_characters(text))
        return fault_set(fault, QUOTED " holds a control character; write HOST:PORT or unix:/path",
                         text);
    if (starts_with(text, "unix:"))
        return parse_path(endpoint, text + strlen("unix:"), fault);
    if (strcasecmp(text, ORIGINAL) == 0)
        return parse_original(endpoint, use, fault);
    return parse_scheme(endpoint, text, use, fault);
}

void endpoint_print(const struct endpoint *endpoint, char text[ENDPOINT_TEXT])
{
    const char *scheme = endpoint->tls ? "tls://" : "";
    unsigned port = endpoint->port;

    if (endpoint->kind == ENDPOINT_UNIX)
        snprintf(text, ENDPOINT_TEXT, "unix:%s", endpoint->host);
    else if (endpoint->kind == ENDPOINT_ORIGINAL)
        snprintf(text, ENDPOINT_TEXT, "%s", ORIGINAL);
    else if (strchr(endpoint->host, ':') != NULL)
        snprintf(text, ENDPOINT_TEXT, "%s[%s]:%u", scheme, endpoint->host, port);
    else
        snprintf(text, ENDPOINT_TEXT, "%s%s%s:%u", scheme, endpoint->host,
                 endpoint->is_complete ? "." : "", port);
}

/* "localhost", and all names below it: they are this machine whatever a server says (RFC 6761,
 * 6.3). */
static bool is_localhost(const char *host)
{
    static const char name[] = "localhost";
    size_t length = strlen(host);
    size_t ending = sizeof name - 1;

    return length >= ending && strncasecmp(host + length - ending, name, ending) == 0 &&
           (length == ending || host[length - ending - 1] == '.');
}

size_t endpoint_known_addresses(const struct endpoint *endpoint, struct address addresses[2])
{
    if (endpoint->kind == ENDPOINT_UNIX) {
        address_of_path(&addresses[0], endpoint->host);
        return 1;
    }
    if (endpoint->kind == ENDPOINT_ORIGINAL)
        return 0;
    if (is_localhost(endpoint->host)) {
        address_parse(&addresses[0], "127.0.0.1", endpoint->port);
        address_parse(&addresses[1], "::1", endpoint->port);
        return 2;
    }
    return address_parse(&addresses[0], endpoint->host, endpoint->port) ? 1 : 0;
}
