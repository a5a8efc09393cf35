/*
 * http1.c — a strict reader of HTTP/1 framing: line by line, then the body by its length or chunks.
 */
#include "http1.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LENGTH_DIGITS 18 /* below 2^63 */
#define CHUNK_DIGITS  15
#define FIRST_ROOM    256

void http1_free(struct http1_cut *cut)
{
    free(cut->line);
    cut->line = NULL;
    cut->line_length = cut->line_room = 0;
}

void http1_requests_start(struct http1_cut *cut)
{
    http1_free(cut);
    memset(cut, 0, sizeof *cut);
}

void http1_answer_start(struct http1_cut *cut, const struct cut_request *request)
{
    http1_requests_start(cut);
    cut->is_answer = true;
    cut->request = *request;
}

/* RFC 9110, 5.6.2 */
static bool is_token_byte(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') ||
           (byte != '\0' && strchr("!#$%&'*+-.^_`|~", byte) != NULL);
}

static size_t token_length(const char *text)
{
    size_t length = 0;

    while (is_token_byte(text[length]))
        length++;
    return length;
}

static enum cut opaque(struct http1_cut *cut)
{
    http1_free(cut);
    cut->state = HTTP1_OPAQUE;
    return CUT_OPAQUE;
}

static bool is_version(const char *text)
{
    return strcmp(text, "HTTP/1.1") == 0 || strcmp(text, "HTTP/1.0") == 0;
}

/* Method and path without the query; what is counted in a path (ids, pages) becomes #. */
static void set_label(struct cut_request *request, const char *method, size_t method_length,
                      const char *path, size_t path_length)
{
    size_t out = 0;

    for (size_t i = 0; i < method_length && out < CUT_LABEL - 2; i++)
        request->label[out++] = method[i];
    request->label[out++] = ' ';
    for (size_t i = 0; i < path_length && path[i] != '?' && out < CUT_LABEL - 1; i++) {
        bool is_digit = path[i] >= '0' && path[i] <= '9';
        if (is_digit && request->label[out - 1] == '#')
            continue;
        request->label[out++] = is_digit ? '#' : path[i];
    }
    request->label[out] = '\0';
}

/* METHOD SP target SP HTTP/1.1 */
static bool read_request_line(struct http1_cut *cut)
{
    const char *line = cut->line;
    size_t      method = token_length(line);
    const char *target = line + method + 1;

    if (method == 0 || line[method] != ' ')
        return false;
    size_t length = 0;
    while (target[length] > ' ' && target[length] != 0x7f)
        length++;
    if (length == 0 || target[length] != ' ' || !is_version(target + length + 1))
        return false;
    set_label(&cut->request, line, method, target, length);
    cut->request.is_head = method == 4 && memcmp(line, "HEAD", 4) == 0;
    cut->request.is_connect = method == 7 && memcmp(line, "CONNECT", 7) == 0;
    return true;
}

/* HTTP/1.1 SP 200 [SP reason] */
static bool read_status_line(struct http1_cut *cut)
{
    char *line = cut->line;

    if (cut->line_length < 12 || line[8] != ' ' || (line[12] != '\0' && line[12] != ' '))
        return false;
    line[8] = '\0';
    bool is_fine = is_version(line);
    line[8] = ' ';
    for (int i = 9; i < 12; i++)
        is_fine = is_fine && line[i] >= '0' && line[i] <= '9';
    if (!is_fine || line[9] == '0')
        return false;
    cut->status = (unsigned)(line[9] - '0') * 100 + (unsigned)(line[10] - '0') * 10 +
                  (unsigned)(line[11] - '0');
    return true;
}

static bool read_length(struct http1_cut *cut, const char *value)
{
    size_t   digits = strspn(value, "0123456789");
    uint64_t length = 0;

    if (cut->has_length || digits == 0 || digits > LENGTH_DIGITS || value[digits] != '\0')
        return false;
    for (size_t i = 0; i < digits; i++)
        length = length * 10 + (uint64_t)(value[i] - '0');
    cut->has_length = true;
    cut->left = length;
    return true;
}

/* Name: value.  Only what decides about the message's end is read. */
static bool read_field(struct http1_cut *cut)
{
    char  *line = cut->line;
    size_t name = token_length(line);

    if (name == 0 || line[name] != ':')
        return false;
    char *value = line + name + 1;
    value += strspn(value, " \t");
    for (size_t n = strlen(value); n > 0 && (value[n - 1] == ' ' || value[n - 1] == '\t'); n--)
        value[n - 1] = '\0';
    line[name] = '\0';
    if (strcasecmp(line, "Content-Length") == 0)
        return read_length(cut, value);
    if (strcasecmp(line, "Transfer-Encoding") == 0) {
        if (cut->is_chunked || strcasecmp(value, "chunked") != 0)
            return false;
        cut->is_chunked = true;
    }
    if (strcasecmp(line, "Upgrade") == 0 && !cut->is_answer)
        cut->request.asks_upgrade = true;
    return true;
}

static enum cut whole(struct http1_cut *cut)
{
    http1_free(cut);
    cut->state = HTTP1_START;
    cut->head_bytes = 0;
    cut->has_length = cut->is_chunked = false;
    cut->left = 0;
    return CUT_WHOLE;
}

/* The answer's head is read: does a body follow, and how does it end? (RFC 9112, 6.3) */
static enum cut end_answer_head(struct http1_cut *cut)
{
    bool is_final = cut->status >= 200;

    if (cut->status == 101 || (cut->request.is_connect && cut->status / 100 == 2))
        return opaque(cut);
    if (!is_final) {
        if (cut->has_length || cut->is_chunked)
            return opaque(cut);
        whole(cut); /* an interim answer: the final one follows */
        return CUT_MORE;
    }
    if (cut->request.is_head || cut->status == 204 || cut->status == 304)
        return whole(cut);
    if (!cut->is_chunked && !cut->has_length) {
        cut->state = HTTP1_UNTIL_END;
        return CUT_MORE;
    }
    if (cut->is_chunked) {
        cut->state = HTTP1_CHUNK_SIZE;
        return CUT_MORE;
    }
    cut->state = HTTP1_BODY;
    return cut->left == 0 ? whole(cut) : CUT_MORE;
}

static enum cut end_head(struct http1_cut *cut)
{
    if (cut->has_length && cut->is_chunked)
        return opaque(cut);
    if (cut->is_answer)
        return end_answer_head(cut);
    if (cut->is_chunked)
        cut->state = HTTP1_CHUNK_SIZE;
    else if (cut->left > 0)
        cut->state = HTTP1_BODY;
    else
        return whole(cut);
    return CUT_MORE;
}

/* hex digits, then nothing or an extension behind a semicolon */
static bool read_chunk_size(struct http1_cut *cut)
{
    static const char hex[] = "0123456789abcdef";
    size_t            digits = strspn(cut->line, "0123456789abcdefABCDEF");
    char              next = cut->line[digits];

    if (digits == 0 || digits > CHUNK_DIGITS || (next != '\0' && next != ';'))
        return false;
    cut->left = 0;
    for (size_t i = 0; i < digits; i++)
        cut->left = cut->left * 16 + (uint64_t)(strchr(hex, cut->line[i] | 0x20) - hex);
    cut->state = cut->left > 0 ? HTTP1_CHUNK : HTTP1_TRAILERS;
    cut->head_bytes = 0;
    return true;
}

static enum cut take_start_line(struct http1_cut *cut)
{
    if (cut->line_length == 0 && !cut->is_answer && cut->head_bytes <= 2)
        return CUT_MORE; /* RFC 9112, 2.2: an empty line before a request */
    if (!cut->is_answer)
        memset(&cut->request, 0, sizeof cut->request);
    if (!(cut->is_answer ? read_status_line(cut) : read_request_line(cut)))
        return opaque(cut);
    cut->state = HTTP1_FIELDS;
    return CUT_MORE;
}

static enum cut take_line(struct http1_cut *cut)
{
    switch (cut->state) {
    case HTTP1_START:
        return take_start_line(cut);
    case HTTP1_FIELDS:
        if (cut->line_length == 0)
            return end_head(cut);
        return read_field(cut) ? CUT_MORE : opaque(cut);
    case HTTP1_CHUNK_SIZE:
        return read_chunk_size(cut) ? CUT_MORE : opaque(cut);
    case HTTP1_CHUNK_END:
        cut->state = HTTP1_CHUNK_SIZE;
        return cut->line_length == 0 ? CUT_MORE : opaque(cut);
    case HTTP1_TRAILERS:
        if (cut->line_length == 0)
            return whole(cut);
        return token_length(cut->line) > 0 ? CUT_MORE : opaque(cut);
    case HTTP1_BODY:
    case HTTP1_CHUNK:
    case HTTP1_UNTIL_END:
    case HTTP1_OPAQUE:
        break;
    }
    return opaque(cut);
}

static bool belongs_in_a_line(char byte)
{
    return byte == '\r' || byte == '\n' || byte == '\t' || (uint8_t)byte >= ' ';
}

/* Room for one more byte and its NUL. */
static bool make_room(struct http1_cut *cut)
{
    if (cut->line_length + 1 < cut->line_room)
        return true;
    size_t room = cut->line_room == 0 ? FIRST_ROOM : 2 * cut->line_room;
    char  *line = room > HTTP1_LINE_MAX ? NULL : realloc(cut->line, room);
    if (line == NULL)
        return false;
    cut->line = line;
    cut->line_room = room;
    return true;
}

/* Gathers a line up to CR LF; a lone CR or LF, a control character, or too long a line is no line. */
static enum cut take_line_bytes(struct http1_cut *cut, const uint8_t *bytes, size_t length,
                                size_t *taken)
{
    for (size_t i = 0; i < length; i++) {
        char byte = (char)bytes[i];
        bool after_cr = cut->line_length > 0 && cut->line[cut->line_length - 1] == '\r';

        *taken += 1;
        if (++cut->head_bytes > HTTP1_HEAD_MAX || !belongs_in_a_line(byte) ||
            after_cr != (byte == '\n'))
            return opaque(cut);
        if (byte == '\n') {
            cut->line[--cut->line_length] = '\0';
            enum cut what = take_line(cut);
            cut->line_length = 0;
            return what;
        }
        if (!make_room(cut))
            return opaque(cut);
        cut->line[cut->line_length++] = byte;
    }
    return CUT_MORE;
}

static enum cut take_body_bytes(struct http1_cut *cut, size_t length, size_t *taken)
{
    size_t now = cut->left < length ? (size_t)cut->left : length;

    *taken += now;
    cut->left -= now;
    if (cut->left > 0)
        return CUT_MORE;
    if (cut->state == HTTP1_BODY)
        return whole(cut);
    cut->state = HTTP1_CHUNK_END;
    cut->head_bytes = 0;
    return CUT_MORE;
}

enum cut http1_cut(struct http1_cut *cut, const uint8_t *bytes, size_t length, size_t *taken)
{
    enum cut what = cut->state == HTTP1_OPAQUE ? CUT_OPAQUE : CUT_MORE;

    *taken = 0;
    while (*taken < length && what == CUT_MORE) {
        if (cut->state == HTTP1_BODY || cut->state == HTTP1_CHUNK)
            what = take_body_bytes(cut, length - *taken, taken);
        else if (cut->state == HTTP1_UNTIL_END)
            *taken = length;
        else
            what = take_line_bytes(cut, bytes + *taken, length - *taken, taken);
    }
    return what;
}
