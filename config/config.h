/*
 * config.h — everything an operator can say, as plain structs.
 *
 * Made once by config_load() (config/load.h) and never changed afterwards; everybody may read it.
 * Times are seconds, sizes are bytes; where 0 means "without limit" the option's row says so.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/log.h"  /* enum log_level */
#include "base/log_record.h" /* enum log_format */

struct network;

/* More are refused. */
#define CONFIG_MAX_LISTENS   64
#define CONFIG_MAX_PRIMARIES 64
#define CONFIG_MAX_SHADOWS   256

struct text_list {
    char **texts;
    size_t count;
};

struct listen_config {
    char           *name;     /* as the operator wrote it, without the query: the label in logs */
    struct endpoint endpoint;
    unsigned        mode;     /* permissions of a unix socket */
    bool            accept_proxy; /* every client begins with a PROXY header */
};

/* The PROXY header that a target gets before the client's bytes. */
enum proxy_version {
    PROXY_OFF,
    PROXY_V1,
    PROXY_V2,
};

/* Our own addresses to connect from, one of each family; length 0: none is wished for. */
struct source_addresses {
    struct address v4;
    struct address v6;
};

struct target_config {
    char           *name;     /* as the operator wrote it, without the query */
    struct endpoint endpoint;

    /* Of tls:// targets. */
    bool             verify;
    char            *ca;      /* file; NULL: the system's authorities */
    char            *sni;     /* NULL: the client's, or the host */
    struct text_list alpn;    /* none: the client's */
    char            *cert;    /* files of our own certificate and key; NULL: we show none */
    char            *key;     /* NULL: in cert */

    struct source_addresses source; /* what it lacks, the source of all says */
    enum proxy_version proxy;
};

struct network_list {
    struct network *networks;
    size_t          count;    /* 0: any */
};

struct address_list {
    struct address *addresses;
    size_t          count;
};

/* Which addresses of a name are used. */
enum dns_family {
    DNS_ANY, /* IPv4 first */
    DNS_IPV4,
    DNS_IPV6,
};

enum client_auth {
    CLIENT_AUTH_REQUIRED,
    CLIENT_AUTH_OPTIONAL,
};

enum tls_min {
    TLS_MIN_12,
    TLS_MIN_13,
};

enum shadow_overflow {
    SHADOW_DETACH,
    SHADOW_BLOCK,
};

enum sample_by {
    SAMPLE_BY_SESSION,
    SAMPLE_BY_SOURCE,
};

enum connect_on {
    CONNECT_ON_START,
    CONNECT_ON_DATA,
};

/* Failures in a row that open a shadow's breaker, and for how long at first; 0 failures: off. */
struct breaker_config {
    uint64_t failures;
    double   seconds;
};

/* How bytes are moved where both ways are possible. */
enum io_mode {
    IO_MODE_AUTO, /* by the traffic */
    IO_MODE_COPY,
    IO_MODE_SPLICE,
};

struct shadow_config {
    char                *name;
    struct target_config target;
    uint64_t             buffer;
    enum shadow_overflow overflow;
    double               sample; /* percent, 0 to 100 */
    enum sample_by       sample_by;
    double ramp;        /* the sample grows from 0 for so long; 0: it is whole at once */
    double               duration;  /* then the shadow pauses; 0: it never does */
    uint64_t             rate;      /* new mirrored sessions a second; 0: any */
    uint64_t             max_bytes; /* of a session that are mirrored; 0: all */
    double               greeting;  /* how long to wait for it to speak first; 0: not at all */
    uint64_t             max_sessions;
    struct network_list  from;
    enum connect_on      connect_on;
    double               connect_timeout;
    double               stall_timeout;
    double               linger;
    struct breaker_config breaker; /* not with SHADOW_BLOCK */
};

struct config {
    struct listen_config *listens;
    size_t                listen_count;
    struct target_config *primaries;      /* tried in order */
    size_t                primary_count;
    struct shadow_config *shadows;
    size_t                shadow_count;

    uint64_t workers;                     /* never 0: auto has been resolved, see workers_auto */
    bool     workers_auto;
    uint64_t backlog;
    uint64_t max_sessions;                /* 0: as the descriptor limit allows; over all workers */
    uint64_t max_sessions_per_source;     /* 0: off */
    uint64_t buffer;                      /* primary path, each direction */
    uint64_t shadow_memory;
    uint64_t sample_seed;                 /* 0: each shadow's name is its seed */
    enum io_mode io;
    struct network_list allow;
    struct network_list proxy_trust;      /* whose PROXY headers count; none: nobody's */
    bool     allow_loop;
    struct source_addresses source;       /* to connect from, to every target */
    bool     transparent;                 /* the primary sees the client's address */

    double connect_timeout;
    double idle_timeout;
    double half_close_timeout;
    double tcp_user_timeout;              /* 0: off */
    double drain_timeout;
    double drain_delay;                   /* before it: accepting goes on */
    double reload_timeout;                /* of sessions of a former configuration */

    double           handshake_timeout;
    uint64_t         max_handshakes;      /* with clients, over all workers */
    struct text_list tls_certs;           /* files, chosen by SNI; the first one is the default */
    struct text_list tls_keys;            /* one for each of them, or none: the key is beside it */
    char            *tls_key_passphrase_file; /* NULL: none */
    char            *tls_client_ca;       /* file; NULL: clients need no certificate */
    enum client_auth tls_client_auth;
    enum tls_min     tls_min;
    char            *tls_ciphers;         /* NULL: OpenSSL's */
    struct text_list tls_alpn;            /* none: ALPN is ignored */
    bool             tls_strict_eof;
    bool             tls_ktls;

    struct address_list resolvers;        /* name servers with ports; none: those of resolv.conf */
    enum dns_family     dns_family;
    double              dns_timeout;      /* of one question */
    double              dns_ttl_min;      /* wins over dns_ttl_max */
    double              dns_ttl_max;
    double              dns_stale;

    enum log_level  log_level;
    enum log_format log_format;
    char           *log_file;             /* "-": stderr */
    char           *access_log;           /* "-": stdout, "off" */
    enum log_format access_format;

    bool            admin_on;
    struct endpoint admin;
    char           *admin_host;           /* a name for us in Host headers; NULL: none */
    char           *admin_token_file;     /* NULL: none */
    char           *pid_file;             /* NULL: none */
    bool            core;                 /* core files and debuggers are allowed */
    char           *user;                 /* whom root becomes: a name or a number; NULL: nobody */
    char           *group;                /* NULL: the user's */
    struct text_list files;               /* what this was read from: -c and DOPPEL_X_FILE */

    /* Hidden, for tests. */
    char    *resolv_conf;                 /* NULL: the system's */
    char    *hosts;                       /* NULL: the system's */
    uint64_t sndbuf;                      /* 0: the kernel's choice */
    uint64_t rcvbuf;
};

void config_free(struct config *);

/* Borrows from the configuration. */
struct log_options config_log_options(const struct config *);

#endif
