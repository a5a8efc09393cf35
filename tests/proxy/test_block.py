"""
test_block.py — overflow = block: the client waits, and the shadow misses nothing; one that fails is detached.
"""
import pytest

from support.pattern import KIB, MIB, pattern
from support.peers import echo, hold, reset_after, sink
from support.proxy import shadow

# A receiver this small takes a few kilobytes; the rest waits in doppel.
TINY = 4096


def test_a_blocking_shadow_makes_the_client_wait_and_gets_everything(doppel, server):
    primary, slow = server(sink), server(hold, rcvbuf=TINY)
    mirror = doppel(primary, "--sndbuf", "64k", "--rcvbuf", "64k",
                    shadows=[shadow(slow, overflow="block", buffer="64k")])
    client = mirror.connect(sndbuf=16 * KIB)
    whole = pattern(4 * MIB)

    went = client.send_until_blocked(whole)
    assert went < MIB
    slow.release()
    client.send(whole[went:])
    client.finish()
    assert client.drain() == "fin"

    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["sent_bytes"]) == ("mirrored", 4 * MIB)
    assert entry["max_lag_bytes"] <= 64 * KIB


def test_a_client_waits_while_its_blocking_shadow_is_dialled(doppel, server):
    primary, late = server(sink), server(sink, state="black hole")
    mirror = doppel(primary, "--rcvbuf", "64k", shadows=[
        shadow(late, overflow="block", buffer="64k", connect_timeout="20s")])
    client = mirror.connect(sndbuf=16 * KIB)
    whole = pattern(2 * MIB)

    went = client.send_until_blocked(whole)
    assert went < MIB
    late.open()
    client.send(whole[went:])
    client.finish()
    client.drain()

    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"


@pytest.mark.parametrize("fault, reason", [("refused", "refused"), ("reset", "rst"), ("stalled", "stall"),
                                           ("silent", "connect_timeout")])
def test_a_blocking_shadow_that_fails_is_detached_with_an_error(doppel, server, fault, reason):
    one = {
        "refused": lambda: server(state="refusing"),
        "reset": lambda: server(reset_after(10 * KIB)),
        "stalled": lambda: server(hold, rcvbuf=TINY),
        "silent": lambda: server(state="black hole"),
    }[fault]()
    mirror = doppel(server(echo), "--sndbuf", "64k", shadows=[
        shadow(one, overflow="block", buffer="64k", stall_timeout="200ms", connect_timeout="200ms")])
    client = mirror.connect()

    assert client.exchange(pattern(2 * MIB)) == pattern(2 * MIB)
    client.exchange_until(lambda: mirror.shadow_closed(reason) == 1, "the shadow is detached")
    client.close()

    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["reason"]) == ("detached", reason)
    mirror.assert_log_count(f"reason={reason}", 1, 1, level="error")
