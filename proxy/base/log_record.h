/*
 * log_record.h — one bounded line of named values, as JSON or as logfmt (key=value).
 *
 * The log and the access log both speak through it, so escaping and bounding happen in one place:
 * text from the network can neither break a line in two nor forge a field.  A line never exceeds
 * LOG_RECORD_MAX_BYTES, newline included, because longer writes to a pipe may mix with other processes'
 * (pipe(7), PIPE_BUF).
 *
 *     JSON    {"name":"x","shadows":[{"name":"canary","sent_bytes":12}]}
 *     text    name=x shadows.0.name=canary shadows.0.sent_bytes=12
 */
#ifndef BASE_LOG_RECORD_H
#define BASE_LOG_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_RECORD_MAX_BYTES 4096

enum log_format {
    FORMAT_TEXT,
    FORMAT_JSON,
};

struct log_record {
    enum log_format format;
    size_t          length;
    bool            overflowed; /* something did not fit and was left out */
    bool            first;      /* no member yet at this level */
    char            prefix[64]; /* text form: "shadows.0." inside a list */
    int             item;       /* inside a list: the index of the current object */

    /* Its own bookkeeping. */
    enum log_record_place {
        LOG_RECORD_BEFORE_LIST,
        LOG_RECORD_IN_LIST,
        LOG_RECORD_IN_ITEM,
        LOG_RECORD_AFTER_LIST,
    } place;
    size_t      mark;      /* where the current member began */
    bool        full;      /* the current member did not fit */
    bool        cut;       /* a member outside the list's objects was left out */
    size_t      item_mark; /* where the current object began */
    bool        item_lost; /* and it was taken back */
    bool        list_lost; /* the list itself did not fit */
    const char *list_key;
    char        bytes[LOG_RECORD_MAX_BYTES];
};

/* Starts an empty line. */
void log_record_start(struct log_record *, enum log_format);

/* A value that is NULL is left out, and so is one that does not fit.  Text is escaped: control
 * characters, line separators, quotes, backslashes and bytes that are not UTF-8; in text form a
 * value that is empty or has blanks, '=' or quotes is quoted.  The key is the program's own. */
void log_record_text(struct log_record *, const char *key, const char *value);
/* A member that in text form stands bare, without its key: only for words of the program's own. */
void log_record_word(struct log_record *, const char *key, const char *value);
/* The same padded with blanks to this width, for lines that people read: to the left of it, or to the
 * right if the width is below 0.  A value that cannot stand bare is quoted. */
void log_record_column(struct log_record *, const char *key, const char *value, int width);
void log_record_number(struct log_record *, const char *key, uint64_t value);
/* With this many digits after the point; a value that is no number is left out. */
void log_record_decimal(struct log_record *, const char *key, double value, int digits);

/* One list of objects in a line: log_record_list(), then log_record_item() before each object's
 * members, then log_record_list_end().  An object that does not fit is taken back whole:
 * log_record_item_fits(), asked after its members, answers false.  After the list there is
 * always room for a number or two, to say how many were left out.  The key is borrowed until
 * log_record_list_end(). */
void log_record_list(struct log_record *, const char *key);
void log_record_item(struct log_record *);
bool log_record_item_fits(struct log_record *);
void log_record_list_end(struct log_record *);

/* Closes the line with its newline; answers its length.  The bytes are line->bytes.  A line that
 * had to leave out a member outside its list ends with truncated=true. */
size_t log_record_end(struct log_record *);

#endif
