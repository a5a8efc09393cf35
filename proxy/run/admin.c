/*
 * admin.c — metrics, status and health over HTTP.
 *
 *     libmicrohttpd's epoll descriptor ──readable──▶ serve() ──▶ MHD_run() ──▶ on_request()
 *     libmicrohttpd's next timeout ──────timer─────▶    └─────▶ the timer again
 *
 * Requests are served one after another in the supervisor, whose loop carries no session, so a slow
 * answer here delays nobody's bytes.
 */
#include "run/admin.h"

#include <ev.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/page.h"
#include "base/stats.h"
#include "config/config.h"
#include "run/status.h"

#define MOST_CONNECTIONS   32    /* a few scrapers, browsers and health checks */
#define CONNECTION_BYTES   16384 /* the request's head and the answer's head */
#define CONNECTION_SECONDS 5     /* of silence */

struct admin {
    struct ev_loop *loop;
    struct MHD_Daemon *server;
    struct admin_view view;
    double started; /* CLOCK_MONOTONIC seconds */
    ev_io ready;
    ev_timer timeout;
};

/* What goes back: text that the response takes and frees; NULL: there was no memory for it. */
struct answer {
    unsigned status;
    const char *type;
    char *text;
};

#define PLAIN "text/plain; charset=utf-8"

static struct answer plain_answer(unsigned status, const char *sentence)
{
    return (struct answer){ .status = status, .type = PLAIN, .text = strdup(sentence) };
}

static struct answer answer_metrics(const struct admin *admin)
{
    struct answer answer = {
        .status = MHD_HTTP_OK,
        .type = "text/plain; version=0.0.4; charset=utf-8",
    };
    size_t length = 0;
    FILE *out = open_memstream(&answer.text, &length);

    if (out == NULL)
        return answer;
    stats_print_metrics(admin->view.page, out);
    if (fclose(out) != 0) {
        free(answer.text);
        answer.text = NULL;
    }
    return answer;
}

static struct answer answer_status(const struct admin *admin)
{
    return (struct answer){
        .status = MHD_HTTP_OK,
        .type = "application/json",
        .text = status_print(&admin->view, clock_now() - admin->started),
    };
}

static struct answer answer_health(const struct admin *admin)
{
    (void)admin;
    return plain_answer(MHD_HTTP_OK, "ok\n");
}

static struct answer answer_ready(const struct admin *admin)
{
    if (*admin->view.ready)
        return plain_answer(MHD_HTTP_OK, "ready\n");
    return plain_answer(MHD_HTTP_SERVICE_UNAVAILABLE, "not ready\n");
}

static struct answer answer_path(const struct admin *admin, const char *path)
{
    static const struct {
        const char *path;
        struct answer (*answer)(const struct admin *);
    } pages[] = {
        { "/metrics", answer_metrics },
        { "/status", answer_status },
        { "/healthz", answer_health },
        { "/readyz", answer_ready },
    };

    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        if (strcmp(path, pages[i].path) == 0)
            return pages[i].answer(admin);
    }
    return plain_answer(MHD_HTTP_NOT_FOUND,
                        "not found; there are /metrics /status /healthz /readyz\n");
}

/* A Host header without its port: "[::1]:9901", "127.0.0.1:9901", "::1", "localhost". */
static void cut_port(const char *header, char host[256])
{
    size_t length = strcspn(header, ":");

    if (header[0] == '[') {
        header++;
        length = strcspn(header, "]");
    } else if (strchr(header + length, ':') != strrchr(header, ':')) {
        length = strlen(header);
    }
    if (length > 255)
        length = 255;
    memcpy(host, header, length);
    host[length] = '\0';
}

/* A name that an attacker's server resolves to us makes a browser send us its page's requests (DNS
 * rebinding).  Such a request carries that name; who asks on purpose uses an address. */
static bool host_is_allowed(const struct admin *admin, struct MHD_Connection *connection)
{
    const char *header = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Host");
    struct address address;
    char host[256];

    if (header == NULL || admin->view.config->admin.kind == ENDPOINT_UNIX)
        return true;
    cut_port(header, host);
    return strcasecmp(host, "localhost") == 0 || address_parse(&address, host, 0);
}

/* Takes the answer's text. */
static enum MHD_Result send_answer(struct MHD_Connection *connection, struct answer answer)
{
    if (answer.text == NULL)
        return MHD_NO;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(strlen(answer.text), answer.text, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        free(answer.text);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer.type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (answer.status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET");
    enum MHD_Result queued = MHD_queue_response(connection, answer.status, response);
    MHD_destroy_response(response);
    return queued;
}

/* Called once when the request's head is there, and again when all of it is; MHD_NO closes the
 * connection. */
static enum MHD_Result on_request(void *owner, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *body,
                                  size_t *body_bytes, void **seen)
{
    struct admin *admin = owner;

    (void)version;
    (void)body;
    if (!host_is_allowed(admin, connection))
        return send_answer(connection, plain_answer(MHD_HTTP_FORBIDDEN,
                                                    "Host must be an IP address or localhost\n"));
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return send_answer(connection,
                           plain_answer(MHD_HTTP_METHOD_NOT_ALLOWED, "only GET is understood\n"));
    if (*seen == NULL) {
        *seen = admin;
        return MHD_YES;
    }
    if (*body_bytes > 0)
        return MHD_NO; /* a GET with a body: nobody means that, and it might never end */
    return send_answer(connection, answer_path(admin, path));
}

/* Lets the server do what it can, then arms the timer with what it says it waits for. */
static void serve(struct admin *admin)
{
    MHD_UNSIGNED_LONG_LONG milliseconds = 0;

    MHD_run(admin->server);
    ev_timer_stop(admin->loop, &admin->timeout);
    if (MHD_get_timeout(admin->server, &milliseconds) != MHD_YES)
        return;
    ev_timer_set(&admin->timeout, (double)milliseconds / 1000, 0.);
    ev_timer_start(admin->loop, &admin->timeout);
}

static void on_ready(struct ev_loop *loop, ev_io *io, int events)
{
    (void)loop;
    (void)events;
    serve(io->data);
}

static void on_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    serve(timer->data);
}

static struct MHD_Daemon *server_start(struct admin *admin, int listening)
{
    struct MHD_OptionItem options[] = {
        { MHD_OPTION_LISTEN_SOCKET, listening, NULL },
        { MHD_OPTION_CONNECTION_LIMIT, MOST_CONNECTIONS, NULL },
        { MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_BYTES, NULL },
        { MHD_OPTION_CONNECTION_TIMEOUT, CONNECTION_SECONDS, NULL },
        { MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, NULL },
        { MHD_OPTION_END, 0, NULL },
    };

    return MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, admin, MHD_OPTION_ARRAY,
                            options, MHD_OPTION_END);
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
    admin->view = *view;
    admin->started = clock_now();
    admin->server = server_start(admin, listening);
    if (admin->server == NULL) {
        close(listening);
        free(admin);
        fault_set(fault, "the admin server cannot start: libmicrohttpd refuses, memory or "
                         "descriptors may have run out");
        return NULL;
    }
    ev_io_init(&admin->ready, on_ready, server_descriptor(admin->server), EV_READ);
    admin->ready.data = admin;
    ev_io_start(loop, &admin->ready);
    ev_timer_init(&admin->timeout, on_timeout, 0., 0.);
    admin->timeout.data = admin;
    return admin;
}

void admin_show(struct admin *admin, const struct admin_view *view)
{
    admin->view = *view;
}

void admin_stop(struct admin *admin)
{
    if (admin == NULL)
        return;
    ev_io_stop(admin->loop, &admin->ready);
    ev_timer_stop(admin->loop, &admin->timeout);
    MHD_stop_daemon(admin->server);
    free(admin);
}
