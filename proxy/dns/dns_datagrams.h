/*
 * dns_datagrams.h — what c-ares receives: a limited number of answers in each turn of the loop, and no
 * datagram that is no DNS message; and where it connects to, for link-local servers.
 */
#ifndef DNS_DNS_DATAGRAMS_H
#define DNS_DNS_DATAGRAMS_H

struct servers;
struct ares_channeldata; /* an ares_channel points to it */

/* Embedded in the owner of the channel. */
struct dns_datagrams {
    unsigned left; /* to be received in this turn */
    const struct servers *servers;
};

/* Call it after the servers are set; the struct must live as long as the channel, and so
 * must the servers: their interfaces are added where c-ares does not know them.
 *
 * c-ares reads on for as long as answers come, whoever has asked for them.  From 1.34 on it also closes
 * its socket for a datagram that is no message, and all that was asked there has failed once: anybody
 * could end a lookup with one byte.  Older versions take no notice of garbage. */
void dns_datagrams_filter(struct ares_channeldata *, struct dns_datagrams *,
                          const struct servers *);
/* Call it before each ares_process_fd(3).  When the turn has had enough, the socket seems to be empty;
 * it stays readable, so that the loop calls again. */
void dns_datagrams_begin(struct dns_datagrams *);

#endif
