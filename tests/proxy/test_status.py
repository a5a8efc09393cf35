"""
test_status.py — /status says what doppel is doing now, and agrees with /metrics.
"""
import os
import re

import pytest

from support.pattern import KIB, pattern
from support.peers import echo, hold, sink
from support.proxy import ROOT, SMALL, shadow
from support.secure import secure
from support.waiting import eventually


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


def test_paths_that_are_no_text_are_shown_as_in_the_log(doppel, server):
    """JSON is UTF-8, and a path is not always."""
    primary = os.fsdecode(b"unix:/gone/prim\xe9")
    mirror = doppel(primary, shadows=[os.fsdecode(b"canary=unix:/gone/shad\xff")])

    status = mirror.status()

    assert status["primaries"] == [r"unix:/gone/prim\xe9"]
    assert status["shadows"][0]["address"] == r"unix:/gone/shad\xff"
    assert r"primary            = unix:/gone/prim\xe9" in status["configuration"]


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


# The documented schema.

LABELLED = re.compile(r"(\.results|\.reasons|sessions\.closed)\.\w+$")
LABELS = {".results": ".results.RESULT", ".reasons": ".reasons.REASON",
          "sessions.closed": "sessions.closed.REASON"}
KINDS = {"string": str, "number": (int, float), "boolean": bool}


def documented():
    """{"shadows[].breaker.state": "string", ...} from the table in docs/admin.md."""
    text = (ROOT / "docs" / "admin.md").read_text()
    fields = {}
    for names, kind in re.findall(r"^\| (`[^|]*`) \| (string|number|boolean) \|", text, re.MULTILINE):
        first, *others = re.findall(r"`([^`]+)`", names)
        stem = first.rpartition(".")[0]
        fields.update({name: kind for name in [first, *(stem + other for other in others)]})
    return fields


def flattened(value, path=""):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flattened(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inner in value:
            yield from flattened(inner, path + "[]")
    else:
        yield LABELLED.sub(lambda found: LABELS[found[1]], path), value


def test_every_field_is_documented_and_every_documented_field_is_there(doppel, server, authority):
    """With everything that can be seen: an answer, an error, an open breaker, a client with TLS."""
    primary, copy, gone = server(echo), server(echo), server(state="refusing")
    mirror = doppel(primary, "--tls-cert", authority.certificate("localhost"), "--log-level", "error",
                    listens=["tls://127.0.0.1:0"],
                    shadows=[shadow(copy, "canary"), shadow(gone, "gone", breaker="1/1h")])
    client = mirror.connect()
    secure(client, authority.client_context(), "localhost").exchange(b"hello")
    client.close()
    mirror.wait_metric("doppel_sessions_closed_total", 1)

    said = list(flattened(mirror.status()))

    fields = documented()
    assert {path for path, _ in said} == set(fields)
    for path, value in said:
        assert isinstance(value, KINDS[fields[path]]), path


# What each field says.

def shadow_of(mirror, name):
    return next(entry for entry in mirror.status()["shadows"] if entry["name"] == name)


def test_the_configuration_in_effect_is_the_one_that_check_prints(doppel, server):
    primary = server(echo)
    mirror = doppel(primary, "--shadow-buffer", "2m", shadows=[shadow(server(sink), "canary", sample=12.5)])

    lines = [re.sub(r"\s+", " ", line) for line in mirror.status()["configuration"].splitlines()]

    assert {"[shadow canary]", "sample = 12.5", "buffer = 2m", f"primary = {primary.address}"} <= set(lines)


def test_a_new_configuration_and_its_generation_are_shown_after_a_reload(doppel, server, tmp_path):
    primary, copy = server(echo), server(sink)
    path = tmp_path / "doppel.conf"
    path.write_text("idle-timeout = 1h\n")
    mirror = doppel(primary, "-c", str(path), workers=2)
    before = mirror.status()
    path.write_text(f"idle-timeout = 2h\n[shadow later]\naddress = {copy.address}\n")

    assert mirror.get("/reload", method="POST")[0] == 202
    mirror.wait_log("reloaded")
    eventually(lambda: {worker["generation"] for worker in mirror.status()["workers"]} == {2},
               "the old workers are gone")

    after = mirror.status()
    assert (before["generation"], after["generation"]) == (1, 2)
    assert re.search(r"^idle-timeout += 1h$", before["configuration"], re.MULTILINE)
    assert re.search(r"^idle-timeout += 2h$", after["configuration"], re.MULTILINE)
    assert [entry["name"] for entry in after["shadows"]] == ["later"]


def test_a_shadow_that_lags_shows_how_far_now_and_at_most(doppel, server):
    slow = server(hold, rcvbuf=4 * KIB)
    mirror = doppel(server(echo), *SMALL, shadows=[shadow(slow, "slow")])
    client = mirror.connect()
    client.exchange(pattern(256 * KIB))
    eventually(lambda: shadow_of(mirror, "slow")["buffered_bytes"] > 0, "the lag is seen")

    lagging = shadow_of(mirror, "slow")
    slow.release()
    client.close()
    eventually(lambda: shadow_of(mirror, "slow")["buffered_bytes"] == 0, "it has caught up")

    line = mirror.shadow(0, "slow")
    assert 0 < lagging["buffered_bytes"] <= lagging["most_lag_bytes"] <= 256 * KIB
    assert shadow_of(mirror, "slow")["most_lag_bytes"] == line["max_lag_bytes"]


def test_the_last_error_of_a_shadow_has_its_time(doppel, server):
    gone = server(state="refusing")
    mirror = doppel(server(echo), shadows=[shadow(gone, "gone"), shadow(server(sink), "fine")], workers=2)
    assert "last_error" not in shadow_of(mirror, "gone")
    times = []
    for number in range(2):
        client = mirror.connect()
        client.exchange(b"hello")
        client.close()
        mirror.wait_metric("doppel_sessions_closed_total", number + 1)
        times.append(shadow_of(mirror, "gone")["last_error"])

    assert {error["reason"] for error in times} == {"refused"}
    first, second = (error["time"] for error in times)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first)
    assert mirror.log("starting")[0].raw[:24] <= first < second
    assert "last_error" not in shadow_of(mirror, "fine")


def test_what_others_did_to_a_session_is_no_error_of_its_shadow(doppel, server):
    mirror = doppel(server(sink), shadows=[shadow(server(sink), "fine")])
    mirror.expect(identity="prefix")
    aborted, paused = mirror.connect(), mirror.connect()
    for client in aborted, paused:
        client.send(b"hello")
    mirror.wait_metric("doppel_shadow_bytes_total", 10, shadow="fine", fate="sent")

    aborted.reset()
    mirror.wait_metric("doppel_shadow_closed_total", 1, reason="session_aborted")
    mirror.get("/shadows/fine/pause", method="POST")
    mirror.wait_metric("doppel_shadow_closed_total", 1, reason="admin")

    assert "last_error" not in shadow_of(mirror, "fine")


def test_the_percentiles_are_those_of_the_leg(doppel, server):
    mirror = doppel(server(echo), shadows=[shadow(server(echo), "canary")])
    for _ in range(5):
        client = mirror.connect()
        client.exchange(b"hello")
        client.close()
    mirror.wait_metric("doppel_sessions_closed_total", 5)

    status = mirror.status()

    for entry in (status["primary"], status["shadows"][0]):
        for timing in ("connect_seconds", "first_byte_seconds"):
            said = entry[timing]
            assert said["count"] == 5
            assert 0 < said["p50"] <= said["p90"] <= said["p99"] <= 10


@pytest.mark.parametrize("path", ["/status", "/metrics"])
def test_no_client_is_named(doppel, server, path):
    mirror = doppel(server(echo), shadows=[server(sink)])
    client = mirror.connect(source="127.7.8.9")
    client.exchange(b"hello")

    while_open = mirror.get(path)[1]
    client.close()
    mirror.wait_metric("doppel_sessions_closed_total", 1)

    assert "127.7.8.9" not in while_open + mirror.get(path)[1]
