/*
 * tls_choice.h — which of our certificates a client is shown.
 *
 *     the name it asks for (SNI) ──▶ those with that very name
 *                                    else those with a wildcard that matches
 *                                    else the first one, and those that share a name with it
 *
 * Of certificates with the same kind of key (RSA, ECDSA, ...) the first one counts.  OpenSSL then shows
 * the client one that it can verify.
 */
#ifndef TLS_TLS_CHOICE_H
#define TLS_TLS_CHOICE_H

#include <stddef.h>

struct ssl_st; /* SSL of OpenSSL */
struct tls_contexts;
struct tls_server;

/* Call it for each one once all certificates are there. */
void tls_choice_prepare(const struct tls_contexts *, struct tls_server *);
/* name NULL: the client asks for nobody. */
void tls_choice_make(const struct tls_contexts *, struct ssl_st *, const char *name);
/* The earlier certificate that is shown wherever this one could be.  NULL: this one has its clients;
 * itself: no client can ask for it, because it has IP addresses alone. */
const struct tls_server *tls_choice_winner(const struct tls_contexts *, const struct tls_server *);

#endif
