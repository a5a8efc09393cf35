/*
 * request_head.c — one walk through the headers that the library has found.
 */
#include "admin/request_head.h"

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

/* RFC 9110: 7.2, 8.6, 11.6.2; RFC 6454, 7.3; RFC 9112, 6.1.  None of them is a list but the last,
 * which nobody needs twice. */
static const char *const single[] = {
    MHD_HTTP_HEADER_HOST,
    MHD_HTTP_HEADER_ORIGIN,
    MHD_HTTP_HEADER_AUTHORIZATION,
    MHD_HTTP_HEADER_CONTENT_LENGTH,
    MHD_HTTP_HEADER_TRANSFER_ENCODING,
};

#define SINGLES (sizeof single / sizeof single[0])

struct findings {
    size_t bytes; /* that the lines should have */
    size_t count[SINGLES];
    const char *why; /* NULL: all was fine so far */
};

/* RFC 9110, 5.6.2. */
static bool is_token(const char *name)
{
    static const char letters[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

    return name[0] != '\0' && strspn(name, letters) == strlen(name);
}

/* RFC 9110, 5.5: no CR, LF or other control character; tabs are blanks. */
static bool is_field_value(const char *value)
{
    for (const unsigned char *c = (const unsigned char *)value; *c != '\0'; c++) {
        if ((*c < ' ' && *c != '\t') || *c == 0x7f)
            return false;
    }
    return true;
}

static enum MHD_Result add_header(void *owner, enum MHD_ValueKind kind, const char *name,
                                  const char *value)
{
    struct findings *found = owner;

    (void)kind;
    value = value != NULL ? value : "";
    found->bytes += strlen(name) + strlen(": ") + strlen(value) + strlen("\r\n");
    if (!is_token(name))
        found->why = "a header's name holds what it cannot";
    else if (!is_field_value(value))
        found->why = "a header's value holds a control character";
    for (size_t i = 0; i < SINGLES; i++) {
        found->count[i] += strcasecmp(name, single[i]) == 0;
        if (found->count[i] > 1)
            found->why = "Host, Origin, Authorization, Content-Length and Transfer-Encoding may "
                         "come once";
    }
    return MHD_YES;
}

static size_t size_of_line(const struct request_line *line)
{
    return strlen(line->method) + strlen(" ") + line->target_bytes + strlen(" ") +
           strlen(line->version) + strlen("\r\n");
}

static size_t size_of_head(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *about =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);

    return about != NULL ? about->header_size : 0;
}

static bool has(struct MHD_Connection *connection, const char *header)
{
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, header) != NULL;
}

const char *request_head_refuses(struct MHD_Connection *connection, const struct request_line *line)
{
    struct findings found = { .bytes = size_of_line(line) + strlen("\r\n") };

    if (line->path[0] != '/')
        return "the target must be a path";
    MHD_get_connection_values(connection, MHD_HEADER_KIND, add_header, &found);
    if (found.why != NULL)
        return found.why;
    if (has(connection, MHD_HTTP_HEADER_CONTENT_LENGTH) &&
        has(connection, MHD_HTTP_HEADER_TRANSFER_ENCODING))
        return "Content-Length and Transfer-Encoding exclude each other";
    if (size_of_head(connection) > found.bytes)
        return "the request holds folded lines, needless blanks or bytes that are no text";
    return NULL;
}
