"""
test_tls_floods.py — whatever a TLS peer sends without a pause, the others have their turns meanwhile.

A flood goes on until the test has seen what it wants, or until doppel refuses its sender.  So a worker
that stands still for as long as the flood lasts never serves the second client, and the test fails.
"""
import select
import socket
import ssl
import struct
import threading
from contextlib import suppress

import pytest

from support.checks import assert_same
from support.pattern import KIB, pattern
from support.peers import echo, keep_open, sink
from support.proxy import SMALL
from support.secure import Handwritten, Records
from support.waiting import eventually

LISTENS = ("tls://127.0.0.1:0", "127.0.0.1:0")
TOO_MANY = "the peer sent too many messages without data"
TOO_MUCH = "the peer sent too much during the handshake"
DATA, HANDSHAKE, ALERT, CHANGE = 0x17, 0x16, 0x15, 0x14

TICKET = b"\x04\0\0\x0f" + struct.pack(">II", 7200, 1) + b"\1\0" + b"\0\1T" + b"\0\0"
HELLO_REQUEST = b"\0\0\0\0"
CLIENT_HELLO = b"\1\0\0\0"
IGNORED_ALERT = b"\1\x5a"       # a warning: user_canceled


class Flood:
    """Sends what make() makes, until it is stopped, has nothing more, or is refused."""

    def __init__(self, raw, make):
        self.sent = 0
        self.refused = False
        self._raw, self._make = raw, make
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait_begun(self):
        eventually(lambda: self.sent > 32 * KIB or not self._thread.is_alive(), "the flood has begun")

    def stop(self):
        """Whole records have been sent then."""
        self._stop.set()
        self._thread.join()

    def _run(self):
        while not self._stop.is_set():
            rest = self._make()
            if not rest:
                return
            try:
                self._raw.sendall(rest)
            except OSError:
                self.refused = True
                return
            self.sent += len(rest)


def full(message):
    """A record full of it."""
    return lambda records: records.record(message * (16000 // len(message)), HANDSHAKE)


def single(message):
    """A record for each."""
    return lambda records: b"".join(records.record(message, HANDSHAKE) for _ in range(100))


def crumbs(records):
    return b"".join(records.record(b"x") for _ in range(200))


def empty_between(records):
    """As many empty records in a row as OpenSSL bears."""
    return b"".join(records.record(b"x" * (number % 32 == 31)) for number in range(320))


def alerts_between(records):
    return b"".join(records.record(IGNORED_ALERT, ALERT) + records.record(b"x") for _ in range(100))


def keys_between(records):
    return b"".join(records.new_keys() + records.record(b"x") for _ in range(20))


def new_keys(records):
    return b"".join(records.new_keys() for _ in range(20))


def new_keys_for_both(records):
    return b"".join(records.new_keys(ask=True) for _ in range(20))


DATA_FLOODS = {"crumbs": crumbs, "empty": empty_between, "alerts": alerts_between}
KEY_FLOODS = {"keys": new_keys, "keys of both": new_keys_for_both}
REFUSED = {
    ("server", ssl.TLSVersion.TLSv1_3): {**KEY_FLOODS, "tickets": full(TICKET), "ticket": single(TICKET)},
    ("client", ssl.TLSVersion.TLSv1_3): KEY_FLOODS,
    ("server", ssl.TLSVersion.TLSv1_2): {"requests": full(HELLO_REQUEST), "request": single(HELLO_REQUEST)},
    ("client", ssl.TLSVersion.TLSv1_2): {"hellos": full(CLIENT_HELLO), "hello": single(CLIENT_HELLO)},
}
TAKEN = {
    ssl.TLSVersion.TLSv1_3: {**DATA_FLOODS, "keys": keys_between},
    ssl.TLSVersion.TLSv1_2: DATA_FLOODS,
}


def refused_by(*sides):
    return [pytest.param(side, version, make, id=f"{side}-{version.name}-{name}")
            for side in sides for (role, version), floods in REFUSED.items()
            if (role == "client") == (side == "client") for name, make in floods.items()]


def taken_from(*sides):
    return [pytest.param(side, version, make, id=f"{side}-{version.name}-{name}")
            for side in sides for version, floods in TAKEN.items() for name, make in floods.items()]


@pytest.fixture
def flooded(doppel, server, authority):
    """flooded(side, version, make): the mirror, and the Flood of the client's, the primary's or the
    shadow's connection of session 0; later sessions have peers that behave."""
    floods = []

    def begin(raw, make):
        floods.append(Flood(raw, make))
        floods[-1].wait_begun()

    def by_server(make, context, calm):
        def behaviour(connection):
            if connection is not connection.server.connection(0):
                calm(connection)
                return
            records = connection.records = Records(connection.socket, context.keylog_filename, connection)
            begin(records.raw, lambda: make(records))
            with suppress(ssl.SSLError):        # it takes our refusal to negotiate again for a mistake
                connection.drain()
            connection.wait_released()
        return behaviour

    def start(side, version, make):
        context = authority.server_context("127.0.0.1", most=version)
        context.num_tickets, context.keylog_filename = 0, authority.directory / "keys"
        secured = {"tls": context, "query": f"?ca={authority.file}"}
        primary = (server(by_server(make, context, echo), **secured) if side == "primary" else
                   server(sink if side == "client" else echo))
        copy = (server(by_server(make, context, sink), **secured) if side == "shadow" else server(sink))
        mirror = doppel(primary, "--tls-cert", authority.certificate("localhost"),
                        shadows=[copy], listens=LISTENS)
        client = mirror.connect(listener=0 if side == "client" else 1)
        if side == "client":
            records = Handwritten(client, authority, most=version)
            begin(client.socket.raw, lambda: make(records))
        else:
            client.send(b"x")
        eventually(lambda: floods, "its peer floods")
        return mirror, client, floods[0]
    yield start
    for flood in floods:
        flood.stop()


def serve_others(mirror, count=10):
    """Sessions and requests, while somebody floods the same worker."""
    for number in range(count):
        client = mirror.connect(listener=1)
        client.send(pattern(4 * KIB))
        client.finish()
        assert client.drain() == "fin"


REASONS = {"client": "tls_client", "primary": "tls_primary", "shadow": "tls"}
RESETS = ("primary_rst", "rst")


@pytest.mark.parametrize("side, version, make", refused_by("client", "primary", "shadow"))
def test_messages_without_data_hold_nobody_up_and_are_refused(flooded, side, version, make):
    mirror, client, flood = flooded(side, version, make)
    mirror.expect(identity="none")

    serve_others(mirror)
    eventually(lambda: flood.refused, "it is refused")

    event = "shadow_detached" if side == "shadow" else f"{side}_failed"
    said = mirror.wait_log(event)[0].fields
    if version == ssl.TLSVersion.TLSv1_3 or side == "client":
        assert (said["reason"], said["why"]) == (REASONS[side], TOO_MANY)
    else:
        assert said["reason"] in (REASONS[side], *RESETS)   # whoever had enough of the other first
    if side == "shadow":
        assert client.exchange(b"hello", 6) == b"xhello"
    else:
        ended = [line["reason"] for line in mirror.access_log(11) if line["reason"] != "client_fin"]
        assert ended == [said["reason"]]


@pytest.mark.parametrize("side, version, make", taken_from("client", "primary", "shadow"))
def test_records_with_hardly_any_data_hold_nobody_up_and_nothing_is_lost(flooded, side, version, make):
    mirror, client, flood = flooded(side, version, make)
    reading = client.start(client.drain) if side == "primary" else None

    serve_others(mirror)
    flood.stop()

    assert not flood.refused
    if side == "primary":
        primary = mirror.primaries[0].connection(0)
        eventually(lambda: client.received.count == primary.sent.count, "the client has all of it")
        assert_same(client.received, primary.sent)
        primary.records.finish()
        client.finish()
        reading.result()
    elif side == "client":
        eventually(lambda: mirror.primaries[0].connection(0).received.count == client.sent.count,
                   "the primary has all of it")
        assert_same(mirror.primaries[0].connection(0).received, client.sent)
    else:
        copy = mirror.shadows[0].server.connection(0)
        eventually(lambda: mirror.metric("doppel_shadow_response_bytes_total") >= copy.sent.count,
                   "doppel has read all of it")
        assert client.exchange(b"hello", 5) == b"x" + b"hell"
    mirror.assert_not_spinning(0.3)


# --- during the handshake ------------------------------------------------------------------------

def plain(kind, content):
    return struct.pack(">BHH", kind, 0x0303, len(content)) + content


def in_crumbs(message):
    """A record for each byte of it, once."""
    pieces = [b"".join(plain(HANDSHAKE, message[i:i + 1]) for i in range(at, min(at + 1000, len(message))))
              for at in range(0, len(message), 1000)]
    return lambda: pieces.pop(0) if pieces else b""


def again_and_again(kind, content, count=100):
    block = plain(kind, content) * count
    return lambda: block


SERVERS = {
    "requests": lambda: again_and_again(HANDSHAKE, HELLO_REQUEST * 4000, 1),
    "request": lambda: again_and_again(HANDSHAKE, HELLO_REQUEST),
    "empty": lambda: again_and_again(HANDSHAKE, b""),
    "alerts": lambda: again_and_again(ALERT, IGNORED_ALERT),
    "changes": lambda: again_and_again(CHANGE, b"\1"),
    "crumbs": lambda: in_crumbs(b"\2\0\x4e\0" + bytes(0x4e00)),
}
CLIENTS = {
    "empty": SERVERS["empty"],
    "alerts": SERVERS["alerts"],
    "changes": SERVERS["changes"],
    "crumbs": lambda: in_crumbs(b"\1\1\xff\xf0" + b"\3\3" + bytes(0x1ffee)),
}


@pytest.mark.parametrize("kind", SERVERS)
def test_a_shadow_that_floods_instead_of_shaking_hands_holds_nobody_up(doppel, server, authority, kind):
    floods = []

    def behaviour(connection):
        connection.recv()
        floods.append(Flood(connection.socket, SERVERS[kind]()))
        connection.wait_released()
    copy = server(behaviour)
    mirror = doppel(server(echo), shadows=[f"tls://{copy.address}?ca={authority.file}&breaker=off"])
    mirror.expect(identity="none")
    client = mirror.connect()
    assert client.exchange(b"hello") == b"hello"
    eventually(lambda: floods, "the shadow floods")
    floods[0].wait_begun()

    for _ in range(10):
        assert client.exchange(b"hello") == b"hello"
    detached = mirror.wait_log("shadow_detached", level="warning")[0]
    assert detached.fields["reason"] == "tls"
    if kind.startswith("request"):
        assert detached.fields["why"] == TOO_MUCH
    for flood in floods:
        flood.stop()


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_client_that_floods_instead_of_shaking_hands_holds_nobody_up(doppel, server, authority, kind):
    mirror = doppel(server(echo), "--tls-cert", authority.certificate("localhost"), listens=LISTENS)
    mirror.expect(identity="none")
    client = mirror.connect()
    flood = Flood(client.socket, CLIENTS[kind]())
    flood.wait_begun()

    serve_others(mirror)
    flood.stop()

    ended = eventually(lambda: [line for line in mirror.access_log(11) if line["reason"] != "client_fin"],
                       "it is refused")
    assert [line["reason"] for line in ended] == ["tls_client"]


# --- what is waited for --------------------------------------------------------------------------

def test_a_client_that_asks_for_keys_and_reads_nothing_is_waited_for_at_rest(doppel, server, authority):
    """The answers find no room, and what else the client has sent waits behind them."""
    mirror = doppel(server(sink), "--tls-cert", authority.certificate("localhost"), *SMALL,
                    listens=LISTENS)
    client = mirror.connect(rcvbuf=2304, sndbuf=4096)
    records = Handwritten(client, authority)
    for _ in range(20000):
        _, writable, _ = select.select([], [records.raw], [], 0.3)
        if not writable:
            break
        try:
            records.raw.send(records.record(b"xx") + records.new_keys(ask=True), socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
    else:
        raise AssertionError("there is always room")
    mirror.assert_not_spinning(0.5)
    mirror.expect(identity="prefix")
    client.reset()


@pytest.mark.parametrize("more", [0, 64 * KIB], ids=["the end", "bytes"])
@pytest.mark.parametrize("side", ["primary", "shadow"])
def test_half_a_message_holds_our_words_back_and_loses_none(doppel, server, authority, side, more):
    """OpenSSL writes nothing before it has read the rest, close_notify neither."""
    rest = threading.Event()

    def behaviour(connection):
        records = Records(connection.socket, context.keylog_filename, connection)
        connection.recv_exact(1)
        records.raw.sendall(records.record(b"y") + records.record(TICKET[:7], HANDSHAKE))
        assert rest.wait(10)
        records.raw.sendall(records.record(TICKET[7:], HANDSHAKE))
        connection.drain()
        records.finish()
    context = authority.server_context("127.0.0.1")
    context.num_tickets, context.keylog_filename = 0, authority.directory / "keys"
    odd = server(behaviour, tls=context, query=f"?ca={authority.file}")
    peers = [odd, server(sink)] if side == "primary" else [server(keep_open), odd]
    mirror = doppel(peers[0], shadows=[peers[1]])
    client = mirror.connect()
    client.send(b"x")
    if side == "primary":
        assert client.recv_exact(1) == b"y"
    else:
        mirror.wait_metric("doppel_shadow_response_bytes_total", 1)
    client.send(pattern(more))
    client.finish()
    mirror.assert_not_spinning(0.3)
    rest.set()

    assert odd.connection(0).wait_end() == "fin"
    assert not odd.connection(0).socket.truncated
    assert_same(odd.connection(0).received, client.sent)
    peers[0].release()
    assert client.drain() == "fin"
    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"
