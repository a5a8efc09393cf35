/*
 * fault.h — a sentence that says why, and the ends of a program that cannot go on.
 *
 * Set-up code answers a pointer or bool and fills a fault with one sentence: what, where, what
 * would be right.  Who decides, logs it, once.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct fault {
    char text[1024];
};

/* Writes the sentence (cut to what fits); a NULL fault is fine.  Always answers false, so that a
 * failing function can end in one line: return fault_set(fault, ...). */
bool fault_set(struct fault *, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Writes "doppel: SENTENCE" to stderr and ends the process with this status. */
_Noreturn void die(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Who else is told that sentence, before the process ends; NULL: nobody. */
void die_tells(void (*tell)(const char *sentence));

/* calloc, strdup and open_memstream that cannot fail: they use up the reserve, then they die.  Only
 * before the first session, and where a configuration is read. */
void *xcalloc(size_t count, size_t size);
char *xstrdup(const char *text);
FILE *xmemstream(char **text, size_t *size);
/* Moves these items to memory with room for one more behind them, all zero; takes the old memory. */
void *xwidened(void *items, size_t count, size_t item_size);

/* Keeps so many bytes for them, so that what begins when there is memory can be ended in good order
 * when there is none left.  False: there is none now. */
bool reserve_keep(size_t size);
/* Whether they have used it up. */
bool reserve_is_used(void);
void reserve_free(void);

#endif
