"""
test_combinations.py — TLS in, out, both or neither, with no shadow, one and three: what happens to one
leg reaches the others alike.
"""
import pytest

from support.checks import assert_same
from support.pattern import KIB, MIB, pattern
from support.peers import ANSWER, echo, hold, sink
from support.proxy import SMALL, shadow
from support.secure import secure


class Combination:
    """Clients speak TLS to us, or not; we speak it to primary and shadows, or not."""

    def __init__(self, doppel, server, authority, client_side, target_side, shadows):
        self.doppel, self.server, self.authority = doppel, server, authority
        self.client_side, self.target_side, self.shadow_count = client_side, target_side, shadows

    def start(self, behaviour, *flags, first=sink, **options):
        """first is what the first shadow does, with these options; the others read to the end."""
        self.primary = self._peer(behaviour)
        behaviours = [first, sink, sink][:self.shadow_count]
        self.copies = [self._peer(what) for what in behaviours]
        targets = [shadow(copy, **(options if number == 0 else {}))
                   for number, copy in enumerate(self.copies)]
        scheme, certificate = "", []
        if self.client_side:
            scheme, certificate = "tls://", ["--tls-cert", self.authority.certificate("localhost")]
        self.mirror = self.doppel(self.primary, *flags, *certificate, shadows=targets,
                                  listens=(f"{scheme}127.0.0.1:0",))
        return self.mirror

    def connect(self):
        client = self.mirror.connect()
        if self.client_side:
            secure(client, self.authority.client_context(), "localhost")
        return client

    def _peer(self, behaviour):
        if not self.target_side:
            return self.server(behaviour)
        context = self.authority.server_context("127.0.0.1")
        return self.server(behaviour, tls=context, query=f"?ca={self.authority.file}")

    # What a test sees.

    def shadow_reasons(self):
        return [entry["reason"] for entry in self.mirror.session(0).get("shadows", [])]

    def assert_whole(self, peer, sent):
        """It got every byte, and an end that nobody can mistake for a cut."""
        connection = peer.connection(0)
        assert connection.wait_end() == "fin"
        assert_same(connection.received, sent)
        assert not self.target_side or not connection.socket.truncated

    def assert_good_end(self, client):
        assert client.drain() == "fin"
        assert not self.client_side or not client.socket.truncated


@pytest.fixture(params=[0, 1, 3], ids=["no-shadow", "one-shadow", "three-shadows"])
def combination(request, doppel, server, authority, client_side, target_side):
    return Combination(doppel, server, authority, client_side, target_side, request.param)


@pytest.fixture(params=[False, True], ids=["plain-in", "tls-in"])
def client_side(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["plain-out", "tls-out"])
def target_side(request):
    return request.param


def test_T26_C01_bytes_are_the_same_and_a_client_that_ends_first_gets_its_answer(combination):
    mirror = combination.start(echo)
    client = combination.connect()

    assert client.exchange(pattern(2 * MIB)) == pattern(2 * MIB)
    client.finish()
    combination.assert_good_end(client)

    session = mirror.session(0)
    assert session["reason"] == "client_fin"
    assert session.get("tls") == ("TLSv1.3" if combination.client_side else None)
    assert combination.shadow_reasons() == ["fin"] * combination.shadow_count
    for peer in (combination.primary, *combination.copies):
        combination.assert_whole(peer, client.sent)


def test_T26_P06_a_primary_that_ends_first_gets_the_rest_of_the_request(combination):
    def answer_and_end(connection):
        connection.send(pattern(MIB, ANSWER))
        connection.finish()
        connection.drain()
    mirror = combination.start(answer_and_end)
    client = combination.connect()

    assert client.recv_exact(MIB) == pattern(MIB, ANSWER)
    combination.assert_good_end(client)
    client.send(pattern(MIB))
    client.finish()

    assert mirror.session(0)["reason"] == "primary_fin"
    assert combination.shadow_reasons() == ["fin"] * combination.shadow_count
    for peer in (combination.primary, *combination.copies):
        combination.assert_whole(peer, client.sent)


def test_T26_C02_a_client_that_resets_resets_the_others_behind_its_bytes(combination):
    mirror = combination.start(sink)
    mirror.expect(identity="prefix")
    client = combination.connect()

    client.send(pattern(300 * KIB))
    for peer in (combination.primary, *combination.copies):
        peer.connection(0).wait_received(300 * KIB)
    client.reset()

    assert mirror.session(0)["reason"] == "client_rst"
    assert combination.shadow_reasons() == ["session_aborted"] * combination.shadow_count
    for peer in (combination.primary, *combination.copies):
        assert peer.connection(0).wait_end() == "rst"
        assert_same(peer.connection(0).received, client.sent)


def test_T26_P04_a_primary_that_resets_in_its_answer_resets_the_client_behind_its_bytes(combination):
    def answer_half(connection):
        connection.recv_exact(KIB)
        connection.send(pattern(300 * KIB, ANSWER))
        connection.wait_released()
        connection.reset()
    mirror = combination.start(answer_half)
    mirror.expect(identity="prefix")
    client = combination.connect()

    client.send(pattern(KIB))
    assert client.recv_exact(300 * KIB) == pattern(300 * KIB, ANSWER)
    for copy in combination.copies:
        copy.connection(0).wait_received(KIB)
    combination.primary.release()

    assert client.drain() == "rst"
    assert mirror.session(0)["reason"] == "primary_rst_delivered"  # all was acknowledged and answered
    assert combination.shadow_reasons() == ["fin"] * combination.shadow_count
    for copy in combination.copies:
        assert copy.connection(0).wait_end() == "fin"


@pytest.mark.parametrize("combination", [1, 3], indirect=True, ids=["one-shadow", "three-shadows"])
def test_T26_S02_a_shadow_that_stands_still_costs_nobody_else_a_byte(combination):
    mirror = combination.start(echo, *SMALL, first=hold, buffer="64k")
    mirror.expect(identity="prefix")
    client = combination.connect()

    assert client.exchange(pattern(MIB)) == pattern(MIB)
    client.finish()
    combination.assert_good_end(client)

    assert mirror.session(0)["reason"] == "client_fin"
    assert combination.shadow_reasons() == ["lag"] + ["fin"] * (combination.shadow_count - 1)
    for peer in (combination.primary, *combination.copies[1:]):
        combination.assert_whole(peer, client.sent)
