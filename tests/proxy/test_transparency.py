"""
test_transparency.py — a client and a primary see each other's bytes as if nothing stood between
them, over every kind of socket; and a shadow sees the client's.
"""
import os
import socket

import pytest

from support import processes
from support.checks import assert_same
from support.pattern import KIB, MIB, pattern
from support.peers import ANSWER, answer, echo, flood
from support.waiting import eventually

pytestmark = pytest.mark.path


LISTENS = {"ipv4": "127.0.0.1:0", "ipv6": "[::1]:0", "unix": "unix:{}/listen"}


def listen_on(family, directory):
    return LISTENS[family].format(directory)


def peer_of(family, directory, name="peer"):
    """The options of a server of this family."""
    return {"ipv4": {}, "ipv6": {"host": "::1"}, "unix": {"unix": f"{directory}/{name}"}}[family]


def name_of(client):
    """How doppel writes the address of a client."""
    if client.socket.family == socket.AF_UNIX:
        return "unix:"          # it has no name
    host, port = client.local[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def free_port():
    """Of a number that nobody uses over IPv4 or IPv6."""
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::", 0))
        return probe.getsockname()[1]


# The bytes.

@pytest.mark.parametrize("shadows", [0, 1, 3])
@pytest.mark.parametrize("size", [1, 4 * KIB, MIB, 20 * MIB])
def test_bytes_are_identical_both_ways(doppel, server, size, shadows):
    primary = server(echo)
    mirrored = [server(echo) for _ in range(shadows)]
    mirror = doppel(primary, "--shadow-buffer", "32m", shadows=mirrored)
    client = mirror.connect()

    assert client.exchange(pattern(size)) == pattern(size)
    client.finish()

    assert client.drain() == "fin"
    assert primary.connection().wait_end() == "fin"
    assert_same(primary.connection().received, client.sent)
    session = mirror.session(0)
    assert (session["request_bytes"], session["response_bytes"]) == (size, size)
    for number, shadow in enumerate(mirrored):
        assert mirror.shadow(0, f"shadow{number}")["result"] == "mirrored"
        assert_same(shadow.connection().received, client.sent)
        assert shadow.connection().end == "fin"


@pytest.mark.parametrize("shadows", [0, 1, 3])
def test_a_session_without_a_byte_is_a_fin_both_ways(doppel, server, shadows):
    primary = server(echo)
    mirrored = [server(echo) for _ in range(shadows)]
    mirror = doppel(primary, shadows=mirrored)
    client = mirror.connect()

    client.finish()

    assert client.drain() == "fin"
    assert primary.connection().wait_end() == "fin"
    session = mirror.session(0)
    assert (session["request_bytes"], session["response_bytes"]) == (0, 0)
    for number, shadow in enumerate(mirrored):
        assert mirror.shadow(0, f"shadow{number}")["result"] == "no_data"
        assert shadow.connections == []


def test_both_directions_run_at_the_same_time(doppel, server):
    def send_and_receive(connection):
        sending = connection.start(connection.send, pattern(8 * MIB, ANSWER))
        connection.drain()
        sending.result()

    primary, shadow = server(send_and_receive), server(echo)
    mirror = doppel(primary, shadows=[shadow])
    client = mirror.connect()

    assert client.exchange(pattern(8 * MIB), 8 * MIB) == pattern(8 * MIB, ANSWER)


def test_neither_direction_waits_for_the_other(doppel, server):
    primary = server(flood(4 * MIB))        # reads nothing before it has sent all
    mirror = doppel(primary)
    client = mirror.connect()

    sending = client.start(client.send, pattern(4 * MIB))
    assert client.recv_exact(4 * MIB) == pattern(MIB, ANSWER) * 4
    sending.result()
    client.finish()

    assert primary.connection().wait_end() == "fin"


def test_every_byte_value_passes_unchanged(doppel, server):
    mirror = doppel(server(echo), shadows=[server(echo, keep=True)])
    client = mirror.connect()
    every = bytes(range(256)) * 3

    assert client.exchange(every) == every


def test_many_sessions_at_once_do_not_mix(doppel, server):
    primary, shadow = server(echo), server(echo)
    mirror = doppel(primary, shadows=[shadow])
    clients = [mirror.connect() for _ in range(40)]

    jobs = [client.start(client.exchange, pattern(64 * KIB + number, number))
            for number, client in enumerate(clients)]

    for number, job in enumerate(jobs):
        assert job.result() == pattern(64 * KIB + number, number)


def test_the_longest_wait_is_for_the_answer_not_for_more_bytes(doppel, server):
    """Nothing is held back in the hope of more: each message arrives before the next is sent."""
    primary, shadow = server(echo), server(echo)
    mirror = doppel(primary, shadows=[shadow])
    client = mirror.connect()

    for number in range(200):
        assert client.exchange(b"%d" % number) == b"%d" % number
    shadow.connection().wait_received(client.sent.count)


# The sockets.

@pytest.mark.parametrize("target", ["ipv4", "ipv6", "unix"])
@pytest.mark.parametrize("listen", ["ipv4", "ipv6", "unix"])
def test_every_family_reaches_every_other(doppel, server, tmp_path, listen, target):
    primary = server(echo, **peer_of(target, tmp_path, "primary"))
    shadow = server(echo, **peer_of(target, tmp_path, "shadow"))
    mirror = doppel(primary, listens=[listen_on(listen, tmp_path)], shadows=[shadow])
    client = mirror.connect()

    assert client.exchange(pattern(256 * KIB)) == pattern(256 * KIB)
    client.finish()
    assert client.drain() == "fin"

    session = mirror.session(0)
    assert session["client"] == name_of(client)
    assert session["primary"] == primary.address
    assert mirror.shadow(0, "shadow0")["address"] == shadow.address
    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"


def test_a_bare_port_listens_on_both_families_and_names_ipv4_clients_as_such(doppel, server):
    mirror = doppel(server(echo), listens=["0"])
    six = mirror.addresses[0]
    mirror.addresses.append(("127.0.0.1", six[1]))

    for number, listener in enumerate((0, 1)):
        client = mirror.connect(listener)
        assert client.exchange(b"hello") == b"hello"
        client.close()
        assert mirror.session(number)["client"] == name_of(client)
    assert six[0] == "::1"
    assert mirror.session(1)["client"].startswith("127.0.0.1:")


def test_several_listeners_lead_to_the_same_primary_and_say_which_it_was(doppel, server, tmp_path):
    listens = [listen_on(family, tmp_path) for family in LISTENS]
    mirror = doppel(server(echo), listens=listens)

    for number, listen in enumerate(listens):
        client = mirror.connect(number)
        assert client.exchange(pattern(KIB, number)) == pattern(KIB, number)
        client.close()
        assert mirror.session(number)["listener"] == listen


def test_the_listening_lines_name_the_real_ports(doppel, server):
    mirror = doppel(server(echo), listens=["127.0.0.1:0", "127.0.0.1:0"])

    lines = mirror.wait_log("listening", 2, level="info")

    assert [line.fields["listener"] for line in lines[:2]] == ["127.0.0.1:0", "127.0.0.1:0"]
    assert len({line.fields["address"] for line in lines[:2]}) == 2
    assert all(port > 0 for _, port in mirror.addresses)


# The command line of em-proxy.

def test_an_em_proxy_command_line_mirrors_without_a_change(doppel, server):
    port = free_port()
    primary, first, second = server(echo), server(echo), server(echo)
    mirror = doppel(None, "-l", str(port), "-r", f"localhost:{primary.port}",
                    "-d", f"localhost:{first.port},localhost:{second.port}", "-v",
                    listens=(), workers=None, admin=False)
    mirror.expect(quiesce=False, books=False)       # there is no admin to ask
    mirror.primaries.append(primary)
    assert mirror.addresses[0][1] == port

    client = mirror.connect()
    assert client.exchange(pattern(MIB)) == pattern(MIB)
    client.finish()
    assert client.drain() == "fin"

    for name, shadow in (("shadow0", first), ("shadow1", second)):
        assert mirror.shadow(0, name)["result"] == "mirrored"
        assert_same(shadow.connection().received, client.sent)


def test_a_socket_primary_answers_the_client(doppel, server, tmp_path):
    primary = server(answer(MIB), unix=str(tmp_path / "app"))
    mirror = doppel(None, "-s", str(tmp_path / "app"))
    mirror.primaries.append(primary)
    client = mirror.connect()

    client.send(b"?")
    assert client.recv_exact(MIB) == pattern(MIB, ANSWER)
    client.close()

    assert mirror.session(0)["primary"] == f"unix:{tmp_path}/app"


def test_a_socket_wins_over_a_primary_and_a_warning_says_so(doppel, server, tmp_path):
    unused, primary = server(echo), server(echo, unix=str(tmp_path / "app"))
    mirror = doppel(unused, "-s", str(tmp_path / "app"))
    mirror.primaries[:] = [primary]
    client = mirror.connect()

    assert client.exchange(b"hello") == b"hello"

    assert unused.connections == []
    mirror.assert_log_count("-s wins over -r", 1, 1)


# What the kernel is told.

def tcp(name):
    return lambda one: one.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))


SETTINGS = {
    "nodelay": (tcp("TCP_NODELAY"), 1),
    "keepalive": (lambda one: one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1),
    "idle": (tcp("TCP_KEEPIDLE"), 60),
    "interval": (tcp("TCP_KEEPINTVL"), 10),
    "probes": (tcp("TCP_KEEPCNT"), 6),
}


RIGHT = {name: right for name, (_, right) in SETTINGS.items()}


def settings_of(one):
    return {name: ask(one) for name, (ask, _) in SETTINGS.items()}


def test_every_socket_has_nodelay_and_keepalive(doppel, server):
    primary, shadow = server(echo), server(echo)
    mirror = doppel(primary, shadows=[shadow])
    client = mirror.connect()
    client.exchange(b"hello")
    shadow.connection().wait_received(5)

    sockets = processes.borrow_sockets(mirror.workers()[0])

    try:
        legs = (client.local, primary.where, shadow.where)
        for leg in legs:    # keepalive comes to those that have been open for a moment
            eventually(lambda one=sockets[leg]: settings_of(one) == RIGHT, "it has its settings")
        # It kills live peers that read slowly: off where it could be seen, on towards a shadow.
        user_timeouts = [tcp("TCP_USER_TIMEOUT")(sockets[leg]) for leg in legs]
        assert user_timeouts == [0, 0, 30000]
    finally:
        for one in sockets.values():
            one.close()


def test_a_user_timeout_that_was_asked_for_is_set_towards_client_and_primary(doppel, server):
    primary = server(echo)
    mirror = doppel(primary, "--tcp-user-timeout", "1500ms")
    client = mirror.connect()
    client.exchange(b"hello")

    sockets = processes.borrow_sockets(mirror.workers()[0])

    try:
        for leg in (client.local, primary.where):
            assert tcp("TCP_USER_TIMEOUT")(sockets[leg]) == 1500
    finally:
        for one in sockets.values():
            one.close()


# Workers.

@pytest.mark.parametrize("listen", ["ipv4", "unix"])
def test_two_workers_share_the_sessions(doppel, server, tmp_path, listen):
    primary, shadow = server(echo), server(echo)
    mirror = doppel(primary, listens=[listen_on(listen, tmp_path)], shadows=[shadow], workers=2)
    clients = [mirror.connect() for _ in range(40)]

    jobs = [client.start(client.exchange, pattern(16 * KIB, number))
            for number, client in enumerate(clients)]
    for number, job in enumerate(jobs):
        assert job.result() == pattern(16 * KIB, number)
    for client in clients:
        client.close()

    names = [session["session"] for session in mirror.access_log(40)]
    assert len(set(names)) == 40
    workers = {name.split("-")[1] for name in names}
    assert len(workers) == 2 or listen == "unix"    # one shared socket: the faster takes all


def test_a_worker_for_each_processor_unless_told(doppel, server):
    mirror = doppel(server(echo), workers=None)

    assert len(mirror.workers()) == len(os.sched_getaffinity(0)) or has_cpu_quota()
    assert mirror.connect().exchange(b"hello") == b"hello"


def has_cpu_quota():
    try:
        with open("/sys/fs/cgroup/cpu.max") as quota:
            return not quota.read().startswith("max")
    except OSError:
        return True     # cgroup v1, or none: not ours to find out here


def test_a_client_that_comes_while_others_are_served_is_served_too(doppel, server):
    mirror = doppel(server(echo))
    busy = mirror.connect()
    job = busy.start(busy.exchange, pattern(20 * MIB))

    for number in range(20):
        client = mirror.connect()
        assert client.exchange(pattern(KIB, number)) == pattern(KIB, number)
        client.close()

    assert job.result() == pattern(20 * MIB)
    eventually(lambda: len(mirror.access_lines) == 20, "the others have ended")
