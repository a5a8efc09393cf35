"""
test_orderly_resets.py — servers and clients that close by RST after everything was delivered, as
RabbitMQ does at the end of each session: nothing is lost, so it is no failure.
"""
import pytest

from support.pattern import KIB, pattern
from support.peers import echo, sink
from support.proxy import shadow
from support.waiting import eventually

BYE, GOODBYE = b"close", b"closed"


def close_by_reset(connection):
    """As RabbitMQ: answers, and after the last answer it resets."""
    connection.send(connection.recv_exact(KIB))
    connection.recv_exact(len(BYE))
    connection.send(GOODBYE)
    connection.reset()


def read_all_and_reset(connection):
    connection.drain()
    connection.reset()


def reset_when_told(connection):
    """Resets although the session goes on; nothing lies here unread then."""
    connection.recv_exact(KIB)
    connection.wait_released()
    connection.reset()


def talk_to_the_end(client):
    client.exchange(pattern(KIB))
    client.send(BYE)
    assert client.recv_exact(len(GOODBYE)) == GOODBYE


def assert_all_is_well(mirror):
    assert mirror.log(level="warning") == mirror.log(level="error") == []


def wait_for_reset_of(server):
    """Once it has the client's bytes."""
    server.connection().wait_received(KIB)
    server.release()
    eventually(lambda: server.connection().closed, "it resets")


def outcome(mirror, name="shadow0"):
    entry = mirror.shadow(0, name)
    assert entry["lost_bytes"] == 0, entry
    return entry["result"], entry["reason"]


def test_a_primary_that_resets_after_its_last_answer_has_not_failed(doppel, server):
    """Its shadow does the same, or is told an orderly end first: whichever is faster."""
    mirror = doppel(server(close_by_reset), shadows=[server(close_by_reset)])
    client = mirror.connect()

    talk_to_the_end(client)

    assert client.drain() == "rst", "a reset stays one"
    assert mirror.session(0)["reason"] == "primary_rst_delivered"
    assert outcome(mirror) in (("mirrored", "rst_delivered"), ("mirrored", "fin"))
    assert mirror.shadow(0, "shadow0")["unacked_bytes"] == 0
    assert_all_is_well(mirror)


def test_a_shadow_that_resets_after_the_end_was_mirrored(doppel, server):
    mirror = doppel(server(echo), shadows=[server(read_all_and_reset)])
    client = mirror.connect()
    client.exchange(pattern(KIB))
    client.finish()
    assert client.drain() == "fin"

    assert outcome(mirror) == ("mirrored", "rst_delivered")
    assert_all_is_well(mirror)
    shown = mirror.status()["shadows"][0]
    assert shown["results"]["mirrored"] == shown["reasons"]["rst_delivered"] == 1
    assert "last_error" not in shown


@pytest.mark.parametrize("query", [{}, {"max_bytes": KIB}], ids=["all", "its share"])
def test_a_shadow_that_resets_before_the_end_was_mirrored_if_nothing_followed(doppel, server, query):
    resetting = server(reset_when_told)
    mirror = doppel(server(echo), shadows=[shadow(resetting, "early", **query)])
    client = mirror.connect()
    client.exchange(pattern(KIB))
    wait_for_reset_of(resetting)
    client.finish()
    assert client.drain() == "fin"

    assert outcome(mirror, "early") == ("mirrored", "rst_delivered")
    assert_all_is_well(mirror)


@pytest.mark.parametrize("rest", [1, 300 * KIB])
def test_a_shadow_that_resets_before_more_bytes_come_has_failed(doppel, server, rest):
    resetting = server(reset_when_told)
    mirror = doppel(server(echo), shadows=[resetting])
    client = mirror.connect()
    client.exchange(pattern(KIB))
    wait_for_reset_of(resetting)

    client.exchange(pattern(rest))

    mirror.wait_metric("doppel_shadow_closed_total", 1, reason="rst")
    mirror.assert_log_count(" shadow_detached .*reason=rst", 1, 1, level="warning")
    client.close()
    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["reason"]) == ("detached", "rst")
    assert entry["sent_bytes"] + entry["lost_bytes"] == KIB + rest and entry["lost_bytes"] > 0


def test_a_shadow_that_has_reset_and_waits_for_more_costs_no_cpu(doppel, server):
    resetting = server(reset_when_told)
    mirror = doppel(server(echo), shadows=[resetting])
    client = mirror.connect()
    client.exchange(pattern(KIB))
    resetting.connection().wait_received(KIB)
    resetting.release()

    mirror.assert_not_spinning()

    assert client.exchange(b"more") == b"more"


def test_a_shadow_that_resets_at_each_end_does_not_open_its_breaker(doppel, server):
    mirror = doppel(server(echo), shadows=[shadow(server(read_all_and_reset), "orderly", breaker="1/1h")])
    for number in range(3):
        client = mirror.connect()
        client.exchange(pattern(KIB))
        client.close()
        assert mirror.session(number)["shadows"][0]["reason"] == "rst_delivered"

    assert mirror.metric("doppel_breaker_state", shadow="orderly") == 0


def test_a_client_that_resets_after_its_whole_answer_has_lost_nothing(doppel, server):
    primary, copy = server(echo), server(echo)
    mirror = doppel(primary, shadows=[copy])
    client = mirror.connect()
    client.exchange(pattern(KIB))

    client.reset()

    assert primary.connection().wait_end() == "rst"
    assert copy.connection().wait_end() == "fin", "a reset would take from it what it has not read yet"
    assert copy.connection().received.count == KIB
    assert mirror.session(0)["reason"] == "client_rst_delivered"
    assert outcome(mirror) == ("mirrored", "fin")


def test_a_client_that_resets_without_its_answer_broke_off(doppel, server):
    primary = server(sink)
    mirror = doppel(primary, shadows=[server(sink)])
    client = mirror.connect()
    client.send(pattern(KIB))
    primary.connection().wait_received(KIB)

    client.reset()

    assert mirror.session(0)["reason"] == "client_rst"
    assert outcome(mirror) == ("detached", "session_aborted")


def test_a_primary_that_resets_instead_of_its_second_answer_has_failed(doppel, server):
    def answer_once(connection):
        connection.send(connection.recv_exact(KIB))
        connection.recv_exact(KIB)
        connection.reset()

    mirror = doppel(server(answer_once), shadows=[server(sink)])
    client = mirror.connect()
    client.exchange(pattern(KIB))
    client.send(pattern(KIB))

    assert client.drain() == "rst"
    assert mirror.session(0)["reason"] == "primary_rst"
    mirror.assert_log_count(" primary_failed ", 1, 1, level="warning")


def test_a_primary_that_resets_once_the_client_has_finished_with_it_has_not_failed(doppel, server):
    """As PostgreSQL with TLS inside: it has left when the client's last words come."""
    primary = server()
    mirror = doppel(primary, shadows=[server(sink)])
    mirror.expect(identity="prefix")
    client = mirror.connect()
    client.send(pattern(KIB))
    connection = primary.connection()
    connection.send(connection.recv_exact(KIB))
    client.recv_exact(KIB)
    client.send(b"terminate")
    client.close()
    eventually(lambda: mirror.metric("doppel_bytes_total", direction="request") == KIB + 9, "it is booked")
    connection.socket.recv(1)

    connection.close()      # the rest is unread: RST

    assert mirror.session(0)["reason"] == "client_fin"
    assert outcome(mirror) == ("mirrored", "fin")
    assert_all_is_well(mirror)


def test_a_primary_that_resets_a_half_closed_client_that_waits_has_failed(doppel, server):
    primary = server()
    mirror = doppel(primary)
    mirror.expect(identity="prefix")
    client = mirror.connect()
    client.send(pattern(KIB))
    client.finish()
    connection = primary.connection()
    connection.drain()
    connection.reset()

    assert client.drain() == "rst"
    assert mirror.session(0)["reason"] == "primary_rst"
    mirror.assert_log_count(" primary_failed ", 1, 1, level="warning")


@pytest.mark.netns
def test_an_end_that_nobody_acknowledges_is_no_byte(network, doppel, server):
    silent = server(sink)
    mirror = doppel(server(echo), shadows=[shadow(silent, "silent", linger="200ms")])
    client = mirror.connect()
    client.exchange(pattern(KIB))
    silent.connection().wait_received(KIB)
    network.nft(f"add rule inet faults input tcp dport {silent.port} tcp flags & fin == fin drop")

    client.close()

    entry = mirror.shadow(0, "silent")
    assert (entry["result"], entry["reason"]) == ("detached", "stall")
    assert (entry["sent_bytes"], entry["unacked_bytes"]) == (KIB, 0)
    network.lift()
