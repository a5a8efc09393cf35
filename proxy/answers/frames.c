/*
 * frames.c — a guess that never takes one protocol for another: what it does not know is no protocol.
 */
#include "frames.h"

#include <ctype.h>

enum frames frames_of(const char *bytes, size_t length)
{
    size_t letters = 0;

    while (letters < length && isupper((unsigned char)bytes[letters]))
        letters++;
    if (letters == length)
        return length < FRAMES_PREFIX ? FRAMES_AUTO : FRAMES_SESSION;
    if (letters >= 3 && bytes[letters] == ' ')
        return FRAMES_HTTP1;
    if (bytes[0] != '*')
        return FRAMES_SESSION;
    if (length < 2)
        return FRAMES_AUTO;
    return isdigit((unsigned char)bytes[1]) ? FRAMES_RESP : FRAMES_SESSION;
}
