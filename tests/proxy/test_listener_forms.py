"""
test_listener_forms.py — what is promised of clients holds however they come in: each promise against
each form of a listener, or a reason why it does not apply.
"""
import os
import signal
import socket

import pytest

from support import processes
from support.headers import introduce, v2
from support.manager import Manager
from support.pattern import KIB, pattern
from support.peers import echo, sink
from support.secure import secure
from support.waiting import eventually

# What -l and further flags say; the manager's address and the path are made by the test.
FORMS = {
    "tcp": ("127.0.0.1:0",),
    "passed on": ("127.0.0.1:{port}",),
    "unix": ("unix:{path}",),
    "tls": ("tls://127.0.0.1:0",),
    "proxy": ("127.0.0.1:0?accept-proxy=on",),
    "tls, proxy": ("tls://127.0.0.1:0?accept-proxy=on",),
    "unix, proxy": ("unix:{path}?accept-proxy=on",),
    "tls, passed on": ("tls://127.0.0.1:{port}",),
    "proxy, passed on": ("127.0.0.1:{port}?accept-proxy=on",),
    "transparent": ("127.0.0.1:0", "--transparent"),
}
NO_TCP = "options of TCP are unknown to unix sockets"
NO_RESET = "unix sockets know no reset"
NO_ADDRESS = "a unix client has no address, so it is always allowed and never counted"
NO_HANDSHAKE = "a client that may be silent has nothing to be late with but --idle-timeout"
NO_TLS = "--max-handshakes is about TLS"
DOES_NOT_APPLY = {
    "settings": {"unix": NO_TCP, "unix, proxy": NO_TCP},
    "reset": {"unix": NO_RESET, "unix, proxy": NO_RESET},
    "source": {"unix": NO_ADDRESS},
    "handshake timeout": {form: NO_HANDSHAKE for form in ("tcp", "passed on", "unix", "transparent")},
    "handshakes": {form: NO_TLS for form in FORMS if "tls" not in form},
}
ONE, OTHER = "127.0.0.1", "127.0.0.2"


def test_each_reason_is_about_a_form_that_exists():
    assert all(form in FORMS for reasons in DOES_NOT_APPLY.values() for form in reasons)


def for_each_form(promise=None):
    without = DOES_NOT_APPLY.get(promise, {})
    return pytest.mark.parametrize("form", [form for form in FORMS if form not in without])


class Entrance:
    """A listener of one form, and how its clients come in."""

    def __init__(self, form, doppel, authority, manager, directory):
        self.form = form
        self._doppel = doppel
        self._authority = authority
        self._manager = manager
        self._path = f"{directory}/entrance"

    def open(self, primary, *flags, **options):
        listen, *more = FORMS[self.form]
        if "transparent" in self.form and os.geteuid() != 0:
            pytest.skip("--transparent needs CAP_NET_ADMIN")
        if "passed on" in self.form:
            port = self._manager.listen().rpartition(":")[2]
            options = {**options, **self._manager.start()}
            listen = listen.format(port=port)
        self.mirror = self._doppel(primary, "--tls-cert", self._authority.certificate("localhost"),
                                   "--proxy-trust", "127.0.0.1", *more, *flags,
                                   listens=(listen.format(path=self._path),), **options)
        return self.mirror

    def knock(self, source=ONE):
        """Connected, and nothing is said but who it is."""
        behind = "proxy" in self.form
        client = self.mirror.connect(source=None if behind or "unix" in self.form else source)
        if behind:
            introduce(client, v2((source, 51312), ("127.0.0.9", 443)))
        return client

    def greet(self, client):
        """What comes before the client's own bytes."""
        return secure(client, self._authority.client_context(), "localhost") if "tls" in self.form else client

    def come(self, source=ONE):
        return self.greet(self.knock(source))


@pytest.fixture
def entrance(form, doppel, authority, tmp_path):
    manager = Manager(tmp_path)
    yield Entrance(form, doppel, authority, manager, tmp_path)
    manager.close()


def served(entrance, client, data):
    """In a thread of its own: it may have to wait."""
    def talk():
        entrance.greet(client)
        answer = client.exchange(data)
        client.finish()
        return answer, client.drain()
    return client.start(talk)


@for_each_form("settings")
def test_its_sockets_have_nodelay_and_keepalive(entrance, server):
    mirror = entrance.open(server(echo))
    client = entrance.come()
    client.exchange(b"hello")

    sockets = processes.borrow_sockets(mirror.workers()[0])

    try:
        accepted = sockets[client.local]
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
    finally:
        for one in sockets.values():
            one.close()


@for_each_form()
def test_it_has_no_more_sessions_than_there_may_be(entrance, server):
    mirror = entrance.open(server(echo), "--max-sessions", "2")
    clients = [entrance.come() for _ in range(2)]
    for client in clients:
        client.exchange(b"one of two")

    waiting = served(entrance, entrance.knock(), b"the third")
    eventually(lambda: mirror.metric("doppel_accept_paused") == 1, "accepting pauses")
    assert mirror.metric("doppel_sessions_total") == 2
    clients[0].finish()
    assert clients[0].drain() == "fin"

    assert waiting.result() == (b"the third", "fin")


@for_each_form("source")
def test_a_source_has_no_more_sessions_than_it_may(entrance, server):
    mirror = entrance.open(server(echo), "--max-sessions-per-source", "1")
    mirror.expect(identity="prefix")
    entrance.come(ONE).exchange(b"the only one")

    entrance_refuses(entrance, ONE)

    assert entrance.come(OTHER).exchange(b"another source") == b"another source"
    assert mirror.session(0)["reason"] == "limit"


@for_each_form("source")
def test_only_those_who_are_allowed_come_in(entrance, server):
    mirror = entrance.open(server(echo), "--allow", OTHER)
    mirror.expect(identity="prefix")

    entrance_refuses(entrance, ONE)

    assert entrance.come(OTHER).exchange(b"welcome") == b"welcome"
    assert mirror.session(0)["reason"] == "denied"


def entrance_refuses(entrance, source):
    """Before or after the handshake, by a reset; over a unix socket that is an end."""
    client = entrance.knock(source)
    try:
        entrance.greet(client)
    except OSError:
        return
    assert client.drain() == ("fin" if "unix" in entrance.form else "rst")


@for_each_form("handshake timeout")
def test_who_does_not_begin_in_time_has_to_go(entrance, server):
    mirror = entrance.open(server(echo), "--handshake-timeout", "200ms", "--idle-timeout", "1h")
    mirror.expect(identity="none", books=False)
    silent = [mirror.connect()]
    if "tls" in entrance.form:
        silent.append(entrance.knock())

    for client in silent:
        assert client.drain() in ("fin", "rst")

    reasons = {line["reason"] for line in mirror.access_log(len(silent))}
    expected = {"tls_client"} if "tls" in entrance.form else set()
    assert reasons == expected | ({"proxy_header"} if "proxy" in entrance.form else set())


@for_each_form("handshakes")
def test_no_more_handshakes_are_under_way_than_there_may_be(entrance, server):
    mirror = entrance.open(server(echo), "--max-handshakes", "1", "--handshake-timeout", "1h")
    mirror.expect(identity="none", books=False)
    silent = entrance.knock(ONE)
    mirror.wait_metric("doppel_sessions_active", 1)
    waiting = served(entrance, entrance.knock(OTHER), b"its turn")
    mirror.wait_metric("doppel_sessions_active", 2)
    assert mirror.metric("doppel_tls_handshakes_total", side="client") == 0

    silent.close()

    assert waiting.result() == (b"its turn", "fin")


def queue_up(entrance, count):
    """They connect while the worker stands still."""
    worker, = entrance.mirror.workers()
    os.kill(worker, signal.SIGSTOP)
    eventually(lambda: processes.is_stopped(worker), "it stands still")
    return worker, [served(entrance, entrance.knock(), pattern(KIB, number)) for number in range(count)]


@for_each_form()
def test_a_drain_serves_who_waits_in_the_queue(entrance, server):
    mirror = entrance.open(server(echo), "--drain-timeout", "1h")
    worker, waiting = queue_up(entrance, 5)

    mirror.signal(signal.SIGTERM)
    mirror.wait_log(" draining ")
    os.kill(worker, signal.SIGCONT)

    for number, job in enumerate(waiting):
        assert job.result() == (pattern(KIB, number), "fin")
    assert mirror.wait_exit() == 0


@for_each_form()
def test_a_reload_loses_nobody_who_waits_in_the_queue(entrance, server):
    mirror = entrance.open(server(echo))
    worker, waiting = queue_up(entrance, 5)

    mirror.signal(signal.SIGHUP)
    mirror.wait_log(" reloaded ")
    for number, job in enumerate(waiting):
        assert job.result() == (pattern(KIB, number), "fin")

    os.kill(worker, signal.SIGCONT)
    eventually(lambda: len(mirror.workers()) == 1, "the former worker ends")


@for_each_form("reset")
def test_a_client_that_resets_resets_the_primary(entrance, server):
    primary, copy = server(sink), server(sink)
    mirror = entrance.open(primary, shadows=[copy])
    mirror.expect(identity="prefix")
    client = entrance.come()
    client.send(pattern(64 * KIB))
    primary.connection().wait_received(64 * KIB)

    client.reset()

    assert primary.connection().wait_end() == "rst"
    assert mirror.session()["reason"] == "client_rst"


@for_each_form("reset")
def test_a_primary_that_resets_resets_the_client(entrance, server):
    def reset_when_told(connection):
        connection.recv_exact(1)
        connection.reset()
    mirror = entrance.open(server(reset_when_told))
    mirror.expect(identity="prefix")
    client = entrance.come()

    client.send(b"!")

    assert client.drain() == "rst"
    assert mirror.session()["reason"] == "primary_rst"


@for_each_form()
def test_every_byte_is_accounted_for(entrance, server):
    copy = server(sink)
    mirror = entrance.open(server(echo), shadows=[copy])
    client = entrance.come(OTHER)
    client.exchange(pattern(100 * KIB))
    client.finish()
    assert client.drain() == "fin"

    session = mirror.session()
    assert session["request_bytes"] == session["response_bytes"] == 100 * KIB
    assert session["shadows"][0]["sent_bytes"] == 100 * KIB
    assert session["listener"] == mirror.listens[0].partition("?")[0]
    if entrance.form != "unix":
        assert session["client"].startswith(f"{OTHER}:")
