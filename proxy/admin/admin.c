/*
 * admin.c — the admin endpoint's connections, and the way from a request to its answer.
 *
 *     libmicrohttpd's epoll descriptor ──readable──▶ serve() ──▶ MHD_run() ──▶ on_request()
 *     the nearest deadline ──────────────timer─────▶    └─────▶ the timer again
 *
 * Requests are served one after another in the supervisor, whose loop carries no session, so a slow
 * answer here delays nobody's bytes.  Nor do many: after each turn the endpoint rests nine times as
 * long as it worked, so that it takes a tenth of a processor from the workers; but half a second at
 * most, because health checks give up.  In one turn the metrics are printed once.
 */
#include "admin/admin.h"

#include <ev.h>
#include <inttypes.h>
#include <math.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/authorization.h"
#include "admin/connections.h"
#include "admin/control.h"
#include "admin/pages.h"
#include "admin/request_head.h"
#include "admin/response.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "config/config.h"
#include "socket/watch.h"

#define MAX_REQUEST     8192  /* bytes of a request; it has no body */
#define CONNECTION_BYTES 16384 /* the request and the answer's head */
#define REST             9.0   /* times the processor time that was used */
#define LONGEST_REST     0.5   /* seconds: health checks give up after one */
#define WARNING_EVERY    10.0  /* seconds */

struct admin {
    struct ev_loop *loop;
    struct MHD_Daemon *server;
    struct pages pages;
    struct watch ready;
    ev_timer timeout;
    ev_timer rest; /* meanwhile nobody looks whether the server is ready */
    struct admin_connections connections;
    struct log_limit refusals;
};

/* --- who asks, and how ------------------------------------------------------------------- */

static bool is_unix(const struct admin *admin)
{
    return admin->pages.view.config->admin.kind == ENDPOINT_UNIX;
}

static const char *header_of(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static struct credentials credentials_of(struct MHD_Connection *connection)
{
    return (struct credentials){
        .host = header_of(connection, MHD_HTTP_HEADER_HOST),
        .origin = header_of(connection, MHD_HTTP_HEADER_ORIGIN),
        .authorization = header_of(connection, MHD_HTTP_HEADER_AUTHORIZATION),
    };
}

static bool is_too_large(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *about =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);

    return about != NULL && about->header_size > MAX_REQUEST;
}

static bool has_body(struct MHD_Connection *connection)
{
    const char *length = header_of(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);

    return header_of(connection, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL ||
           (length != NULL && strspn(length, "0") != strlen(length));
}

static bool is_post(const char *method)
{
    return strcmp(method, MHD_HTTP_METHOD_POST) == 0;
}

static bool is_get(const char *method)
{
    return strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
}

static struct response refuse_change(struct admin *admin, enum response_status status,
                                     const char *why)
{
    uint64_t suppressed;

    if (log_limit_passes(&admin->refusals, clock_now(), WARNING_EVERY, &suppressed))
        log_warning("supervisor", "change_refused", "why=%s suppressed=%" PRIu64, why, suppressed);
    return response_plain(status, "%s\n", why);
}

/* Whether the asker may change something: else the response says why not. */
static bool may_change(struct admin *admin, struct MHD_Connection *connection,
                       struct response *response)
{
    struct credentials credentials = credentials_of(connection);

    if (is_unix(admin) || authorization_has_token(&credentials, admin->pages.view.token))
        return true;
    if (admin->pages.view.token->length == 0)
        *response = refuse_change(admin, RESPONSE_FORBIDDEN,
                                  "changes over TCP need --admin-token-file, or ask a unix socket");
    else
        *response = refuse_change(admin, RESPONSE_UNAUTHORIZED,
                                  "changes need the header Authorization: Bearer TOKEN");
    return false;
}

/* A sentence that says why nobody may ask like this; NULL: one may. */
static const char *why_forbidden(const struct admin *admin, struct MHD_Connection *connection,
                                 const struct request_line *line)
{
    const struct page_row *page = pages_find(line->path);
    struct credentials credentials = credentials_of(connection);

    if (is_unix(admin))
        return NULL;
    if (page != NULL && page->is_open && is_get(line->method))
        return authorization_refuses_origin(&credentials);
    return authorization_refuses(&credentials, admin->pages.view.config->admin_host);
}

/* What is wrong with a request's head, before anything else is looked at. */
static bool is_fine(const struct admin *admin, struct MHD_Connection *connection,
                    const struct request_line *line, struct response *response)
{
    const char *path = line->path, *method = line->method;
    const char *unclear = request_head_refuses(connection, line);
    const char *forbidden = why_forbidden(admin, connection, line);
    bool is_page = pages_find(path) != NULL;

    if (is_too_large(connection))
        *response = response_plain(RESPONSE_HEADERS_TOO_LARGE, "a request has at most %d bytes\n",
                                   MAX_REQUEST);
    else if (unclear != NULL)
        *response = response_plain(RESPONSE_BAD_REQUEST, "%s\n", unclear);
    else if (forbidden != NULL)
        *response = response_plain(RESPONSE_FORBIDDEN, "%s\n", forbidden);
    else if (!is_page && !control_has(path))
        *response = response_plain(RESPONSE_NOT_FOUND,
                                   "not found; there are /metrics /status /healthz /readyz\n");
    else if (is_page ? !is_get(method) : !is_post(method))
        *response = response_plain(RESPONSE_METHOD_NOT_ALLOWED, "only %s is understood here\n",
                                   is_page ? "GET" : "POST");
    else if (has_body(connection))
        *response = response_plain(RESPONSE_CONTENT_TOO_LARGE, "a request has no body\n");
    else
        return true;
    return false;
}

static struct response answer_request(struct admin *admin, struct MHD_Connection *connection,
                                      const char *path, const char *method)
{
    struct control_request request = {
        .path = path,
        .percent = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "percent"),
        .by = is_unix(admin) ? "unix" : "tcp",
    };
    struct response response;

    if (!is_post(method))
        return pages_find(path)->make(&admin->pages);
    if (MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, NULL, NULL) > 1)
        return response_plain(RESPONSE_BAD_REQUEST, "a change takes one argument at most\n");
    return may_change(admin, connection, &response) ? control_do(&admin->pages.view, &request)
                                                    : response;
}

/* Where such a request ends is a matter of opinion. */
static bool is_unclear(enum response_status status)
{
    return status == RESPONSE_BAD_REQUEST || status == RESPONSE_CONTENT_TOO_LARGE;
}

/* Takes the response's text.  With too many connections a busy one would keep the others out, so each
 * closes after its response. */
static enum MHD_Result send_response(const struct admin *admin, struct MHD_Connection *connection,
                                     struct response response, const char *allowed)
{
    if (response.text == NULL)
        return MHD_NO;
    struct MHD_Response *mhd = MHD_create_response_from_buffer(strlen(response.text), response.text,
                                                               MHD_RESPMEM_MUST_FREE);
    if (mhd == NULL) {
        free(response.text);
        return MHD_NO;
    }
    MHD_add_response_header(mhd, MHD_HTTP_HEADER_CONTENT_TYPE, response.type);
    MHD_add_response_header(mhd, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    MHD_add_response_header(mhd, "X-Content-Type-Options", "nosniff");
    if (response.status == RESPONSE_METHOD_NOT_ALLOWED)
        MHD_add_response_header(mhd, MHD_HTTP_HEADER_ALLOW, allowed);
    if (response.status == RESPONSE_UNAUTHORIZED)
        MHD_add_response_header(mhd, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    if (admin_connections_are_too_many(&admin->connections) || is_unclear(response.status))
        MHD_add_response_header(mhd, MHD_HTTP_HEADER_CONNECTION, "close");
    enum MHD_Result queued = MHD_queue_response(connection, response.status, mhd);
    MHD_destroy_response(mhd);
    return queued;
}

static struct admin_connection *admin_connection_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *about =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return about->socket_context;
}

/* The target as it came, before the library takes it apart.  What it answers is *seen of
 * on_request() at first. */
static void *on_target(void *owner, const char *target, struct MHD_Connection *connection)
{
    (void)owner;
    (void)connection;
    return (void *)strlen(target);
}

/* Called once when the request's head is there, and again when all of it is; MHD_NO closes the
 * connection.  *seen: at first the target's size, from on_target(); then the admin endpoint. */
static enum MHD_Result on_request(void *owner, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *body,
                                  size_t *body_bytes, void **seen)
{
    const struct request_line line = {
        .method = method, .path = path, .target_bytes = (size_t)*seen, .version = version
    };
    struct admin *admin = owner;
    struct response response;

    (void)body;
    if (*seen != admin) {
        *seen = admin;
        if (is_fine(admin, connection, &line, &response))
            return MHD_YES;
        return send_response(admin, connection, response,
                             pages_find(path) != NULL ? "GET, HEAD" : "POST");
    }
    if (*body_bytes > 0)
        return MHD_NO; /* it was not announced */
    admin_connection_has_request(admin_connection_of(connection), clock_now());
    return send_response(admin, connection, answer_request(admin, connection, path, method), "");
}

/* --- connections and their time ---------------------------------------------------------- */

static void on_connection(void *owner, struct MHD_Connection *connection, void **entry,
                          enum MHD_ConnectionNotificationCode what)
{
    struct admin *admin = owner;
    const union MHD_ConnectionInfo *about =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);

    if (what == MHD_CONNECTION_NOTIFY_STARTED)
        *entry = admin_connections_add(&admin->connections, about->connect_fd, clock_now());
    else
        admin_connection_remove(*entry);
}

static void on_completed(void *owner, struct MHD_Connection *connection, void **seen,
                         enum MHD_RequestTerminationCode why)
{
    (void)owner;
    (void)seen;
    (void)why;
    admin_connection_has_response(admin_connection_of(connection), clock_now());
}

/* When the server wants to run although nothing has happened, in seconds from now. */
static double servers_patience(struct admin *admin)
{
    MHD_UNSIGNED_LONG_LONG milliseconds = 0;

    if (MHD_get_timeout(admin->server, &milliseconds) != MHD_YES)
        return INFINITY;
    return (double)milliseconds / 1000;
}

/* While it is full the server does not listen; that it may again it finds out only when it begins a
 * run, for which there may be no other occasion. */
static void run_server(struct admin *admin)
{
    bool was_full = admin_connections_are_full(&admin->connections);

    MHD_run(admin->server);
    if (was_full)
        MHD_run(admin->server);
}

static double processor_time(void)
{
    struct timespec used;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

static void start_timer(struct admin *admin, ev_timer *timer, double seconds)
{
    ev_timer_stop(admin->loop, timer);
    ev_timer_set(timer, fmax(seconds, 0), 0.);
    ev_timer_start(admin->loop, timer);
}

static void serve(struct admin *admin)
{
    double before = processor_time();

    run_server(admin);
    pages_forget_turn(&admin->pages);
    if (servers_patience(admin) > 0) /* else it has yet to look at what it has read */
        admin_connections_close_done(&admin->connections);

    double now = clock_now();
    double wait =
        fmin(admin_connections_close_late(&admin->connections, now) - now, servers_patience(admin));
    double rest = fmin((processor_time() - before) * REST, LONGEST_REST);
    watch_stop(&admin->ready);
    start_timer(admin, &admin->rest, rest);
    ev_timer_stop(admin->loop, &admin->timeout);
    if (!isinf(wait))
        start_timer(admin, &admin->timeout, fmax(wait, rest));
}

static void on_rested(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct admin *admin = timer->data;

    (void)loop;
    (void)events;
    watch_start(&admin->ready, EV_READ);
}

static void on_ready(void *owner, int events)
{
    (void)events;
    serve(owner);
}

static void on_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    serve(timer->data);
}

/* --- its life ---------------------------------------------------------------------------- */

/* Paths and numbers need no %XX; so nobody hides one path behind another. */
static size_t keep_escapes(void *owner, struct MHD_Connection *connection, char *text)
{
    (void)owner;
    (void)connection;
    return strlen(text);
}

static struct MHD_Daemon *server_start(struct admin *admin, int listening)
{
    struct MHD_OptionItem options[] = {
        { MHD_OPTION_LISTEN_SOCKET, listening, NULL },
        { MHD_OPTION_CONNECTION_LIMIT, ADMIN_CONNECTIONS_MAX, NULL },
        { MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_BYTES, NULL },
        { MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL },
        { MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)keep_escapes, NULL },
        { MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)on_target, NULL },
        { MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, NULL },
        { MHD_OPTION_END, 0, NULL },
    };

    return MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, admin, MHD_OPTION_ARRAY,
                            options, MHD_OPTION_NOTIFY_CONNECTION, on_connection, admin,
                            MHD_OPTION_NOTIFY_COMPLETED, on_completed, admin, MHD_OPTION_END);
}

/* The server's own epoll descriptor, which the loop watches; -1: it has none. */
static int server_descriptor(struct MHD_Daemon *server)
{
    const union MHD_DaemonInfo *about = MHD_get_daemon_info(server, MHD_DAEMON_INFO_EPOLL_FD);

    return about != NULL ? about->epoll_fd : -1;
}

struct admin *admin_start(struct ev_loop *loop, int listening, const struct admin_view *view,
                          struct fault *fault)
{
    struct admin *admin = xcalloc(1, sizeof *admin);

    admin->loop = loop;
    admin_show(admin, view);
    admin->pages.started = clock_now();
    admin_connections_init(&admin->connections);
    admin->server = server_start(admin, listening);
    if (admin->server == NULL) {
        close(listening);
        pages_free(&admin->pages);
        free(admin);
        fault_set(fault, "the admin server cannot start: libmicrohttpd refuses, memory or "
                         "descriptors may have run out");
        return NULL;
    }
    watch_init(&admin->ready, loop, server_descriptor(admin->server), on_ready, admin, "admin");
    watch_start(&admin->ready, EV_READ);
    ev_timer_init(&admin->timeout, on_timeout, 0., 0.);
    admin->timeout.data = admin;
    ev_timer_init(&admin->rest, on_rested, 0., 0.);
    admin->rest.data = admin;
    return admin;
}

void admin_show(struct admin *admin, const struct admin_view *view)
{
    pages_show(&admin->pages, view);
}

void admin_stop(struct admin *admin)
{
    if (admin == NULL)
        return;
    watch_stop(&admin->ready);
    ev_timer_stop(admin->loop, &admin->timeout);
    ev_timer_stop(admin->loop, &admin->rest);
    MHD_stop_daemon(admin->server);
    pages_free(&admin->pages);
    free(admin);
}
