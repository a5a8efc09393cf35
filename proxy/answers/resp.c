/*
 * resp.c — a reader of RESP framing: a value is a line, a line and bytes, or a line and more values.
 */
#include "resp.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#define NUMBER_MAX ((uint64_t)1 << 32) /* more than any server takes: 512 MiB */

void resp_requests_start(struct resp_cut *cut)
{
    memset(cut, 0, sizeof *cut);
}

void resp_answers_start(struct resp_cut *cut)
{
    memset(cut, 0, sizeof *cut);
    cut->is_answer = true;
}

static enum cut opaque(struct resp_cut *cut)
{
    cut->state = RESP_IS_OPAQUE;
    return CUT_OPAQUE;
}

static bool is_word(const struct resp_cut *cut, int index, const char *word)
{
    return strcasecmp(cut->word[index], word) == 0;
}

/* After these, answers no longer come one for one. */
static bool breaks_pairs(const struct resp_cut *cut)
{
    static const char *const commands[] = { "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE",
                                            "MONITOR",   "SYNC",       "PSYNC" };

    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (is_word(cut, 0, commands[i]))
            return true;
    return is_word(cut, 0, "CLIENT") && is_word(cut, 1, "REPLY");
}

static void end_word(struct resp_cut *cut)
{
    if (cut->words >= 1 && cut->words <= 2)
        cut->word[cut->words - 1][cut->word_length] = '\0';
    cut->word_length = 0;
}

static void add_to_word(struct resp_cut *cut, const uint8_t *bytes, size_t length)
{
    if (cut->words < 1 || cut->words > 2)
        return;
    for (size_t i = 0; i < length && cut->word_length < RESP_WORD - 1; i++) {
        int byte = toupper(bytes[i]);
        cut->word[cut->words - 1][cut->word_length++] = (char)(isgraph(byte) ? byte : '.');
    }
}

static enum cut end_request(struct resp_cut *cut)
{
    if (cut->words == 0)
        return opaque(cut);
    memset(&cut->request, 0, sizeof cut->request);
    memcpy(cut->request.label, cut->word[0], sizeof cut->word[0]);
    cut->ends_pairs = breaks_pairs(cut);
    memset(cut->word, 0, sizeof cut->word);
    cut->words = 0;
    return CUT_WHOLE;
}

/* A value is over, and with it all values of which it was the last one. */
static enum cut end_value(struct resp_cut *cut)
{
    cut->state = RESP_TYPE;
    while (cut->depth > 0 && --cut->pending[cut->depth - 1] == 0)
        cut->depth--;
    if (cut->depth > 0)
        return CUT_MORE;
    return cut->is_answer ? CUT_WHOLE : end_request(cut);
}

/* This many values follow, which together are one. */
static enum cut begin_values(struct resp_cut *cut, uint64_t count)
{
    if (count == 0 && cut->type == '|')
        return opaque(cut);
    if (count == 0)
        return end_value(cut);
    if (cut->depth == RESP_DEPTH)
        return opaque(cut);
    cut->pending[cut->depth++] = count;
    cut->state = RESP_TYPE;
    return CUT_MORE;
}

static bool has_number(char type)
{
    return strchr("*$%~>|!=", type) != NULL;
}

/* An attribute (|) stands before the value that it belongs to: pairs, and the value itself. */
static enum cut end_number_line(struct resp_cut *cut)
{
    if (!cut->has_digits)
        return opaque(cut);
    if (cut->is_negative) /* null: $-1, *-1 */
        return cut->number == 1 && strchr("*$", cut->type) != NULL ? end_value(cut) : opaque(cut);
    switch (cut->type) {
    case '$':
    case '!':
    case '=':
        cut->left = cut->number;
        cut->state = cut->left > 0 ? RESP_BULK : RESP_BULK_END;
        if (!cut->is_answer)
            cut->words++;
        return CUT_MORE;
    case '%':
        return begin_values(cut, 2 * cut->number);
    case '|':
        return begin_values(cut, cut->number == 0 ? 0 : 2 * cut->number + 1);
    default:
        return begin_values(cut, cut->number);
    }
}

static enum cut end_line(struct resp_cut *cut)
{
    if (!cut->is_answer && cut->type == ' ') { /* inline */
        end_word(cut);
        cut->state = RESP_TYPE;
        return end_request(cut);
    }
    return has_number(cut->type) ? end_number_line(cut) : end_value(cut);
}

static bool take_number_byte(struct resp_cut *cut, uint8_t byte)
{
    if (byte == '-' && cut->line_length == 1) {
        cut->is_negative = true;
        return true;
    }
    if (byte < '0' || byte > '9')
        return false;
    cut->has_digits = true;
    cut->number = cut->number * 10 + (uint64_t)(byte - '0');
    return cut->number < NUMBER_MAX;
}

static void take_inline_byte(struct resp_cut *cut, uint8_t byte)
{
    bool is_blank = byte == ' ' || byte == '\t';

    if (is_blank && cut->word_length > 0)
        end_word(cut);
    if (is_blank)
        return;
    if (cut->word_length == 0)
        cut->words++;
    add_to_word(cut, &byte, 1);
    if (cut->words > 2)
        cut->word_length = 1; /* not kept, but begun */
}

static enum cut take_line_byte(struct resp_cut *cut, uint8_t byte)
{
    if (cut->after_cr != (byte == '\n') || ++cut->line_length > RESP_LINE_MAX)
        return opaque(cut);
    cut->after_cr = byte == '\r';
    if (byte == '\n')
        return end_line(cut);
    if (byte == '\r')
        return CUT_MORE;
    if (has_number(cut->type))
        return take_number_byte(cut, byte) ? CUT_MORE : opaque(cut);
    if (cut->type == ' ')
        take_inline_byte(cut, byte);
    return CUT_MORE;
}

/* The first byte of a value. */
static enum cut begin_value(struct resp_cut *cut, uint8_t byte)
{
    bool is_first = cut->depth == 0;

    cut->type = (char)byte;
    cut->state = RESP_LINE;
    cut->after_cr = cut->has_digits = cut->is_negative = false;
    cut->number = 0;
    cut->line_length = 0;
    if (!cut->is_answer) {
        if (is_first && byte == '*')
            return CUT_MORE;
        if (!is_first)
            return byte == '$' ? CUT_MORE : opaque(cut);
        if (!isalpha(byte))
            return opaque(cut);
        cut->type = ' ';
        take_inline_byte(cut, byte);
        return CUT_MORE;
    }
    if (is_first) {
        cut->is_push = byte == '>';
        cut->is_error = byte == '-' || byte == '!';
    }
    bool is_type = byte != '\0' && strchr("+-:$*_,#!=(%~>|", byte) != NULL;
    return is_type && (byte != '>' || is_first) ? CUT_MORE : opaque(cut);
}

static void take_bulk(struct resp_cut *cut, const uint8_t *bytes, size_t length, size_t *taken)
{
    size_t now = cut->left < length ? (size_t)cut->left : length;

    if (!cut->is_answer)
        add_to_word(cut, bytes, now);
    *taken += now;
    cut->left -= now;
    if (cut->left == 0) {
        cut->state = RESP_BULK_END;
        cut->after_cr = false;
    }
}

static enum cut take_bulk_end(struct resp_cut *cut, uint8_t byte)
{
    if (byte != (cut->after_cr ? '\n' : '\r'))
        return opaque(cut);
    if (!cut->after_cr) {
        cut->after_cr = true;
        return CUT_MORE;
    }
    if (!cut->is_answer)
        end_word(cut);
    return end_value(cut);
}

enum cut resp_cut(struct resp_cut *cut, const uint8_t *bytes, size_t length, size_t *taken)
{
    enum cut what = cut->state == RESP_IS_OPAQUE || cut->ends_pairs ? opaque(cut) : CUT_MORE;

    *taken = 0;
    while (*taken < length && what == CUT_MORE) {
        switch (cut->state) {
        case RESP_TYPE:
            what = begin_value(cut, bytes[(*taken)++]);
            break;
        case RESP_LINE:
            what = take_line_byte(cut, bytes[(*taken)++]);
            break;
        case RESP_BULK:
            take_bulk(cut, bytes + *taken, length - *taken, taken);
            break;
        case RESP_BULK_END:
            what = take_bulk_end(cut, bytes[(*taken)++]);
            break;
        case RESP_IS_OPAQUE:
            what = CUT_OPAQUE;
            break;
        }
    }
    return what;
}
