/*
 * tls_contexts.c — OpenSSL's SSL_CTX objects, made from the configuration.
 *
 *     tls-cert 1, tls-cert 2, ...  ──▶ servers     tls_choice.c chooses for each client
 *     each tls:// target           ──▶ upstream    its own trust, certificate and last session
 *
 * Tickets are made with the keys of the first server context, whichever certificate serves, so that
 * every worker resumes what another one began.  Servers keep no sessions of their own.
 */
#include "tls_contexts.h"

#include <dirent.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/files.h"
#include "config/config.h"
#include "tls/tls_choice.h"
#include "tls/tls_identity.h"

#define PROTOCOL_LENGTH 255 /* RFC 7301 */

static const unsigned char session_context[] = "doppel";

/* --- what clients and servers share ------------------------------------------------------ */

static SSL_CTX *new_context(const SSL_METHOD *method, const struct config *config,
                            struct fault *fault)
{
    SSL_CTX *context = SSL_CTX_new(method);

    if (context == NULL) {
        fault_set(fault, "OpenSSL cannot start: %s", tls_identity_why());
        return NULL;
    }
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY); /* tls.c counts what holds no data */
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
#ifdef SSL_OP_ENABLE_KTLS
    if (config->tls_ktls)
        SSL_CTX_set_options(context, SSL_OP_ENABLE_KTLS);
#else
    (void)config;
#endif
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    return context;
}

/* The list as the extension has it: each name with its length in front.  NULL: one is too long. */
static unsigned char *protocols_of(const struct text_list *list, size_t *length)
{
    unsigned char *protocols = xcalloc(list->count + 1, PROTOCOL_LENGTH + 1);

    *length = 0;
    for (size_t i = 0; i < list->count; i++) {
        size_t size = strlen(list->texts[i]);

        if (size == 0 || size > PROTOCOL_LENGTH) {
            free(protocols);
            return NULL;
        }
        protocols[(*length)++] = (unsigned char)size;
        memcpy(&protocols[*length], list->texts[i], size);
        *length += size;
    }
    return protocols;
}

/* --- servers ----------------------------------------------------------------------------- */

static int on_server_name(SSL *ssl, int *alert, void *owner)
{
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    (void)alert;
    tls_choice_make(owner, ssl, name);
    return name != NULL ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

/* Our order counts.  A client that offers none of ours is told so (RFC 7301, 3.2). */
static int on_protocols(SSL *ssl, const unsigned char **chosen, unsigned char *length,
                        const unsigned char *offered, unsigned offered_length, void *owner)
{
    const struct tls_contexts *contexts = owner;
    unsigned char *found;

    (void)ssl;
    if (SSL_select_next_proto(&found, length, contexts->protocols,
                              (unsigned)contexts->protocols_length, offered,
                              offered_length) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *chosen = found;
    return SSL_TLSEXT_ERR_OK;
}

/* TLS 1.3 suites begin with TLS_ and have a list of their own.  The words of one kind; the caller
 * frees the text. */
static char *ciphers_of(const char *ciphers, bool is_13)
{
    char *list = NULL;
    size_t size;
    FILE *to = xmemstream(&list, &size);

    while (*ciphers != '\0') {
        size_t length = strcspn(ciphers, ":");

        if ((strncmp(ciphers, "TLS_", strlen("TLS_")) == 0) == is_13)
            fprintf(to, "%s%.*s", ftell(to) > 0 ? ":" : "", (int)length, ciphers);
        ciphers += length + (ciphers[length] == ':');
    }
    fclose(to);
    return list;
}

/* A kind that is not named stays as it is. */
static bool set_ciphers(SSL_CTX *context, const char *ciphers, struct fault *fault)
{
    char *suites = ciphers_of(ciphers, true);
    char *older = ciphers_of(ciphers, false);

    bool fine = (suites[0] == '\0' || SSL_CTX_set_ciphersuites(context, suites) == 1) &&
                (older[0] == '\0' || SSL_CTX_set_cipher_list(context, older) == 1);
    free(suites);
    free(older);
    return fine || fault_set(fault, "--tls-ciphers %.300s: %s", ciphers, tls_identity_why());
}

static bool set_client_authority(SSL_CTX *context, const struct config *config, struct fault *fault)
{
    const char *file = config->tls_client_ca;

    if (file == NULL)
        return true;
    STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
    if (names == NULL || !tls_identity_trust(context, file, names)) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return tls_identity_refuse(fault, "--tls-client-ca ", file);
    }
    SSL_CTX_set_client_CA_list(context, names);
    SSL_CTX_set_verify(
        context,
        SSL_VERIFY_PEER |
            (config->tls_client_auth == CLIENT_AUTH_REQUIRED ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
        NULL);
    return true;
}

/* A ticket at the handshake would cost a client that only writes its connection: what it leaves
 * unread makes its kernel reset.  tls.c sends one with the first answer. */
static void set_resumption(SSL_CTX *context)
{
    SSL_CTX_set_session_id_context(context, session_context, sizeof session_context - 1);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context, 0);
}

static bool set_up_server(struct tls_contexts *contexts, SSL_CTX *context,
                          const struct config *config, struct fault *fault)
{
    SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    if (config->tls_min == TLS_MIN_13)
        SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_tlsext_servername_callback(context, on_server_name);
    SSL_CTX_set_tlsext_servername_arg(context, contexts);
    if (contexts->protocols_length > 0)
        SSL_CTX_set_alpn_select_cb(context, on_protocols, contexts);
    set_resumption(context);
    return (config->tls_ciphers == NULL || set_ciphers(context, config->tls_ciphers, fault)) &&
           set_client_authority(context, config, fault);
}

static bool add_server(struct tls_contexts *contexts, const struct config *config, size_t index,
                       struct tls_passphrase *passphrase, struct fault *fault)
{
    const struct tls_identity identity = {
        .cert_said = "--tls-cert ",
        .cert = config->tls_certs.texts[index],
        .key_said = "--tls-key ",
        .key = config->tls_keys.count > 0 ? config->tls_keys.texts[index] : NULL,
    };
    SSL_CTX *context = new_context(TLS_server_method(), config, fault);

    if (context == NULL)
        return false;
    contexts->servers[contexts->server_count++] =
        (struct tls_server){ .context = context, .file = identity.cert };
    return tls_identity_use(context, &identity, passphrase, fault) &&
           set_up_server(contexts, context, config, fault);
}

static bool add_servers(struct tls_contexts *contexts, const struct config *config,
                        struct fault *fault)
{
    struct tls_passphrase passphrase = { .file = config->tls_key_passphrase_file };
    bool fine = tls_passphrase_read(&passphrase, fault);

    contexts->servers = xcalloc(config->tls_certs.count + 1, sizeof contexts->servers[0]);
    contexts->protocols = protocols_of(&config->tls_alpn, &contexts->protocols_length);
    if (contexts->protocols == NULL)
        fine = fault_set(fault, "--tls-alpn: a protocol's name has 1 to 255 bytes");
    for (size_t i = 0; fine && i < config->tls_certs.count; i++)
        fine = add_server(contexts, config, i, &passphrase, fault);
    for (size_t i = 0; fine && i < contexts->server_count; i++)
        tls_choice_prepare(contexts, &contexts->servers[i]);
    OPENSSL_cleanse(&passphrase, sizeof passphrase);
    return fine;
}

/* --- upstreams --------------------------------------------------------------------------- */

static bool has_files(const char *folder)
{
    DIR *open = opendir(folder);
    struct dirent *entry = NULL;

    while (open != NULL && (entry = readdir(open)) != NULL && entry->d_name[0] == '.')
        ;
    if (open != NULL)
        closedir(open);
    return entry != NULL;
}

static const char *said_or(const char *variable, const char *usual)
{
    const char *said = getenv(variable);

    return said != NULL ? said : usual;
}

/* OpenSSL itself does not mind when there are none: then nothing would ever be verified.  Nor does it
 * mind what is in that file; those of the folder are read when they are needed. */
static bool trust_system(SSL_CTX *context, struct fault *fault)
{
    const char *file = said_or(X509_get_default_cert_file_env(), X509_get_default_cert_file());
    const char *folder = said_or(X509_get_default_cert_dir_env(), X509_get_default_cert_dir());

    if (files_read(file) == NULL && !has_files(folder))
        return fault_set(fault,
                         "it cannot be verified: this system has no CA certificates in %s; install "
                         "ca-certificates, or say ca=FILE, or verify=off",
                         X509_get_default_cert_dir());
    tls_identity_trust(context, file, NULL);
    ERR_clear_error();
    return SSL_CTX_set_default_verify_dir(context) == 1 ||
           tls_identity_refuse(fault, "certificates in ", folder);
}

static bool set_trust(SSL_CTX *context, const struct target_config *target, struct fault *fault)
{
    if (!target->verify)
        return true;
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    if (target->ca == NULL)
        return trust_system(context, fault);
    return tls_identity_trust(context, target->ca, NULL) ||
           tls_identity_refuse(fault, "ca=", target->ca);
}

static bool set_protocols(SSL_CTX *context, const struct target_config *target, struct fault *fault)
{
    size_t length;
    unsigned char *protocols = protocols_of(&target->alpn, &length);
    bool fine = protocols != NULL;

    if (fine && length > 0)
        fine = SSL_CTX_set_alpn_protos(context, protocols, (unsigned)length) == 0;
    free(protocols);
    return fine || fault_set(fault, "alpn: a protocol's name has 1 to 255 bytes");
}

static bool set_identity(SSL_CTX *context, const struct target_config *target,
                         struct tls_passphrase *passphrase, struct fault *fault)
{
    const struct tls_identity identity = {
        .cert_said = "cert=",
        .cert = target->cert,
        .key_said = "key=",
        .key = target->key,
    };

    return target->cert == NULL || tls_identity_use(context, &identity, passphrase, fault);
}

static bool set_up_upstream(SSL_CTX *context, const struct config *config,
                            const struct target_config *target, struct fault *fault)
{
    struct tls_passphrase passphrase = { .file = config->tls_key_passphrase_file };

    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    bool fine = tls_passphrase_read(&passphrase, fault) && set_trust(context, target, fault) &&
                set_protocols(context, target, fault) &&
                set_identity(context, target, &passphrase, fault);
    OPENSSL_cleanse(&passphrase, sizeof passphrase);
    return fine;
}

static bool add_upstream(struct tls_contexts *contexts, const struct config *config,
                         const char *flag, const struct target_config *target, struct fault *fault)
{
    struct fault why;

    if (!target->endpoint.tls)
        return true;
    SSL_CTX *context = new_context(TLS_client_method(), config, fault);
    if (context == NULL)
        return false;
    contexts->upstreams[contexts->upstream_count++] =
        (struct upstream){ .target = target, .context = context };
    return set_up_upstream(context, config, target, &why) ||
           fault_set(fault, "%s %.200s: %s", flag, target->name, why.text);
}

static bool add_upstreams(struct tls_contexts *contexts, const struct config *config,
                          struct fault *fault)
{
    size_t max = config->primary_count + config->shadow_count;

    contexts->upstreams = xcalloc(max + 1, sizeof contexts->upstreams[0]);
    for (size_t i = 0; i < config->primary_count; i++) {
        if (!add_upstream(contexts, config, "--primary", &config->primaries[i], fault))
            return false;
    }
    for (size_t i = 0; i < config->shadow_count; i++) {
        if (!add_upstream(contexts, config, "--shadow", &config->shadows[i].target, fault))
            return false;
    }
    return true;
}

/* --- all of it --------------------------------------------------------------------------- */

struct tls_contexts *tls_contexts_new(const struct config *config, struct fault *fault)
{
    struct tls_contexts *contexts = xcalloc(1, sizeof *contexts);

    contexts->strict_eof = config->tls_strict_eof;
    if (add_servers(contexts, config, fault) && add_upstreams(contexts, config, fault))
        return contexts;
    tls_contexts_free(contexts);
    return NULL;
}

void tls_contexts_free(struct tls_contexts *contexts)
{
    if (contexts == NULL)
        return;
    for (size_t i = 0; i < contexts->server_count; i++)
        SSL_CTX_free(contexts->servers[i].context);
    for (size_t i = 0; i < contexts->upstream_count; i++) {
        SSL_SESSION_free(contexts->upstreams[i].session);
        SSL_CTX_free(contexts->upstreams[i].context);
        free(contexts->upstreams[i].session_name);
    }
    free(contexts->servers);
    free(contexts->protocols);
    free(contexts->upstreams);
    free(contexts);
}

/* --- warnings ---------------------------------------------------------------------------- */

/* Who hears of them. */
struct warning {
    tls_warning *tell;
    void        *owner;
};

static void warn_of_key(const struct warning *warning, const char *file)
{
    const struct file *read = file != NULL ? files_read(file) : NULL;

    if (read != NULL && (read->mode & S_IROTH) != 0)
        warning->tell(warning->owner, "key_is_public", file,
                      "everybody on this machine may read this private key; chmod o-r");
}

static void warn_of_target(const struct warning *warning, const struct target_config *target)
{
    if (target->cert != NULL)
        warn_of_key(warning, target->key != NULL ? target->key : target->cert);
}

static void warn_of_certificate(const struct warning *warning, const struct tls_contexts *contexts,
                                const struct tls_server *server)
{
    const struct tls_server *winner = tls_choice_winner(contexts, server);
    struct fault             why;

    if (winner == NULL)
        return;
    if (winner == server)
        fault_set(&why, "no client can ask for its IP addresses, and it is not the first "
                        "--tls-cert; put it in front, or leave it out");
    else
        fault_set(&why,
                  "no client is shown this certificate: %.300s comes first for the same names and "
                  "the same kind of key; leave one of them out",
                  winner->file);
    warning->tell(warning->owner, "certificate_unused", server->file, why.text);
}

void tls_contexts_warn(const struct tls_contexts *contexts, const struct config *config,
                       tls_warning *tell, void *owner)
{
    const struct warning    warning = { tell, owner };
    const struct text_list *keys =
        config->tls_keys.count > 0 ? &config->tls_keys : &config->tls_certs;

    for (size_t i = 0; i < contexts->server_count; i++)
        warn_of_certificate(&warning, contexts, &contexts->servers[i]);
    for (size_t i = 0; i < keys->count; i++)
        warn_of_key(&warning, keys->texts[i]);
    for (size_t i = 0; i < config->primary_count; i++)
        warn_of_target(&warning, &config->primaries[i]);
    for (size_t i = 0; i < config->shadow_count; i++)
        warn_of_target(&warning, &config->shadows[i].target);
}

/* --- what else is asked ------------------------------------------------------------------ */

void tls_contexts_count_truncations(struct tls_contexts *contexts, _Atomic uint64_t *cell)
{
    contexts->truncations = cell;
}

const char *tls_library_version(void)
{
    static char text[96];

    snprintf(text, sizeof text, "OpenSSL %s, compiled with %s",
             OpenSSL_version(OPENSSL_VERSION_STRING), OPENSSL_VERSION_STR);
    return text;
}
