/*
 * fuzz_tls_server.c — whatever a client says first, the server's side of TLS keeps its promises.
 *
 *     ┌──────┬────────────────────────────┐
 *     │ mode │ what the client says ...   │  then it is silent, and at last it is gone
 *     └──────┴────────────────────────────┘
 *      bit 0: the server chooses among certificates and protocols, and wants a certificate
 *      bit 1: these are the messages, each record's and the first message's length are put in front
 *      bit 2: they come in pieces of three bytes
 *
 *  - all that came is taken, and no handshake ends well, since nobody can guess our key;
 *  - a failure stays one and has a reason;
 *  - nothing is left behind.
 */
#include <assert.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fault.h"
#include "config/config.h"
#include "tls/tls.h"
#include "tls/tls_contexts.h"

#define MODE_CHOOSES 1
#define MODE_FRAMED  2
#define MODE_PIECES  4

#define SAID_MAX   8192
#define RECORD_MAX 16384
#define MARKS       4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* OpenSSL itself is not instrumented: what it answers, and why it fails, lead the fuzzer on. */
__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t marks[MARKS];

static struct tls_contexts *plain, *choosing;

static void mark(uint32_t hash)
{
    marks[(hash ^ hash >> 16) % MARKS] = 1;
}

static void mark_text(const char *text)
{
    uint32_t hash = 2166136261U;

    for (; *text != '\0'; text++)
        hash = (hash ^ (uint8_t)*text) * 16777619U;
    mark(hash);
}

/* The path of a file in memory that holds a key and its certificate for this name. */
static char *make_certificate(const char *name)
{
    int        file = memfd_create("certificate", 0);
    FILE      *stream = fdopen(dup(file), "w");
    EVP_PKEY  *key = EVP_EC_gen("P-256");
    X509      *certificate = X509_new();
    X509_NAME *subject = X509_get_subject_name(certificate);
    char      *path;

    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(certificate, subject);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
    X509_set_pubkey(certificate, key);
    X509_sign(certificate, key, EVP_sha256());
    PEM_write_PrivateKey(stream, key, NULL, NULL, 0, NULL, NULL);
    PEM_write_X509(stream, certificate);
    fclose(stream);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return asprintf(&path, "/proc/self/fd/%d", file) > 0 ? path : NULL;
}

static void make_servers(void)
{
    static char         *certificates[3], *protocols[] = { "h2", "http/1.1" };
    static struct config config;
    struct fault         fault;

    certificates[0] = make_certificate("localhost");
    certificates[1] = make_certificate("*.shop.example");
    certificates[2] = make_certificate("www.shop.example");
    config.tls_certs = (struct text_list){ certificates, 1 };
    plain = tls_contexts_new(&config, &fault);
    config.tls_certs.count = 3;
    config.tls_alpn = (struct text_list){ protocols, 2 };
    config.tls_client_ca = certificates[0];
    choosing = tls_contexts_new(&config, &fault);
    assert(plain != NULL && choosing != NULL);
}

/* The messages in a record, and the first of them with its own length; answers the new length. */
static size_t frame(uint8_t *said, const uint8_t *data, size_t size)
{
    size_t body = size < 4 ? 0 : size - 4;

    memcpy(said, "\x16\x03\x01", 3);
    said[3] = (uint8_t)(size >> 8);
    said[4] = (uint8_t)size;
    memcpy(said + 5, data, size);
    if (size >= 4) {
        said[6] = 0;
        said[7] = (uint8_t)(body >> 8);
        said[8] = (uint8_t)body;
    }
    return size + 5;
}

/* The kind of the answer's first record: which alert, or which cipher suite. */
static void mark_answer(int socket)
{
    uint8_t answer[RECORD_MAX];
    ssize_t length = recv(socket, answer, sizeof answer, MSG_DONTWAIT);

    if (length < 7)
        return;
    if (answer[0] == 0x15)
        mark(0x150000U | answer[6]);
    else if (length > 46 && length > 46 + answer[43])
        mark(0x160000U | (uint32_t)answer[44 + answer[43]] << 8 | answer[45 + answer[43]]);
}

static size_t unread(int socket)
{
    int bytes = 0;

    return ioctl(socket, FIONREAD, &bytes) == 0 ? (size_t)bytes : 0;
}

/* One step after each piece; answers the last one's word. */
static enum io hear(struct tls *tls, const int sockets[2], const uint8_t *said, size_t size,
                    size_t piece)
{
    enum io io = tls_handshake(tls);

    for (size_t at = 0; at < size && io == IO_AGAIN; at += piece) {
        size_t length = size - at < piece ? size - at : piece;

        assert(send(sockets[1], said + at, length, 0) == (ssize_t)length);
        io = tls_handshake(tls);
        assert(io == IO_FAILED || (io == IO_AGAIN && unread(sockets[0]) == 0));
    }
    return io;
}

static void shake_hands(struct tls *tls, const int sockets[2], enum io io)
{
    if (io == IO_AGAIN) {
        assert(!tls_read_waits_for_room(tls));
        shutdown(sockets[1], SHUT_WR);
        io = tls_handshake(tls);
    }
    assert(io == IO_FAILED && tls_why(tls)[0] != '\0');
    assert(tls_end(tls) == IO_FAILED && tls_facts(tls)->version == NULL);
    mark_text(tls_why(tls));
    mark_answer(sockets[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t said[SAID_MAX + 5];
    int     sockets[2];

    if (plain == NULL)
        make_servers();
    if (size == 0 || size > SAID_MAX)
        return 0;
    uint8_t mode = *data++;
    size--;
    if (mode & MODE_FRAMED)
        size = frame(said, data, size);
    else
        memcpy(said, data, size);

    assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sockets) == 0);
    struct tls *tls = tls_accept(mode & MODE_CHOOSES ? choosing : plain, sockets[0]);
    enum io     io = hear(tls, sockets, said, size, mode & MODE_PIECES ? 3 : sizeof said);
    shake_hands(tls, sockets, io);
    tls_free(tls);
    close(sockets[0]);
    close(sockets[1]);
    return 0;
}
