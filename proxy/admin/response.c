/*
 * response.c — answers are made of a sentence, or of JSON that is there already.
 */
#include "admin/response.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct response response_plain(enum response_status status, const char *format, ...)
{
    struct response response = { .status = status, .type = "text/plain; charset=utf-8" };
    va_list arguments;

    va_start(arguments, format);
    if (vasprintf(&response.text, format, arguments) < 0)
        response.text = NULL;
    va_end(arguments);
    return response;
}

struct response response_json(enum response_status status, char *text)
{
    return (struct response){ .status = status, .type = "application/json", .text = text };
}
