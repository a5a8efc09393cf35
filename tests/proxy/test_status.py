"""
test_status.py — /status says what doppel is doing now, and agrees with /metrics.
"""
from support.pattern import KIB, pattern
from support.peers import echo, sink
from support.proxy import shadow


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
