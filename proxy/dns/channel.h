/*
 * channel.h — c-ares with one set of name servers: its sockets and its timeout on the loop.
 *
 *     channel_ask ──▶ c-ares ──▶ answered, once, perhaps before channel_ask() returns
 *                      ▲  │
 *     sockets readable,│  │what it waits for
 *         time is up   └──┴── a watch for each socket, one timer
 *
 * A name is asked for as it is: no search list, no hosts file, no cache.
 */
#ifndef DNS_CHANNEL_H
#define DNS_CHANNEL_H

#include <stdbool.h>

struct ares_addrinfo;
struct channel;
struct config;
struct ev_loop;
struct fault;
struct servers;

/* Asks the servers that the struct names now, or without any those that c-ares finds by itself.  It
 * borrows the struct as long as it lives, for the servers' interfaces (dns/dns_datagrams.h), and the
 * configuration only for this call: all tries of all servers end within --dns-timeout.  The caller
 * has called ares_library_init(3).  NULL: the fault says why. */
struct channel *channel_new(struct ev_loop *, const struct config *, const struct servers *,
                            struct fault *);
/* Takes ownership of the old channel, which nobody may ask any more: it is freed when its open
 * questions are answered, at the latest with the new one. */
void channel_replace(struct channel *, struct channel *old);
/* Answers every open question first, and frees the channels that it has replaced in the same way.
 * NULL is fine. */
void channel_free(struct channel *);

/* Runs inside c-ares: it may not ask, nor free a channel.  status: ARES_SUCCESS or another one of
 * c-ares.  The answer, which may be NULL, belongs to the owner: ares_freeaddrinfo(3). */
typedef void channel_answered(void *owner, int status, struct ares_addrinfo *answer);

/* Embedded in its owner, which sets answered and owner, and must live until it is answered: c-ares
 * cannot take back a question.  The owner may go in answered(). */
struct channel_question {
    channel_answered *answered;
    void             *owner;
    struct channel   *channel; /* NULL: it is not asked yet, or it is answered */
};

/* family: AF_INET or AF_INET6.  The host need not outlive the call. */
void channel_ask(struct channel *, struct channel_question *, const char *host, int family);
/* True from channel_ask() until it is answered. */
bool channel_is_asked(const struct channel_question *);
/* Time is up for this question: takes what has arrived for its channel but was not read, because
 * the process paused.  It may be answered in here. */
void channel_catch_up(const struct channel_question *);

#endif
