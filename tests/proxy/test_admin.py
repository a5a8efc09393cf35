"""
test_admin.py — how the admin endpoint answers: health and readiness, what it refuses, and whom.
"""
import http.client
import json
import os
import signal
import socket
import stat

import pytest

from support import processes
from support.peers import echo, hold
from support.prometheus import Page, page_of
from support.waiting import eventually, patient

PATHS = ("/metrics", "/status", "/healthz", "/readyz")


# /healthz and /readyz.

def test_health_and_readiness_are_green_while_serving(doppel, server):
    mirror = doppel(server(echo))

    assert mirror.get("/healthz") == (200, "ok\n")
    assert mirror.get("/readyz") == (200, "ready\n")


def test_dead_primaries_and_shadows_do_not_affect_readiness(doppel, server):
    mirror = doppel(server(state="refusing"), shadows=[server(state="refusing")])
    mirror.expect(identity="prefix")
    mirror.connect().drain()

    assert mirror.get("/readyz")[0] == mirror.get("/healthz")[0] == 200


def test_while_draining_it_is_alive_and_not_ready(doppel, server):
    primary = server(hold)
    mirror = doppel(primary, "--drain-timeout", "1h")
    client = mirror.connect()
    client.send(b"never answered")
    primary.connection()

    mirror.signal(signal.SIGTERM)
    eventually(lambda: mirror.get("/readyz")[0] == 503, "/readyz is red")

    assert mirror.get("/healthz")[0] == 200
    assert mirror.status()["ready"] is False
    assert {worker["state"] for worker in mirror.status()["workers"]} == {"draining"}
    page_of(mirror)
    primary.release()
    client.finish()
    assert client.recv() == b""
    assert mirror.wait_exit() == 0


# What else may be asked.

@pytest.mark.parametrize("path", ["/", "/metric", "/metrics/", "/../status", "//metrics"])
def test_an_unknown_path_is_not_found(doppel, server, path):
    mirror = doppel(server(echo))

    status, text = mirror.get(path)

    assert status == 404
    assert "/metrics" in text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "NONSENSE"])
def test_only_get_is_understood(doppel, server, method):
    mirror = doppel(server(echo))

    for path in (*PATHS, "/nowhere"):
        assert mirror.get(path, method=method)[0] == 405
    assert mirror.get("/healthz", method="HEAD") == (200, "")


def test_a_query_does_not_hide_a_page(doppel, server):
    mirror = doppel(server(echo))

    assert mirror.get("/healthz?verbose=1")[0] == 200


def test_a_post_with_a_body_is_refused_and_nothing_happens(doppel, server):
    mirror = doppel(server(echo))

    status, _ = mirror.get("/drain", method="POST", headers={"Content-Length": "0"})

    assert status == 405
    assert mirror.get("/readyz")[0] == 200


# Over TCP, over a unix socket, and not at all.

def tcp_admin(mirror):
    """Where a doppel started with --admin 127.0.0.1:0 answers."""
    address = mirror.wait_log(" admin ")[0].fields["address"]
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def ask(where, path, method="GET", **headers):
    connection = http.client.HTTPConnection(*where, timeout=patient())
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()
    finally:
        connection.close()


def with_tcp_admin(doppel, server, address="127.0.0.1:0"):
    """The closing checks ask over the unix socket, which this one does not have."""
    mirror = doppel(server(echo), "--admin", address, admin=False)
    mirror.expect(quiesce=False, books=False)
    return mirror


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
def test_it_answers_over_tcp(doppel, server, address):
    mirror = with_tcp_admin(doppel, server, address)
    where = tcp_admin(mirror)

    answers = {path: ask(where, path) for path in PATHS}

    assert {status for status, _, _ in answers.values()} == {200}
    Page(answers["/metrics"][2])
    assert json.loads(answers["/status"][2])["pid"] == mirror.pid()
    assert answers["/metrics"][1]["Content-Type"].startswith("text/plain; version=0.0.4")
    assert answers["/status"][1]["Content-Type"] == "application/json"
    assert ask(where, "/metrics", method="POST")[1]["Allow"].startswith("GET")


@pytest.mark.parametrize("host, status", [
    ("127.0.0.1", 200), ("127.0.0.1:9901", 200), ("localhost", 200), ("LOCALHOST:1", 200),
    ("[::1]:9901", 200), ("10.1.2.3", 200), ("evil.example", 403), ("evil.example:9901", 403),
    ("localhost.evil.example", 403), ("127.0.0.1.evil.example", 403), ("", 403),
])
def test_a_name_in_the_host_header_is_refused_over_tcp(doppel, server, host, status):
    """Otherwise a page that a browser shows could ask us under a name that points here."""
    where = tcp_admin(with_tcp_admin(doppel, server))

    assert ask(where, "/status", Host=host)[0] == status


def test_several_requests_may_use_one_connection(doppel, server):
    where = tcp_admin(with_tcp_admin(doppel, server))
    connection = http.client.HTTPConnection(*where, timeout=patient())

    for path in PATHS * 5:
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status == 200 and response.read()
    connection.close()


def test_scrapes_at_the_same_time_are_all_answered(doppel, server):
    mirror = with_tcp_admin(doppel, server)
    where = tcp_admin(mirror)
    connections = [http.client.HTTPConnection(*where, timeout=patient()) for _ in range(20)]
    for connection in connections:
        connection.request("GET", "/metrics")

    for connection in connections:
        response = connection.getresponse()
        assert response.status == 200
        Page(response.read().decode())
        connection.close()


def test_a_connection_that_asks_nothing_disturbs_nobody(doppel, server):
    mirror = with_tcp_admin(doppel, server)
    where = tcp_admin(mirror)
    silent = [socket.create_connection(where, timeout=patient()) for _ in range(5)]
    silent[0].sendall(b"GET /metr")
    silent[1].sendall(bytes(range(256)))

    assert ask(where, "/healthz")[0] == 200
    assert mirror.connect().exchange(b"hello") == b"hello"
    mirror.assert_not_spinning(0.5)
    for one in silent:
        one.close()


def test_the_unix_socket_is_ours_alone_and_goes_at_exit(doppel, server):
    mirror = doppel(server(echo))

    assert stat.S_IMODE(os.stat(mirror.admin_path).st_mode) == 0o600
    assert mirror.stop() == 0
    assert not os.path.exists(mirror.admin_path)


def test_it_is_off_by_default(doppel, server):
    mirror = doppel(server(echo), admin=False)
    mirror.expect(quiesce=False, books=False)

    assert mirror.log(" admin ") == []
    assert sum(kinds["socket"] for kinds in mirror.fds()[:1]) == 1      # the listener
    assert listening(mirror.pids()) == {mirror.addresses[0][1]}


def listening(pids):
    """The TCP ports the processes listen on."""
    held = {link for pid in pids for link in processes.descriptors(pid).values()}
    with open("/proc/net/tcp") as rows:
        fields = [row.split() for row in rows][1:]
    return {int(row[1].split(":")[1], 16) for row in fields
            if row[3] == "0A" and f"socket:[{row[9]}]" in held}
