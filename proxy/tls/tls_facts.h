/*
 * tls_facts.h — what two sides of TLS have agreed on.
 *
 *     handshake ──tls_facts_note()──▶ facts ──▶ access log, hints for targets, PROXY headers
 *
 * Text comes from the peer: it has no NUL byte and is bounded, but may be anything else.
 */
#ifndef TLS_TLS_FACTS_H
#define TLS_TLS_FACTS_H

#include <stdbool.h>

struct ssl_st; /* SSL of OpenSSL */

/* Whether the kernel encrypts what we send; what comes it decrypts where OpenSSL knows how. */
enum tls_in_kernel {
    IN_KERNEL_UNASKED, /* without --tls-ktls */
    IN_KERNEL_OFF,
    IN_KERNEL_ON,
};

/* NULL: there is none, or the handshake is not done yet. */
struct tls_facts {
    const char *version;     /* "TLSv1.3"; static memory */
    const char *cipher;      /* "TLS_AES_256_GCM_SHA384"; static memory */
    char       *server_name; /* whom the client asks for; at most 255 bytes */
    char       *protocol;    /* chosen by ALPN; at most 255 bytes */
    char       *common_name; /* of the client's certificate, in UTF-8; at most 255 bytes */
    /* The client has shown one, maybe in the session that goes on; it was verified. */
    bool        has_certificate;
    bool        was_resumed;
    enum tls_in_kernel in_kernel;
};

/* The handshake is done. */
void tls_facts_note(struct tls_facts *, const struct ssl_st *);
/* Frees what belongs to them, not the facts themselves. */
void tls_facts_clear(struct tls_facts *);

#endif
