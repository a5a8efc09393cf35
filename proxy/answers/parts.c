/*
 * parts.c — HTTP/1 answers as status, headers by name, and the body put together and decoded.
 */
#include "parts.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

#define NAMES_BYTES 16384 /* of all headers' names of an answer */

struct parts_scratch {
    char     names[NAMES_BYTES];
    size_t   names_length;
    uint8_t *body; /* put together from chunks, then decoded behind it */
    size_t   body_room;
    uint8_t *decoded;
};

struct parts_scratch *parts_scratch_new(void)
{
    return calloc(1, sizeof(struct parts_scratch));
}

void parts_scratch_free(struct parts_scratch *scratch)
{
    if (scratch == NULL)
        return;
    free(scratch->body);
    free(scratch->decoded);
    free(scratch);
}

void parts_of_bytes(struct answer *answer, const struct text *text)
{
    answer->part_count = 1;
    answer->parts[0] = (struct part){ .name = "", .text = *text };
}

void parts_of_resp(struct answer *answer, const struct text *text)
{
    static const char *const kinds[] = { "ok", "error" };
    bool is_error = text->length > 0 && (text->bytes[0] == '-' || text->bytes[0] == '!');
    const char *kind = kinds[is_error];

    answer->part_count = 2;
    answer->parts[0] = (struct part){ .name = "status",
                                      .is_status = true,
                                      .text = { (const uint8_t *)kind, strlen(kind) } };
    answer->parts[1] = (struct part){ .name = "", .text = *text };
}

/* --- HTTP/1 ------------------------------------------------------------------------------ */

/* Where the reader is in the answer's bytes. */
struct http1_parts {
    struct parts_scratch *scratch;
    struct answer        *answer;
    const uint8_t        *at;
    const uint8_t        *end;
    bool                  is_chunked;
    enum { ENCODING_NONE, ENCODING_ZLIB, ENCODING_OTHER } encoding;
};

/* The next line without CR LF; false: there is none. */
static bool next_line(struct http1_parts *parts, struct text *line)
{
    const uint8_t *lf = memchr(parts->at, '\n', (size_t)(parts->end - parts->at));

    if (lf == NULL || lf == parts->at || lf[-1] != '\r')
        return false;
    *line = (struct text){ parts->at, (size_t)(lf - parts->at) - 1 };
    parts->at = lf + 1;
    return true;
}

static bool is_word(const struct text *text, const char *word)
{
    return text->length == strlen(word) &&
           strncasecmp((const char *)text->bytes, word, text->length) == 0;
}

static struct text trimmed(struct text text)
{
    while (text.length > 0 && (text.bytes[0] == ' ' || text.bytes[0] == '\t')) {
        text.bytes++;
        text.length--;
    }
    while (text.length > 0 &&
           (text.bytes[text.length - 1] == ' ' || text.bytes[text.length - 1] == '\t'))
        text.length--;
    return text;
}

static struct part *add_part(struct answer *answer, const char *name, struct text text)
{
    if (answer->part_count == PARTS_MAX)
        return NULL;
    struct part *part = &answer->parts[answer->part_count++];
    *part = (struct part){ .name = name, .text = text };
    return part;
}

/* "header x-shop"; a name that occurs again gets a number: "header set-cookie 002".  NULL: no room. */
static const char *name_of(struct http1_parts *parts, const struct text *name)
{
    static const char     prefix[] = "header ";
    struct parts_scratch *scratch = parts->scratch;
    char                 *made = scratch->names + scratch->names_length;
    size_t                length = sizeof prefix - 1 + name->length;
    unsigned              number = 1;

    if (length + 8 > NAMES_BYTES - scratch->names_length)
        return NULL;
    memcpy(made, prefix, sizeof prefix - 1);
    for (size_t i = 0; i < name->length; i++)
        made[sizeof prefix - 1 + i] = (char)tolower(name->bytes[i]);
    made[length] = '\0';
    for (size_t i = 0; i < parts->answer->part_count; i++) {
        const char *other = parts->answer->parts[i].name;
        if (strncmp(other, made, length) == 0 && (other[length] == '\0' || other[length] == ' '))
            number++;
    }
    if (number > 1) {
        made[length] = ' ';
        for (int i = 2; i >= 0; i--, number /= 10)
            made[length + 1 + (size_t)i] = (char)('0' + number % 10);
        length += 4;
        made[length] = '\0';
    }
    scratch->names_length += length + 1;
    return made;
}

/* Noise by nature: the time, and what belongs to one connection (RFC 9110, 7.6.1). */
static bool is_noise(const struct text *name)
{
    static const char *const noisy[] = {
        "Date", "Age", "Connection", "Keep-Alive", "Proxy-Connection", "Trailer", "TE", "Upgrade"
    };

    for (size_t i = 0; i < sizeof noisy / sizeof *noisy; i++)
        if (is_word(name, noisy[i]))
            return true;
    return false;
}

static bool read_header(struct http1_parts *parts, const struct text *line)
{
    const uint8_t *colon = memchr(line->bytes, ':', line->length);

    if (colon == NULL)
        return false;
    struct text name = { line->bytes, (size_t)(colon - line->bytes) };
    struct text value = trimmed((struct text){ colon + 1, line->length - name.length - 1 });
    if (is_word(&name, "Transfer-Encoding")) {
        parts->is_chunked = is_word(&value, "chunked");
        return parts->is_chunked;
    }
    if (is_word(&name, "Content-Length"))
        return true;
    if (is_word(&name, "Content-Encoding"))
        parts->encoding =
            is_word(&value, "gzip") || is_word(&value, "deflate") ? ENCODING_ZLIB : ENCODING_OTHER;
    const char  *known = name_of(parts, &name);
    struct part *part = known == NULL ? NULL : add_part(parts->answer, known, value);
    if (part == NULL)
        return false;
    part->is_masked = is_noise(&name);
    return true;
}

/* The status line and headers of the final answer; interim ones (1xx) are passed over. */
static bool read_head(struct http1_parts *parts)
{
    struct text line;

    do {
        if (!next_line(parts, &line) || line.length < 12)
            return false;
        parts->answer->part_count = 0;
        parts->scratch->names_length = 0;
        struct part *status = add_part(parts->answer, "status", (struct text){ line.bytes + 9, 3 });
        status->is_status = true;
        bool is_interim = line.bytes[9] == '1';
        while (next_line(parts, &line) && line.length > 0)
            if (!read_header(parts, &line))
                return false;
        if (line.length > 0)
            return false;
        if (!is_interim)
            return true;
    } while (true);
}

static bool make_room(struct parts_scratch *scratch, size_t bytes)
{
    if (bytes <= scratch->body_room)
        return true;
    uint8_t *room = realloc(scratch->body, bytes);
    if (room == NULL)
        return false;
    scratch->body = room;
    scratch->body_room = bytes;
    return true;
}

static bool read_chunk_size(const struct text *line, size_t *size)
{
    *size = 0;
    for (size_t i = 0; i < line->length && line->bytes[i] != ';'; i++) {
        if (!isxdigit(line->bytes[i]) || *size > SIZE_MAX >> 8)
            return false;
        int digit =
            isdigit(line->bytes[i]) ? line->bytes[i] - '0' : (line->bytes[i] | 0x20) - 'a' + 10;
        *size = *size * 16 + (size_t)digit;
    }
    return true;
}

/* As far as the bytes reach: an answer may be cut, by its server or by the window. */
static bool join_chunks(struct http1_parts *parts, struct text *body)
{
    size_t      rest = (size_t)(parts->end - parts->at), length = 0, size;
    struct text line;

    if (!make_room(parts->scratch, rest))
        return false;
    while (next_line(parts, &line) && read_chunk_size(&line, &size) && size > 0) {
        rest = (size_t)(parts->end - parts->at);
        size_t there = size < rest ? size : rest;
        memcpy(parts->scratch->body + length, parts->at, there);
        length += there;
        parts->at += there;
        if (there < size || !next_line(parts, &line))
            break;
    }
    *body = (struct text){ parts->scratch->body, length };
    return true;
}

/* gzip or zlib, bounded; false: it stays as it is. */
static bool decode(struct parts_scratch *scratch, struct text *body)
{
    z_stream stream = { .next_in = (Bytef *)(uintptr_t)body->bytes,
                        .avail_in = (uInt)body->length };

    if (scratch->decoded == NULL)
        scratch->decoded = malloc(PARTS_DECODED_MAX);
    if (scratch->decoded == NULL || inflateInit2(&stream, MAX_WBITS + 32) != Z_OK)
        return false;
    stream.next_out = scratch->decoded;
    stream.avail_out = PARTS_DECODED_MAX;
    int ended = inflate(&stream, Z_FINISH);
    *body = ended == Z_STREAM_END
                ? (struct text){ scratch->decoded, PARTS_DECODED_MAX - stream.avail_out }
                : *body;
    inflateEnd(&stream);
    return ended == Z_STREAM_END;
}

void parts_of_http1(struct parts_scratch *scratch, struct answer *answer, const struct text *text)
{
    struct http1_parts parts = {
        .scratch = scratch, .answer = answer, .at = text->bytes, .end = text->bytes + text->length
    };
    struct text        body;

    if (!read_head(&parts)) {
        parts_of_bytes(answer, text);
        return;
    }
    body = (struct text){ parts.at, (size_t)(parts.end - parts.at) };
    if (parts.is_chunked && !join_chunks(&parts, &body)) {
        parts_of_bytes(answer, text);
        return;
    }
    if (parts.encoding == ENCODING_ZLIB && body.length > 0)
        decode(scratch, &body);
    if (add_part(answer, "body", body) == NULL)
        parts_of_bytes(answer, text);
}
