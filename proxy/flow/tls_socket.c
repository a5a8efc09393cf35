/*
 * tls_socket.c — a callback of the BIO, which looks at each result of the socket.
 *
 * OpenSSL takes ENOBUFS and ENOMEM for the end of the connection; whether a call is to be tried again
 * is said by the flags of the BIO (BIO_should_retry(3)), which the callback may set.
 */
#include "tls_socket.h"

#include <errno.h>
#include <openssl/ssl.h>

#define HAS_READ    (BIO_CB_READ | BIO_CB_RETURN)
#define HAS_WRITTEN (BIO_CB_WRITE | BIO_CB_RETURN)

/* BIO_callback_fn_ex(3) */
static long on_call(BIO *bio, int call, const char *bytes, size_t length, int number, long other,
                    int result, size_t *moved)
{
    (void)bytes, (void)length, (void)number, (void)other, (void)moved;
    if (result >= 0 || (errno != ENOBUFS && errno != ENOMEM) ||
        (call != HAS_READ && call != HAS_WRITTEN))
        return result;
    if (call == HAS_READ)
        BIO_set_retry_read(bio);
    else
        BIO_set_retry_write(bio);
    *(bool *)(void *)BIO_get_callback_arg(bio) = true;
    return result;
}

void tls_socket_watch(SSL *ssl, bool *is_starved)
{
    BIO *bio = SSL_get_wbio(ssl); /* which is the one to read, too */

    BIO_set_callback_arg(bio, (char *)is_starved);
    BIO_set_callback_ex(bio, on_call);
}
