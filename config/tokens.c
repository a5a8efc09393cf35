/*
 * tokens.c — texts are cut where they are, and only ever become shorter.
 */
#include "config/tokens.h"

#include <ctype.h>
#include <string.h>

#include "base/fault.h"

char *tokens_trim(char *text)
{
    text += strspn(text, " \t");
    size_t length = strlen(text);
    while (length > 0 && (text[length - 1] == ' ' || text[length - 1] == '\t'))
        length--;
    text[length] = '\0';
    return text;
}

char *tokens_next(char **rest, const char *separators)
{
    char *piece = *rest;

    if (piece == NULL)
        return NULL;
    *rest = strpbrk(piece, separators);
    if (*rest != NULL)
        *(*rest)++ = '\0';
    return tokens_trim(piece);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool tokens_unescape(char *text, struct fault *fault)
{
    char *to = text;

    for (const char *from = text; *from != '\0'; to++) {
        if (from[0] != '%' || from[1] == '\0') {
            *to = *from++;
            continue;
        }
        int high = hex_digit(from[1]);
        int low = high >= 0 ? hex_digit(from[2]) : -1;
        if (low < 0 || high + low == 0)
            return fault_set(fault, "\"%.3s\" is no escaped byte; write %%25 for a %%", from);
        *to = (char)(high * 16 + low);
        from += 3;
    }
    *to = '\0';
    return true;
}

void tokens_put_escaped(char c, FILE *to)
{
    if ((unsigned char)c <= ' ' || c == 0x7f || strchr("%?&,+;#\"'", c) != NULL)
        fprintf(to, "%%%02X", (unsigned char)c);
    else
        fputc(c, to);
}
