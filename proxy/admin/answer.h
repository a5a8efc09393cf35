/*
 * answer.h — what goes back to whoever asked the admin endpoint.
 */
#ifndef ADMIN_ANSWER_H
#define ADMIN_ANSWER_H

/* The statuses that are used (RFC 9110). */
enum answer_status {
    ANSWER_OK = 200,
    ANSWER_ACCEPTED = 202,
    ANSWER_BAD_REQUEST = 400,
    ANSWER_UNAUTHORIZED = 401,
    ANSWER_FORBIDDEN = 403,
    ANSWER_NOT_FOUND = 404,
    ANSWER_METHOD_NOT_ALLOWED = 405,
    ANSWER_CONFLICT = 409,
    ANSWER_CONTENT_TOO_LARGE = 413,
    ANSWER_HEADERS_TOO_LARGE = 431,
    ANSWER_UNAVAILABLE = 503,
};

struct answer {
    enum answer_status status;
    const char        *type; /* of the text */
    char *text;       /* from malloc, goes to the receiver; NULL: there was no memory for it */
};

/* One line of plain text. */
struct answer answer_plain(enum answer_status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Takes the text. */
struct answer answer_json(enum answer_status, char *text);

#endif
