/*
 * sink.c — a server that counts what it receives: the primary and the shadows of a measurement.
 *
 *     sink [--request N] [--answer N] [--pace N | --still | --deaf] ADDRESS
 *
 *     bytes in ──▶ counted and forgotten in the kernel; after each N of them, an answer of N bytes
 *     end in   ──▶ the rest of the answers, then the end
 *
 * It prints "listening ADDRESS" (port 0: the kernel chooses), and for each line of standard input
 * one line of JSON with its counts; it ends when standard input does.  --pace N reads N bytes of a
 * connection each 10 ms, --still never takes anything from the kernel, --deaf does not even answer
 * a SYN.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "tools/benchmark/ends.h"

#define READ_MAX      (1024 * 1024) /* in one turn, so that connections take turns */
#define PACE_TICK_NS   (10 * 1000 * 1000)
#define BACKLOG        4096
#define DEAF_FILL      4             /* connections that fill a queue of one, and some to spare */
#define STILL_BUFFER   4096          /* so that the kernel does not take the bytes instead */
#define EVENTS_AT_ONCE 256

/* One connection. */
struct peer {
    struct peer *next_resting;
    int fd;
    uint32_t watched;
    uint64_t unanswered; /* bytes of a request that is not complete */
    uint64_t owed;       /* bytes of answers that are not sent */
    bool ended;          /* nothing more will come */
    bool resting;        /* until the next tick */
    bool broken;         /* while it rested */
};

struct sink {
    int epoll;
    int listener;
    int tick;
    uint64_t request_bytes; /* 0: nothing is ever answered */
    uint64_t answer_bytes;
    uint64_t pace_bytes; /* 0: as fast as it goes */
    bool still;
    bool deaf;
    struct peer *resting;
    uint64_t connections;
    uint64_t open;
    uint64_t received;
    uint64_t sent;
};

static const char answer[256 * 1024];

/* What is not a peer, in the epoll set. */
static char the_listener, the_tick;

static void peer_free(struct sink *sink, struct peer *peer)
{
    close(peer->fd);
    sink->open--;
    free(peer);
}

/* Reads what has come and remembers which answers that makes due; false when the peer is lost. */
static bool take_requests(struct sink *sink, struct peer *peer)
{
    size_t max = sink->pace_bytes > 0 ? sink->pace_bytes : READ_MAX;
    ssize_t n = recv(peer->fd, NULL, max, MSG_TRUNC);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0) {
        peer->ended = true;
        return true;
    }
    sink->received += (uint64_t)n;
    if (sink->request_bytes > 0) {
        peer->unanswered += (uint64_t)n;
        peer->owed += peer->unanswered / sink->request_bytes * sink->answer_bytes;
        peer->unanswered %= sink->request_bytes;
    }
    if (sink->pace_bytes > 0) {
        peer->resting = true;
        peer->next_resting = sink->resting;
        sink->resting = peer;
    }
    return true;
}

/* Sends what is due, as far as the kernel takes it; false when the peer is lost. */
static bool give_answers(struct sink *sink, struct peer *peer)
{
    while (peer->owed > 0) {
        size_t size = peer->owed < sizeof answer ? peer->owed : sizeof answer;
        ssize_t n = send(peer->fd, answer, size, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        sink->sent += (uint64_t)n;
        peer->owed -= (uint64_t)n;
        if ((size_t)n < size)
            return true;
    }
    return true;
}

static void peer_rearm(struct sink *sink, struct peer *peer)
{
    uint32_t wanted = 0;

    if (!peer->ended && !peer->resting)
        wanted |= EPOLLIN;
    if (peer->owed > 0)
        wanted |= EPOLLOUT;
    if (wanted != peer->watched)
        watch(sink->epoll, EPOLL_CTL_MOD, peer->fd, wanted, peer);
    peer->watched = wanted;
}

static void on_peer(struct sink *sink, struct peer *peer, uint32_t events)
{
    bool is_lost = false;

    if (peer->resting) { /* in a list, and must not go; nor tell the same for ever */
        peer->broken = true;
        watch(sink->epoll, EPOLL_CTL_DEL, peer->fd, 0, peer);
        return;
    }
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && !peer->ended)
        is_lost = !take_requests(sink, peer);
    if (!is_lost)
        is_lost = !give_answers(sink, peer);
    if (!peer->resting && (is_lost || (peer->ended && peer->owed == 0)))
        peer_free(sink, peer);
    else
        peer_rearm(sink, peer);
}

static void on_tick(struct sink *sink)
{
    uint64_t ticks;
    struct peer *peer = sink->resting;

    (void)!read(sink->tick, &ticks, sizeof ticks);
    sink->resting = NULL;
    while (peer != NULL) {
        struct peer *next = peer->next_resting;
        peer->resting = false;
        if (peer->broken)
            peer_free(sink, peer);
        else
            peer_rearm(sink, peer);
        peer = next;
    }
}

static void on_connections(struct sink *sink)
{
    int fd;

    while ((fd = accept4(sink->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct peer *peer = calloc(1, sizeof *peer);
        if (peer == NULL)
            give_up("no memory");
        peer->fd = fd;
        peer->watched = EPOLLIN;
        watch(sink->epoll, EPOLL_CTL_ADD, fd, EPOLLIN, peer);
        sink->connections++;
        sink->open++;
    }
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
        give_up("accept: %s", strerror(errno));
}

/* Whoever drives the measurement asks for the counts; false when it has gone. */
static bool on_command(const struct sink *sink)
{
    char line[64];

    if (!take_command(line, sizeof line))
        return false;
    printf("{\"connections\": %" PRIu64 ", \"open\": %" PRIu64 ", \"received\": %" PRIu64
           ", \"sent\": %" PRIu64 "}\n",
           sink->connections, sink->open, sink->received, sink->sent);
    fflush(stdout);
    return true;
}

/* Connections to itself that it never accepts: the queue is full, and the kernel drops each SYN. */
static void fill_queue(const struct sockaddr_in *address)
{
    for (int i = 0; i < DEAF_FILL; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
            give_up("socket: %s", strerror(errno));
        if (connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 &&
            errno != EINPROGRESS)
            give_up("connect: %s", strerror(errno));
    }
}

static void start_listening(struct sink *sink, const char *text)
{
    struct sockaddr_in address = address_of(text);
    socklen_t size = sizeof address;
    char host[INET_ADDRSTRLEN];
    const int on = 1, buffer = STILL_BUFFER;

    sink->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(sink->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (sink->still || sink->pace_bytes > 0)
        setsockopt(sink->listener, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    if (bind(sink->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(sink->listener, sink->deaf ? 0 : BACKLOG) != 0 ||
        getsockname(sink->listener, (struct sockaddr *)&address, &size) != 0)
        give_up("%s: %s", text, strerror(errno));
    if (sink->deaf)
        fill_queue(&address);
    else if (!sink->still)
        watch(sink->epoll, EPOLL_CTL_ADD, sink->listener, EPOLLIN, &the_listener);
    inet_ntop(AF_INET, &address.sin_addr, host, sizeof host);
    printf("listening %s:%u\n", host, ntohs(address.sin_port));
    fflush(stdout);
}

static void start_ticking(struct sink *sink)
{
    const struct itimerspec each = { .it_value.tv_nsec = PACE_TICK_NS,
                                     .it_interval.tv_nsec = PACE_TICK_NS };

    sink->tick = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (sink->tick < 0 || timerfd_settime(sink->tick, 0, &each, NULL) != 0)
        give_up("timerfd: %s", strerror(errno));
    watch(sink->epoll, EPOLL_CTL_ADD, sink->tick, EPOLLIN, &the_tick);
}

static bool on_event(struct sink *sink, const struct epoll_event *event)
{
    if (event->data.ptr == NULL)
        return on_command(sink);
    if (event->data.ptr == &the_listener)
        on_connections(sink);
    else if (event->data.ptr == &the_tick)
        on_tick(sink);
    else
        on_peer(sink, event->data.ptr, event->events);
    return true;
}

static void serve(struct sink *sink)
{
    struct epoll_event events[EVENTS_AT_ONCE];

    for (;;) {
        int count = epoll_wait(sink->epoll, events, EVENTS_AT_ONCE, -1);
        for (int i = 0; i < count; i++)
            if (!on_event(sink, &events[i]))
                return;
    }
}

static struct sink sink_of(int count, char **arguments)
{
    static const struct option flags[] = {
        { "request", required_argument, NULL, 'r' }, { "answer", required_argument, NULL, 'a' },
        { "pace", required_argument, NULL, 'p' },    { "still", no_argument, NULL, 's' },
        { "deaf", no_argument, NULL, 'd' },          { 0 },
    };
    struct sink sink = { .epoll = watch_commands() };
    int flag;

    while ((flag = getopt_long(count, arguments, "", flags, NULL)) != -1) {
        if (flag == 'r')
            sink.request_bytes = number_of(optarg);
        else if (flag == 'a')
            sink.answer_bytes = number_of(optarg);
        else if (flag == 'p')
            sink.pace_bytes = number_of(optarg);
        else if (flag == 's')
            sink.still = true;
        else if (flag == 'd')
            sink.deaf = true;
        else
            exit(1);
    }
    if (optind + 1 != count)
        give_up("usage: sink [--request N] [--answer N] [--pace N | --still | --deaf] ADDRESS");
    return sink;
}

int main(int count, char **arguments)
{
    struct sink sink = sink_of(count, arguments);

    if (sink.pace_bytes > 0)
        start_ticking(&sink);
    start_listening(&sink, arguments[optind]);
    serve(&sink);
    return 0;
}
