"""
test_live_change.py — what changes while doppel runs: all mirroring off and on again.
"""
import signal

from support.pattern import KIB, pattern
from support.peers import echo, hold, sink


def toggle(mirror, state):
    """The kill switch, until its line is there."""
    lines = len(mirror.log("mirroring state="))
    mirror.signal(signal.SIGUSR2)
    said = mirror.wait_log("mirroring state=", lines + 1)
    assert said[-1].fields["state"] == state


def exchange(mirror, payload):
    """One session, until its line is there."""
    client = mirror.connect()
    assert client.exchange(payload) == payload
    client.close()
    mirror.access_log(len(mirror.clients))


def test_the_kill_switch_keeps_new_sessions_from_every_shadow(doppel, server):
    one, other = server(sink), server(sink)
    mirror = doppel(server(echo), shadows=[one, other])

    exchange(mirror, b"mirrored")
    toggle(mirror, "off")
    exchange(mirror, b"not mirrored")
    toggle(mirror, "on")
    exchange(mirror, b"mirrored again")

    for number, result in enumerate(("mirrored", "paused", "mirrored")):
        assert mirror.shadow(number, "shadow0")["result"] == result
        assert mirror.shadow(number, "shadow1")["result"] == result
    assert mirror.metric("doppel_shadow_bytes_total", fate="skipped") == 2 * len(b"not mirrored")
    assert len(one.connections) == len(other.connections) == 2


def test_the_kill_switch_cuts_current_shadows_and_nobody_else_notices(doppel, server):
    one = server(sink)
    mirror = doppel(server(echo), shadows=[one], workers=2)
    clients = [mirror.connect() for _ in range(8)]
    for client in clients:
        assert client.exchange(pattern(4 * KIB)) == pattern(4 * KIB)
    mirror.wait_metric("doppel_shadow_bytes_total", 8 * 4 * KIB, fate="sent")

    toggle(mirror, "off")
    mirror.wait_metric("doppel_shadow_closed_total", 8, reason="admin")
    for client in clients:
        assert client.exchange(b"still here") == b"still here"
        client.close()

    for session in mirror.access_log(8):
        assert session["reason"] == "client_fin"
        assert session["shadows"][0]["result"] == "detached"
        assert session["shadows"][0]["reason"] == "admin"
    assert all(connection.wait_end() == "rst" for connection in one.connections)


def test_a_session_that_was_not_dialled_yet_is_paused_as_a_whole(doppel, server):
    one = server(sink)
    mirror = doppel(server(echo), shadows=[one])
    client = mirror.connect()
    mirror.wait_metric("doppel_sessions_active", 1)

    toggle(mirror, "off")
    assert client.exchange(b"first byte") == b"first byte"
    client.close()

    assert mirror.shadow(0, "shadow0")["result"] == "paused"
    assert mirror.metric("doppel_shadow_bytes_total", fate="skipped") == len(b"first byte")
    assert not one.connections


def test_a_session_that_has_not_spoken_is_paused_for_good(doppel, server):
    """Although mirroring is on again by the time of its first byte."""
    one = server(sink)
    mirror = doppel(server(echo), shadows=[one])
    speaking, silent = mirror.connect(), mirror.connect()
    speaking.exchange(b"hello")
    mirror.wait_metric("doppel_sessions_active", 2)

    toggle(mirror, "off")
    mirror.wait_metric("doppel_shadow_closed_total", 1, reason="admin")     # its worker has heard of it
    toggle(mirror, "on")
    silent.exchange(b"first byte")
    silent.close()

    assert mirror.shadow(0, "shadow0")["result"] == "paused"
    assert len(one.connections) == 1


def test_a_session_that_began_while_mirroring_was_off_stays_without_shadows(doppel, server):
    one = server(sink)
    mirror = doppel(server(echo), shadows=[one])
    before = mirror.connect()
    before.exchange(b"hello")
    mirror.wait_metric("doppel_shadow_active", 1)
    toggle(mirror, "off")
    mirror.wait_metric("doppel_shadow_closed_total", 1, reason="admin")     # its worker has heard of it
    client = mirror.connect()
    mirror.wait_metric("doppel_sessions_active", 2)

    toggle(mirror, "on")
    assert client.exchange(b"first byte") == b"first byte"
    client.close()

    assert mirror.shadow(0, "shadow0")["result"] == "paused"
    assert len(one.connections) == 1


def test_the_kill_switch_reaches_hundreds_of_sessions_in_their_turns(doppel, server):
    one = server(hold)
    mirror = doppel(server(echo), shadows=[one])
    clients = [mirror.connect() for _ in range(300)]
    for client in clients:
        assert client.exchange(b"one of many") == b"one of many"
    mirror.wait_metric("doppel_shadow_active", 300)

    toggle(mirror, "off")

    mirror.wait_metric("doppel_shadow_closed_total", 300, reason="admin")
    assert mirror.metric("doppel_shadow_active") == 0
    assert clients[0].exchange(b"once more") == b"once more"
    for client in clients:
        client.close()
