/*
 * tls_identity.h — a certificate and the private key that belongs to it, from the files that name them.
 *
 *     chain file ──▶ certificate ─┐
 *     key file   ──▶ private key ─┴─ one belongs to the other ──▶ SSL_CTX
 *         ▲
 *     passphrase, of a key that is encrypted
 *
 * For the files of tls_contexts.c alone.
 */
#ifndef TLS_TLS_IDENTITY_H
#define TLS_TLS_IDENTITY_H

#include <stdbool.h>

struct fault;
struct ssl_ctx_st;         /* SSL_CTX of OpenSSL */
struct stack_st_X509_NAME; /* STACK_OF(X509_NAME) */

#define PASSPHRASE_ROOM 1024

/* What OpenSSL asks for while it reads a key; set file, and the rest to zero.  Whoever owns it wipes
 * it. */
struct tls_passphrase {
    const char *file; /* NULL: none was given */
    bool was_asked;
    char text[PASSPHRASE_ROOM];
};

/* The files, and how the options that name them begin, as in "--tls-cert " or "cert=". */
struct tls_identity {
    const char *cert_said;
    const char *cert;
    const char *key_said;
    const char *key; /* NULL: it is in the certificate's file */
};

/* False: there is a file, but it cannot be read. */
bool tls_passphrase_read(struct tls_passphrase *, struct fault *);
/* From now on the context shows this certificate.  False: a file cannot be used, or the key is that
 * of another certificate; the fault begins with the option. */
bool tls_identity_use(struct ssl_ctx_st *, const struct tls_identity *, struct tls_passphrase *,
                      struct fault *);

/* From now on the context trusts the authorities of this file, and heeds its revocation lists; their
 * names are added to the list, unless it is NULL.  False: OpenSSL's queue says why. */
bool tls_identity_trust(struct ssl_ctx_st *, const char *file, struct stack_st_X509_NAME *names);

/* The first error of OpenSSL's queue, the cause of the others, in words; empties the queue.  Good
 * until the next call. */
const char *tls_identity_why(void);
/* Always false: that file cannot be used, because of this error; said is how its option begins. */
bool tls_identity_refuse(struct fault *, const char *said, const char *file);

#endif
