"""
test_choosing.py — which sessions a shadow gets, and how much of them: sample, seed, ramp, rate, for,
max-sessions, from, connect-on, greeting, max-bytes.
"""
import pytest

from support import crowd as crowds
from support.pattern import KIB, MIB, pattern
from support.peers import echo, finish_early, greet, hold, sink
from support.proxy import metric_of, shadow
from support.waiting import eventually, let_pass


def results(mirror, name="shadow0"):
    """{result: sessions}, without those that there were none of."""
    samples = mirror.metrics()
    return {dict(labels)["result"]: value for (metric, labels), value in samples.items()
            if metric == "doppel_shadow_sessions_total" and ("shadow", name) in labels and value > 0}


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


# The seed.

def chosen_clients(mirror):
    """Of 40 client addresses, those that are mirrored to the shadow."""
    for number in range(40):
        client = mirror.connect(source=f"127.0.0.{1 + number}")
        client.exchange(b"who am I")
        client.close()
    return {session["client"].rpartition(":")[0] for session in mirror.access_log(40)
            if session["shadows"][0]["result"] == "mirrored"}


@pytest.mark.parametrize("seeds, names, same", [
    ((7, 7), ("canary", "other"), True),
    ((7, 8), ("canary", "canary"), False),
    ((None, None), ("canary", "canary"), True),
    ((None, None), ("canary", "other"), False),
], ids=["same seed", "other seed", "same name", "other name"])
def test_the_same_seed_chooses_the_same_clients_in_every_process(doppel, server, seeds, names, same):
    chosen = []
    for seed, name in zip(seeds, names):
        flags = [] if seed is None else ["--sample-seed", str(seed)]
        mirror = doppel(server(echo), *flags, workers=2,
                        shadows=[shadow(server(sink), name, sample=50, by="source")])
        chosen.append(chosen_clients(mirror))

    assert 5 < len(chosen[0]) < 35
    assert (chosen[0] == chosen[1]) == same


def test_a_larger_share_only_adds_clients(doppel, server):
    chosen = [chosen_clients(doppel(server(echo), "--sample-seed", "1", shadows=[
        shadow(server(sink), sample=sample, by="source")])) for sample in (20, 60)]

    assert chosen[0] < chosen[1]


# How fast, and how long.

@pytest.mark.parametrize("ramp, result", [("336h", "sampled_out"), ("1ms", "mirrored")])
def test_a_ramp_lets_the_share_grow_from_nothing(doppel, server, ramp, result):
    mirror = doppel(server(echo), shadows=[shadow(server(sink), ramp=ramp)])

    for _ in range(20):
        client = mirror.connect()
        client.exchange(b"ten bytes.")
        client.close()
    mirror.access_log(20)

    assert results(mirror) == {result: 20}


def test_a_rate_bounds_new_sessions_over_all_workers(doppel, server, crowd):
    mirror = doppel(crowd.serve(crowds.obey), workers=2,
                    shadows=[shadow(crowd.serve(crowds.swallow), rate=5)])

    crowd.run(mirror.addresses[0], (crowds.exchange(b"x" * 10, half_close=True) for _ in range(400)))
    crowd.settle(lambda: mirror.metric("doppel_sessions_active") == 0, "all sessions end")

    found = results(mirror)
    assert set(found) == {"mirrored", "rate"} and sum(found.values()) == 400
    assert found["mirrored"] >= 5
    assert mirror.metric("doppel_shadow_bytes_total", fate="skipped") == 10 * found["rate"]


def test_a_shadow_switches_itself_off_when_its_time_is_over(doppel, server):
    one, other = server(sink), server(sink)
    mirror = doppel(server(echo), shadows=[shadow(one, "short", **{"for": "1s"}), shadow(other, "long")])
    client = mirror.connect()
    client.exchange(b"before")
    mirror.wait_metric("doppel_shadow_active", 2)

    mirror.wait_log(" shadow_paused shadow=short ", level="info")
    mirror.wait_metric("doppel_shadow_closed_total", 1, shadow="short", reason="admin")
    late = mirror.connect()
    late.exchange(b"after")
    late.close()
    client.close()

    mirror.access_log(2)
    assert results(mirror, "short") == {"detached": 1, "paused": 1}
    assert results(mirror, "long") == {"mirrored": 2}
    mirror.assert_log_count(" shadow_paused ", 1, 1)


# How much of a session.

@pytest.mark.path
@pytest.mark.parametrize("steps", [1, 7], ids=["at once", "in pieces"])
def test_max_bytes_ends_the_session_for_the_shadow_alone(doppel, server, steps):
    primary, one = server(echo), server(sink, keep=True)
    mirror = doppel(primary, shadows=[shadow(one, max_bytes="10k")])
    mirror.expect(identity="prefix")
    client = mirror.connect()
    whole = pattern(70 * KIB)

    size = len(whole) // steps
    for step in range(steps):
        assert client.exchange(whole[step * size:(step + 1) * size]) == whole[step * size:(step + 1) * size]
    assert one.connection().wait_end() == "fin"
    assert client.exchange(b"and on") == b"and on"
    client.finish()
    assert client.drain() == "fin"

    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["reason"]) == ("mirrored", "fin")
    assert (entry["sent_bytes"], entry["lost_bytes"]) == (10 * KIB, 0)
    assert entry["offered_bytes"] == 70 * KIB + 6
    assert bytes(one.connection().received.bytes) == whole[:10 * KIB]
    assert mirror.metric("doppel_shadow_bytes_total", fate="skipped") == 60 * KIB + 6
    assert mirror.metric("doppel_shadow_bytes_total", fate="lost") == 0


@pytest.mark.path
def test_what_lies_behind_max_bytes_costs_no_memory(doppel, server):
    one = server(sink)
    mirror = doppel(server(sink), shadows=[shadow(one, max_bytes="1k")])
    mirror.expect(identity="prefix")
    client = mirror.connect()

    client.send(pattern(8 * MIB))
    mirror.wait_metric("doppel_shadow_bytes_total", 8 * MIB - KIB, fate="skipped")

    assert mirror.metric("doppel_buffered_bytes") == 0
    assert mirror.metric("doppel_shadow_buffered_bytes") == 0
    client.close()


@pytest.mark.path
def test_what_lies_behind_max_bytes_does_not_count_as_lag(doppel, server):
    """However much the client goes on to send, the shadow has only its share to take."""
    primary, one = server(sink), server(hold, rcvbuf=4096)
    mirror = doppel(primary, "--sndbuf", "64k", shadows=[shadow(one, max_bytes="2m", buffer="3m")])
    mirror.expect(identity="prefix")
    client = mirror.connect()

    client.send(pattern(6 * MIB))
    primary.connection().wait_received(6 * MIB)
    eventually(lambda: MIB < mirror.metric("doppel_buffered_bytes") <= 2 * MIB, "only the share is kept")
    assert MIB < mirror.metric("doppel_shadow_buffered_bytes") <= 2 * MIB + 64 * KIB
    one.release()
    assert one.connection().wait_end() == "fin"
    client.close()

    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["reason"]) == ("mirrored", "fin")
    assert (entry["sent_bytes"], entry["lost_bytes"]) == (2 * MIB, 0)
    assert mirror.metric("doppel_shadow_buffered_bytes") == 0
    assert mirror.metric("doppel_shadow_bytes_total", fate="skipped") == 4 * MIB


@pytest.mark.path
def test_what_is_left_of_a_share_counts_as_shadow_memory(doppel, server):
    """The session that has most of it loses its shadow when another one needs memory, too."""
    primary, one = server(sink), server(hold, rcvbuf=4096)
    mirror = doppel(primary, "--sndbuf", "64k", "--shadow-memory", "3m",
                    shadows=[shadow(one, max_bytes="2m", buffer="2560k")])
    mirror.expect(identity="prefix")
    first = mirror.connect()
    first.send(pattern(6 * MIB))
    primary.connection(0).wait_received(6 * MIB)
    second = mirror.connect()
    second.send(pattern(1536 * KIB))

    mirror.wait_metric("doppel_shadow_closed_total", 1, shadow="shadow0", reason="memory")
    eventually(lambda: MIB < mirror.metric("doppel_shadow_buffered_bytes") <= 2 * MIB, "the rest has gone")
    one.release()
    second.finish()
    second.drain()
    first.close()
    mirror.access_log(2)
    assert results(mirror) == {"detached": 1, "mirrored": 1}


@pytest.mark.path
def test_a_session_shorter_than_max_bytes_is_mirrored_as_ever(doppel, server):
    one = server(sink)
    mirror = doppel(server(echo), shadows=[shadow(one, max_bytes="10k")])

    for size in (1, 10 * KIB - 1, 10 * KIB):
        client = mirror.connect()
        client.exchange(pattern(size))
        client.finish()
        assert client.drain() == "fin"

    mirror.access_log(3)
    assert results(mirror) == {"mirrored": 3}
    assert mirror.metric("doppel_shadow_bytes_total", fate="skipped") == 0


@pytest.mark.path
def test_a_shadow_that_is_gone_before_max_bytes_loses_only_its_share(doppel, server):
    mirror = doppel(server(echo), shadows=[shadow(server(state="refusing"), max_bytes="10k")])
    client = mirror.connect()

    client.exchange(pattern(70 * KIB))
    client.close()

    entry = mirror.shadow(0, "shadow0")
    assert (entry["reason"], entry["lost_bytes"]) == ("refused", 10 * KIB)
    assert mirror.metric("doppel_shadow_bytes_total", fate="skipped") == 60 * KIB


# Servers that speak first.

def test_a_shadow_with_greeting_gets_nothing_before_it_spoke(doppel, server):
    one = server()
    mirror = doppel(server(greet(b"220 primary\r\n")), shadows=[shadow(one, greeting="20s")])
    client = mirror.connect()
    assert client.recv_exact(13) == b"220 primary\r\n"
    assert client.exchange(b"EHLO client\r\n") == b"EHLO client\r\n"

    silent = one.connection()
    mirror.wait_metric("doppel_shadow_buffered_bytes", 13)
    mirror.assert_not_spinning(0.3)
    assert mirror.metric("doppel_shadow_bytes_total", fate="sent") == 0
    silent.send(b"220 shadow\r\n")
    assert silent.recv_exact(13) == b"EHLO client\r\n"
    client.finish()
    assert silent.drain() == "fin"
    silent.close()

    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"


@pytest.mark.parametrize("behaviour", [sink, finish_early])
def test_a_shadow_that_does_not_speak_gets_its_bytes_after_the_greeting_time(doppel, server, behaviour):
    one = server(behaviour)
    mirror = doppel(server(echo), shadows=[shadow(one, greeting="100ms")])
    client = mirror.connect()

    client.exchange(pattern(KIB))
    one.connection().wait_received(KIB)
    client.close()

    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"


def test_a_shadow_that_is_waited_for_has_not_stalled(doppel, server, faults):
    """Nor has it when it has spoken and the kernel has no memory just then: its time begins anew."""
    fault = faults("send,writev,splice_out:errno=ENOBUFS", on=False)
    one = server()
    mirror = doppel(server(echo), env=fault.env, release=True,
                    shadows=[shadow(one, greeting="20s", stall_timeout="2s")])
    client = mirror.connect()
    client.exchange(pattern(KIB))
    late = one.connection()
    let_pass(2.2)
    assert mirror.metric("doppel_shadow_active") == 1

    fault.on()
    late.send(b"220 shadow\r\n")
    eventually(lambda: fault.struck() > 0, "it cannot be sent to")
    fault.off()

    assert late.recv_exact(KIB) == pattern(KIB)
    client.finish()
    assert late.drain() == "fin"
    late.close()
    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"


def test_a_session_that_ends_before_the_greeting_is_mirrored_after_it(doppel, server):
    one = server()
    mirror = doppel(server(echo), shadows=[shadow(one, greeting="20s", linger="20s")])
    client = mirror.connect()
    client.exchange(b"all of it")
    client.close()
    mirror.wait_metric("doppel_shadow_buffered_bytes", 9)

    late = one.connection()
    late.send(b"220 shadow\r\n")
    assert late.recv_exact(9) == b"all of it"
    assert late.drain() == "fin"
    late.close()

    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"


def test_a_shadow_that_resets_instead_of_greeting_is_detached(doppel, server):
    one = server()
    mirror = doppel(server(echo), shadows=[shadow(one, greeting="20s")])
    client = mirror.connect()
    client.exchange(b"hello?")

    one.connection().reset()
    mirror.wait_metric("doppel_shadow_closed_total", 1, reason="rst")
    client.close()

    assert mirror.shadow(0, "shadow0")["sent_bytes"] == 0
    assert eventually(lambda: mirror.metric("doppel_shadow_bytes_total", fate="lost") == 6, "it is booked")
