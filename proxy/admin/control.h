/*
 * control.h — what a POST to the admin endpoint changes.
 *
 *     /shadows/NAME/pause, /shadows/NAME/resume, /shadows/NAME/sample?percent=P
 *     /mirroring/on, /mirroring/off
 *     /reload, /drain                                        as HUP and TERM do
 *
 * admin/authorization.h has decided before whether the client may do this.
 */
#ifndef ADMIN_CONTROL_H
#define ADMIN_CONTROL_H

#include <stdbool.h>

#include "admin/response.h"

struct admin_view;

struct control_request {
    const char *path;
    const char *percent; /* of the query; NULL: it has none */
    const char *by;      /* over what the request came, for the log: "tcp" or "unix" */
};

/* There may be something to change under this path: whether there is such a shadow comes later. */
bool control_has(const char *path);
/* Changes it, says so in the log, and answers with the new state. */
struct response control_do(const struct admin_view *, const struct control_request *);

#endif
