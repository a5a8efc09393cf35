/*
 * host.c — what may be a host's name, and when two texts are the same one.
 */
#include "base/host.h"

#include <string.h>
#include <strings.h>

#include "base/address.h"
#include "base/fault.h"

#define NAME_LENGTH  253 /* RFC 1035, as text and without the final dot */
#define LABEL_LENGTH 63
#define QUOTED       "\"%.120s\"" /* enough to recognise what was typed */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

size_t host_length(const char *name)
{
    size_t length = strlen(name);

    return length - (length > 0 && name[length - 1] == '.');
}

bool host_equal(const char *a, const char *b)
{
    size_t length = host_length(a);

    return length == host_length(b) && strncasecmp(a, b, length) == 0;
}

/* RFC 1123 names, and the underscore that container networks use. */
static bool is_name(const char *host, size_t length)
{
    size_t label = 0;

    if (length == 0 || length > NAME_LENGTH)
        return false;
    for (const char *c = host; c < host + length; c++) {
        if (*c == '.' && label == 0)
            return false;
        label = *c == '.' ? 0 : label + 1;
        if (label > LABEL_LENGTH)
            return false;
        if (*c != '.' && *c != '-' && *c != '_' && !is_digit(*c) && !is_letter(*c))
            return false;
    }
    return label > 0;
}

/* 10.0.0.300 or 127.1: no name ends in a number, so it was meant as an address. */
static bool is_broken_v4(const char *host)
{
    const char *last = strrchr(host, '.');

    last = last != NULL ? last + 1 : host;
    return *last != '\0' && strspn(last, "0123456789") == strlen(last);
}

bool host_parse(char host[HOST_TEXT], const char *text, struct fault *fault)
{
    size_t         length = host_length(text);
    struct address address;
    char           numeric[ADDRESS_TEXT];

    if (address_parse(&address, text, 0)) {
        address_print_host(&address, numeric);
        memcpy(host, numeric, strlen(numeric) + 1);
        return true;
    }
    if (is_broken_v4(text))
        return fault_set(fault, QUOTED " is not an IPv4 address; write one as in 10.0.0.9", text);
    if (!is_name(text, length))
        return fault_set(fault, QUOTED " is not a host; write a name, an IPv4 address or [IPv6]",
                         text);
    memcpy(host, text, length);
    host[length] = '\0';
    return true;
}
