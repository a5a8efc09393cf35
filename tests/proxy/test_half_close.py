"""
test_half_close.py — the end of one direction is told on, and is not the end of the other.
"""
import pytest

from support.checks import assert_same
from support.pattern import KIB, MIB, pattern
from support.peers import ANSWER, finish_early, keep_open, sink
from support.proxy import SMALL
from support.waiting import let_pass

pytestmark = pytest.mark.path

TINY = 4096     # a receive buffer that fills at once


def answer_at_the_end(size):
    """Says nothing before it has read the client's end."""
    def behaviour(connection):
        connection.drain()
        connection.send(pattern(size, ANSWER))
    return behaviour


# C1, C15: the client finishes first.

@pytest.mark.parametrize("size", [1, 4 * KIB, 8 * MIB])
def test_C01_a_half_closed_client_gets_its_whole_answer(doppel, server, size):
    primary, shadow = server(answer_at_the_end(size)), server(answer_at_the_end(size))
    mirror = doppel(primary, shadows=[shadow])
    client = mirror.connect()

    client.send(pattern(100 * KIB))
    client.finish()

    assert client.recv_all() == pattern(size, ANSWER)
    assert client.end == "fin"
    assert_same(primary.connection().received, client.sent)
    session = mirror.session(0)
    assert (session["reason"], session["response_bytes"]) == ("client_fin", size)
    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["reason"], entry["response_bytes"]) == ("mirrored", "fin", size)
    assert_same(shadow.connection().received, client.sent)


def test_C01_over_unix_sockets_it_is_the_same(doppel, server, tmp_path):
    primary = server(answer_at_the_end(MIB), unix=str(tmp_path / "primary"))
    shadow = server(answer_at_the_end(MIB), unix=str(tmp_path / "shadow"))
    mirror = doppel(primary, listens=[f"unix:{tmp_path}/listen"], shadows=[shadow])
    client = mirror.connect()

    client.send(pattern(100 * KIB))
    client.finish()

    assert client.recv_all() == pattern(MIB, ANSWER)
    assert mirror.shadow(0, "shadow0")["reason"] == "fin"


def test_C01_the_end_follows_the_last_byte_through_full_buffers(doppel, server):
    def read_late(connection):
        connection.wait_released()
        connection.drain()
        connection.send(pattern(KIB, ANSWER))

    primary = server(read_late, rcvbuf=TINY)
    mirror = doppel(primary, *SMALL)
    client = mirror.connect(sndbuf=TINY)

    client.send_until_blocked(pattern(4 * MIB))
    client.finish()
    mirror.assert_not_spinning()        # an end behind bytes that cannot move
    primary.release()

    assert client.recv_all() == pattern(KIB, ANSWER)
    assert_same(primary.connection().received, client.sent)


def test_C15_a_client_that_finished_and_gets_no_answer_is_let_go(doppel, server):
    primary, shadow = server(keep_open), server(keep_open)
    mirror = doppel(primary, "--half-close-timeout", "300ms", "--shadow-linger", "100ms",
                    shadows=[shadow])
    client = mirror.connect()

    client.send(b"anybody?")
    client.finish()

    assert client.drain() == "fin"
    assert mirror.session(0)["reason"] == "half_close"
    assert_same(primary.connection().received, client.sent)
    assert shadow.connection().received.count == 8


# P6, P7, P18: the primary finishes first.

def test_P06_a_primary_that_finishes_first_still_gets_all_the_client_sends(doppel, server):
    primary, shadow = server(finish_early), server(sink)
    mirror = doppel(primary, shadows=[shadow])
    client = mirror.connect()

    assert client.drain() == "fin"
    client.send(pattern(4 * MIB))
    client.finish()

    assert primary.connection().wait_end() == "fin"
    assert_same(primary.connection().received, client.sent)
    assert mirror.session(0)["reason"] == "primary_fin"
    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"
    assert_same(shadow.connection().received, client.sent)


def test_P06_an_end_of_file_that_stays_does_not_spin(doppel, server):
    mirror = doppel(server(finish_early), shadows=[server(sink)])
    client = mirror.connect()

    assert client.drain() == "fin"
    client.send(b"hello")
    mirror.assert_not_spinning()
    client.send(b"again")


@pytest.mark.parametrize("first", ["client", "primary"])
def test_P07_after_one_end_silence_lasts_as_long_as_the_half_close_timeout(doppel, server, first):
    primary = server()
    mirror = doppel(primary, "--idle-timeout", "200ms", "--half-close-timeout", "20s")
    client = mirror.connect()
    connection = primary.connection()
    ending, other = (client, connection) if first == "client" else (connection, client)

    ending.finish()
    assert other.drain() == "fin"
    let_pass(0.5)                       # the idle timeout is not meant
    other.send(pattern(MIB))
    other.finish()

    assert ending.recv_all() == pattern(MIB)
    assert ending.end == "fin"
    assert mirror.session(0)["reason"] == f"{first}_fin"


@pytest.mark.parametrize("first", ["client", "primary"])
def test_P07_after_one_end_and_the_half_close_timeout_the_session_is_over(doppel, server, first):
    primary = server()
    mirror = doppel(primary, "--half-close-timeout", "300ms")
    client = mirror.connect()
    connection = primary.connection()
    ending, other = (client, connection) if first == "client" else (connection, client)

    ending.finish()
    assert other.drain() == "fin"

    assert ending.drain() == "fin"
    assert mirror.session(0)["reason"] == "half_close"


def test_P07_what_still_moves_after_one_end_is_not_cut(doppel, server):
    def slowly(connection):
        connection.drain()
        for _ in range(6):
            let_pass(0.15)
            connection.send(b".")

    mirror = doppel(server(slowly), "--half-close-timeout", "500ms")
    client = mirror.connect()

    client.finish()

    assert client.recv_all() == b"......"
    assert mirror.session(0)["reason"] == "client_fin"


def test_P18_an_end_reaches_the_client_while_its_own_bytes_are_stuck(doppel, server):
    def finish_and_wait(connection):
        connection.finish()
        connection.wait_released()
        connection.drain()

    primary = server(finish_and_wait, rcvbuf=TINY)
    mirror = doppel(primary, *SMALL)
    client = mirror.connect(sndbuf=TINY)
    client.send_until_blocked(pattern(4 * MIB))

    assert client.drain() == "fin"
    mirror.assert_not_spinning()
    primary.release()
    client.send(pattern(KIB))           # the rest is not dropped
    client.finish()

    assert primary.connection().wait_end() == "fin"
    assert_same(primary.connection().received, client.sent)
    assert mirror.session(0)["reason"] == "primary_fin"


def test_P18_stuck_bytes_are_dropped_when_the_primary_resets_after_its_end(doppel, server):
    primary = server(rcvbuf=TINY)
    mirror = doppel(primary, *SMALL)
    mirror.expect(identity="prefix")
    client = mirror.connect(sndbuf=TINY)
    client.send_until_blocked(pattern(4 * MIB))
    primary.connection().finish()
    assert client.drain() == "fin"

    primary.connection().reset()

    client.wait_reset()
    assert mirror.session(0)["reason"] == "primary_rst"


def test_P18_a_reset_after_the_end_reaches_a_client_that_says_nothing(doppel, server):
    primary = server()
    mirror = doppel(primary)
    mirror.expect(identity="prefix")
    client = mirror.connect()
    primary.connection().finish()
    assert client.drain() == "fin"

    primary.connection().reset()

    client.wait_reset()
    assert mirror.session(0)["reason"] == "primary_rst"


def test_P18_stuck_bytes_are_dropped_at_the_half_close_timeout(doppel, server):
    primary = server(rcvbuf=TINY)
    mirror = doppel(primary, *SMALL, "--half-close-timeout", "300ms")
    mirror.expect(identity="prefix")
    client = mirror.connect(sndbuf=TINY)
    client.send_until_blocked(pattern(4 * MIB), quiet=0.1)

    primary.connection().finish()

    assert client.drain() == "fin"
    primary.connection().wait_reset()   # not a FIN: bytes are missing
    assert mirror.session(0)["reason"] == "half_close"


def test_P18_an_answer_that_is_on_its_way_arrives_although_the_client_is_not_read(doppel, server):
    """Its unread bytes would make close(2) reset it at once, and discard the answer."""
    primary = server(rcvbuf=TINY)
    mirror = doppel(primary, "--buffer", "4k", "--rcvbuf", "4k", "--half-close-timeout", "300ms")
    mirror.expect(identity="prefix")
    client = mirror.connect(sndbuf=TINY, rcvbuf=TINY)
    client.send_until_blocked(pattern(16 * MIB), quiet=0.1)
    primary.connection().send(pattern(32 * KIB, ANSWER))
    primary.connection().finish()

    assert mirror.session(0)["reason"] == "half_close"

    assert client.recv_exact(32 * KIB) == pattern(32 * KIB, ANSWER)
    assert client.drain() in ("fin", "rst")
