"""
test_choosing.py — which sessions a shadow gets: sample, max-sessions, from, connect-on.
"""
import pytest

from support.peers import echo, sink
from support.proxy import metric_of, shadow


@pytest.mark.parametrize("percent, least, most", [(0, 0, 0), (50, 50, 150), (100, 200, 200)])
def test_a_sample_by_session_mirrors_its_share(doppel, server, percent, least, most):
    primary, one = server(echo), server(sink)
    mirror = doppel(primary, shadows=[shadow(one, sample=percent)])

    for _ in range(200):
        client = mirror.connect()
        client.exchange(b"ten bytes.")
        client.close()
    mirror.access_log(200)

    samples = mirror.metrics()
    mirrored = metric_of(samples, "doppel_shadow_sessions_total", result="mirrored")
    assert least <= mirrored <= most
    assert mirror.metric("doppel_shadow_sessions_total", result="sampled_out") == 200 - mirrored
    assert mirror.metric("doppel_shadow_bytes_total", fate="skipped") == 10 * (200 - mirrored)
    assert len(one.connections) == mirrored


def test_a_sample_by_source_always_chooses_the_same_clients(doppel, server):
    mirror = doppel(server(echo), shadows=[shadow(server(sink), sample=50, by="source")], workers=2)

    chosen = {}
    for number in range(60):
        source = f"127.0.0.{1 + number % 20}"
        client = mirror.connect(source=source)
        client.exchange(b"who am I")
        client.close()
    for session in mirror.access_log(60):
        source = session["client"].rpartition(":")[0]
        chosen.setdefault(source, set()).add(session["shadows"][0]["result"])

    assert len(chosen) == 20
    assert all(len(results) == 1 for results in chosen.values()), chosen
    assert {"mirrored"} in chosen.values() and {"sampled_out"} in chosen.values()


def test_a_shadow_at_max_sessions_takes_no_more_until_one_ends(doppel, server):
    primary, one = server(echo), server(sink)
    mirror = doppel(primary, shadows=[shadow(one, max_sessions=1)])
    first, second = mirror.connect(), mirror.connect()
    first.exchange(b"first")
    second.exchange(b"second")
    second.close()
    first.close()
    mirror.access_log(2)
    third = mirror.connect()
    third.exchange(b"third")
    third.close()
    mirror.access_log(3)

    assert mirror.metric("doppel_shadow_sessions_total", result="limit") == 1
    assert mirror.metric("doppel_shadow_sessions_total", result="mirrored") == 2
    assert mirror.metric("doppel_shadow_bytes_total", fate="skipped") == len(b"second")
    assert len(one.connections) == 2


def test_a_shadow_gets_only_the_clients_of_its_networks(doppel, server):
    primary, one = server(echo), server(sink)
    mirror = doppel(primary, shadows=[shadow(one, "some", from_="127.0.0.2/32+127.0.1.0/24")])

    for source, result in (("127.0.0.1", "filtered"), ("127.0.0.2", "mirrored"), ("127.0.1.9", "mirrored")):
        client = mirror.connect(source=source)
        client.exchange(b"from " + source.encode())
        client.close()
        number = len(mirror.clients) - 1
        assert mirror.shadow(number, "some")["result"] == result

    assert len(one.connections) == 2


def test_a_silent_client_is_not_mirrored(doppel, server):
    primary, one = server(echo), server(sink)
    mirror = doppel(primary, shadows=[one])
    client = mirror.connect()

    primary.connection()
    client.close()

    assert mirror.shadow(0, "shadow0")["result"] == "no_data"
    assert not one.connections


def test_a_shadow_with_connect_on_start_is_dialled_without_a_byte(doppel, server):
    primary, one = server(echo), server(sink)
    mirror = doppel(primary, shadows=[shadow(one, connect_on="start")])
    client = mirror.connect()

    one.connection()
    client.close()

    assert one.connection().wait_end() == "fin"
    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"
