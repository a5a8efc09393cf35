"""
test_admin.py — what operators, probes and scrapers ask: /metrics, /status, /healthz and /readyz.
"""
import http.client
import json
import os
import re
import signal
import socket
import stat

import pytest

from support import processes
from support.pattern import KIB, pattern
from support.peers import echo, hold, sink
from support.proxy import shadow
from support.waiting import eventually, patient

PATHS = ("/metrics", "/status", "/healthz", "/readyz")


# A strict reader of Prometheus' text format, version 0.0.4.

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"'
COMMENT = re.compile(rf"# (HELP|TYPE) ({NAME}) (.+)")
LABELS = rf"\{{({LABEL}(?:,{LABEL})*)\}}"
VALUE = r"[-+]?(?:\d+(?:\.\d+)?(?:e[-+]?\d+)?|Inf|NaN)"
SAMPLE = re.compile(rf"({NAME})(?:{LABELS})? ({VALUE})")
TYPES = ("counter", "gauge", "histogram", "summary", "untyped")


class Page:
    """
    The page's samples, after every rule of the format held: HELP and TYPE once per metric and before
    its samples, the lines of a metric together, labels escaped and each once, no sample twice.
    """

    def __init__(self, text):
        self.help, self.type, self.samples = {}, {}, {}
        self._finished = set()
        self._current = None
        assert text.endswith("\n") and not text.endswith("\n\n")
        for line in text[:-1].split("\n"):
            self._read(line)

    def _read(self, line):
        comment = COMMENT.fullmatch(line)
        sample = SAMPLE.fullmatch(line)
        assert comment or sample, f"neither comment nor sample: {line!r}"
        if comment:
            self._read_comment(*comment.groups())
        else:
            self._read_sample(line, *sample.groups())

    def _read_comment(self, kind, name, words):
        self._enter(name)
        table = self.help if kind == "HELP" else self.type
        assert name not in table, f"{kind} of {name} twice"
        assert kind == "HELP" or words in TYPES, f"{name} is of type {words}"
        seen = any(sample == name for sample, _ in self.samples)
        assert not seen, f"{kind} of {name} after a sample"
        table[name] = words

    def _read_sample(self, line, name, labels, value):
        metric = self._metric_of(name)
        self._enter(metric)
        assert metric in self.help and metric in self.type, f"no HELP or TYPE before {line!r}"
        names = re.findall(r"(?:^|,)([a-zA-Z_]\w*)=", labels or "")
        assert len(set(names)) == len(names), f"a label twice: {line!r}"
        key = name, tuple(sorted(re.findall(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"', labels or "")))
        assert key not in self.samples, f"twice: {line!r}"
        self.samples[key] = float(value)
        if self.type[metric] == "counter":
            assert name.endswith("_total") and self.samples[key] >= 0, line

    def _metric_of(self, name):
        """The metric of a sample; a histogram's samples have endings of their own."""
        stem = re.sub(r"_(bucket|sum|count)$", "", name)
        return stem if self.type.get(stem) in ("histogram", "summary") else name

    def _enter(self, name):
        if name == self._current:
            return
        assert name not in self._finished, f"the lines of {name} are not together"
        if self._current is not None:
            self._finished.add(self._current)
        self._current = name


def page_of(mirror):
    status, text = mirror.get("/metrics")
    assert status == 200
    return Page(text)


def test_the_reader_finds_what_is_wrong():
    head = "# HELP a_total x\n# TYPE a_total counter\n"
    other = "# HELP b x\n# TYPE b gauge\n"
    Page(head + 'a_total{l="\\"\\\\\\n"} 1\n' + other + "b 2.5\n")
    for wrong in ("a_total 1\n", head + "a_total 1", head + "a_total 1\na_total 1\n", head + head,
                  head + 'a_total{l="1",l="2"} 1\n', head + 'a_total{l="""} 1\n', head + "a_total x\n",
                  head + "a_total -1\n", head + 'a_total{l="1"} 1\n' + other + 'a_total{l="2"} 1\n',
                  "# TYPE a_total counter\na_total 1\n", "# HELP b x\n# TYPE b sort\nb 1\n"):
        with pytest.raises(AssertionError):
            Page(wrong)


# /metrics.

def test_the_metrics_page_is_valid_before_during_and_after_traffic(doppel, server):
    primary, copy, refusing = server(echo), server(sink), server(state="refusing")
    mirror = doppel(primary, shadows=[copy, shadow(refusing, "gone"), shadow(copy.address, "a.b-c_d")],
                    workers=2)
    before = page_of(mirror)
    client = mirror.connect()
    client.exchange(pattern(64 * KIB))
    during = page_of(mirror)
    client.close()
    mirror.wait_metric("doppel_sessions_closed_total", 1)
    after = page_of(mirror)

    # No label appears later.
    assert set(before.samples) == set(during.samples) == set(after.samples)
    for name, kind in after.type.items():
        if kind == "counter":
            for key in (key for key in after.samples if key[0] == name):
                assert before.samples[key] <= during.samples[key] <= after.samples[key], key
    assert during.samples["doppel_sessions_active", ()] == 1
    assert after.samples["doppel_sessions_total", ()] == 1
    assert after.samples["doppel_workers", (("generation", "1"),)] == 2
    assert after.samples["process_open_fds", ()] > 0


def test_the_metrics_page_has_every_name_of_the_contract(doppel, server):
    mirror = doppel(server(echo), shadows=[server(sink)])

    names = {name for name, _ in page_of(mirror).samples}

    assert {"doppel_sessions_total", "doppel_sessions_active", "doppel_sessions_closed_total",
            "doppel_bytes_total", "doppel_shadow_sessions_total", "doppel_shadow_closed_total",
            "doppel_shadow_active", "doppel_shadow_buffered_bytes", "doppel_shadow_bytes_total",
            "doppel_shadow_response_bytes_total", "doppel_dns_lookups_total",
            "doppel_accept_errors_total", "doppel_accept_paused", "doppel_log_dropped_total",
            "doppel_worker_restarts_total", "doppel_workers", "doppel_buffered_bytes",
            "doppel_build_info", "process_cpu_seconds_total", "process_resident_memory_bytes",
            "process_open_fds", "process_start_time_seconds"} <= names


def test_the_number_of_samples_does_not_grow_with_the_clients(doppel, server):
    mirror = doppel(server(echo), shadows=[server(sink)])
    before = len(page_of(mirror).samples)

    for number in range(30):
        client = mirror.connect(source=f"127.0.0.{number + 2}")
        client.exchange(b"hello")
        client.close()

    assert len(page_of(mirror).samples) == before


def test_a_plain_proxy_has_a_valid_page_too(doppel, server):
    mirror = doppel(server(echo))

    page = page_of(mirror)

    assert all(len(key[1]) == 0 or dict(key[1]).get("shadow") is None for key in page.samples)


# /status.

def test_the_status_names_listeners_workers_primaries_and_shadows(doppel, server, tmp_path):
    primary, copy = server(echo), server(sink)
    path = f"unix:{tmp_path}/listener"
    listens = ["127.0.0.1:0", "[::1]:0", path]
    mirror = doppel(primary, listens=listens, shadows=[shadow(copy, "canary")], workers=2)
    client = mirror.connect(1)
    client.exchange(pattern(KIB))
    client.close()
    mirror.wait_metric("doppel_shadow_sessions_total", 1, shadow="canary", result="mirrored")

    status = mirror.status()

    assert status["ready"] is True and status["pid"] == mirror.pid()
    assert [listener["name"] for listener in status["listeners"]] == listens
    host, port = mirror.addresses[0]
    assert status["listeners"][0]["address"] == f"{host}:{port}"
    assert status["listeners"][1]["address"] == f"[::1]:{mirror.addresses[1][1]}"
    assert status["listeners"][2]["address"] == path
    assert sorted(worker["pid"] for worker in status["workers"]) == mirror.workers()
    assert {worker["state"] for worker in status["workers"]} == {"ready"}
    assert status["primaries"] == [primary.address]
    canary, = status["shadows"]
    assert (canary["name"], canary["address"]) == ("canary", copy.address)
    assert canary["bytes"]["offered"] == canary["bytes"]["sent"] == KIB
    assert canary["results"]["mirrored"] == canary["reasons"]["fin"] == 1
    assert (status["sessions"]["total"], status["sessions"]["active"]) == (1, 0)
    assert status["sessions"]["closed"]["client_fin"] == 1


def test_the_status_and_the_metrics_agree(doppel, server):
    primary, copy, refusing = server(echo), server(sink), server(state="refusing")
    mirror = doppel(primary, shadows=[copy, shadow(refusing, "gone")])
    for number in range(5):
        client = mirror.connect()
        client.exchange(pattern(KIB, number))
        client.close()
    mirror.wait_metric("doppel_sessions_closed_total", 5)

    status, samples = mirror.status(), mirror.metrics()

    for entry in status["shadows"]:
        for table, metric, label in (("bytes", "doppel_shadow_bytes_total", "fate"),
                                     ("results", "doppel_shadow_sessions_total", "result"),
                                     ("reasons", "doppel_shadow_closed_total", "reason")):
            said = {dict(labels)[label]: value for (name, labels), value in samples.items()
                    if name == metric and dict(labels)["shadow"] == entry["name"]}
            assert entry[table] == said
    closed = {dict(labels)["reason"]: value for (name, labels), value in samples.items()
              if name == "doppel_sessions_closed_total"}
    assert status["sessions"]["closed"] == closed


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
