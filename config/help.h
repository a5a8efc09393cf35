/*
 * help.h — the table of options as text for people: help, the README's tables, the sample file.
 */
#ifndef CONFIG_HELP_H
#define CONFIG_HELP_H

#include <stddef.h>
#include <stdio.h>

/* No argument at all: three lines that say how to go on. */
void help_print_usage(FILE *);
/* -h: the flags of a first use, on one page of 80 columns. */
void help_print_page(FILE *);
/* --help: all flags, in groups, on lines of at most this many columns. */
void help_print_all(FILE *, size_t width);
/* Markdown: for each group a table of flag, environment variable, default and help. */
void help_print_tables(FILE *);
/* config/doppel.conf */
void help_print_sample(FILE *);

#endif
