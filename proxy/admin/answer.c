/*
 * answer.c — answers are made of a sentence, or of JSON that is there already.
 */
#include "admin/answer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct answer answer_plain(enum answer_status status, const char *format, ...)
{
    struct answer answer = { .status = status, .type = "text/plain; charset=utf-8" };
    va_list arguments;

    va_start(arguments, format);
    if (vasprintf(&answer.text, format, arguments) < 0)
        answer.text = NULL;
    va_end(arguments);
    return answer;
}

struct answer answer_json(enum answer_status status, char *text)
{
    return (struct answer){ .status = status, .type = "application/json", .text = text };
}
