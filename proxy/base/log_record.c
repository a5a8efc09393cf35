/*
 * log_record.c — one bounded line, member by member.
 *
 *     |<------------- members, the list ------------->|<- after the list ->|<- closing ->|
 *     0                                                                            LOG_RECORD_MAX_BYTES
 *
 * A member is written in place and taken back when it does not fit, and so is an object of the
 * list.  Room at the end is kept so that the line can always be closed and can always say what is
 * missing.
 */
#include "base/log_record.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLOSING_ROOM    24 /* ,"truncated":true} and the newline */
#define AFTER_LIST_ROOM 96 /* the list's end and two numbers with their keys */

static bool is_json(const struct log_record *line)
{
    return line->format == FORMAT_JSON;
}

static size_t limit_of(const struct log_record *line)
{
    size_t limit = LOG_RECORD_MAX_BYTES - CLOSING_ROOM;

    return line->place == LOG_RECORD_AFTER_LIST ? limit : limit - AFTER_LIST_ROOM;
}

static void put(struct log_record *line, const char *bytes, size_t count)
{
    if (line->full || count > limit_of(line) - line->length) {
        line->full = true;
        return;
    }
    memcpy(line->bytes + line->length, bytes, count);
    line->length += count;
}

static void put_text(struct log_record *line, const char *text)
{
    put(line, text, strlen(text));
}

/* How many bytes a UTF-8 character has that begins with this byte; 0: none begins so. */
static size_t character_length(unsigned char first)
{
    if (first < 0x80)
        return 1;
    if ((first & 0xe0) == 0xc0)
        return 2;
    if ((first & 0xf0) == 0xe0)
        return 3;
    return (first & 0xf8) == 0xf0 ? 4 : 0;
}

/* Reads one UTF-8 character (RFC 3629: no overlong forms, no surrogates, nothing above 10FFFF) and
 * answers its length; 0: the bytes are not UTF-8. */
static size_t character_at(const char *text, uint32_t *code)
{
    static const uint32_t min[] = { 0, 0, 0x80, 0x800, 0x10000 }; /* that needs so many bytes */
    const unsigned char *bytes = (const unsigned char *)text;
    size_t length = character_length(bytes[0]);

    if (length == 0)
        return 0;
    *code = length == 1 ? bytes[0] : bytes[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
        *code = *code << 6 | (bytes[i] & 0x3fu);
    }
    bool surrogate = *code >= 0xd800 && *code <= 0xdfff;
    return *code < min[length] || *code > 0x10ffff || surrogate ? 0 : length;
}

/* Nothing a terminal obeys (C0, DEL, C1) and nothing that some reader takes for the line's end. */
static bool is_printable(uint32_t code)
{
    if (code < 0x20 || (code >= 0x7f && code < 0xa0))
        return false;
    return code != 0x2028 && code != 0x2029;
}

/* In JSON a byte that is no character becomes the text \xNN, as everything must stay Unicode. */
static void put_escape(struct log_record *line, const char *text, size_t length, uint32_t code)
{
    char escape[8];

    if (is_json(line) && length > 0) {
        snprintf(escape, sizeof escape, "\\u%04x", code);
        put_text(line, escape);
        return;
    }
    for (size_t i = 0; i < length || i == 0; i++) {
        snprintf(escape, sizeof escape, "%s%02x", is_json(line) ? "\\\\x" : "\\x",
                 (unsigned char)text[i]);
        put_text(line, escape);
    }
}

static void put_escaped(struct log_record *line, const char *text)
{
    uint32_t code = 0;

    while (*text != '\0' && !line->full) {
        size_t length = character_at(text, &code);
        bool plain = length > 0 && is_printable(code);
        if (!plain)
            put_escape(line, text, length, code);
        if (plain && (code == '"' || code == '\\'))
            put_text(line, "\\");
        if (plain)
            put(line, text, length);
        text += length > 0 ? length : 1;
    }
}

/* logfmt: may the value stand without quotes? */
static bool is_bare(const char *text)
{
    uint32_t code = 0;

    if (*text == '\0')
        return false;
    while (*text != '\0') {
        size_t length = character_at(text, &code);
        if (length == 0 || !is_printable(code))
            return false;
        if (*text == ' ' || *text == '=' || *text == '"' || *text == '\\')
            return false;
        text += length;
    }
    return true;
}

static void put_quoted(struct log_record *line, const char *text)
{
    put_text(line, "\"");
    put_escaped(line, text);
    put_text(line, "\"");
}

/* Between this member, or object, and what stands before it. */
static void put_separator(struct log_record *line)
{
    if (!is_json(line) && line->length > 0)
        put_text(line, " ");
    if (is_json(line) && !line->first)
        put_text(line, ",");
}

/* False: the member would stand in an object that is taken back anyway. */
static bool member_start(struct log_record *line)
{
    assert(line->place != LOG_RECORD_IN_LIST);
    if (line->place == LOG_RECORD_IN_ITEM && line->item_lost)
        return false;
    line->mark = line->length;
    line->full = false;
    put_separator(line);
    return true;
}

static void put_key(struct log_record *line, const char *key)
{
    if (is_json(line)) {
        put_quoted(line, key);
        put_text(line, ":");
    } else {
        put_text(line, line->prefix);
        put_text(line, key);
        put_text(line, "=");
    }
}

static void member_end(struct log_record *line)
{
    if (!line->full) {
        line->first = false;
        return;
    }
    line->length = line->mark;
    line->overflowed = true;
    if (line->place == LOG_RECORD_IN_ITEM)
        line->item_lost = true;
    else
        line->cut = true;
}

void log_record_start(struct log_record *line, enum log_format format)
{
    line->format = format;
    line->length = 0;
    line->overflowed = false;
    line->first = true;
    line->prefix[0] = '\0';
    line->item = 0;
    line->place = LOG_RECORD_BEFORE_LIST;
    line->full = false;
    line->cut = false;
    line->item_lost = false;
    line->list_lost = false;
    if (is_json(line))
        put_text(line, "{");
}

void log_record_text(struct log_record *line, const char *key, const char *value)
{
    if (value == NULL || !member_start(line))
        return;
    put_key(line, key);
    if (is_json(line) || !is_bare(value))
        put_quoted(line, value);
    else
        put_text(line, value);
    member_end(line);
}

void log_record_word(struct log_record *line, const char *key, const char *value)
{
    if (is_json(line)) {
        log_record_text(line, key, value);
        return;
    }
    if (value == NULL || !member_start(line))
        return;
    put_escaped(line, value);
    member_end(line);
}

static void put_blanks(struct log_record *line, size_t count)
{
    while (count-- > 0)
        put(line, " ", 1);
}

void log_record_column(struct log_record *line, const char *key, const char *value, int width)
{
    if (is_json(line) || value == NULL) {
        log_record_text(line, key, value);
        return;
    }
    if (!member_start(line))
        return;
    size_t max = (size_t)abs(width);
    size_t missing = strlen(value) < max ? max - strlen(value) : 0;
    put_blanks(line, width > 0 ? missing : 0);
    if (is_bare(value))
        put_text(line, value);
    else
        put_quoted(line, value);
    put_blanks(line, width < 0 ? missing : 0);
    member_end(line);
}

static void put_figure(struct log_record *line, const char *key, const char *figure)
{
    if (!member_start(line))
        return;
    put_key(line, key);
    put_text(line, figure);
    member_end(line);
}

void log_record_number(struct log_record *line, const char *key, uint64_t value)
{
    char figure[24]; /* 2^64 has 20 digits */

    snprintf(figure, sizeof figure, "%llu", (unsigned long long)value);
    put_figure(line, key, figure);
}

void log_record_decimal(struct log_record *line, const char *key, double value, int digits)
{
    char figure[400]; /* the greatest double has 309 digits before the point */

    if (!isfinite(value))
        return;
    snprintf(figure, sizeof figure, "%.*f", digits < 20 ? digits : 20, value);
    put_figure(line, key, figure);
}

void log_record_list(struct log_record *line, const char *key)
{
    assert(line->place == LOG_RECORD_BEFORE_LIST);
    line->list_key = key;
    line->item = 0;
    if (is_json(line)) {
        member_start(line);
        put_key(line, key);
        put_text(line, "[");
        line->list_lost = line->full;
        member_end(line);
    }
    line->place = LOG_RECORD_IN_LIST;
}

/* Ends the object that is open: closed when all of it is there, taken back when not. */
static void item_end(struct log_record *line)
{
    if (line->place != LOG_RECORD_IN_ITEM)
        return;
    line->full = false;
    if (is_json(line) && !line->item_lost)
        put_text(line, "}");
    line->item_lost = line->item_lost || line->full;
    line->place = LOG_RECORD_IN_LIST;
    if (line->item_lost) {
        line->length = line->item_mark;
        line->overflowed = true;
    } else {
        line->item++;
    }
}

void log_record_item(struct log_record *line)
{
    item_end(line);
    assert(line->place == LOG_RECORD_IN_LIST);
    line->place = LOG_RECORD_IN_ITEM;
    line->item_mark = line->length;
    line->first = true;
    line->full = false;
    if (is_json(line))
        put_text(line, line->item > 0 ? ",{" : "{");
    else
        snprintf(line->prefix, sizeof line->prefix, "%s.%d.", line->list_key, line->item);
    line->item_lost = line->list_lost || line->full;
}

bool log_record_item_fits(struct log_record *line)
{
    item_end(line);
    return !line->item_lost;
}

void log_record_list_end(struct log_record *line)
{
    item_end(line);
    assert(line->place == LOG_RECORD_IN_LIST);
    line->place = LOG_RECORD_AFTER_LIST;
    line->prefix[0] = '\0';
    line->list_key = NULL;
    line->first = is_json(line) && line->length == 1;
    line->full = false;
    if (is_json(line) && !line->list_lost)
        put_text(line, "]");
}

/* The room for this was kept, see the picture above. */
static void close_with(struct log_record *line, const char *text)
{
    size_t length = strlen(text);

    assert(length <= LOG_RECORD_MAX_BYTES - line->length);
    memcpy(line->bytes + line->length, text, length);
    line->length += length;
}

size_t log_record_end(struct log_record *line)
{
    if (line->place == LOG_RECORD_IN_LIST || line->place == LOG_RECORD_IN_ITEM)
        log_record_list_end(line);
    if (line->cut && is_json(line))
        close_with(line, line->first ? "\"truncated\":true" : ",\"truncated\":true");
    if (line->cut && !is_json(line))
        close_with(line, line->length > 0 ? " truncated=true" : "truncated=true");
    close_with(line, is_json(line) ? "}\n" : "\n");
    return line->length;
}
