/*
 * value.h — one option's value: its text, and the field it fills.
 *
 *     "16m", "250ms", "12.5%", "off"  ──value_set──▶  a field of struct config and its parts
 *                                     ◀─value_print─
 *
 * What value_print() writes, value_set() reads back to the same value.
 */
#ifndef CONFIG_VALUE_H
#define CONFIG_VALUE_H

#include <stdbool.h>
#include <stdio.h>

struct fault;
struct option;

/* base is the struct of the option's scope.  False: the fault says what is wrong and what would be
 * right, but not where; the field keeps its value.  Lists take commas. */
bool value_set(const struct option *, void *base, const char *text, struct fault *);
/* As value_set(), but a list keeps what it has and grows. */
bool value_add(const struct option *, void *base, const char *text, struct fault *);
/* In the spelling of the file.  An empty list is the word for none. */
void value_print(const struct option *, const void *base, FILE *);
/* The same as a text, which the caller frees. */
char *value_text(const struct option *, const void *base);
/* Whether that is the default, in whichever spelling. */
bool value_is_default(const struct option *, const void *base);
/* Frees what the field owns. */
void value_free(const struct option *, void *base);

#endif
