/*
 * log_fields.c — a printf format read as the members of a line.
 *
 *     "address=%s why=%s tries=%u"
 *              │      │        └ one conversion: formatted alone, with its own argument
 *              └──────┴───────── its text may hold blanks; the blanks outside end a value
 */
#include "base/log_fields.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log_record.h"

/* clang-tidy does not follow a va_list that is passed by address.
 * NOLINTBEGIN(clang-analyzer-valist.Uninitialized) */

#define KEY_BYTES   32
#define VALUE_BYTES 1024 /* a fault's sentence, and a quarter of a line */
#define SPEC_BYTES  32

enum value_kind {
    VALUE_TEXT,
    VALUE_COUNT, /* never negative */
    VALUE_DECIMAL,
    VALUE_NOTHING, /* a NULL string */
};

struct value {
    enum value_kind kind; /* of the last piece; matters when there is only one */
    int pieces;
    uint64_t count;
    double decimal;
    int digits;
    size_t length;
    char text[VALUE_BYTES];
};

/* One conversion of the format, taken apart: flags, width and precision as they are written, '*'
 * replaced by its argument. */
struct conversion {
    char spec[SPEC_BYTES];
    size_t spec_length;
    int precision; /* -1: none */
    char size;     /* 'i' int, 'l' long, 'q' long long, 'z' 'j' 't' */
    char letter;
};

static void spec_add(struct conversion *conversion, const char *text)
{
    size_t length = strlen(text);

    assert(conversion->spec_length + length < SPEC_BYTES - 4); /* "jd" and the end still to come */
    memcpy(conversion->spec + conversion->spec_length, text, length + 1);
    conversion->spec_length += length;
}

static void spec_add_letter(struct conversion *conversion, char letter)
{
    spec_add(conversion, (char[2]){ letter, '\0' });
}

static void spec_add_argument(struct conversion *conversion, va_list *arguments)
{
    char figure[16];

    snprintf(figure, sizeof figure, "%d", va_arg(*arguments, int));
    spec_add(conversion, figure);
}

static char read_size(const char **format)
{
    char size = 'i';

    for (; **format != '\0' && strchr("hlqjzt", **format) != NULL; (*format)++) {
        if (**format == 'l' && size == 'l')
            size = 'q';
        else if (**format != 'h')
            size = **format;
    }
    return size;
}

/* *format stands behind the '%' and is moved behind the conversion. */
static struct conversion read_conversion(const char **format, va_list *arguments)
{
    struct conversion conversion = { .precision = -1 };

    spec_add(&conversion, "%");
    for (; **format != '\0' && strchr("-+ #0123456789.*", **format) != NULL; (*format)++) {
        if (**format == '*')
            spec_add_argument(&conversion, arguments);
        else
            spec_add_letter(&conversion, **format);
    }
    const char *point = strchr(conversion.spec, '.');
    if (point != NULL)
        conversion.precision = atoi(point + 1);
    conversion.size = read_size(format);
    conversion.letter = **format;
    if (**format != '\0')
        (*format)++;
    return conversion;
}

static void value_add(struct value *value, const char *bytes, size_t count)
{
    size_t room = VALUE_BYTES - 1 - value->length;

    if (count > room)
        count = room;
    memcpy(value->text + value->length, bytes, count);
    value->length += count;
    value->text[value->length] = '\0';
}

/* Where a piece is printed to; what does not fit is cut by the last byte of the text. */
static char *value_end(struct value *value)
{
    return value->text + value->length;
}

static size_t value_room(const struct value *value)
{
    return VALUE_BYTES - value->length;
}

static void value_grew(struct value *value, int printed)
{
    size_t room = value_room(value) - 1;

    if (printed > 0)
        value->length += (size_t)printed < room ? (size_t)printed : room;
}

static intmax_t signed_argument(va_list *arguments, char size)
{
    switch (size) {
    case 'l':
        return va_arg(*arguments, long);
    case 'q':
        return va_arg(*arguments, long long);
    case 'z':
        return va_arg(*arguments, ssize_t);
    case 'j':
        return va_arg(*arguments, intmax_t);
    case 't':
        return va_arg(*arguments, ptrdiff_t);
    default:
        return va_arg(*arguments, int);
    }
}

static uintmax_t unsigned_argument(va_list *arguments, char size)
{
    if (size == 'i')
        return va_arg(*arguments, unsigned);
    return (uintmax_t)signed_argument(arguments, size);
}

static void add_signed(struct value *value, struct conversion *conversion, intmax_t number)
{
    value->kind = number < 0 ? VALUE_DECIMAL : VALUE_COUNT;
    value->count = (uint64_t)number;
    value->decimal = (double)number;
    value->digits = 0;
    spec_add(conversion, "jd");
    value_grew(value, snprintf(value_end(value), value_room(value), conversion->spec, number));
}

static void add_unsigned(struct value *value, struct conversion *conversion, uintmax_t number)
{
    value->kind = conversion->letter == 'u' ? VALUE_COUNT : VALUE_TEXT;
    value->count = number;
    spec_add_letter(conversion, 'j');
    spec_add_letter(conversion, conversion->letter);
    value_grew(value, snprintf(value_end(value), value_room(value), conversion->spec, number));
}

static void add_decimal(struct value *value, struct conversion *conversion, double number)
{
    value->kind = VALUE_DECIMAL;
    value->decimal = number;
    value->digits = conversion->precision >= 0 ? conversion->precision : 6; /* printf's own */
    spec_add_letter(conversion, conversion->letter);
    value_grew(value, snprintf(value_end(value), value_room(value), conversion->spec, number));
}

static void add_string(struct value *value, struct conversion *conversion, const char *text)
{
    value->kind = text != NULL ? VALUE_TEXT : VALUE_NOTHING;
    spec_add_letter(conversion, 's');
    if (text != NULL)
        value_grew(value, snprintf(value_end(value), value_room(value), conversion->spec, text));
}

static void add_conversion(struct value *value, const char **format, va_list *arguments)
{
    struct conversion conversion = read_conversion(format, arguments);

    switch (conversion.letter) {
    case 's':
        add_string(value, &conversion, va_arg(*arguments, const char *));
        break;
    case 'd':
    case 'i':
        add_signed(value, &conversion, signed_argument(arguments, conversion.size));
        break;
    case 'u':
    case 'x':
    case 'X':
    case 'o':
        add_unsigned(value, &conversion, unsigned_argument(arguments, conversion.size));
        break;
    case 'e':
    case 'f':
    case 'g':
        add_decimal(value, &conversion, va_arg(*arguments, double));
        break;
    case 'c':
        value_add(value, (char[1]){ (char)va_arg(*arguments, int) }, 1);
        break;
    case 'p':
        value_grew(value,
                   snprintf(value_end(value), value_room(value), "%p", va_arg(*arguments, void *)));
        break;
    default:
        assert(conversion.letter == '%');
        value_add(value, "%", 1);
    }
    value->pieces++;
}

/* Reads to the end character outside conversions; '\0' for all of the format. */
static const char *read_value(const char *format, char end, struct value *value, va_list *arguments)
{
    while (*format != '\0' && *format != end) {
        if (*format == '%') {
            format++;
            add_conversion(value, &format, arguments);
        } else {
            value_add(value, format++, 1);
            value->kind = VALUE_TEXT;
            value->pieces++;
        }
    }
    return format;
}

/* In text form the operator sees what the format says (%03u); JSON wants plain numbers. */
static void print_value(struct log_record *line, const char *key, const struct value *value)
{
    bool alone = value->pieces == 1;

    if (alone && value->kind == VALUE_NOTHING)
        return;
    if (alone && value->kind == VALUE_COUNT && line->format == FORMAT_JSON)
        log_record_number(line, key, value->count);
    else if (alone && value->kind == VALUE_DECIMAL && line->format == FORMAT_JSON)
        log_record_decimal(line, key, value->decimal, value->digits);
    else
        log_record_text(line, key, value->text);
}

/* Answers the length of the key before '='; 0: there is none. */
static size_t key_length(const char *format)
{
    size_t length = strcspn(format, "= %");

    return length < KEY_BYTES && format[length] == '=' ? length : 0;
}

void log_fields_print(struct log_record *line, const char *format, va_list *arguments)
{
    while (*(format += strspn(format, " ")) != '\0') {
        struct value value = { .kind = VALUE_TEXT };
        char key[KEY_BYTES] = "message";
        size_t length = key_length(format);

        if (length > 0)
            snprintf(key, sizeof key, "%.*s", (int)length, format);
        format += length > 0 ? length + 1 : 0;
        format = read_value(format, length > 0 ? ' ' : '\0', &value, arguments);
        print_value(line, key, &value);
    }
}

/* NOLINTEND(clang-analyzer-valist.Uninitialized) */
