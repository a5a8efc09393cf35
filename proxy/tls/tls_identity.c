/*
 * tls_identity.c — OpenSSL is told what to show, and a refusal says which file is wrong, and how.
 */
#include "tls_identity.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <string.h>

#include "base/fault.h"
#include "base/files.h"

const char *tls_identity_why(void)
{
    unsigned long error = ERR_peek_error();
    const char *text = ERR_reason_error_string(error);

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

/* OpenSSL's view of the file.  NULL: its error queue says why. */
static BIO *open_file(const char *path)
{
    const struct file *file;

    ERR_clear_error();
    file = files_read(path);
    if (file != NULL)
        return BIO_new_mem_buf(file->bytes, (int)file->length);
    ERR_raise(ERR_LIB_SYS, errno);
    return NULL;
}

bool tls_passphrase_read(struct tls_passphrase *passphrase, struct fault *fault)
{
    if (passphrase->file == NULL)
        return true;
    const struct file *file = files_read(passphrase->file);
    if (file == NULL || file->length == 0)
        return fault_set(fault, "--tls-key-passphrase-file %.300s: %s", passphrase->file,
                         file == NULL ? strerrordesc_np(errno) : "it is empty");
    size_t length = strcspn(file->bytes, "\r\n");
    length = length < PASSPHRASE_ROOM ? length : PASSPHRASE_ROOM - 1;
    memcpy(passphrase->text, file->bytes, length);
    return true;
}

/* pem_password_cb(3) */
static int on_passphrase(char *room, int size, int writing, void *owner)
{
    struct tls_passphrase *passphrase = owner;
    int length = (int)strlen(passphrase->text);

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
    const char *said = identity->key != NULL ? identity->key_said : identity->cert_said;
    const char *file = identity->key != NULL ? identity->key : identity->cert;
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

static bool set_key(SSL_CTX *context, const char *file, struct tls_passphrase *passphrase)
{
    BIO *from = open_file(file);

    passphrase->was_asked = false;
    EVP_PKEY *key =
        from != NULL ? PEM_read_bio_PrivateKey(from, NULL, on_passphrase, passphrase) : NULL;
    bool fine = key != NULL && SSL_CTX_use_PrivateKey(context, key) == 1;
    EVP_PKEY_free(key);
    BIO_free(from);
    return fine;
}

static bool use_key(SSL_CTX *context, const struct tls_identity *identity,
                    struct tls_passphrase *passphrase, struct fault *fault)
{
    const char *file = identity->key != NULL ? identity->key : identity->cert;

    if (!set_key(context, file, passphrase) && !is_mismatch(ERR_peek_error()))
        return refuse_key(identity, passphrase, fault);
    return key_belongs(context, identity, fault);
}

/* The certificates behind the first one, to the end of the file. */
static bool set_chain(SSL_CTX *context, BIO *from, struct tls_passphrase *passphrase)
{
    X509 *next;

    while ((next = PEM_read_bio_X509(from, NULL, on_passphrase, passphrase)) != NULL) {
        if (SSL_CTX_add0_chain_cert(context, next) != 1) {
            X509_free(next);
            return false;
        }
    }
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        return false;
    ERR_clear_error();
    return true;
}

/* As SSL_CTX_use_certificate_chain_file(3) does. */
static bool set_certificate(SSL_CTX *context, const char *file, struct tls_passphrase *passphrase)
{
    BIO *from = open_file(file);
    X509 *first =
        from != NULL ? PEM_read_bio_X509_AUX(from, NULL, on_passphrase, passphrase) : NULL;
    bool fine = first != NULL && SSL_CTX_use_certificate(context, first) == 1 &&
                set_chain(context, from, passphrase);

    X509_free(first);
    BIO_free(from);
    return fine;
}

bool tls_identity_use(SSL_CTX *context, const struct tls_identity *identity,
                      struct tls_passphrase *passphrase, struct fault *fault)
{
    if (!set_certificate(context, identity->cert, passphrase))
        return tls_identity_refuse(fault, identity->cert_said, identity->cert);
    return use_key(context, identity, passphrase, fault);
}

/* --- authorities ------------------------------------------------------------------------- */

/* Each once: clients are told these names. */
static bool add_name(STACK_OF(X509_NAME) * names, const X509 *certificate)
{
    const X509_NAME *subject = X509_get_subject_name(certificate);

    for (int i = 0; i < sk_X509_NAME_num(names); i++) {
        if (X509_NAME_cmp(sk_X509_NAME_value(names, i), subject) == 0)
            return true;
    }
    X509_NAME *name = X509_NAME_dup(subject);
    if (name != NULL && sk_X509_NAME_push(names, name) > 0)
        return true;
    X509_NAME_free(name);
    return false;
}

static bool add_authority(X509_STORE *store, const X509_INFO *info, STACK_OF(X509_NAME) * names)
{
    if (info->crl != NULL && X509_STORE_add_crl(store, info->crl) != 1)
        return false;
    if (info->x509 == NULL)
        return true;
    return X509_STORE_add_cert(store, info->x509) == 1 &&
           (names == NULL || add_name(names, info->x509));
}

/* Without an empty passphrase OpenSSL would ask the terminal for one. */
static bool add_authorities(SSL_CTX *context, BIO *from, STACK_OF(X509_NAME) * names)
{
    X509_STORE *store = SSL_CTX_get_cert_store(context);
    char no_passphrase[] = "";
    STACK_OF(X509_INFO) *all = PEM_X509_INFO_read_bio(from, NULL, NULL, no_passphrase);
    int certificates = 0;
    bool fine = all != NULL;

    for (int i = 0; fine && i < sk_X509_INFO_num(all); i++) {
        const X509_INFO *info = sk_X509_INFO_value(all, i);

        certificates += info->x509 != NULL;
        fine = add_authority(store, info, names);
    }
    sk_X509_INFO_pop_free(all, X509_INFO_free);
    if (fine && certificates == 0)
        ERR_raise(ERR_LIB_PEM, PEM_R_NO_START_LINE);
    return fine && certificates > 0;
}

bool tls_identity_trust(SSL_CTX *context, const char *file, STACK_OF(X509_NAME) * names)
{
    BIO *from = open_file(file);
    bool fine = from != NULL && add_authorities(context, from, names);

    BIO_free(from);
    return fine;
}
