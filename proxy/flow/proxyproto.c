/*
 * proxyproto.c — one strict reader, one plain writer, for lines and for binary headers.
 *
 *       0                12    13    14     16
 *     ┌──────────────────┬─────┬─────┬──────┬───────────────┬──────────────────────────────┐
 *     │ signature        │ 2│c │ f│t │length│ addresses     │ type │ length │ value │ ...   │
 *     └──────────────────┴─────┴─────┴──────┴───────────────┴──────────────────────────────┘
 *                        command, family and transport        TLVs
 *
 * The verdict on a beginning of a header holds for everything that begins so: the reader may be
 * called with one byte more each time.
 */
#include "proxyproto.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define LINE_MOST 107 /* bytes of a version 1 header, with its CRLF */
#define BINARY_FIXED 16

#define COMMAND_LOCAL 0
#define COMMAND_PROXY 1

enum family {
    FAMILY_UNSPECIFIED,
    FAMILY_IPV4,
    FAMILY_IPV6,
    FAMILY_UNIX,
};
#define TRANSPORT_STREAM   1
#define TRANSPORT_DATAGRAM 2

#define TYPE_CRC32C    0x03
#define TYPE_UNIQUE_ID 0x05
#define TYPE_MIRRORED  0xe0 /* ours, of those left to applications */
#define TYPE_LISTENER  0xe1
#define MARK_MOST      128 /* the document's limit for unique ids */

static const uint8_t signature[12] = { 0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                       0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a };
static const char    first_word[] = "PROXY ";
static const char    mirrored[] = "doppel-mirrored";

static const size_t sizes_of_addresses[] = {
    [FAMILY_UNSPECIFIED] = 0,
    [FAMILY_IPV4] = 2 * (4 + 2),
    [FAMILY_IPV6] = 2 * (16 + 2),
    [FAMILY_UNIX] = 2 * 108,
};

static enum proxy_reading refuse(const char **why, const char *what)
{
    *why = what;
    return PROXY_REFUSED;
}

static bool starts_like(const uint8_t *bytes, size_t length, const void *start, size_t size)
{
    return memcmp(bytes, start, length < size ? length : size) == 0;
}

static uint16_t number_at(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

/* --- version 1 --------------------------------------------------------------------------- */

/* Digits without leading zeros, at most 65535. */
static bool read_port(const char *text, uint16_t *port)
{
    unsigned long value = 0;
    size_t        length = strlen(text);

    if (length == 0 || length > 5 || strspn(text, "0123456789") != length ||
        (length > 1 && text[0] == '0'))
        return false;
    for (; *text != '\0'; text++)
        value = value * 10 + (unsigned long)(*text - '0');
    *port = (uint16_t)value;
    return value <= UINT16_MAX;
}

/* inet_pton(3) is as strict as the document: no leading zeros, no zone. */
static bool read_endpoint(struct address *address, int family, const char *host, const char *port)
{
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
    struct sockaddr_in  v4 = { .sin_family = AF_INET };
    uint16_t            number;

    if (!read_port(port, &number))
        return false;
    v4.sin_port = v6.sin6_port = htons(number);
    if (inet_pton(family, host, family == AF_INET ? (void *)&v4.sin_addr : &v6.sin6_addr) != 1)
        return false;
    if (family == AF_INET)
        address_set(address, (struct sockaddr *)&v4, sizeof v4);
    else
        address_set(address, (struct sockaddr *)&v6, sizeof v6);
    return true;
}

/* Cuts at each blank; two in a row make an empty word. */
static size_t cut_words(char *text, char *words[], size_t most)
{
    size_t count = 0;

    for (char *rest = text; rest != NULL && count < most;) {
        words[count++] = rest;
        rest = strchr(rest, ' ');
        if (rest != NULL)
            *rest++ = '\0';
    }
    return count;
}

/* What follows "PROXY ", without the CRLF. */
static bool read_words(char *text, struct proxy_header *header)
{
    char *words[6];

    if (strcmp(text, "UNKNOWN") == 0 || strncmp(text, "UNKNOWN ", strlen("UNKNOWN ")) == 0)
        return true; /* the rest is to be ignored */
    if (cut_words(text, words, 6) != 5)
        return false;
    int family = strcmp(words[0], "TCP4") == 0   ? AF_INET
                 : strcmp(words[0], "TCP6") == 0 ? AF_INET6
                                                 : AF_UNSPEC;
    return family != AF_UNSPEC && read_endpoint(&header->source, family, words[1], words[3]) &&
           read_endpoint(&header->destination, family, words[2], words[4]);
}

/* Where the line's CRLF begins; incomplete or refused: not yet, or in no way. */
static enum proxy_reading find_line_end(const uint8_t *bytes, size_t length, size_t *end)
{
    size_t most = length < LINE_MOST ? length : LINE_MOST;

    for (size_t i = 0; i < most; i++) {
        if (bytes[i] == '\n' || (bytes[i] == '\r' && i + 1 == LINE_MOST))
            return PROXY_REFUSED;
        if (bytes[i] != '\r')
            continue;
        *end = i;
        if (i + 1 == length)
            return PROXY_INCOMPLETE;
        return bytes[i + 1] == '\n' ? PROXY_COMPLETE : PROXY_REFUSED;
    }
    return length < LINE_MOST ? PROXY_INCOMPLETE : PROXY_REFUSED;
}

static enum proxy_reading read_line(const uint8_t *bytes, size_t length,
                                    struct proxy_header *header, size_t *used, const char **why)
{
    const size_t start = sizeof first_word - 1;
    char         text[LINE_MOST];
    size_t       end;

    switch (find_line_end(bytes, length, &end)) {
    case PROXY_INCOMPLETE:
        return PROXY_INCOMPLETE;
    case PROXY_REFUSED:
        return refuse(why, "the line does not end with CRLF within 107 bytes");
    case PROXY_COMPLETE:
        break;
    }
    if (end < start || memchr(bytes, '\0', end) != NULL)
        return refuse(why, "the line is not one of version 1");
    memcpy(text, bytes + start, end - start);
    text[end - start] = '\0';
    if (!read_words(text, header))
        return refuse(why, "the line is not one of version 1");
    *used = end + 2;
    return PROXY_COMPLETE;
}

/* --- version 2 --------------------------------------------------------------------------- */

/* CRC-32C of RFC 4960, appendix B, bit by bit: a header is short.  The checksum's own four bytes
 * count as zeros. */
static uint32_t checksum(const uint8_t *bytes, size_t length, const uint8_t *own)
{
    uint32_t sum = UINT32_MAX;

    for (size_t i = 0; i < length; i++) {
        bool is_own = bytes + i >= own && bytes + i < own + 4;

        sum ^= is_own ? 0 : bytes[i];
        for (int bit = 0; bit < 8; bit++)
            sum = (sum >> 1) ^ ((sum & 1) ? 0x82f63b78U : 0);
    }
    return ~sum;
}

static bool checksum_is_right(const uint8_t *bytes, size_t length, const uint8_t *own)
{
    uint32_t sum = (uint32_t)number_at(own) << 16 | number_at(own + 2);

    return sum == checksum(bytes, length, own);
}

static bool is_our_mark(const uint8_t *value, size_t size)
{
    return size == sizeof mirrored - 1 && memcmp(value, mirrored, size) == 0;
}

static enum proxy_reading read_values(const uint8_t *bytes, size_t length, size_t at,
                                      struct proxy_header *header, const char **why)
{
    while (at < length) {
        if (length - at < 3 || length - at - 3 < number_at(bytes + at + 1))
            return refuse(why, "a TLV reaches beyond the header");
        uint8_t        type = bytes[at];
        size_t         size = number_at(bytes + at + 1);
        const uint8_t *value = bytes + at + 3;

        if (type == TYPE_CRC32C && (size != 4 || !checksum_is_right(bytes, length, value)))
            return refuse(why, "the checksum is wrong");
        header->is_mirrored |= type == TYPE_MIRRORED && is_our_mark(value, size);
        at += 3 + size;
    }
    return PROXY_COMPLETE;
}

static void read_ipv4(struct address *address, const uint8_t *host, const uint8_t *port)
{
    struct sockaddr_in v4 = { .sin_family = AF_INET };

    memcpy(&v4.sin_addr, host, sizeof v4.sin_addr);
    memcpy(&v4.sin_port, port, sizeof v4.sin_port);
    address_set(address, (struct sockaddr *)&v4, sizeof v4);
}

static void read_ipv6(struct address *address, const uint8_t *host, const uint8_t *port)
{
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };

    memcpy(&v6.sin6_addr, host, sizeof v6.sin6_addr);
    memcpy(&v6.sin6_port, port, sizeof v6.sin6_port);
    address_set(address, (struct sockaddr *)&v6, sizeof v6);
}

static void read_path(struct address *address, const uint8_t *path)
{
    char text[109] = "";

    memcpy(text, path, 108);
    address_of_path(address, text);
}

static void read_addresses(enum family family, const uint8_t *bytes, struct proxy_header *header)
{
    switch (family) {
    case FAMILY_UNSPECIFIED:
        break;
    case FAMILY_IPV4:
        read_ipv4(&header->source, bytes, bytes + 8);
        read_ipv4(&header->destination, bytes + 4, bytes + 10);
        break;
    case FAMILY_IPV6:
        read_ipv6(&header->source, bytes, bytes + 32);
        read_ipv6(&header->destination, bytes + 16, bytes + 34);
        break;
    case FAMILY_UNIX:
        read_path(&header->source, bytes);
        read_path(&header->destination, bytes + 108);
        break;
    }
}

/* Unspecified goes with unspecified only. */
static bool is_known_family(uint8_t byte)
{
    unsigned family = byte >> 4;
    unsigned transport = byte & 0xf;

    if (family == FAMILY_UNSPECIFIED)
        return transport == 0;
    return family <= FAMILY_UNIX &&
           (transport == TRANSPORT_STREAM || transport == TRANSPORT_DATAGRAM);
}

/* What is wrong with the fixed part, as far as it is there; NULL: nothing. */
static const char *fixed_part_is_wrong(const uint8_t *bytes, size_t length)
{
    if (length > 12 && bytes[12] >> 4 != 2)
        return "the version is not 2";
    if (length > 12 && (bytes[12] & 0xf) > COMMAND_PROXY)
        return "the command is unknown";
    if (length > 13 && (bytes[12] & 0xf) == COMMAND_PROXY && !is_known_family(bytes[13]))
        return "the address family is unknown";
    if (length >= BINARY_FIXED && number_at(bytes + 14) > PROXY_HEADER_MOST - BINARY_FIXED)
        return "the header is longer than 4096 bytes";
    return NULL;
}

static enum proxy_reading read_binary(const uint8_t *bytes, size_t length,
                                      struct proxy_header *header, size_t *used, const char **why)
{
    const char *wrong = fixed_part_is_wrong(bytes, length);

    if (wrong != NULL)
        return refuse(why, wrong);
    if (length < BINARY_FIXED || length < BINARY_FIXED + (size_t)number_at(bytes + 14))
        return PROXY_INCOMPLETE;
    *used = BINARY_FIXED + (size_t)number_at(bytes + 14);
    enum family family = (enum family)(bytes[13] >> 4);
    /* Without addresses all that follows is to be skipped, whatever it is. */
    if ((bytes[12] & 0xf) == COMMAND_LOCAL || family == FAMILY_UNSPECIFIED)
        return PROXY_COMPLETE;
    size_t size = sizes_of_addresses[family];
    if (*used < BINARY_FIXED + size)
        return refuse(why, "the addresses reach beyond the header");
    read_addresses(family, bytes + BINARY_FIXED, header);
    return read_values(bytes, *used, BINARY_FIXED + size, header, why);
}

enum proxy_reading proxy_header_read(const uint8_t *bytes, size_t length,
                                     struct proxy_header *header, size_t *used, const char **why)
{
    memset(header, 0, sizeof *header);
    *used = 0;
    if (starts_like(bytes, length, first_word, sizeof first_word - 1))
        return read_line(bytes, length, header, used, why);
    if (starts_like(bytes, length, signature, sizeof signature))
        return read_binary(bytes, length, header, used, why);
    return refuse(why, "the first bytes are no PROXY header");
}

/* --- writing ----------------------------------------------------------------------------- */

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

static uint8_t *put_value(uint8_t *end, uint8_t type, const char *text)
{
    size_t length = strnlen(text, MARK_MOST);

    end = put(end, &type, 1);
    end = put_number(end, length);
    return put(end, text, length);
}

static size_t write_binary(uint8_t *bytes, const struct proxy_header *header,
                           const struct proxy_marks *marks)
{
    enum family   family = family_of(header);
    const uint8_t kind[2] = {
        2 << 4 | COMMAND_PROXY,
        (uint8_t)(family << 4 | (family != FAMILY_UNSPECIFIED ? TRANSPORT_STREAM : 0)),
    };
    uint8_t *end = put(put(bytes, signature, sizeof signature), kind, sizeof kind);

    end = put_addresses(end + 2, family, header);
    if (marks != NULL) {
        end = put_value(end, TYPE_MIRRORED, mirrored);
        end = put_value(end, TYPE_UNIQUE_ID, marks->session);
        end = put_value(end, TYPE_LISTENER, marks->listener);
    }
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
