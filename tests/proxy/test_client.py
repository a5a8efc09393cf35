"""
test_client.py — whatever a client does costs that client alone; the primary and the shadows see
what it did, and no more than that.
"""
import os
import signal
import socket
import ssl

import pytest

from support.checks import assert_prefix, assert_same
from support.dns import Name, NameServer
from support.pattern import KIB, MIB, pattern
from support.peers import ANSWER, Client, echo, flood, hold, sink
from support.proxy import SMALL, shadow
from support.waiting import eventually, let_pass

pytestmark = pytest.mark.path

TINY = 4096     # a receive buffer that fills at once


def closed(mirror, reason):
    return mirror.metric("doppel_sessions_closed_total", reason=reason)


# C2, C3: the client resets.

def reset_before_a_primary_that_reads_nothing(doppel, server):
    """Answers doppel and the primary, which are left with what the client had sent."""
    primary = server(hold, rcvbuf=TINY)
    mirror = doppel(primary, *SMALL)
    mirror.expect(identity="prefix")
    client = mirror.connect(sndbuf=TINY)
    client.send_until_blocked(pattern(4 * MIB), quiet=0.1)
    client.reset()
    return mirror, primary


def test_C02_a_primary_that_reads_nothing_outlasts_its_client_by_some_seconds_only(doppel, server):
    """However long a session may be idle: there is nobody any more whom it could serve."""
    mirror, primary = reset_before_a_primary_that_reads_nothing(doppel, server)

    eventually(lambda: mirror.access_lines, "the session ends", timeout=30)
    assert mirror.session(0)["reason"] == "client_rst"
    primary.release()
    assert primary.connection().wait_end() == "rst"


def test_C02_a_request_that_broke_off_never_ends_with_a_fin(doppel, server):
    """Not even when its last byte that was read finds room at the moment when patience is over."""
    mirror, primary = reset_before_a_primary_that_reads_nothing(doppel, server)
    let_pass(0.5)       # it is noticed

    worker, = mirror.workers()
    os.kill(worker, signal.SIGSTOP)
    primary.release()
    let_pass(5)
    os.kill(worker, signal.SIGCONT)

    assert primary.connection().wait_end() == "rst"
    assert mirror.session(0)["reason"] == "client_rst"


def test_C02_a_reset_in_the_middle_follows_the_bytes_before_it(doppel, server):
    primary, mirrored = server(sink), server(sink)
    mirror = doppel(primary, shadows=[mirrored])
    client = mirror.connect()

    client.send(pattern(100 * KIB))
    primary.connection().wait_received(100 * KIB)
    mirrored.connection().wait_received(100 * KIB)
    client.reset()

    for peer in (primary.connection(), mirrored.connection()):
        assert peer.wait_end() == "rst"
        assert_same(peer.received, client.sent)
    assert mirror.session(0)["reason"] == "client_rst"
    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["reason"]) == ("detached", "session_aborted")
    assert entry["lost_bytes"] == 0


def test_C02_what_was_read_before_the_reset_still_reaches_a_slow_primary(doppel, server):
    primary, mirrored = server(hold, rcvbuf=TINY), server(sink)
    mirror = doppel(primary, "--sndbuf", "4k", "--rcvbuf", "4k", "--buffer", "64k", shadows=[mirrored])
    mirror.expect(identity="prefix")
    client = mirror.connect(sndbuf=TINY)
    client.send_until_blocked(pattern(4 * MIB), quiet=0.1)

    client.reset()
    primary.release()

    seen = primary.connection()
    assert seen.wait_end() == "rst"
    session = mirror.session(0)
    assert session["reason"] == "client_rst"
    least = 0 if mirror.io == "splice" else 64 * KIB   # nothing enters behind what is in a pipe
    assert seen.received.count == session["request_bytes"] > least
    assert mirrored.connection().wait_end() == "rst"
    assert mirrored.connection().received.count == session["request_bytes"]


def test_C02_what_the_primary_still_says_to_a_client_that_reset_is_dropped(doppel, server):
    primary = server(flood(64 * MIB))
    mirror = doppel(primary, *SMALL)
    mirror.expect(identity="prefix")
    client = mirror.connect()
    client.recv_exact(MIB)

    client.reset()

    assert primary.connection().wait_end() == "rst"
    assert mirror.session(0)["reason"] == "client_rst"
    assert mirror.session(0)["response_bytes"] < 64 * MIB


def test_C03_a_reset_is_noticed_while_the_client_is_not_read(doppel, server):
    primary = server(hold, rcvbuf=TINY)
    # Only the shorter of the two strikes once one direction has ended: so it shows the notice.
    mirror = doppel(primary, *SMALL, "--idle-timeout", "1h", "--half-close-timeout", "500ms")
    mirror.expect(identity="prefix")
    client = mirror.connect(sndbuf=TINY)
    client.send_until_blocked(pattern(4 * MIB))

    client.reset()

    assert mirror.session(0)["reason"] == "client_rst"
    eventually(lambda: mirror.metric("doppel_sessions_active") == 0, "the session is freed")
    primary.connection().wait_reset()


def test_C03_a_reset_of_a_client_that_had_finished_is_noticed(doppel, server):
    primary = server(flood(64 * MIB))
    mirror = doppel(primary)
    mirror.expect(identity="prefix")
    client = mirror.connect(rcvbuf=TINY)
    primary.connection()
    client.recv_exact(KIB)
    client.finish()

    client.reset()

    assert primary.connection().wait_end() == "rst"
    assert mirror.session(0)["reason"] == "client_rst"


# C4, C5, C6: slow and silent.

def test_C04_a_client_that_reads_nothing_stops_the_primary_until_the_idle_timeout(doppel, server):
    primary = server(sndbuf=TINY)
    mirror = doppel(primary, *SMALL, "--idle-timeout", "800ms")
    mirror.expect(identity="prefix")
    client = mirror.connect(rcvbuf=TINY)

    moved = primary.connection().send_until_blocked(pattern(16 * MIB))

    assert moved < MIB
    assert mirror.metric("doppel_buffered_bytes") <= 4 * KIB
    client.wait_reset()                 # not a FIN: bytes are missing
    assert mirror.session(0)["reason"] == "idle"
    assert client.drain() == "rst"
    assert_prefix(client.received, primary.connection().sent)


def test_C04_a_slow_client_that_lives_gets_its_whole_answer(doppel, server):
    primary = server(flood(256 * KIB))
    mirror = doppel(primary, *SMALL, "--idle-timeout", "500ms")
    client = mirror.connect(rcvbuf=TINY)

    while client.received.count < 256 * KIB:
        client.recv(4 * KIB)
        let_pass(0.01)                  # far longer than the timeout altogether
    client.finish()

    assert client.drain() == "fin"
    assert mirror.session(0)["reason"] == "client_fin"


def test_C05_a_client_that_drips_is_served_until_it_stops(doppel, server):
    primary, mirrored = server(sink), server(sink)
    mirror = doppel(primary, "--idle-timeout", "400ms", shadows=[mirrored])
    client = mirror.connect()

    for count in range(1, 9):
        client.send(b".")
        primary.connection().wait_received(count)
        mirrored.connection().wait_received(count)
        let_pass(0.1)

    assert client.drain() == "fin"
    assert mirror.session(0)["reason"] == "idle"


def test_C06_a_silent_client_has_its_primary_at_once_and_no_shadow(doppel, server):
    primary, mirrored = server(sink), server(sink)
    mirror = doppel(primary, shadows=[mirrored])
    client = mirror.connect()

    primary.connection()
    mirror.assert_not_spinning()
    client.close()

    session = mirror.session(0)
    assert session["reason"] == "client_fin"
    assert session["connect_ms"] >= 0 and "first_byte_ms" not in session
    assert mirror.shadow(0, "shadow0")["result"] == "no_data"
    assert mirrored.connections == []


# C7, C8: strangers.

@pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["closes", "resets"])
def test_C07_a_port_scan_costs_no_shadow_and_no_error(doppel, server, leave):
    primary, mirrored = server(sink), server(sink)
    mirror = doppel(primary, shadows=[mirrored], workers=2)
    mirror.expect(identity="prefix")

    for _ in range(300):
        leave(mirror.connect())

    eventually(lambda: mirror.metric("doppel_sessions_closed_total") == 300, "all have ended")
    assert mirror.metric("doppel_sessions_total") == 300
    assert mirror.metric("doppel_shadow_sessions_total", shadow="shadow0", result="no_data") == 300
    assert mirrored.connections == []
    assert mirror.log(level="error") == mirror.log(level="warning") == []
    assert {session["reason"] for session in mirror.access_log(300)} <= {"client_fin", "client_rst"}


def test_C07_a_client_that_was_gone_before_it_was_accepted_costs_the_primary_nothing(doppel, server):
    primary = server(sink)
    mirror = doppel(primary)
    mirror.expect(identity="prefix")
    worker, = mirror.workers()
    os.kill(worker, signal.SIGSTOP)
    for _ in range(10):
        mirror.connect().reset()
    os.kill(worker, signal.SIGCONT)

    assert {session["reason"] for session in mirror.access_log(10)} == {"client_rst"}
    assert primary.connections == []


def client_hello():
    """The first bytes of a TLS client."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="a.test")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def test_C08_a_client_hello_passes_as_bytes(doppel, server):
    primary, mirrored = server(echo), server(sink, keep=True)
    mirror = doppel(primary, shadows=[mirrored])
    client = mirror.connect()
    hello = client_hello()

    assert client.exchange(hello) == hello

    mirrored.connection().wait_received(len(hello))
    assert mirrored.connection().received.bytes == hello


# C11, C12, C16: bytes in unusual amounts.

def test_C11_a_burst_before_the_primary_is_connected_arrives_in_order_end_last(doppel, server, tmp_path):
    primary, mirrored = server(echo), server(sink)
    with NameServer() as dns:
        dns.table["primary.test"] = Name(a=["127.0.0.1"], delay=0.3)
        mirror = doppel(f"primary.test:{primary.port}", "--resolv-conf", str(dns.resolv_conf(tmp_path)),
                        "--buffer", "32k", shadows=[mirrored])
        mirror.primaries.append(primary)
        client = mirror.connect()

        client.send(pattern(100 * KIB))
        client.finish()

        assert client.recv_all() == pattern(100 * KIB)
        assert client.end == "fin"
        assert mirror.session(0)["reason"] == "client_fin"
        assert mirror.shadow(0, "shadow0")["result"] == "mirrored"


def test_C11_no_more_is_read_than_the_buffer_holds_while_the_primary_is_dialled(doppel, server):
    primary = server(sink, state="black hole")
    mirror = doppel(primary, *SMALL, "--buffer", "32k", "--connect-timeout", "2s")
    mirror.expect(identity="prefix")
    client = mirror.connect(sndbuf=TINY)

    assert client.send_until_blocked(pattern(4 * MIB)) < MIB

    assert mirror.wait_metric("doppel_buffered_bytes", 1) <= 32 * KIB
    assert client.drain() == "rst"
    assert mirror.session(0)["reason"] == "primary_timeout"
    assert mirror.session(0)["request_bytes"] <= 32 * KIB


def test_C12_an_urgent_byte_passes_or_is_dropped_and_the_rest_goes_on(doppel, server):
    primary, mirrored = server(sink, keep=True), server(sink, keep=True)
    mirror = doppel(primary, shadows=[mirrored])
    mirror.expect(identity="none")      # the urgent byte is in no tally
    client = mirror.connect()

    for _ in range(3):
        client.send(b"before ")
        client.socket.send(b"!", socket.MSG_OOB)
        client.send(b"after ")
    mirror.assert_not_spinning()
    client.finish()
    assert client.drain() == "fin"

    for peer in (primary.connection(), mirrored.connection()):
        assert peer.wait_end() == "fin"
        assert peer.received.bytes.replace(b"!", b"") == b"before after " * 3
    assert mirror.session(0)["reason"] == "client_fin"


def test_C12_an_urgent_byte_alone_does_not_spin(doppel, server):
    mirror = doppel(server(sink))
    mirror.expect(identity="none")
    client = mirror.connect()

    client.socket.send(b"!", socket.MSG_OOB)

    mirror.assert_not_spinning()
    client.finish()
    assert client.drain() == "fin"


def test_C16_a_fast_client_of_a_slow_primary_fills_one_buffer_and_feeds_no_shadow_more(doppel, server):
    primary, one, two = server(hold, rcvbuf=TINY), server(sink), server(sink)
    mirror = doppel(primary, "--sndbuf", "4k", "--rcvbuf", "4k", "--buffer", "64k", shadows=[one, two])
    client = mirror.connect(sndbuf=TINY)

    assert client.send_until_blocked(pattern(16 * MIB)) < MIB

    assert mirror.wait_metric("doppel_buffered_bytes", 1) <= 64 * KIB
    read = mirror.metric("doppel_bytes_total", direction="request")
    assert read < 64 * KIB + 64 * KIB   # our buffer, and what small sockets hold for the primary
    for mirrored in (one, two):
        mirrored.connection().wait_received(read)
        assert mirrored.connection().received.count == read

    primary.release()
    client.finish()
    assert client.drain() == "fin"
    for seen in (primary, one, two):
        assert seen.connection().wait_end() == "fin"
        assert_same(seen.connection().received, client.sent)


# C13: more clients than may be.

def test_C13_clients_over_the_limit_wait_and_are_all_served(doppel, server):
    primary = server(echo)
    mirror = doppel(primary, "--max-sessions", "10")
    clients = [mirror.connect() for _ in range(100)]

    eventually(lambda: mirror.metric("doppel_accept_paused") == 1, "accepting is paused")
    assert mirror.metric("doppel_sessions_active") == 10
    mirror.assert_not_spinning()
    for number, client in enumerate(clients):
        assert client.exchange(pattern(KIB, number)) == pattern(KIB, number)
        if number % 10 == 0:
            assert mirror.metric("doppel_sessions_active") <= 10
        client.close()

    eventually(lambda: mirror.metric("doppel_accept_paused") == 0, "accepting goes on")
    assert mirror.metric("doppel_sessions_total") == 100
    eventually(lambda: closed(mirror, "client_fin") == 100, "the last one is counted, too")


def test_C13_a_client_that_gave_up_waiting_costs_nobody_anything(doppel, server):
    mirror = doppel(server(echo), "--max-sessions", "1")
    mirror.expect(identity="prefix")
    first = mirror.connect()
    first.exchange(b"first")
    for _ in range(20):
        mirror.connect().reset()
    last = mirror.connect()

    first.close()

    assert last.exchange(b"last") == b"last"


# Who may come.

def test_who_may_open_the_socket_of_a_path_is_allowed_by_its_mode(doppel, server, tmp_path):
    mirror = doppel(server(echo), "--allow", "10.0.0.0/8", listens=[f"unix:{tmp_path}/listener"])

    assert mirror.connect().exchange(b"hello") == b"hello"


def test_a_client_that_is_not_allowed_is_reset_and_nobody_hears_of_it(doppel, server):
    primary, mirrored = server(echo), server(sink)
    mirror = doppel(primary, "--allow", "127.0.0.2/32", "--allow", "10.0.0.0/8",
                    shadows=[shadow(mirrored, connect_on="start")])
    mirror.expect(identity="prefix")

    stranger = mirror.connect()
    assert stranger.drain() == "rst"
    session = mirror.session(0)
    assert (session["reason"], session["request_bytes"]) == ("denied", 0)
    assert "primary" not in session
    assert mirror.shadow(0, "shadow0")["result"] == "no_data"
    assert primary.connections == mirrored.connections == []

    allowed = mirror.connect(source="127.0.0.2")
    assert allowed.exchange(b"hello") == b"hello"
    assert closed(mirror, "denied") == 1


def test_an_ipv4_network_is_meant_on_a_listener_for_both_families(doppel, server):
    mirror = doppel(server(echo), "--allow", "127.0.0.0/8", listens=["0"])
    mirror.expect(identity="prefix")
    mirror.addresses.append(("127.0.0.1", mirror.addresses[0][1]))

    assert mirror.connect(0).drain() == "rst"       # ::1
    assert mirror.connect(1).exchange(b"hello") == b"hello"


def test_a_client_sees_the_end_of_the_answer_and_can_still_send(doppel, server):
    def answer_and_finish(connection):
        connection.send(pattern(MIB, ANSWER))
        connection.finish()
        connection.drain()

    primary = server(answer_and_finish)
    mirror = doppel(primary)
    client = mirror.connect()

    assert client.recv_all() == pattern(MIB, ANSWER)
    assert client.end == "fin"
    client.send(b"thanks")
    client.close()

    assert primary.connection().wait_end() == "fin"
    assert mirror.session(0)["reason"] == "primary_fin"
