/*
 * fault.c — one sentence, always one line.
 *
 * A sentence quotes what an operator or a file said, and that may hold anything.  Control
 * characters become \xNN here, once, so that a fault is one line wherever it is shown.
 */
#include "base/fault.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ESCAPE_LENGTH 4 /* \xNN */

/* Copies a sentence, control characters escaped, as far as it fits. */
static void copy_as_line(char *line, size_t size, const char *sentence)
{
    size_t length = 0;

    for (const char *c = sentence; *c != '\0' && length + ESCAPE_LENGTH < size; c++) {
        unsigned char byte = (unsigned char)*c;
        if (byte < ' ' || byte == 0x7f)
            length += (size_t)snprintf(line + length, size - length, "\\x%02x", byte);
        else
            line[length++] = *c;
    }
    line[length] = '\0';
}

/* Both ends that quote; the caller's list is used up. */
__attribute__((format(printf, 3, 0))) static void write_line(char *line, size_t size,
                                                             const char *format, va_list arguments)
{
    char sentence[sizeof((struct fault *)NULL)->text];

    vsnprintf(sentence, sizeof sentence, format, arguments);
    copy_as_line(line, size, sentence);
}

bool fault_set(struct fault *fault, const char *format, ...)
{
    va_list arguments;

    if (fault == NULL)
        return false;
    va_start(arguments, format);
    write_line(fault->text, sizeof fault->text, format, arguments);
    va_end(arguments);
    return false;
}

static void (*teller)(const char *sentence);

void die_tells(void (*tell)(const char *sentence))
{
    teller = tell;
}

_Noreturn void die(int status, const char *format, ...)
{
    struct fault why;
    va_list arguments;

    va_start(arguments, format);
    write_line(why.text, sizeof why.text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "doppel: %s\n", why.text);
    if (teller != NULL)
        teller(why.text);
    exit(status);
}

/* --- memory ------------------------------------------------------------------------------ */

static struct {
    void *memory;
    bool is_used;
} reserve;

bool reserve_keep(size_t size)
{
    reserve_free();
    reserve.memory = malloc(size);
    return reserve.memory != NULL;
}

bool reserve_is_used(void) { return reserve.is_used; }

void reserve_free(void)
{
    free(reserve.memory);
    reserve.memory = NULL;
    reserve.is_used = false;
}

/* False: there is none. */
static bool use_reserve(void)
{
    bool there_is = reserve.memory != NULL;

    free(reserve.memory);
    reserve.memory = NULL;
    reserve.is_used |= there_is;
    return there_is;
}

void *xcalloc(size_t count, size_t size)
{
    void *memory = calloc(count, size);

    if (memory == NULL && use_reserve())
        memory = calloc(count, size);
    if (memory == NULL && count > 0 && size > 0)
        die(1, "no memory for %zu bytes", count * size);
    return memory;
}

char *xstrdup(const char *text)
{
    char *copy = strdup(text);

    if (copy == NULL && use_reserve())
        copy = strdup(text);
    if (copy == NULL)
        die(1, "no memory for %zu bytes", strlen(text) + 1);
    return copy;
}

FILE *xmemstream(char **text, size_t *size)
{
    FILE *to = open_memstream(text, size);

    if (to == NULL && use_reserve())
        to = open_memstream(text, size);
    if (to == NULL)
        die(1, "no memory to print a text");
    return to;
}

void *xwidened(void *items, size_t count, size_t item_size)
{
    void *wider = xcalloc(count + 1, item_size);

    if (count > 0)
        memcpy(wider, items, count * item_size);
    free(items);
    return wider;
}
