"""
test_admin.py — how the admin endpoint answers: health and readiness, what it refuses, and whom.
"""
import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import threading
import time

import pytest

from support import processes
from support.admin import GET, ask, raw, secret, tcp_admin, with_tcp_admin
from support.pattern import KIB, pattern
from support.peers import echo, hold, sink, unanswered
from support.prometheus import Page, page_of
from support.proxy import binary, clean_environment, shadow
from support.waiting import eventually, let_pass, patient

PATHS = ("/metrics", "/status", "/healthz", "/readyz")
CHANGES = ("/drain", "/reload", "/mirroring/on", "/mirroring/off", "/shadows/shadow0/pause",
           "/shadows/shadow0/resume", "/shadows/shadow0/sample?percent=1")


# /healthz and /readyz.

def test_health_and_readiness_are_green_while_serving(doppel, server):
    mirror = doppel(server(echo))

    assert mirror.get("/healthz") == (200, "ok\n")
    assert mirror.get("/readyz") == (200, "ready\n")


def test_L23_dead_primaries_and_shadows_do_not_affect_readiness(doppel, server):
    mirror = doppel(server(state="refusing"), shadows=[server(state="refusing")])
    mirror.expect(identity="prefix")
    mirror.connect().drain()

    assert mirror.get("/readyz")[0] == mirror.get("/healthz")[0] == 200


def test_L23_while_draining_it_is_alive_and_not_ready(doppel, server):
    primary = server(hold)
    mirror = doppel(primary, "--drain-timeout", "1h")
    client = unanswered(mirror, primary)

    mirror.signal(signal.SIGTERM)
    eventually(lambda: mirror.get("/readyz")[0] == 503, "/readyz is red")

    assert mirror.get("/healthz")[0] == 200
    assert mirror.status()["ready"] is False
    eventually(lambda: {worker["state"] for worker in mirror.status()["workers"]} == {"draining"},
               "the worker has heard of it")
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
def test_L20_pages_understand_only_get(doppel, server, method):
    mirror = doppel(server(echo))

    for path in PATHS:
        assert mirror.get(path, method=method)[0] == 405
    assert mirror.get("/nowhere", method=method)[0] == 404
    assert mirror.get("/healthz", method="HEAD") == (200, "")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "NONSENSE"])
def test_changes_understand_only_post(doppel, server, method):
    mirror = doppel(server(echo), shadows=[server(sink)])

    for path in CHANGES:
        assert mirror.get(path, method=method)[0] == 405
    assert mirror.get("/readyz")[0] == 200


def test_a_query_does_not_hide_a_page(doppel, server):
    mirror = doppel(server(echo))

    assert mirror.get("/healthz?verbose=1")[0] == 200


@pytest.mark.parametrize("headers", [{"Content-Length": "5"}, {"Content-Length": "1000000000"},
                                     {"Transfer-Encoding": "chunked"}])
def test_a_request_with_a_body_is_refused_and_nothing_happens(doppel, server, headers):
    mirror = doppel(server(echo))

    assert mirror.get("/drain", method="POST", headers=headers)[0] == 413
    assert mirror.get("/metrics", headers=headers)[0] == 413

    assert mirror.get("/readyz")[0] == 200


# Changes.

def post(mirror, path):
    """(status, JSON or text)."""
    status, text = mirror.get(path, method="POST")
    return status, json.loads(text) if text.startswith("{") else text


def mirrored(mirror, name):
    """The result of one more session."""
    before = len(mirror.access_lines)
    client = mirror.connect()
    client.exchange(pattern(KIB))
    client.close()
    return mirror.shadow(before, name)["result"]


def test_a_shadow_is_paused_and_resumed_by_request(doppel, server):
    mirror = doppel(server(echo), shadows=[shadow(server(sink), "canary"), shadow(server(sink), "other")],
                    workers=2)
    assert mirrored(mirror, "canary") == "mirrored"

    status, state = post(mirror, "/shadows/canary/pause")
    assert (status, state["name"], state["paused"]) == (200, "canary", True)
    assert mirrored(mirror, "canary") == "paused"
    assert mirrored(mirror, "other") == "mirrored"

    assert post(mirror, "/shadows/canary/resume")[1]["paused"] is False
    assert mirrored(mirror, "canary") == "mirrored"
    mirror.assert_log_count(r"changed request=/shadows/canary/\w+ by=unix", 2, 2, level="info")


def test_a_sample_is_changed_by_request(doppel, server):
    mirror = doppel(server(echo), shadows=[shadow(server(sink), "canary")])

    assert post(mirror, "/shadows/canary/sample?percent=0")[1]["sample"] == 0
    assert mirrored(mirror, "canary") == "sampled_out"
    assert post(mirror, "/shadows/canary/sample?percent=12.5")[1]["sample"] == 12.5
    assert post(mirror, "/shadows/canary/sample?percent=100")[1]["sample"] == 100
    assert mirrored(mirror, "canary") == "mirrored"
    mirror.assert_log_count(r"changed .*percent=12.5", 1, 1)


@pytest.mark.parametrize("query", ["", "?percent", "?percent=", "?percent=101", "?percent=-1", "?percent=ten",
                                   "?percent=1e1", "?percent=nan", "?percent=0.00001", "?sample=5"])
def test_a_share_that_is_none_is_refused_with_a_sentence(doppel, server, query):
    mirror = doppel(server(echo), shadows=[shadow(server(sink), "canary", sample=7)])

    status, text = mirror.get("/shadows/canary/sample" + query, method="POST")

    assert status == 400 and "percent" in text
    assert mirror.status()["shadows"][0]["sample"] == 7
    assert not mirror.log(r"\bchanged\b")


@pytest.mark.parametrize("path", ["/shadows/nobody/pause", "/shadows//pause", "/shadows/canar/pause",
                                  "/shadows/canary2/pause", "/shadows/canary/", "/shadows/canary",
                                  "/shadows/canary/pause/", "/shadows/canary/explode", "/shadows/",
                                  "/mirroring", "/mirroring/maybe", "/%64rain", "/drain/", "//drain"])
def test_what_is_not_there_cannot_be_changed(doppel, server, path):
    mirror = doppel(server(echo), shadows=[shadow(server(sink), "canary")])

    assert mirror.get(path, method="POST")[0] == 404

    assert not mirror.log(r"\bchanged\b") and mirror.get("/readyz")[0] == 200


def test_all_mirroring_is_switched_off_and_on_by_request(doppel, server):
    mirror = doppel(server(echo), shadows=[shadow(server(sink), "canary")], workers=2)

    assert post(mirror, "/mirroring/off") == (200, {"mirroring": False})
    assert mirror.status()["mirroring"] is False
    assert mirrored(mirror, "canary") == "paused"
    assert post(mirror, "/mirroring/on") == (200, {"mirroring": True})
    assert mirror.status()["mirroring"] is True
    assert mirrored(mirror, "canary") == "mirrored"


def test_a_reload_by_request_is_one_by_signal(doppel, server):
    mirror = doppel(server(echo), workers=2)

    assert post(mirror, "/reload") == (202, {"reloading": True})

    mirror.wait_metric("doppel_reloads_total", 1, result="ok")
    mirror.assert_log_count(r"\breloaded\b", 1, 1)
    assert mirror.connect().exchange(b"hello") == b"hello"


def test_after_a_reload_the_log_says_which_share_of_a_shadow_is_in_effect(doppel, server):
    mirror = doppel(server(echo), shadows=[shadow(server(sink), "canary", sample=50), server(sink)])
    assert [(line.fields["sample"], "paused" in line.fields) for line in mirror.wait_log(" shadow ", 2)] == [
        ("50.000", False), ("100.000", False)]
    post(mirror, "/shadows/canary/sample?percent=5")
    post(mirror, "/shadows/shadow1/pause")

    mirror.reload()

    again = mirror.log(" shadow ")[2:]
    assert [(line.fields["sample"], line.fields.get("paused")) for line in again] == [
        ("5.000", None), ("100.000", "true")]


def test_while_draining_nothing_is_reloaded_and_the_rest_can_be_changed(doppel, server):
    primary = server(hold)
    mirror = doppel(primary, "--drain-timeout", "1h", shadows=[shadow(server(sink), "canary")])
    client = unanswered(mirror, primary)
    assert post(mirror, "/drain") == (202, {"draining": True})
    eventually(lambda: mirror.get("/readyz")[0] == 503, "/readyz is red")

    assert post(mirror, "/reload")[0] == 409
    assert post(mirror, "/shadows/canary/sample?percent=5")[0] == 200

    primary.release()
    client.finish()
    assert client.recv() == b""
    assert mirror.wait_exit() == 0


def test_a_drain_by_request_is_one_by_signal(doppel, server):
    primary = server(hold)
    mirror = doppel(primary, "--drain-timeout", "1h")
    client = unanswered(mirror, primary)

    assert mirror.get("/drain", method="POST")[0] == 202

    eventually(lambda: mirror.get("/readyz")[0] == 503, "/readyz is red")
    assert mirror.get("/drain", method="POST")[0] == 202, "once more is as good"
    mirror.assert_log_count(r"changed .*request=/drain", 2, 2)
    primary.release()
    client.finish()
    assert client.recv() == b""
    assert mirror.wait_exit() == 0


# Over TCP, over a unix socket, and not at all.

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
    for _, headers, _ in answers.values():
        assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
    assert ask(where, "/metrics", method="POST")[1]["Allow"].startswith("GET")


@pytest.mark.parametrize("path, method", [("/status", "GET"), ("/drain", "POST")])
@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Host": "localhost.evil.example:9901"},
                                     {"Origin": "http://evil.example"}, {"Origin": "null"}])
def test_L21_pages_of_others_may_not_ask_over_tcp(doppel, server, tmp_path, headers, path, method):
    """DNS rebinding, and forms that another site's page sends: the token would not help against them."""
    token = secret(tmp_path)
    mirror = with_tcp_admin(doppel, server, token=token)
    allowed = {"Authorization": f"Bearer {token.read_text().strip()}"}

    assert ask(tcp_admin(mirror), path, method, **headers, **allowed)[0] == 403
    assert ask(tcp_admin(mirror), "/readyz")[0] == 200


def test_our_own_page_and_the_admin_host_may_ask_over_tcp(doppel, server):
    where = tcp_admin(with_tcp_admin(doppel, server, "127.0.0.1:0", "--admin-host", "doppel.example"))

    assert ask(where, "/status", Host="doppel.example")[0] == 200
    assert ask(where, "/status", Host="doppel.example:80", Origin="http://doppel.example:80")[0] == 200
    assert ask(where, "/status", Origin=f"http://{where[0]}:{where[1]}")[0] == 200
    assert ask(where, "/status", Host="other.example")[0] == 403


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Bearer s3cret-t0ke", "Bearer s3cret-t0kenn",
                                           "Basic s3cret-t0ken", "s3cret-t0ken", "Bearer"])
def test_L21_over_tcp_a_change_needs_the_token(doppel, server, tmp_path, authorization):
    mirror = with_tcp_admin(doppel, server, token=secret(tmp_path))
    headers = {"Authorization": authorization} if authorization else {}

    status, answered, text = ask(tcp_admin(mirror), "/drain", "POST", **headers)

    assert (status, answered["WWW-Authenticate"]) == (401, "Bearer")
    assert ask(tcp_admin(mirror), "/readyz")[0] == 200, "nothing has changed"
    mirror.assert_log_count("change_refused", 1, 1, level="warning")
    assert not mirror.log("t0ke"), "what was tried is in no log"


def test_L21_over_tcp_the_token_opens(doppel, server, tmp_path):
    mirror = with_tcp_admin(doppel, server, token=secret(tmp_path))

    assert ask(tcp_admin(mirror), "/drain", "POST", Authorization="Bearer s3cret-t0ken")[0] == 202

    assert mirror.wait_exit() == 0
    mirror.assert_log_count(r"changed .*by=tcp", 1, 1, level="info")
    assert not mirror.log("s3cret")


def test_L21_the_token_may_come_from_a_pipe(doppel, server, tmp_path):
    path = tmp_path / "token"
    os.mkfifo(path, 0o600)
    threading.Thread(target=path.write_text, args=["s3cret-t0ken\n"], daemon=True).start()

    mirror = with_tcp_admin(doppel, server, token=path)

    assert ask(tcp_admin(mirror), "/drain", "POST", Authorization="Bearer s3cret-t0ken")[0] == 202
    assert mirror.wait_exit() == 0


def test_L21_a_reload_reads_the_token_once_more(doppel, server, tmp_path):
    token = secret(tmp_path)
    mirror = with_tcp_admin(doppel, server, token=token)
    token.write_text("an0ther-t0ken\n")
    mirror.reload()

    assert ask(tcp_admin(mirror), "/mirroring/on", "POST", Authorization="Bearer s3cret-t0ken")[0] == 401
    assert ask(tcp_admin(mirror), "/mirroring/on", "POST", Authorization="Bearer an0ther-t0ken")[0] == 200


def test_L21_a_token_that_cannot_be_read_any_more_leaves_the_old_one(doppel, server, tmp_path):
    token = secret(tmp_path)
    mirror = with_tcp_admin(doppel, server, token=token)
    token.write_text("")
    mirror.signal(signal.SIGHUP)

    assert "is empty" in mirror.wait_log("reload_failed", level="error")[0].fields["why"]
    assert ask(tcp_admin(mirror), "/mirroring/on", "POST", Authorization="Bearer s3cret-t0ken")[0] == 200


def test_L21_without_a_token_file_nothing_changes_over_tcp(doppel, server):
    mirror = with_tcp_admin(doppel, server)

    # From 1.0 on libmicrohttpd takes the blank away, so that what is left is no clear request.
    assert ask(tcp_admin(mirror), "/drain", "POST", Authorization="Bearer ")[0] in (400, 403)
    status, _, text = ask(tcp_admin(mirror), "/drain", "POST", Authorization="Bearer x")

    assert status == 403 and "--admin-token-file" in text
    assert ask(tcp_admin(mirror), "/readyz")[0] == 200


def test_the_token_is_in_no_answer(doppel, server, tmp_path):
    mirror = with_tcp_admin(doppel, server, token=secret(tmp_path))

    for path in PATHS:
        assert "s3cret" not in ask(tcp_admin(mirror), path)[2]


@pytest.mark.parametrize("text", ["", "\n", "two words\n", "x" * 4097])
def test_a_bad_token_file_is_refused_at_start(tmp_path, text):
    done = subprocess.run([binary(), "-l", "127.0.0.1:0", "-r", "127.0.0.1:1", "-t",
                           "--admin-token-file", secret(tmp_path, text)],
                          capture_output=True, text=True, env=clean_environment(), timeout=patient())

    assert done.returncode == 2 and "--admin-token-file" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("mode, count", [(0o600, 0), (0o640, 0), (0o644, 1), (0o660, 1)])
def test_a_token_that_others_may_read_or_change_is_warned_of(doppel, server, tmp_path, mode, count):
    mirror = with_tcp_admin(doppel, server, token=secret(tmp_path, mode=mode))

    assert len(mirror.log("token_is_public", level="warning")) == count


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


# Who asks badly.

@pytest.mark.parametrize("request_", [
    b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    GET + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n",
    GET + b"X: y\r\n" * 100_000 + b"\r\n",
    GET + b"X: " + b"a" * 9000 + b"\r\n\r\n",
    b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b"GET /%2e%2e/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b"GET /healthz\r\n\r\n",
    b"GET /healthz HTTP/3.7\r\nHost: localhost\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n",
    b"GET /healthz%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b"GET\x00/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    bytes(range(256)) * 100,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(1000),
    b"POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /drain HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
    b"POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
], ids=["line", "header", "headers", "9k", "dots", "escaped dots", "0.9", "3.7", "no host", "nul", "nul2",
        "binary", "tls", "huge body", "chunked", "negative"])
def test_L20_a_bad_request_gets_no_page_and_changes_nothing(doppel, server, tmp_path, request_):
    mirror = with_tcp_admin(doppel, server, token=secret(tmp_path))
    where = tcp_admin(mirror)

    # A client that waits for more would be cut by the deadline; this one is known to be wrong sooner.
    answer = raw(where, request_ + b"\r\n\r\n")

    assert not answer.startswith(b"HTTP/1.1 2") and b"ok\n" not in answer
    assert ask(where, "/readyz")[0] == 200
    assert mirror.connect().exchange(b"hello") == b"hello"


def test_L20_a_request_of_8_KiB_is_answered(doppel, server):
    where = tcp_admin(with_tcp_admin(doppel, server))

    assert ask(where, "/healthz", X="a" * 7500)[0] == 200


def test_L20_a_request_that_trickles_in_is_cut(doppel, server):
    """Five seconds from the first byte to the last, however busy it is."""
    mirror = with_tcp_admin(doppel, server)
    connection = socket.create_connection(tcp_admin(mirror), timeout=patient())
    connection.setblocking(False)

    def is_cut():
        try:
            connection.send(b"G")
            return connection.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True
    eventually(is_cut, "the slow connection is cut", timeout=30)
    connection.close()

    assert ask(tcp_admin(mirror), "/healthz")[0] == 200


def test_L20_a_thousand_connections_do_not_keep_an_honest_one_out(doppel, server):
    mirror = with_tcp_admin(doppel, server)
    where = tcp_admin(mirror)
    mirror.connect().exchange(b"hello")
    crowd = []
    for number in range(1000):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(where)
        crowd.append(one)

    assert ask(where, "/healthz")[0] == 200
    assert mirror.connect().exchange(b"hello") == b"hello"
    assert sum(kinds["socket"] for kinds in mirror.fds()[:1]) < 100
    for one in crowd:
        one.close()
    assert ask(where, "/healthz")[0] == 200


def last_answers(where, count):
    """How many of so many that ask at the same time are told that theirs is the last answer."""
    crowd = [socket.create_connection(where, timeout=patient()) for _ in range(count)]
    answers = []
    for one in crowd:
        with one:
            try:
                one.sendall(GET + b"\r\n")
                answers.append(one.recv(4096))
            except OSError:
                answers.append(b"")         # it came too late, and was sent away
    return sum(b"Connection: close" in answer for answer in answers)


def test_L20_in_a_crowd_a_connection_gets_one_answer(doppel, server):
    """Else those who ask without end would be the only ones who are answered."""
    where = tcp_admin(with_tcp_admin(doppel, server))

    assert last_answers(where, 16) == 0
    eventually(lambda: last_answers(where, 60) > 0, "an answer that is the last")


def test_L20_who_asks_without_a_pause_gets_a_tenth_of_a_processor(doppel, server):
    """And what is asked for is work: the pages of fifty shadows."""
    mirror = with_tcp_admin(doppel, server, "127.0.0.1:0", *fifty_shadows(server(sink).address))
    where = tcp_admin(mirror)
    is_over = threading.Event()

    def ask_and_ask():
        while not is_over.is_set():
            ask(where, "/metrics")
    asking = [threading.Thread(target=ask_and_ask) for _ in range(4)]
    for one in asking:
        one.start()
    before, began = processes.cpu_ticks(mirror.pid()), time.monotonic()
    let_pass(2)
    spent = (processes.cpu_ticks(mirror.pid()) - before) / os.sysconf("SC_CLK_TCK")
    share = spent / (time.monotonic() - began)
    is_over.set()
    for one in asking:
        one.join(patient())

    assert share < 0.25
    assert mirror.connect().exchange(b"hello") == b"hello"


def fifty_shadows(address):
    return [word for number in range(50) for word in ("-d", f"number{number}={address}")]


def test_L20_connections_that_ask_nothing_disturb_nobody(doppel, server):
    mirror = with_tcp_admin(doppel, server)
    where = tcp_admin(mirror)
    silent = [socket.create_connection(where, timeout=patient()) for _ in range(5)]
    silent[0].sendall(b"GET /metr")
    silent[1].sendall(GET)

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
