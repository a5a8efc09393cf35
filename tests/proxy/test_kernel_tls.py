"""
test_kernel_tls.py — --tls-ktls: the kernel does the records where it can, and nobody notices where not.
"""
import socket
import ssl

import pytest

from support.checks import assert_same
from support.pattern import MIB, pattern
from support.peers import ANSWER, echo, sink
from support.proxy import SMALL
from support.secure import secure

ANY = ("tls://127.0.0.1:0",)
COUNT = "doppel_ktls_total"
TCP_ULP = 31    # linux/tcp.h

versions = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


def kernel_has_tls():
    """Only a connected socket can be told to speak it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as connected:
            try:
                connected.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
            except OSError:
                return False
    return True


@pytest.fixture
def everywhere(doppel, server, authority):
    """everywhere(*flags): doppel with TLS on all three legs, its primary and its shadow."""
    def start(*flags, behaviour=echo):
        context = authority.server_context("127.0.0.1")
        query = f"?ca={authority.file}"
        peers = [server(what, tls=context, query=query) for what in (behaviour, sink)]
        mirror = doppel(peers[0], *flags, "--tls-cert", authority.certificate("localhost"),
                        shadows=[peers[1]], listens=ANY)
        return mirror, *peers
    return start


def client_of(mirror, authority, version=None):
    return secure(mirror.connect(), authority.client_context(most=version), "localhost")


def test_T24_the_kernel_is_not_asked_unless_told(everywhere, authority):
    mirror, _, _ = everywhere()
    assert client_of(mirror, authority).exchange(b"hello") == b"hello"
    assert mirror.metric(COUNT) == 0


@versions
def test_T24_with_or_without_the_kernel_bytes_and_endings_are_the_same(everywhere, authority, version):
    mirror, primary, copy = everywhere("--tls-ktls", *SMALL)
    client = client_of(mirror, authority, version)

    assert client.exchange(pattern(2 * MIB)) == pattern(2 * MIB)
    client.finish()
    assert client.drain() == "fin" and not client.socket.truncated

    assert mirror.session(0)["reason"] == "client_fin"
    assert mirror.shadow(0, "shadow0")["reason"] == "fin"
    for peer in (primary, copy):
        assert_same(peer.connection(0).received, client.sent)
        assert not peer.connection(0).socket.truncated
    assert mirror.metric(COUNT, result="on") == (3 if kernel_has_tls() else 0)
    assert mirror.metric(COUNT, result="off") == (0 if kernel_has_tls() else 3)


@versions
def test_T24_in_the_kernel_both_sides_may_send_at_once(everywhere, authority, version):
    if not kernel_has_tls():
        pytest.skip("this kernel has no TLS (modprobe tls)")

    def speak(connection):
        sending = connection.start(connection.send, pattern(4 * MIB, ANSWER))
        connection.drain()
        sending.result()
    mirror, _, copy = everywhere("--tls-ktls", *SMALL, behaviour=speak)
    client = client_of(mirror, authority, version)

    sending = client.start(client.send, pattern(4 * MIB))
    assert client.recv_exact(4 * MIB) == pattern(4 * MIB, ANSWER)
    sending.result()
    client.finish()

    assert client.drain() == "fin" and not client.socket.truncated
    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"
    assert mirror.metric(COUNT, result="on") == 3
