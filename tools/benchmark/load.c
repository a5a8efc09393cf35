/*
 * load.c — the clients of a measurement.
 *
 *     load [--tls] [--connections N] [--request N] [--answer N] [--each] ADDRESS
 *
 *     with answers     a request on each connection, its answer, the next request, ...
 *     --each           every request on a connection of its own, which ends after the answer
 *     --request 0      bytes without an end and no answers, until the run is over
 *
 *          connect      answer          run over           end received
 *     OPENING ──▶ SENDING ⇄ WAITING ──▶ RESTING    ENDING ──▶ GONE
 *                    ╰── request 0, or --each ──────▲
 *
 * Unless --each, it opens all connections first and exchanges one request on each, so that whoever
 * stands between has done what it does once; then it prints "ready".  A line "run SECONDS BYTES" of
 * standard input makes it work so long, or until so many bytes are sent (0: no such limit), and is
 * answered by one line of JSON.  Each request counts when its answer is complete; bytes of requests
 * and answers count as they move.  It ends when standard input does.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "tools/benchmark/ends.h"
#include "tools/benchmark/histogram.h"
#include "tools/benchmark/wire.h"

#define GRACE_US       ((uint64_t)10 * 1000000) /* for answers that are due when a run is over */
#define ERRORS_MAX    1000 /* then --each opens no more: nobody is there to answer */
#define RECEIVE_MAX   ((size_t)1024 * 1024)
#define EVENTS_AT_ONCE 256
#define UNLIMITED      UINT64_MAX

enum phase { OPENING, SENDING, WAITING, RESTING, ENDING, GONE };

struct connection {
    struct wire wire;
    enum phase phase;
    uint32_t watched;
    uint64_t left;     /* bytes to send, or to receive, in this phase */
    uint64_t began_us; /* the request; with --each the connection */
};

struct load {
    struct sockaddr_in address;
    uint64_t connection_count;
    uint64_t request_bytes; /* 0: without an end */
    uint64_t answer_bytes;
    bool each;

    int epoll;
    struct connection *connections;
    uint64_t busy; /* connections that are neither resting nor gone */

    bool is_working; /* new requests may begin */
    uint64_t now_us;
    uint64_t began_us;
    uint64_t over_us;
    uint64_t bytes_most;

    uint64_t requests;
    uint64_t sent;
    uint64_t received;
    uint64_t errors;
    const char *first_error;
};

static struct histogram latencies;

static bool is_busy(enum phase phase)
{
    return phase != RESTING && phase != GONE;
}

static void move_to(struct load *load, struct connection *connection, enum phase next)
{
    load->busy -= is_busy(connection->phase);
    connection->phase = next;
    load->busy += is_busy(next);
}

static void lose(struct load *load, struct connection *connection, const char *why)
{
    if (load->first_error == NULL)
        load->first_error = why;
    load->errors++;
    wire_close(&connection->wire);
    move_to(load, connection, GONE);
}

static void open_connection(struct load *load, struct connection *connection)
{
    move_to(load, connection, OPENING);
    connection->began_us = load->now_us;
    if (!wire_open(&connection->wire, &load->address)) {
        lose(load, connection, connection->wire.why);
        return;
    }
    connection->watched = EPOLLOUT;
    watch(load->epoll, EPOLL_CTL_ADD, connection->wire.fd, EPOLLOUT, connection);
}

static void begin_request(struct load *load, struct connection *connection)
{
    if (!load->each)
        connection->began_us = load->now_us;
    connection->left = load->request_bytes > 0 ? load->request_bytes : UNLIMITED;
    move_to(load, connection, SENDING);
}

/* The run is over when its time is, or its bytes; requests that have begun are finished. */
static void notice_the_time(struct load *load)
{
    load->now_us = clock_us();
    if (load->now_us >= load->over_us || load->sent >= load->bytes_most)
        load->is_working = false;
}

static void finish_request(struct load *load, struct connection *connection)
{
    notice_the_time(load);
    load->requests++;
    histogram_add(&latencies, load->now_us - connection->began_us);
    if (load->each)
        move_to(load, connection, ENDING);
    else if (load->is_working)
        begin_request(load, connection);
    else
        move_to(load, connection, RESTING);
}

/* A new connection has either nothing to do before the run, or a first request to exchange. */
static enum moved go_on_opening(struct load *load, struct connection *connection)
{
    enum moved moved = wire_go_on_opening(&connection->wire);

    if (moved != MOVED_SOME)
        return moved;
    if (load->request_bytes == 0)
        move_to(load, connection, RESTING);
    else
        begin_request(load, connection);
    return MOVED_SOME;
}

static enum moved go_on_sending(struct load *load, struct connection *connection)
{
    size_t n;
    enum moved moved;

    if (load->request_bytes == 0 && !load->is_working && connection->wire.midway == 0) {
        move_to(load, connection, ENDING);
        return MOVED_SOME;
    }
    if (load->request_bytes == 0)
        connection->left = load->is_working ? load->bytes_most - load->sent : 1;
    moved = wire_send(&connection->wire, connection->left, &n);
    load->sent += n;
    connection->left -= n;
    if (load->request_bytes == 0) {
        notice_the_time(load);
        /* Others take their turn; when the run is over, this one ends at once. */
        return moved == MOVED_SOME && load->is_working ? MOVED_NOTHING : moved;
    }
    if (moved != MOVED_SOME || connection->left > 0)
        return moved;
    /* The answer cannot be there yet. */
    connection->left = load->answer_bytes;
    connection->wire.needs_write = false;
    move_to(load, connection, WAITING);
    return MOVED_NOTHING;
}

static enum moved go_on_waiting(struct load *load, struct connection *connection)
{
    size_t max = connection->left < RECEIVE_MAX ? connection->left : RECEIVE_MAX;
    size_t n;
    enum moved moved = wire_receive(&connection->wire, max, &n);

    load->received += n;
    connection->left -= n;
    if (moved == MOVED_SOME && connection->left == 0)
        finish_request(load, connection);
    return moved;
}

/* Nothing should come between two requests. */
static enum moved go_on_resting(struct connection *connection)
{
    size_t n;
    enum moved moved = wire_receive(&connection->wire, RECEIVE_MAX, &n);

    if (moved != MOVED_SOME)
        return moved;
    connection->wire.why = "bytes that nobody asked for";
    return MOVED_FAILED;
}

/* Ends our side, then waits for the peer's end; a run of --each goes on with a new connection. */
static enum moved go_on_ending(struct load *load, struct connection *connection)
{
    size_t n = 0;
    enum moved moved = wire_end(&connection->wire);

    if (moved == MOVED_SOME)
        moved = wire_receive(&connection->wire, RECEIVE_MAX, &n);
    if (moved != MOVED_END) {
        load->received += n;
        return moved;
    }
    wire_close(&connection->wire);
    move_to(load, connection, GONE);
    notice_the_time(load);
    return MOVED_NOTHING;
}

static enum moved go_on(struct load *load, struct connection *connection)
{
    switch (connection->phase) {
    case OPENING:
        return go_on_opening(load, connection);
    case SENDING:
        return go_on_sending(load, connection);
    case WAITING:
        return go_on_waiting(load, connection);
    case RESTING:
        return go_on_resting(connection);
    case ENDING:
        return go_on_ending(load, connection);
    case GONE:
        break;
    }
    return MOVED_NOTHING;
}

static void rearm(struct load *load, struct connection *connection)
{
    uint32_t wanted = connection->wire.needs_write ? EPOLLOUT : EPOLLIN;

    if (wanted != connection->watched)
        watch(load->epoll, EPOLL_CTL_MOD, connection->wire.fd, wanted, connection);
    connection->watched = wanted;
}

/* Moves what can move now; the only place that loses a connection, and that begins one anew. */
static void advance(struct load *load, struct connection *connection)
{
    enum moved moved = MOVED_SOME;

    while (moved == MOVED_SOME)
        moved = go_on(load, connection);
    if (moved == MOVED_END)
        lose(load, connection, "the connection ended");
    else if (moved == MOVED_FAILED)
        lose(load, connection, connection->wire.why);

    if (connection->phase != GONE)
        rearm(load, connection);
    else if (load->each && load->is_working && load->errors < ERRORS_MAX)
        open_connection(load, connection);
}

/* --- a run --------------------------------------------------------------------------------------- */

static void clear_counts(struct load *load)
{
    load->requests = load->sent = load->received = load->errors = 0;
    load->first_error = NULL;
    histogram_clear(&latencies);
}

static void print_counts(const struct load *load, const char *word)
{
    printf("%s{\"requests\": %" PRIu64 ", \"sent\": %" PRIu64 ", \"received\": %" PRIu64
           ", \"seconds\": %.6f, \"errors\": %" PRIu64 ", \"error\": \"%s\", ",
           word, load->requests, load->sent, load->received,
           (double)(load->now_us - load->began_us) / 1e6, load->errors,
           load->first_error != NULL ? load->first_error : "");
    printf("\"p50_us\": %" PRIu64 ", \"p90_us\": %" PRIu64 ", \"p99_us\": %" PRIu64
           ", \"longest_us\": %" PRIu64 "}\n",
           histogram_percentile(&latencies, 50), histogram_percentile(&latencies, 90),
           histogram_percentile(&latencies, 99), latencies.longest_us);
    fflush(stdout);
}

/* What is still due a good while after the end will never come. */
static void lose_the_rest(struct load *load)
{
    for (uint64_t i = 0; i < load->connection_count; i++)
        if (is_busy(load->connections[i].phase))
            lose(load, &load->connections[i], "no answer within 10 s");
}

/* Uploads see the end of their time only when they are looked at. */
static void stop_uploads(struct load *load)
{
    for (uint64_t i = 0; i < load->connection_count; i++)
        if (load->connections[i].phase == SENDING)
            advance(load, &load->connections[i]);
}

static int milliseconds_to_wait(const struct load *load)
{
    uint64_t until = load->over_us + (load->is_working ? 0 : GRACE_US);

    return until > load->now_us ? (int)((until - load->now_us) / 1000 + 1) : 0;
}

/* Serves events until nothing is due any more; commands wait meanwhile. */
static void work(struct load *load)
{
    struct epoll_event events[EVENTS_AT_ONCE];

    watch(load->epoll, EPOLL_CTL_MOD, 0, 0, NULL);
    while (load->busy > 0) {
        bool was_working = load->is_working;
        int count = epoll_wait(load->epoll, events, EVENTS_AT_ONCE, milliseconds_to_wait(load));
        notice_the_time(load);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == NULL)
                give_up("nobody is there for the result");
            advance(load, events[i].data.ptr);
        }
        if (was_working && !load->is_working && load->request_bytes == 0)
            stop_uploads(load);
        if (!load->is_working && load->now_us > load->over_us + GRACE_US)
            lose_the_rest(load);
    }
    notice_the_time(load);
    watch(load->epoll, EPOLL_CTL_MOD, 0, EPOLLIN, NULL);
}

/* What a connection does when a run begins. */
static void set_off(struct load *load, struct connection *connection)
{
    if (load->each) {
        open_connection(load, connection);
        return;
    }
    if (connection->phase != RESTING)
        return;
    begin_request(load, connection);
    advance(load, connection);
}

static void run(struct load *load, double seconds, uint64_t bytes_most)
{
    clear_counts(load);
    load->now_us = load->began_us = clock_us();
    load->over_us = load->now_us + (uint64_t)(seconds * 1e6);
    load->bytes_most = bytes_most > 0 ? bytes_most : UNLIMITED;
    load->is_working = true;
    for (uint64_t i = 0; i < load->connection_count; i++)
        set_off(load, &load->connections[i]);
    work(load);
    print_counts(load, "");
}

/* Before the first run: all connections, and one exchange on each where there are answers. */
static void prepare(struct load *load)
{
    load->connections = calloc(load->connection_count, sizeof *load->connections);
    if (load->connections == NULL)
        give_up("no memory");
    for (uint64_t i = 0; i < load->connection_count; i++)
        load->connections[i].phase = GONE;
    load->now_us = load->began_us = load->over_us = clock_us();
    load->bytes_most = UNLIMITED;
    if (!load->each)
        for (uint64_t i = 0; i < load->connection_count; i++)
            open_connection(load, &load->connections[i]);
    work(load);
    print_counts(load, "ready ");
}

/* Between runs only commands matter, and connections that are lost. */
static void serve(struct load *load)
{
    struct epoll_event event;
    char line[128], *end;

    for (;;) {
        if (epoll_wait(load->epoll, &event, 1, -1) != 1)
            continue;
        if (event.data.ptr != NULL) {
            advance(load, event.data.ptr);
            continue;
        }
        if (!take_command(line, sizeof line))
            return;
        if (strncmp(line, "run ", 4) != 0)
            give_up("not a command: %s", line);
        double seconds = strtod(line + 4, &end);
        run(load, seconds, number_of(end + (*end == ' ')));
    }
}

static struct load load_of(int count, char **arguments)
{
    static const struct option flags[] = {
        { "tls", no_argument, NULL, 't' },
        { "connections", required_argument, NULL, 'c' },
        { "request", required_argument, NULL, 'r' },
        { "answer", required_argument, NULL, 'a' },
        { "each", no_argument, NULL, 'e' },
        { 0 },
    };
    struct load load = { .connection_count = 1, .request_bytes = 1, .answer_bytes = 1 };
    int flag;

    while ((flag = getopt_long(count, arguments, "", flags, NULL)) != -1) {
        if (flag == 't')
            wire_use_tls();
        else if (flag == 'c')
            load.connection_count = number_of(optarg);
        else if (flag == 'r')
            load.request_bytes = number_of(optarg);
        else if (flag == 'a')
            load.answer_bytes = number_of(optarg);
        else if (flag == 'e')
            load.each = true;
        else
            exit(1);
    }
    if (optind + 1 != count || load.answer_bytes == 0 || (load.each && load.request_bytes == 0))
        give_up("usage: load [--tls] [--connections N] [--request N] [--answer N] [--each] ADDR");
    return load;
}

int main(int count, char **arguments)
{
    struct load load = load_of(count, arguments);

    load.address = address_of(arguments[optind]);
    load.epoll = watch_commands();
    prepare(&load);
    serve(&load);
    return 0;
}
