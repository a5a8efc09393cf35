/*
 * number.h — counts, sizes, times and percentages: text to number, and back.
 */
#ifndef CONFIG_NUMBER_H
#define CONFIG_NUMBER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct fault;
struct option;

/* The number in its finest steps, within the row's bounds; the row's word for nothing is 0.  False:
 * the fault, which may be NULL. */
bool number_read(const struct option *, const char *text, uint64_t *steps, struct fault *);
/* The same into a field of the row's kind; see enum option_kind. */
bool number_set(const struct option *, void *field, const char *text, struct fault *);
/* As number_set() reads it, in the largest unit that needs no fraction. */
void number_print(const struct option *, const void *field, FILE *to);

#endif
