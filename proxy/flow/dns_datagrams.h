/*
 * dns_datagrams.h — c-ares sees no datagram that is no DNS message.
 */
#ifndef FLOW_DNS_DATAGRAMS_H
#define FLOW_DNS_DATAGRAMS_H

struct ares_channeldata; /* an ares_channel points to it */

/* Call it after the servers are set.  Without it, from 1.34 on, c-ares closes its socket for such a
 * datagram, and all that was asked there has failed once: anybody could end a lookup with one byte.
 * Older versions take no notice of garbage; then this does nothing. */
void dns_datagrams_filter(struct ares_channeldata *);

#endif
