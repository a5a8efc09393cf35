/*
 * proxyproto.c — a strict reader, for lines and for binary headers.
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
#include <string.h>

#include "proxyproto/proxyproto_format.h"

#define LINE_MAX 107 /* bytes of a version 1 header, with its CRLF */

#define TYPE_CRC32C 0x03

static const char first_word[] = "PROXY ";

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
static size_t cut_words(char *text, char *words[], size_t max)
{
    size_t count = 0;

    for (char *rest = text; rest != NULL && count < max;) {
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
    size_t max = length < LINE_MAX ? length : LINE_MAX;

    for (size_t i = 0; i < max; i++) {
        if (bytes[i] == '\n' || (bytes[i] == '\r' && i + 1 == LINE_MAX))
            return PROXY_REFUSED;
        if (bytes[i] != '\r')
            continue;
        *end = i;
        if (i + 1 == length)
            return PROXY_INCOMPLETE;
        return bytes[i + 1] == '\n' ? PROXY_COMPLETE : PROXY_REFUSED;
    }
    return length < LINE_MAX ? PROXY_INCOMPLETE : PROXY_REFUSED;
}

static enum proxy_reading read_line(const uint8_t *bytes, size_t length,
                                    struct proxy_header *header, size_t *used, const char **why)
{
    const size_t start = sizeof first_word - 1;
    char         text[LINE_MAX];
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
    return size == sizeof proxy_mirrored - 1 && memcmp(value, proxy_mirrored, size) == 0;
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
    if (length >= BINARY_FIXED && number_at(bytes + 14) > PROXY_HEADER_MAX - BINARY_FIXED)
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
    if (starts_like(bytes, length, proxy_signature, sizeof proxy_signature))
        return read_binary(bytes, length, header, used, why);
    return refuse(why, "the first bytes are no PROXY header");
}
