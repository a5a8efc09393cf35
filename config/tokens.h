/*
 * tokens.h — what an operator wrote, cut at its separators, and bytes that would mean something there.
 *
 *     "a , b?sample=10&buffer=1m"  ──at the commas──▶  "a"  "b?sample=10&buffer=1m"
 *     "/run/a%2Cb"                 ──unescaped──────▶  "/run/a,b"
 */
#ifndef CONFIG_TOKENS_H
#define CONFIG_TOKENS_H

#include <stdbool.h>
#include <stdio.h>

struct fault;

/* The next piece, without outer blanks, cut out of the text itself; NULL behind the last.  *rest begins
 * as the text.  An empty text has one empty piece. */
char *tokens_next(char **rest, const char *separators);
/* Cuts outer blanks off, in the text itself; answers where the rest begins. */
char *tokens_trim(char *text);

/* %XX becomes its byte, in place.  A % at the very end stands for itself: sample=10% needs no escape.
 * False: the fault names what is no escape. */
bool tokens_unescape(char *text, struct fault *);
/* The byte, or its escape where it would separate, or be lost in a file. */
void tokens_put_escaped(char, FILE *);

#endif
