/*
 * frames.h — how a conversation is cut into exchanges, and how its first bytes say so.
 */
#ifndef ANSWERS_FRAMES_H
#define ANSWERS_FRAMES_H

#include <stddef.h>

enum frames {
    FRAMES_AUTO,    /* by the client's first bytes: HTTP/1, RESP, or the session as a whole */
    FRAMES_SESSION, /* one exchange */
    FRAMES_HTTP1,
    FRAMES_RESP,
};

#define FRAMES_PREFIX 32 /* bytes of the client that must say which protocol it speaks */

/* Upper-case letters and a blank begin an HTTP request, a star and a digit one of RESP.  length: at least
 * 1, at most FRAMES_PREFIX.  FRAMES_AUTO: it takes more bytes to tell. */
enum frames frames_of(const char *bytes, size_t length);

#endif
