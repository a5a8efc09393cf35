/*
 * tls_identity.c — OpenSSL is told what to show, and a refusal says which file is wrong, and how.
 */
#include "tls_identity.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "base/fault.h"

const char *tls_identity_why(void)
{
    unsigned long error = ERR_peek_error();
    const char   *text = ERR_reason_error_string(error);

    if (ERR_SYSTEM_ERROR(error))
        text = strerrordesc_np(ERR_GET_REASON(error));
    else if (ERR_GET_REASON(error) == PEM_R_NO_START_LINE && ERR_GET_LIB(error) == ERR_LIB_PEM)
        text = "it holds none in PEM format";
    ERR_clear_error();
    return text != NULL ? text : "it cannot be used";
}

bool tls_identity_refuse(struct fault *fault, const char *said, const char *file)
{
    return fault_set(fault, "%s%.300s: %s", said, file, tls_identity_why());
}

bool tls_passphrase_read(struct tls_passphrase *passphrase, struct fault *fault)
{
    if (passphrase->file == NULL)
        return true;
    FILE *file = fopen(passphrase->file, "re");
    bool  fine = file != NULL && fgets(passphrase->text, sizeof passphrase->text, file) != NULL;

    if (!fine)
        fault_set(fault, "--tls-key-passphrase-file %.300s: %s", passphrase->file,
                  file == NULL || ferror(file) ? strerror(errno) : "it is empty");
    if (file != NULL)
        fclose(file);
    passphrase->text[strcspn(passphrase->text, "\r\n")] = '\0';
    return fine;
}

/* pem_password_cb(3) */
static int on_passphrase(char *room, int size, int writing, void *owner)
{
    struct tls_passphrase *passphrase = owner;
    int                length = (int)strlen(passphrase->text);

    (void)writing;
    passphrase->was_asked = true;
    if (passphrase->file == NULL || length > size)
        return -1;
    memcpy(room, passphrase->text, (size_t)length);
    return length;
}

/* Why the key cannot be used, from OpenSSL's first error; empties its queue. */
static bool refuse_key(const struct tls_identity *identity, const struct tls_passphrase *passphrase,
                       struct fault *fault)
{
    const char   *said = identity->key != NULL ? identity->key_said : identity->cert_said;
    const char   *file = identity->key != NULL ? identity->key : identity->cert;
    unsigned long error = ERR_peek_error();

    if (ERR_SYSTEM_ERROR(error))
        return tls_identity_refuse(fault, said, file);
    ERR_clear_error();
    if (passphrase->was_asked)
        return fault_set(fault, "%s%.300s: the key is encrypted, and %s", said, file,
                         passphrase->file == NULL ? "there is no --tls-key-passphrase-file"
                                                  : "the passphrase does not open it");
    if (identity->key == NULL)
        return fault_set(fault, "%s%.300s: it holds no private key; say %sFILE, too", said, file,
                         identity->key_said);
    return fault_set(fault, "%s%.300s: it holds no private key in PEM format", said, file);
}

/* OpenSSL itself takes a key of another kind (RSA, EC) beside the certificate. */
static bool key_belongs(SSL_CTX *context, const struct tls_identity *identity, struct fault *fault)
{
    if (SSL_CTX_check_private_key(context) == 1)
        return true;
    ERR_clear_error();
    return fault_set(fault, "%s%.300s: it does not belong to the certificate %.300s",
                     identity->key != NULL ? identity->key_said : "the private key in ",
                     identity->key != NULL ? identity->key : identity->cert, identity->cert);
}

static bool is_mismatch(unsigned long error)
{
    return ERR_GET_LIB(error) == ERR_LIB_X509 &&
           ERR_GET_REASON(error) == X509_R_KEY_VALUES_MISMATCH;
}

static bool use_key(SSL_CTX *context, const struct tls_identity *identity,
                    struct tls_passphrase *passphrase, struct fault *fault)
{
    const char *file = identity->key != NULL ? identity->key : identity->cert;

    passphrase->was_asked = false;
    SSL_CTX_set_default_passwd_cb(context, on_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(context, passphrase);
    bool fine = SSL_CTX_use_PrivateKey_file(context, file, SSL_FILETYPE_PEM) == 1;
    SSL_CTX_set_default_passwd_cb_userdata(context, NULL);
    SSL_CTX_set_default_passwd_cb(context, NULL);
    if (!fine && !is_mismatch(ERR_peek_error()))
        return refuse_key(identity, passphrase, fault);
    return key_belongs(context, identity, fault);
}

bool tls_identity_use(SSL_CTX *context, const struct tls_identity *identity,
                      struct tls_passphrase *passphrase, struct fault *fault)
{
    if (SSL_CTX_use_certificate_chain_file(context, identity->cert) != 1)
        return tls_identity_refuse(fault, identity->cert_said, identity->cert);
    return use_key(context, identity, passphrase, fault);
}
