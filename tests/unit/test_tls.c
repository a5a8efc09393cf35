/*
 * test_tls.c — OpenSSL's retry rules, on a socket pair whose other end is OpenSSL by hand.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <ev.h>

#include "base/fault.h"
#include "config/config.h"
#include "tls/tls.h"
#include "tls/tls_contexts.h"
#include "transport/reactor.h"
#include "transport/transport.h"

#define SMALL  4608  /* the least that the kernel gives: a few records fill the pair */
#define RECORD 16384
#define ROOMY  (1 << 20)

#define RECORDS_A_TURN 128 /* tls_socket.c: 256 reads */

static char pem[] = "/tmp/doppel-test-tls-XXXXXX";
static char *certificates[] = { pem };

struct pair {
    struct tls_contexts *contexts;
    struct tls          *ours;
    SSL_CTX             *context;
    SSL                 *theirs;
    int                  sockets[2]; /* ours, theirs */
    _Atomic uint64_t     truncations;
};

static int make_certificate(void **state)
{
    char command[512];

    (void)state;
    close(mkstemp(pem));
    snprintf(
        command, sizeof command,
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        "-subj /CN=localhost -keyout %s.key -out %s.crt 2>/dev/null && cat %s.key %s.crt > %s && "
        "rm %s.key %s.crt",
        pem, pem, pem, pem, pem, pem, pem);
    return system(command);
}

static int remove_certificate(void **state)
{
    (void)state;
    return unlink(pem);
}

static void make_sockets(struct pair *pair)
{
    int size = SMALL;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair->sockets), 0);
    for (int i = 0; i < 2; i++)
        setsockopt(pair->sockets[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

static void shake_hands(struct pair *pair)
{
    bool done = false;

    for (int i = 0; i < 100 && !done; i++) {
        int mine = SSL_do_handshake(pair->theirs);
        done = tls_handshake(pair->ours) == IO_OK && mine == 1;
    }
    assert_true(done);
}

static int open_pair(struct pair *pair, bool strict, int version)
{
    struct config config = {
        .tls_certs = { certificates, 1 },
        .tls_strict_eof = strict,
    };
    struct fault fault = { { 0 } };

    memset(pair, 0, sizeof *pair);
    make_sockets(pair);
    pair->contexts = tls_contexts_new(&config, &fault);
    if (pair->contexts == NULL)
        fail_msg("%s", fault.text);
    tls_contexts_count_truncations(pair->contexts, &pair->truncations);
    pair->ours = tls_accept(pair->contexts, pair->sockets[0]);
    pair->context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(pair->context, version);
    pair->theirs = SSL_new(pair->context);
    SSL_set_fd(pair->theirs, pair->sockets[1]);
    SSL_set_connect_state(pair->theirs);
    shake_hands(pair);
    return 0;
}

static void close_pair(struct pair *pair)
{
    tls_free(pair->ours);
    tls_contexts_free(pair->contexts);
    SSL_free(pair->theirs);
    SSL_CTX_free(pair->context);
    close(pair->sockets[0]);
    if (pair->sockets[1] >= 0)
        close(pair->sockets[1]);
    ERR_clear_error();
}

static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

/* A byte that shows its place. */
static char byte_at(size_t offset)
{
    return (char)(offset * 7 + offset / 251);
}

static void fill(char *bytes, size_t offset, size_t length)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = byte_at(offset + i);
}

static enum io write_once(struct tls *tls, char *bytes, size_t length, size_t *moved)
{
    struct iovec piece = { bytes, length };

    return tls_write(tls, &piece, 1, moved);
}

static enum io read_once(struct tls *tls, char *bytes, size_t length, size_t *moved)
{
    struct iovec space = { bytes, length };

    return tls_read(tls, &space, 1, moved);
}

/* What has arrived at the other end must be the bytes from this offset on. */
static size_t take_theirs(struct pair *pair, size_t offset)
{
    char   bytes[RECORD];
    size_t length;
    size_t taken = 0;

    while (SSL_read_ex(pair->theirs, bytes, sizeof bytes, &length) == 1) {
        for (size_t i = 0; i < length; i++)
            assert_int_equal(bytes[i], byte_at(offset + taken + i));
        taken += length;
    }
    ERR_clear_error();
    return taken;
}

/* Writes until nothing goes any more; answers how much went. */
static size_t write_until_full(struct pair *pair)
{
    static char bytes[RECORD];
    size_t      total = 0;
    size_t      moved;

    do {
        fill(bytes, total, sizeof bytes);
        if (write_once(pair->ours, bytes, sizeof bytes, &moved) == IO_AGAIN)
            return total;
        total += moved;
    } while (total < 1 << 20);
    fail_msg("the pair never fills");
    return 0;
}

/* T4: the buffer of a write that found no room may be elsewhere when it is tried again. */
static void test_T04_a_write_is_repeated_from_another_buffer(void **state)
{
    (void)state;
    for (size_t v = 0; v < 2; v++) {
        struct pair pair;
        char       *elsewhere = malloc(RECORD);
        size_t      moved = 0;

        open_pair(&pair, false, versions[v]);
        size_t total = write_until_full(&pair);
        size_t taken = take_theirs(&pair, 0);
        fill(elsewhere, total, RECORD);
        for (int i = 0; i < 10 && moved == 0; i++) {
            enum io io = write_once(pair.ours, elsewhere, RECORD, &moved);
            assert_int_not_equal(io, IO_FAILED);
            taken += take_theirs(&pair, taken);
        }
        assert_int_equal(moved, RECORD);
        assert_int_equal(taken + take_theirs(&pair, taken), total + RECORD);
        free(elsewhere);
        close_pair(&pair);
    }
}

/* T5: more bytes have come meanwhile; the record that was begun is finished as it was. */
static void test_T05_a_write_that_is_repeated_with_more_bytes_keeps_its_length(void **state)
{
    (void)state;
    for (size_t v = 0; v < 2; v++) {
        struct pair pair;
        static char bytes[4 * RECORD];
        size_t      moved = 0;
        size_t      total = 0;
        size_t      taken = 0;

        open_pair(&pair, false, versions[v]);
        do { /* odd sizes: 1,000 bytes at a time until there is no room */
            fill(bytes, total, 1000);
            total += moved;
            fill(bytes, total, 1000);
        } while (write_once(pair.ours, bytes, 1000, &moved) == IO_OK);
        fill(bytes, total, sizeof bytes);
        for (int i = 0; i < 100 && moved < sizeof bytes; i++) {
            size_t more;
            enum io io = write_once(pair.ours, bytes + moved, sizeof bytes - moved, &more);
            assert_int_not_equal(io, IO_FAILED);
            moved += more;
            taken += take_theirs(&pair, taken);
        }
        taken += take_theirs(&pair, taken);
        assert_int_equal(moved, sizeof bytes);
        assert_int_equal(taken, total + moved);
        close_pair(&pair);
    }
}

/* T6: the peer asks for new keys; answering takes room that is not there, and reading goes on. */
static void test_T06_T27_reading_goes_on_while_a_write_is_unfinished(void **state)
{
    (void)state;
    for (size_t v = 0; v < 2; v++) {
        struct pair pair;
        char        bytes[100];
        size_t      moved;

        open_pair(&pair, false, versions[v]);
        size_t total = write_until_full(&pair);
        if (versions[v] == TLS1_3_VERSION)
            SSL_key_update(pair.theirs, SSL_KEY_UPDATE_REQUESTED);
        assert_int_equal(SSL_write(pair.theirs, "hello", 5), 5);
        assert_int_equal(read_once(pair.ours, bytes, sizeof bytes, &moved), IO_OK);
        assert_int_equal(moved, 5);
        assert_memory_equal(bytes, "hello", 5);
        assert_int_equal(read_once(pair.ours, bytes, sizeof bytes, &moved), IO_AGAIN);
        assert_false(tls_write_waits_for_bytes(pair.ours));

        size_t      taken = take_theirs(&pair, 0);
        static char rest[RECORD];
        fill(rest, total, sizeof rest);
        moved = 0;
        for (int i = 0; i < 10 && moved == 0; i++) {
            assert_int_not_equal(write_once(pair.ours, rest, sizeof rest, &moved), IO_FAILED);
            taken += take_theirs(&pair, taken);
        }
        assert_int_equal(taken + take_theirs(&pair, taken), total + RECORD);
        close_pair(&pair);
    }
}

/* T7: somebody else's error in the queue is not ours. */
static void test_T07_an_old_error_does_not_count(void **state)
{
    struct pair pair;
    char        bytes[10];
    size_t      moved;

    (void)state;
    open_pair(&pair, false, TLS1_3_VERSION);
    ERR_raise(ERR_LIB_USER, 1);
    assert_int_equal(read_once(pair.ours, bytes, sizeof bytes, &moved), IO_AGAIN);
    write_until_full(&pair);
    ERR_raise(ERR_LIB_USER, 1);
    static char again[RECORD];
    assert_int_equal(write_once(pair.ours, again, sizeof again, &moved), IO_AGAIN);
    ERR_raise(ERR_LIB_USER, 1);
    assert_int_equal(tls_end(pair.ours), IO_AGAIN);
    close_pair(&pair);
}

/* T8: the rest of a record lies in OpenSSL, where no event tells of it. */
static void test_T08_what_is_left_of_a_record_is_pending(void **state)
{
    struct pair pair;
    char        bytes[10000];
    char        some[100];
    char        byte;
    size_t      moved;

    (void)state;
    open_pair(&pair, false, TLS1_3_VERSION);
    fill(bytes, 0, sizeof bytes);
    SSL_CTX_set_mode(pair.context, SSL_MODE_ENABLE_PARTIAL_WRITE);
    assert_int_equal(SSL_write(pair.theirs, bytes, 3000), 3000);
    assert_int_equal(read_once(pair.ours, some, sizeof some, &moved), IO_OK);
    assert_int_equal(moved, sizeof some);
    assert_int_equal(recv(pair.sockets[0], &byte, 1, MSG_PEEK), -1);
    assert_true(tls_has_pending(pair.ours));
    assert_int_equal(read_once(pair.ours, bytes, sizeof bytes, &moved), IO_OK);
    assert_int_equal(moved, 2900);
    assert_int_equal(bytes[0], byte_at(100));
    assert_false(tls_has_pending(pair.ours));
    close_pair(&pair);
}

/* T8: records that came together lie with their own connection, whoever is read in between. */
static void test_T08_bytes_ahead_stay_with_their_connection(void **state)
{
    struct pair pairs[2];
    char        byte;
    size_t      moved;

    (void)state;
    for (int i = 0; i < 2; i++) {
        open_pair(&pairs[i], false, TLS1_3_VERSION);
        for (char record = 0; record < 10; record++) {
            const char word[] = { (char)(10 * i + record), 100 };
            assert_int_equal(SSL_write(pairs[i].theirs, word, sizeof word), sizeof word);
        }
    }
    for (int n = 0; n < 20; n++) {
        for (int i = 0; i < 2; i++) {
            assert_int_equal(read_once(pairs[i].ours, &byte, 1, &moved), IO_OK);
            assert_int_equal(byte, n % 2 == 0 ? 10 * i + n / 2 : 100);
            assert_int_equal(recv(pairs[i].sockets[0], &byte, 1, MSG_PEEK), -1);
            assert_int_equal(tls_has_pending(pairs[i].ours), n < 19);
        }
    }
    for (int i = 0; i < 2; i++)
        close_pair(&pairs[i]);
}

static void test_what_comes_after_an_empty_socket_is_read_at_once(void **state)
{
    struct pair pair;
    char        bytes[100];
    size_t      moved;

    (void)state;
    open_pair(&pair, false, TLS1_3_VERSION);
    for (int i = 0; i < 3; i++) {
        SSL_write(pair.theirs, "hello", 5);
        assert_int_equal(read_once(pair.ours, bytes, sizeof bytes, &moved), IO_OK);
        assert_int_equal(moved, 5);
        assert_true(tls_is_drained(pair.ours));
    }
    SSL_write(pair.theirs, "hello", 5);
    assert_int_equal(read_once(pair.ours, bytes, 2, &moved), IO_OK);
    assert_false(tls_is_drained(pair.ours));
    close_pair(&pair);
}

struct reader {
    struct transport *transport;
    size_t            bytes;
};

static void read_one_byte(void *owner)
{
    struct reader *reader = owner;
    char           byte;
    struct iovec   space = { &byte, 1 };
    size_t         moved;

    transport_read(reader->transport, &space, 1, &moved);
    reader->bytes += moved;
    transport_want(reader->transport, true, false);
}

/* As long as there are bytes, each turn of the loop takes some, and all others have theirs, too. */
static void test_T08_pending_bytes_leave_the_loop_its_turns(void **state)
{
    struct pair     pair;
    struct fault    fault = { { 0 } };
    struct ev_loop *loop = ev_loop_new(EVBACKEND_EPOLL);
    struct reactor *reactor = reactor_new(loop, &fault);
    struct reader   reader = { .bytes = 0 };

    (void)state;
    open_pair(&pair, false, TLS1_3_VERSION);
    reader.transport = transport_opening(reactor, read_one_byte, &reader);
    transport_secured(reader.transport, dup(pair.sockets[0]), pair.ours);
    pair.ours = NULL; /* the transport's */
    assert_int_equal(SSL_write(pair.theirs, "hello", 5), 5);
    assert_int_equal(SSL_write(pair.theirs, "world", 5), 5);
    transport_want(reader.transport, true, false);
    for (size_t turn = 1; turn <= 10; turn++) {
        while (reader.bytes < turn)
            ev_run(loop, EVRUN_ONCE);
        assert_int_equal(reader.bytes, turn);
    }
    transport_free(reader.transport);
    reactor_free(reactor);
    ev_loop_destroy(loop);
    close_pair(&pair);
}

/* --- floods --------------------------------------------------------------------------------- */

static void make_roomy(struct pair *pair)
{
    int size = ROOMY;

    for (int i = 0; i < 2; i++)
        setsockopt(pair->sockets[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

/* Both ways of taking bytes. */
static enum io take_some(struct tls *tls, bool keep, size_t *moved)
{
    static char space[256 << 10];

    return keep ? read_once(tls, space, sizeof space, moved)
                : tls_discard(tls, sizeof space, moved);
}

static bool has_bytes(const struct pair *pair)
{
    char byte;

    return recv(pair->sockets[0], &byte, 1, MSG_PEEK) == 1;
}

/* T21: records of one byte are taken by the hundred, and whenever one turn has had enough, something
 * tells of the rest. */
static void test_T21_one_turn_takes_a_limited_number_of_records(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct pair  pair;
        const size_t all = 1000;
        size_t       moved;
        size_t       turns = 0;

        open_pair(&pair, false, versions[i / 2]);
        make_roomy(&pair);
        for (size_t n = 0; n < all; n++)
            assert_int_equal(SSL_write(pair.theirs, "x", 1), 1);
        for (size_t total = 0; total < all; total += moved, turns++) {
            assert_true(turns == 0 || tls_has_pending(pair.ours) || has_bytes(&pair));
            assert_int_equal(take_some(pair.ours, i % 2, &moved), IO_OK);
            assert_in_range(moved, 1, RECORDS_A_TURN);
        }
        assert_int_equal(take_some(pair.ours, i % 2, &moved), IO_AGAIN);
        assert_false(tls_has_pending(pair.ours));
        assert_in_range(turns, all / RECORDS_A_TURN, 2 * all / RECORDS_A_TURN);
        close_pair(&pair);
    }
}

/* A turn of big records is limited in bytes. */
static void test_one_turn_takes_a_limited_number_of_bytes(void **state)
{
    struct pair  pair;
    static char  bytes[RECORD];
    size_t       sent = 0;
    size_t       moved;
    size_t       total = 0;

    (void)state;
    open_pair(&pair, false, TLS1_3_VERSION);
    make_roomy(&pair);
    for (int n = 0; n < 40 && SSL_write(pair.theirs, bytes, sizeof bytes) > 0; n++)
        sent += sizeof bytes;
    ERR_clear_error();
    assert_true(sent > 300 << 10);
    assert_int_equal(tls_discard(pair.ours, 1 << 20, &total), IO_OK);
    assert_in_range(total, 256 << 10, 320 << 10);
    assert_false(tls_is_drained(pair.ours));
    while (tls_discard(pair.ours, 1 << 20, &moved) == IO_OK)
        total += moved;
    assert_true(total >= sent);
    close_pair(&pair);
}

static void send_key_updates(struct pair *pair, int count)
{
    for (int n = 0; n < count; n++) {
        assert_int_equal(SSL_key_update(pair->theirs, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(pair->theirs), 1);
    }
}

/* T17: messages without data are limited in each turn, and altogether; a turn that had enough says so. */
static void test_T17_messages_without_data_are_read_in_turns_and_limited(void **state)
{
    struct pair pair;
    size_t      moved;
    size_t      turns = 0;
    enum io     io;

    (void)state;
    open_pair(&pair, false, TLS1_3_VERSION);
    make_roomy(&pair);
    send_key_updates(&pair, 100);
    SSL_write(pair.theirs, "hello", 5);
    while ((io = take_some(pair.ours, true, &moved)) == IO_AGAIN && turns < 1000) {
        assert_true(tls_has_pending(pair.ours));
        turns++;
    }
    assert_int_equal(io, IO_OK);
    assert_int_equal(moved, 5);
    assert_in_range(turns, 3, 100);

    send_key_updates(&pair, 1000);
    for (turns = 0; (io = take_some(pair.ours, true, &moved)) == IO_AGAIN && turns < 1000; turns++)
        ;
    assert_int_equal(io, IO_FAILED);
    assert_int_equal(tls_error(pair.ours), 0);
    assert_string_equal(tls_why(pair.ours), "the peer sent too many messages without data");
    assert_int_equal(tls_end(pair.ours), IO_FAILED);
    close_pair(&pair);
}

/* --- ends ----------------------------------------------------------------------------------- */

/* The end that came in the same call as bytes must not wait for an event. */
static void test_T09_close_notify_behind_bytes_is_pending(void **state)
{
    struct pair pair;
    char        bytes[100];
    size_t      moved;

    (void)state;
    open_pair(&pair, false, TLS1_3_VERSION);
    SSL_write(pair.theirs, "hello", 5);
    assert_int_equal(SSL_shutdown(pair.theirs), 0);
    assert_int_equal(read_once(pair.ours, bytes, sizeof bytes, &moved), IO_OK);
    assert_true(tls_has_pending(pair.ours));
    assert_int_equal(read_once(pair.ours, bytes, sizeof bytes, &moved), IO_END);
    assert_int_equal(write_once(pair.ours, bytes, 5, &moved), IO_OK); /* its end is not ours */
    assert_int_equal(tls_end(pair.ours), IO_OK);
    assert_int_equal(pair.truncations, 0);
    close_pair(&pair);
}

static void test_T10_an_end_without_close_notify_ends_and_is_counted(void **state)
{
    struct pair pair;
    char        bytes[100];
    size_t      moved;

    (void)state;
    open_pair(&pair, false, TLS1_3_VERSION);
    shutdown(pair.sockets[1], SHUT_WR);
    assert_int_equal(read_once(pair.ours, bytes, sizeof bytes, &moved), IO_END);
    assert_true(tls_is_truncated(pair.ours));
    assert_int_equal(pair.truncations, 1);
    assert_int_equal(write_once(pair.ours, bytes, 5, &moved), IO_OK);
    assert_int_equal(tls_end(pair.ours), IO_OK);
    close_pair(&pair);

    open_pair(&pair, true, TLS1_3_VERSION);
    shutdown(pair.sockets[1], SHUT_WR);
    assert_int_equal(read_once(pair.ours, bytes, sizeof bytes, &moved), IO_FAILED);
    assert_true(tls_is_truncated(pair.ours));
    assert_int_equal(tls_error(pair.ours), 0);
    assert_int_equal(pair.truncations, 1);
    close_pair(&pair);
}

/* T11: nothing is said after a failure. */
static void test_T11_there_is_no_close_notify_after_a_failure(void **state)
{
    struct pair pair;
    char        bytes[100];
    size_t      moved;

    (void)state;
    open_pair(&pair, false, TLS1_3_VERSION);
    assert_int_equal(send(pair.sockets[1], "not a record of TLS", 19, 0), 19);
    assert_int_equal(read_once(pair.ours, bytes, sizeof bytes, &moved), IO_FAILED);
    assert_int_equal(tls_end(pair.ours), IO_FAILED);
    assert_int_equal(write_once(pair.ours, bytes, 5, &moved), IO_FAILED);
    assert_string_not_equal(tls_why(pair.ours), "");
    close_pair(&pair);
}

static void test_a_peer_that_is_gone_fails_a_write_with_errno(void **state)
{
    struct pair pair;
    char        bytes[100] = { 0 };
    size_t      moved;

    (void)state;
    open_pair(&pair, false, TLS1_3_VERSION);
    close(pair.sockets[1]);
    pair.sockets[1] = -1;
    assert_int_equal(write_once(pair.ours, bytes, sizeof bytes, &moved), IO_FAILED);
    assert_int_equal(tls_error(pair.ours), EPIPE);
    assert_string_equal(tls_why(pair.ours), "Broken pipe");
    close_pair(&pair);
}

/* SSL_get_error(3) calls each failure an end once the peer has ended, with close_notify or without. */
static void test_a_peer_that_ended_and_is_gone_fails_our_end_with_errno(void **state)
{
    (void)state;
    for (int says_so = 0; says_so < 2; says_so++) {
        struct pair pair;
        char        bytes[100];
        size_t      moved;

        open_pair(&pair, false, TLS1_3_VERSION);
        if (says_so)
            SSL_shutdown(pair.theirs);
        close(pair.sockets[1]);
        pair.sockets[1] = -1;
        assert_int_equal(read_once(pair.ours, bytes, sizeof bytes, &moved), IO_END);
        assert_int_equal(tls_end(pair.ours), IO_FAILED);
        assert_int_equal(tls_error(pair.ours), EPIPE);
        assert_string_equal(tls_why(pair.ours), "Broken pipe");
        close_pair(&pair);
    }
}

static void test_the_facts_stay_after_closing(void **state)
{
    struct pair pair;

    (void)state;
    open_pair(&pair, false, TLS1_3_VERSION);
    tls_close(pair.ours);
    assert_string_equal(tls_facts(pair.ours)->version, "TLSv1.3");
    assert_null(tls_facts(pair.ours)->server_name);
    assert_false(tls_has_pending(pair.ours));
    close_pair(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_T04_a_write_is_repeated_from_another_buffer),
        cmocka_unit_test(test_T05_a_write_that_is_repeated_with_more_bytes_keeps_its_length),
        cmocka_unit_test(test_T06_T27_reading_goes_on_while_a_write_is_unfinished),
        cmocka_unit_test(test_T07_an_old_error_does_not_count),
        cmocka_unit_test(test_T08_what_is_left_of_a_record_is_pending),
        cmocka_unit_test(test_T08_bytes_ahead_stay_with_their_connection),
        cmocka_unit_test(test_what_comes_after_an_empty_socket_is_read_at_once),
        cmocka_unit_test(test_T08_pending_bytes_leave_the_loop_its_turns),
        cmocka_unit_test(test_T21_one_turn_takes_a_limited_number_of_records),
        cmocka_unit_test(test_one_turn_takes_a_limited_number_of_bytes),
        cmocka_unit_test(test_T17_messages_without_data_are_read_in_turns_and_limited),
        cmocka_unit_test(test_T09_close_notify_behind_bytes_is_pending),
        cmocka_unit_test(test_T10_an_end_without_close_notify_ends_and_is_counted),
        cmocka_unit_test(test_T11_there_is_no_close_notify_after_a_failure),
        cmocka_unit_test(test_a_peer_that_is_gone_fails_a_write_with_errno),
        cmocka_unit_test(test_a_peer_that_ended_and_is_gone_fails_our_end_with_errno),
        cmocka_unit_test(test_the_facts_stay_after_closing),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, make_certificate, remove_certificate);
}
