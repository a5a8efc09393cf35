/*
 * authorization.c — Host and Origin against a browser's other pages, a token against everybody else.
 */
#include "admin/authorization.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/address.h"
#include "base/fault.h"
#include "base/files.h"
#include "base/log.h"

#define HOST_ROOM 256
#define SCHEME    "Bearer "

/* ---- the token */

static bool is_token_text(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    }
    return true;
}

bool token_read(struct token *token, const char *file, struct fault *fault)
{
    *token = (struct token){ 0 };
    if (file == NULL)
        return true;
    const struct file *read = files_read(file);
    if (read == NULL)
        return fault_set(fault, "--admin-token-file %.300s: cannot be read: %s", file,
                         strerrordesc_np(errno));
    size_t length = read->length;
    if (length > 0 && read->bytes[length - 1] == '\n')
        length--;
    if (length == 0)
        return fault_set(fault, "--admin-token-file %.300s is empty; write a token into it", file);
    if (length > TOKEN_MAX)
        return fault_set(fault, "--admin-token-file %.300s: a token has at most %d bytes", file,
                         TOKEN_MAX);
    if (!is_token_text(read->bytes, length))
        return fault_set(fault,
                         "--admin-token-file %.300s: a token is one line of printable ASCII "
                         "characters without blanks",
                         file);
    memcpy(token->text, read->bytes, length);
    token->length = length;
    return true;
}

void token_warn(const char *file)
{
    const struct file *read = file != NULL ? files_read(file) : NULL;

    if (read != NULL && (read->mode & (S_IWGRP | S_IRWXO)) != 0)
        log_warning("supervisor", "token_is_public", "file=%s why=%s", file,
                    "others on this machine may read or change the admin token; chmod 0600");
}

/* Looks at every byte there may be, whatever it has seen. */
static bool is_same(const struct token *token, const char *text, size_t length)
{
    char given[TOKEN_MAX] = { 0 };
    volatile unsigned char difference = length != token->length;

    memcpy(given, text, length);
    for (size_t i = 0; i < TOKEN_MAX; i++)
        difference |= (unsigned char)(given[i] ^ token->text[i]);
    return difference == 0;
}

bool authorization_has_token(const struct credentials *credentials, const struct token *token)
{
    const char *header = credentials->authorization;

    if (token->length == 0 || header == NULL || strncasecmp(header, SCHEME, strlen(SCHEME)) != 0)
        return false;
    const char *given = header + strlen(SCHEME);
    size_t length = strlen(given);
    return length <= TOKEN_MAX && is_same(token, given, length);
}

/* ---- Host and Origin */

/* A Host header without its port: "[::1]:9901", "127.0.0.1:9901", "::1", "localhost". */
static void cut_port(const char *header, char host[HOST_ROOM])
{
    size_t length = strcspn(header, ":");

    if (header[0] == '[') {
        header++;
        length = strcspn(header, "]");
        if (header[length] != ']' || (header[length + 1] != '\0' && header[length + 1] != ':'))
            length = 0;
    } else if (strchr(header + length, ':') != strrchr(header, ':')) {
        length = strlen(header);
    }
    if (length > HOST_ROOM - 1)
        length = HOST_ROOM - 1;
    memcpy(host, header, length);
    host[length] = '\0';
}

static bool is_own_host(const char *header, const char *admin_host)
{
    struct address address;
    char host[HOST_ROOM];

    cut_port(header, host);
    return host_equal(host, "localhost") || address_parse(&address, host, 0) ||
           (admin_host != NULL && host_equal(host, admin_host));
}

/* "http://127.0.0.1:9901" for the host 127.0.0.1:9901; https where something speaks TLS for us. */
static bool origin_is_host(const char *origin, const char *host)
{
    const char *behind = strstr(origin, "://");

    if (behind == NULL || host == NULL)
        return false;
    size_t scheme = (size_t)(behind - origin);
    bool known = (scheme == 4 && strncasecmp(origin, "http", 4) == 0) ||
                 (scheme == 5 && strncasecmp(origin, "https", 5) == 0);
    return known && strcasecmp(behind + 3, host) == 0;
}

const char *authorization_refuses_origin(const struct credentials *credentials)
{
    if (credentials->origin != NULL && !origin_is_host(credentials->origin, credentials->host))
        return "Origin must be the host that is asked";
    return NULL;
}

const char *authorization_refuses(const struct credentials *credentials, const char *admin_host)
{
    if (credentials->host != NULL && !is_own_host(credentials->host, admin_host))
        return "Host must be an IP address, localhost or --admin-host";
    return authorization_refuses_origin(credentials);
}
