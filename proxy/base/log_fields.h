/*
 * log_fields.h — a printf format read as the members of a line: "key=%s key2=%u".
 *
 * The format is the program's own, the values may be anybody's: each is formatted alone and given
 * to the line as one value, so a blank or a quote inside it cannot become a member of its own.
 */
#ifndef BASE_LOG_FIELDS_H
#define BASE_LOG_FIELDS_H

#include <stdarg.h>

struct log_record;

/* Adds the members.  A value runs to the next blank of the format and is cut at 1,024 bytes; one
 * that is a single %s with NULL is left out; one that is a single numeric conversion (%d %u %f with
 * any size) is a number in JSON.  A format that does not begin a member with "key=" gives the rest
 * of its text the key "message".  %n and wide characters are not understood.  The list is used up; it
 * comes by address because it is read in many steps. */
void log_fields_print(struct log_record *, const char *format, va_list *)
    __attribute__((format(printf, 2, 0)));

#endif
