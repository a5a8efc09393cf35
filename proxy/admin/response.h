/*
 * response.h — what goes back to whoever asked the admin endpoint.
 */
#ifndef ADMIN_RESPONSE_H
#define ADMIN_RESPONSE_H

/* The statuses that are used (RFC 9110). */
enum response_status {
    RESPONSE_OK = 200,
    RESPONSE_ACCEPTED = 202,
    RESPONSE_BAD_REQUEST = 400,
    RESPONSE_UNAUTHORIZED = 401,
    RESPONSE_FORBIDDEN = 403,
    RESPONSE_NOT_FOUND = 404,
    RESPONSE_METHOD_NOT_ALLOWED = 405,
    RESPONSE_CONFLICT = 409,
    RESPONSE_CONTENT_TOO_LARGE = 413,
    RESPONSE_HEADERS_TOO_LARGE = 431,
    RESPONSE_UNAVAILABLE = 503,
};

struct response {
    enum response_status status;
    const char        *type; /* of the text */
    char *text;       /* from malloc, goes to the receiver; NULL: there was no memory for it */
};

/* One line of plain text. */
struct response response_plain(enum response_status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Takes the text. */
struct response response_json(enum response_status, char *text);

#endif
