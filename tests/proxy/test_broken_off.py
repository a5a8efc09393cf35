"""
test_broken_off.py — a connection that has broken off stays broken, whichever call hears of it first.

The kernel reports a reset once.  When a send hears of it, the next read finds an end that looks like a
good one; then half a request or half an answer would pass for a whole one.
"""
import os
import signal
import ssl

import pytest

from support.pattern import KIB, pattern
from support.peers import ANSWER, echo, finish_early, keep_open, sink
from support.processes import is_stopped
from support.proxy import shadow
from support.secure import Handwritten, Records, secure
from support.waiting import eventually

LISTENS = {"tls": ("tls://127.0.0.1:0",), "plain": ("127.0.0.1:0",)}
legs = pytest.mark.parametrize("way", ["tls", "plain"])
calls = pytest.mark.parametrize("what", ["the end", "bytes"])


def by_hand(connection):
    """The test plays the peer once hands are shaken; see ready()."""
    connection.is_ready = True
    connection.wait_released()


def ready(server):
    connection = server.connection(0)
    eventually(lambda: hasattr(connection, "is_ready"), "it has shaken hands")
    return connection


@pytest.fixture
def world(doppel, server, authority):
    """world(way, primary, shadow, ...): doppel with that way on all three legs, and its peers."""
    def start(way, *behaviours, **options):
        context = authority.server_context("127.0.0.1")
        context.num_tickets, context.keylog_filename = 0, authority.directory / "keys"
        tls = {"tls": context, "query": f"?ca={authority.file}"} if way == "tls" else {}
        peers = [server(behaviour, **tls) for behaviour in behaviours]
        mirror = doppel(peers[0], "--tls-cert", authority.certificate("localhost"),
                        listens=LISTENS[way],
                        shadows=[shadow(peer, linger="300ms") for peer in peers[1:]], **options)
        mirror.expect(identity="prefix")
        return mirror, *peers
    return start


def client_of(mirror, way, authority):
    client = mirror.connect()
    return secure(client, authority.client_context(), "localhost") if way == "tls" else client


def at_once(mirror, *deeds):
    """The worker finds in one turn what these have done, and looks at the last one first."""
    worker, = mirror.workers()
    os.kill(worker, signal.SIGSTOP)
    eventually(lambda: is_stopped(worker), "the worker stands still")
    for deed in deeds:
        deed()
    os.kill(worker, signal.SIGCONT)


def say(peer, what):
    """Bytes, or the end, to whoever is on the other side of doppel."""
    return peer.finish if what == "the end" else lambda: peer.send(pattern(100, ANSWER))


@legs
@calls
def test_a_client_that_resets_while_it_is_answered_leaves_half_a_request(world, authority, way, what):
    mirror, primary, copy = world(way, by_hand, sink)
    client = client_of(mirror, way, authority)
    client.send(b"half a requ")
    there = ready(primary)
    there.recv_exact(11)
    copy.connection(0).wait_received(11)

    at_once(mirror, client.reset, say(there, what))

    assert there.drain() == "rst"
    assert copy.connection(0).wait_end() == "rst"
    assert mirror.session(0)["reason"] == "client_rst"
    assert mirror.shadow(0, "shadow0")["reason"] == "session_aborted"


@legs
@calls
def test_a_primary_that_resets_while_it_is_asked_leaves_half_an_answer(world, authority, way, what):
    mirror, primary, copy = world(way, by_hand, sink)
    client = client_of(mirror, way, authority)
    client.send(b"request")
    there = ready(primary)
    there.recv_exact(7)
    there.send(b"half an answ")
    client.recv_exact(12)

    at_once(mirror, there.reset, say(client, what))

    assert client.drain() == "rst"
    assert mirror.session(0)["reason"] == ("client_fin" if what == "the end" else "primary_rst")


@legs
@calls
def test_a_shadow_that_resets_while_it_is_sent_to_is_seen_to_reset(world, authority, way, what):
    mirror, _, copy = world(way, echo, by_hand)
    client = client_of(mirror, way, authority)
    assert client.exchange(b"request") == b"request"
    there = ready(copy)
    there.recv_exact(7)

    at_once(mirror, there.reset, say(client, what))

    client.finish()
    assert client.drain() == "fin"
    assert mirror.shadow(0, "shadow0")["reason"] == ("rst_delivered" if what == "the end" else "rst")
    assert mirror.session(0)["reason"] == "client_fin"


@legs
def test_a_reset_after_a_whole_answer_does_not_make_its_end_a_bad_one(world, authority, way):
    mirror, primary = world(way, by_hand)
    client = client_of(mirror, way, authority)
    client.send(b"request")
    there = ready(primary)
    there.recv_exact(7)
    there.send(b"answer")
    there.finish()
    assert client.recv_exact(6) == b"answer"
    assert client.drain() == "fin"
    client.send(b"more")
    there.recv_exact(4)

    at_once(mirror, there.reset, client.finish)

    assert mirror.session(0)["reason"] == "primary_fin"


@pytest.mark.parametrize("side", ["client", "primary"])
def test_a_reset_that_only_a_refusal_of_ours_hears_of_is_a_reset(doppel, server, authority, side):
    """Asked to negotiate again, OpenSSL answers with an alert, and does not say that it could not be sent."""
    old = ssl.TLSVersion.TLSv1_2
    context = authority.server_context("127.0.0.1", most=old)
    context.keylog_filename = authority.directory / "server keys"
    primary = server(by_hand, tls=context, query=f"?ca={authority.file}")
    mirror = doppel(primary, "--tls-cert", authority.certificate("localhost"), listens=LISTENS["tls"])
    mirror.expect(identity="none")
    client = mirror.connect()
    asking, hello = Handwritten(client, authority, most=old), b"\1\0\0\0"
    asking.raw.sendall(asking.record(b"half a requ"))
    there = ready(primary)
    there.recv_exact(11)
    broken, other = client, there
    if side == "primary":
        asking, hello = Records(there.socket, context.keylog_filename), b"\0\0\0\0"
        broken, other = there, client

    at_once(mirror, lambda: asking.raw.sendall(asking.record(hello, Records.HANDSHAKE)), broken.reset)

    assert other.drain() == "rst"
    assert mirror.session(0)["reason"] == f"{side}_rst"


def test_a_send_that_fails_behind_others_of_one_turn_breaks_the_connection(world, faults, authority):
    """The client is not gone: but a failed call counts, whatever the peer does after it."""
    fault = faults("send:errno=ECONNRESET:n=told", on=False)
    mirror, primary = world("tls", by_hand, env=fault.env, release=True)
    client = client_of(mirror, "tls", authority)
    client.send(b"request")
    there = ready(primary)
    there.recv_exact(7)
    fault.strike_call(2)
    at_once(mirror, lambda: there.send(pattern(64 * KIB, ANSWER)))
    eventually(fault.struck, "the second record fails")
    client.finish()

    assert there.drain() == "rst"
    assert mirror.session(0)["reason"] == "client_rst"
    assert client.drain() == "rst"


# --- ends that are not said ----------------------------------------------------------------------

@pytest.fixture
def ended_early(doppel, server, authority, faults):
    """A plain client and primary, and a tls:// shadow that has ended its own side; it has had every byte,
    and close_notify finds no room now."""
    fault = faults("send:errno=EAGAIN", on=False)
    copy = server(finish_early, tls=authority.server_context("127.0.0.1"), query=f"?ca={authority.file}")
    primary = server(keep_open)
    mirror = doppel(primary, shadows=[shadow(copy, linger="300ms", connect_on="start")], env=fault.env,
                    release=True)
    client = mirror.connect()
    eventually(lambda: copy.connection(0).finished, "the shadow has ended its side")
    client.send(pattern(8 * KIB))
    copy.connection(0).wait_received(8 * KIB)
    primary.connection(0).wait_received(8 * KIB)
    fault.on()
    client.finish()
    eventually(fault.struck, "close_notify finds no room")
    assert primary.connection(0).wait_end() == "fin"
    return mirror, client, copy.connection(0), fault


def test_a_shadow_is_mirrored_once_close_notify_has_found_room(ended_early):
    mirror, client, there, fault = ended_early
    assert mirror.metric("doppel_shadow_active") == 1
    fault.off()

    assert there.wait_end() == "fin" and not there.socket.truncated
    mirror.primaries[0].release()
    client.drain()
    assert mirror.shadow(0, "shadow0")["reason"] == "fin"


def test_a_shadow_that_never_hears_close_notify_is_not_mirrored(ended_early):
    mirror, client, there, _ = ended_early
    mirror.primaries[0].release()
    client.drain()

    assert mirror.shadow(0, "shadow0")["reason"] == "stall"
    assert there.wait_end() == "rst"


def test_a_client_that_cannot_be_told_the_end_is_reset(doppel, server, authority, faults):
    fault = faults("send:errno=EAGAIN", on=False)
    primary = server(None)
    mirror = doppel(primary, "--tls-cert", authority.certificate("localhost"),
                    "--half-close-timeout", "300ms", listens=LISTENS["tls"], env=fault.env, release=True)
    client = client_of(mirror, "tls", authority)
    client.send(b"request")
    there = primary.connection(0)
    there.recv_exact(7)
    there.send(b"answer")
    assert client.recv_exact(6) == b"answer"
    fault.on()
    there.finish()

    assert client.drain() == "rst"
    assert mirror.session(0)["reason"] == "half_close"
