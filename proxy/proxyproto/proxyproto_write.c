/*
 * proxyproto_write.c — a plain writer of PROXY headers, as lines and in binary.
 *
 *     client's addresses ──▶ version 1: a line
 *                        └─▶ version 2: fixed part │ addresses │ TLVs, whose length is known at the end
 *
 * Everything that is put has a bound, and PROXY_HEADER_WRITTEN is their sum.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "proxyproto/proxyproto.h"
#include "proxyproto/proxyproto_format.h"
#include "tls/tls_facts.h"

#define TYPE_ALPN        0x01
#define TYPE_AUTHORITY   0x02
#define TYPE_UNIQUE_ID   0x05
#define TYPE_SSL         0x20
#define TYPE_SSL_VERSION 0x21 /* these stand within TYPE_SSL */
#define TYPE_SSL_CN      0x22
#define TYPE_SSL_CIPHER  0x23
#define TYPE_LISTENER    0xe1
#define MARK_MAX        128 /* the document's limit for unique ids */
#define NAME_MAX        255 /* of a host and of a protocol, by TLS */
#define WORD_MAX        64  /* OpenSSL's words for versions and ciphers */

#define CLIENT_SSL       0x01
#define CLIENT_CERT_CONN 0x02
#define CLIENT_CERT_SESS 0x04

static bool is_ip(const struct address *address)
{
    return address->any.sa_family == AF_INET || address->any.sa_family == AF_INET6;
}

/* One family for both: an IPv4 address beside an IPv6 one is a mapped one again.  An IP address
 * beside a path cannot be said. */
static enum family family_of(const struct proxy_header *header)
{
    sa_family_t from = header->source.any.sa_family;
    sa_family_t to = header->destination.any.sa_family;

    if (from == AF_INET && to == AF_INET)
        return FAMILY_IPV4;
    if (is_ip(&header->source) && is_ip(&header->destination))
        return FAMILY_IPV6;
    return from == AF_UNIX && to == AF_UNIX ? FAMILY_UNIX : FAMILY_UNSPECIFIED;
}

static struct in6_addr as_ipv6(const struct address *address)
{
    struct in6_addr mapped = { .s6_addr = { [10] = 0xff, [11] = 0xff } };

    if (address->any.sa_family == AF_INET6)
        return address->v6.sin6_addr;
    memcpy(&mapped.s6_addr[12], &address->v4.sin_addr, sizeof address->v4.sin_addr);
    return mapped;
}

static size_t write_line(uint8_t *bytes, const struct proxy_header *header)
{
    const struct address *from = &header->source;
    const struct address *to = &header->destination;
    enum family           family = family_of(header);
    char                  source[INET6_ADDRSTRLEN] = "";
    char                  destination[INET6_ADDRSTRLEN] = "";
    const char           *name = family == FAMILY_IPV4 ? "TCP4" : "TCP6";

    if (family == FAMILY_IPV4) {
        inet_ntop(AF_INET, &from->v4.sin_addr, source, sizeof source);
        inet_ntop(AF_INET, &to->v4.sin_addr, destination, sizeof destination);
    } else if (family == FAMILY_IPV6) {
        const struct in6_addr hosts[2] = { as_ipv6(from), as_ipv6(to) };

        inet_ntop(AF_INET6, &hosts[0], source, sizeof source);
        inet_ntop(AF_INET6, &hosts[1], destination, sizeof destination);
    } else {
        return (size_t)snprintf((char *)bytes, PROXY_HEADER_WRITTEN, "PROXY UNKNOWN\r\n");
    }
    return (size_t)snprintf((char *)bytes, PROXY_HEADER_WRITTEN, "PROXY %s %s %s %u %u\r\n", name,
                            source, destination, address_port(from), address_port(to));
}

/* Each of these writes at the end of what is there and answers the new end. */
static uint8_t *put(uint8_t *end, const void *bytes, size_t length)
{
    memcpy(end, bytes, length);
    return end + length;
}

static uint8_t *put_number(uint8_t *end, size_t number)
{
    const uint8_t bytes[2] = { (uint8_t)(number >> 8), (uint8_t)number };

    return put(end, bytes, sizeof bytes);
}

static uint8_t *put_path(uint8_t *end, const struct address *address)
{
    size_t known = address->length > offsetof(struct sockaddr_un, sun_path)
                       ? address->length - offsetof(struct sockaddr_un, sun_path)
                       : 0;

    memset(end, 0, 108);
    memcpy(end, address->local.sun_path, known < 108 ? known : 108);
    return end + 108;
}

static uint8_t *put_addresses(uint8_t *end, enum family family, const struct proxy_header *header)
{
    const struct address *from = &header->source;
    const struct address *to = &header->destination;
    const struct in6_addr hosts[2] = { as_ipv6(from), as_ipv6(to) };

    switch (family) {
    case FAMILY_UNSPECIFIED:
        return end;
    case FAMILY_IPV4:
        end = put(end, &from->v4.sin_addr, 4);
        end = put(end, &to->v4.sin_addr, 4);
        break;
    case FAMILY_IPV6:
        end = put(end, hosts, sizeof hosts);
        break;
    case FAMILY_UNIX:
        return put_path(put_path(end, from), to);
    }
    return put_number(put_number(end, address_port(from)), address_port(to));
}

/* Nothing of a text that is not known. */
static uint8_t *put_value(uint8_t *end, uint8_t type, const char *text, size_t max)
{
    if (text == NULL)
        return end;
    size_t length = strnlen(text, max);
    end = put(end, &type, 1);
    end = put_number(end, length);
    return put(end, text, length);
}

/* In a session that goes on the certificate was shown at its beginning, not on this connection. */
static uint8_t client_bits(const struct tls_facts *tls)
{
    if (!tls->has_certificate)
        return CLIENT_SSL;
    return CLIENT_SSL | CLIENT_CERT_SESS | (tls->was_resumed ? 0 : CLIENT_CERT_CONN);
}

/* The number behind the bits is 0 for a certificate that was verified, and only then. */
static uint8_t *put_tls(uint8_t *end, const struct tls_facts *tls)
{
    const uint8_t fixed[5] = { client_bits(tls), 0, 0, 0, !tls->has_certificate };
    const uint8_t type = TYPE_SSL;
    uint8_t      *length = put(end, &type, 1);

    end = put(length + 2, fixed, sizeof fixed);
    end = put_value(end, TYPE_SSL_VERSION, tls->version, WORD_MAX);
    end = put_value(end, TYPE_SSL_CN, tls->common_name, NAME_MAX);
    end = put_value(end, TYPE_SSL_CIPHER, tls->cipher, WORD_MAX);
    put_number(length, (size_t)(end - (length + 2)));
    end = put_value(end, TYPE_AUTHORITY, tls->server_name, NAME_MAX);
    return put_value(end, TYPE_ALPN, tls->protocol, NAME_MAX);
}

static uint8_t *put_marks(uint8_t *end, const struct proxy_marks *marks)
{
    end = put_value(end, TYPE_MIRRORED, proxy_mirrored, MARK_MAX);
    end = put_value(end, TYPE_UNIQUE_ID, marks->session, MARK_MAX);
    end = put_value(end, TYPE_LISTENER, marks->listener, MARK_MAX);
    return marks->tls != NULL ? put_tls(end, marks->tls) : end;
}

static size_t write_binary(uint8_t *bytes, const struct proxy_header *header,
                           const struct proxy_marks *marks)
{
    enum family   family = family_of(header);
    const uint8_t kind[2] = {
        2 << 4 | COMMAND_PROXY,
        (uint8_t)(family << 4 | (family != FAMILY_UNSPECIFIED ? TRANSPORT_STREAM : 0)),
    };
    uint8_t *end = put(put(bytes, proxy_signature, sizeof proxy_signature), kind, sizeof kind);

    end = put_addresses(end + 2, family, header);
    if (marks != NULL)
        end = put_marks(end, marks);
    assert(end <= bytes + PROXY_HEADER_WRITTEN);
    put_number(bytes + 14, (size_t)(end - bytes) - BINARY_FIXED);
    return (size_t)(end - bytes);
}

size_t proxy_header_write(uint8_t bytes[PROXY_HEADER_WRITTEN], enum proxy_version version,
                          const struct proxy_header *header, const struct proxy_marks *marks)
{
    switch (version) {
    case PROXY_OFF:
        return 0;
    case PROXY_V1:
        return write_line(bytes, header);
    case PROXY_V2:
        return write_binary(bytes, header, marks);
    }
    return 0;
}
