"""
test_books.py — every client's byte has one fate for each shadow, and every session one result and
one reason, whatever happened (interface.md, "The books").
"""
import os
import random
import signal
import socket
from contextlib import suppress

import pytest

from support import crowd as crowds
from support.crowd import READ
from support.pattern import KIB, MIB, pattern
from support.peers import Ended, Job, echo, hold, reset_after, sink
from support.proxy import metric_of, shadow
from support.waiting import eventually

FATES = ("offered", "sent", "lost", "skipped")
RESULTS = ("mirrored", "detached", "no_data", "sampled_out", "filtered", "limit", "rate", "breaker",
           "paused")


def fates(samples, name):
    return {fate: int(metric_of(samples, "doppel_shadow_bytes_total", shadow=name, fate=fate))
            for fate in FATES}


def results(samples, name):
    metric = "doppel_shadow_sessions_total"
    return {result: int(metric_of(samples, metric, shadow=name, result=result))
            for result in RESULTS}


def assert_balanced(samples, name):
    """At any scrape of an idle process, open sessions included."""
    its = fates(samples, name)
    buffered = metric_of(samples, "doppel_shadow_buffered_bytes", shadow=name)
    spent = its["sent"] + its["lost"] + its["skipped"]
    assert its["offered"] == spent + buffered, (name, its, buffered)
    closed = metric_of(samples, "doppel_sessions_closed_total")
    assert sum(results(samples, name).values()) == closed, (name, results(samples, name), closed)
    ended = results(samples, name)
    assert (metric_of(samples, "doppel_shadow_closed_total", shadow=name)
            == ended["mirrored"] + ended["detached"]), name


def test_the_books_balance_after_a_mixed_storm(doppel, server):
    """Every result appears; each shadow's bytes and sessions add up, in metrics and access log."""
    primary, copy = server(echo), server(sink)
    shadows = [
        shadow(copy, "whole"),
        shadow(server(state="refusing"), "refusing", breaker="off"),
        shadow(server(state="refusing"), "broken", breaker="5/1h"),
        shadow(server(sink), "slow", rate=10),
        shadow(server(sink), "first", max_bytes="2k"),
        shadow(server(reset_after(100)), "resetting"),
        shadow(server(hold, rcvbuf=4096), "stalled", buffer="16k", linger="100ms"),
        shadow(copy.address, "sampled", sample=0),
        shadow(copy.address, "half", sample=50),
        shadow(copy.address, "filtered", from_="10.0.0.0/8"),
        shadow(server(sink), "few", max_sessions=1),
    ]
    mirror = doppel(primary, "--sndbuf", "16k", shadows=shadows, workers=2)
    mirror.expect(identity="prefix")
    sent = []

    def whole(number):
        client = mirror.connect()
        data = pattern(KIB * (1 + number % 40), number)
        assert client.exchange(data) == data
        client.finish()
        assert client.recv() == b""
        return len(data)

    def silent(_):
        mirror.connect().close()
        return 0

    def broken_off(number):
        client = mirror.connect()
        client.exchange(pattern(KIB, number))
        client.reset()
        return KIB

    open_one = mirror.connect()
    sent.append(len(open_one.exchange(pattern(MIB, 99))))       # holds the one place of "few"
    jobs = [Job(kind, number) for number in range(20) for kind in (whole, silent, broken_off)]
    sent += [job.result() for job in jobs]
    open_one.finish()
    assert open_one.recv() == b""
    mirror.wait_metric("doppel_sessions_closed_total", 61)

    samples = mirror.metrics()
    found = {target.name: results(samples, target.name) for target in shadows}
    for target in shadows:
        assert_balanced(samples, target.name)
        assert fates(samples, target.name)["offered"] == sum(sent)
    assert found["whole"]["mirrored"] > 0 and found["whole"]["no_data"] == 20
    assert found["refusing"] == {**dict.fromkeys(RESULTS, 0), "detached": 41, "no_data": 20}
    assert found["resetting"]["detached"] > 0 and found["stalled"]["detached"] > 0
    assert found["sampled"]["sampled_out"] == 61 and found["filtered"]["filtered"] == 61
    assert 0 < found["half"]["sampled_out"] < 61
    assert found["few"]["limit"] > 0
    assert found["broken"]["detached"] >= 5 and found["broken"]["breaker"] > 0
    assert found["slow"]["rate"] > 0
    assert found["first"]["mirrored"] > 0 and 0 < fates(samples, "first")["skipped"] < sum(sent)
    for name in ("sampled", "filtered"):
        assert fates(samples, name)["skipped"] == sum(sent)
    assert fates(samples, "refusing")["lost"] == sum(sent)


def test_the_access_log_says_the_same_as_the_metrics(doppel, server):
    primary, copy = server(echo), server(sink)
    names = ("copy", "gone", "none")
    mirror = doppel(primary, shadows=[shadow(copy, "copy"), shadow(server(state="refusing"), "gone"),
                                      shadow(copy.address, "none", sample=0)])
    for number in range(10):
        client = mirror.connect()
        if number != 5:
            client.exchange(pattern(KIB * number + 1, number))
        client.close()

    lines = mirror.access_log(10)
    samples = mirror.metrics()

    assert metric_of(samples, "doppel_bytes_total", direction="request") == sum(
        line["request_bytes"] for line in lines)
    assert metric_of(samples, "doppel_bytes_total", direction="response") == sum(
        line["response_bytes"] for line in lines)
    for name in names:
        entries = [entry for line in lines for entry in line["shadows"] if entry["name"] == name]
        counted = fates(samples, name)
        assert counted["offered"] == sum(entry["offered_bytes"] for entry in entries)
        assert counted["sent"] == sum(entry["sent_bytes"] for entry in entries)
        assert counted["lost"] == sum(entry["lost_bytes"] for entry in entries)
        for result, count in results(samples, name).items():
            assert count == sum(entry["result"] == result for entry in entries)


def test_the_books_of_open_sessions_balance_once_they_rest(doppel, server):
    primary, copy, stalled = server(echo), server(sink), server(hold, rcvbuf=4096)
    mirror = doppel(primary, "--sndbuf", "16k", workers=2,
                    shadows=[copy, shadow(stalled, "stalled"), shadow(copy.address, "none", sample=0)])
    clients = [mirror.connect() for _ in range(6)]
    for number, client in enumerate(clients):
        client.exchange(pattern(256 * KIB, number))

    def is_booked():
        samples = mirror.metrics()
        return all(fates(samples, name)["offered"] == 6 * 256 * KIB
                   for name in ("shadow0", "stalled"))
    eventually(is_booked, lambda: f"booked once a second: {fates(mirror.metrics(), 'shadow0')}")

    samples = mirror.metrics()
    for name in ("shadow0", "stalled", "none"):
        assert_balanced(samples, name)
    assert metric_of(samples, "doppel_shadow_buffered_bytes", shadow="stalled") > 0
    assert metric_of(samples, "doppel_bytes_total", direction="request") == 6 * 256 * KIB
    assert metric_of(samples, "doppel_sessions_active") == 6
    stalled.release()
    for client in clients:
        client.close()


def test_the_books_balance_after_a_worker_was_killed_in_the_middle(doppel, server):
    primary, copy, stalled = server(echo), server(sink), server(hold, rcvbuf=4096)
    names = ("shadow0", "stalled", "resetting", "none", "filtered")
    mirror = doppel(primary, "--sndbuf", "16k", workers=2, shadows=[
        copy, shadow(stalled, "stalled", linger="200ms"), shadow(server(reset_after(1)), "resetting"),
        shadow(copy.address, "none", sample=0), shadow(copy.address, "filtered", from_="10.0.0.0/8")])
    mirror.expect(identity="prefix", access_log=False, problems=("worker_died",))
    for _ in range(6):              # they are in the books already
        client = mirror.connect()
        client.exchange(b"hello")
        client.close()
    mirror.wait_metric("doppel_sessions_closed_total", 6)
    clients = [mirror.connect() for _ in range(20)]
    transfers = [client.start(client.exchange, pattern(2 * MIB, number))
                 for number, client in enumerate(clients)]
    mirror.wait_metric("doppel_sessions_active", 20)
    mirror.wait_metric("doppel_shadow_closed_total", 26, shadow="resetting")

    for victim in mirror.workers():
        os.kill(victim, signal.SIGKILL)
    mirror.wait_metric("doppel_worker_restarts_total", 2)
    stalled.release()

    for transfer in transfers:
        try:
            transfer.result()
        except Ended:
            pass
    samples = mirror.metrics()
    assert metric_of(samples, "doppel_sessions_total") == 26
    for name in names:
        assert_balanced(samples, name)
    assert metric_of(samples, "doppel_sessions_closed_total", reason="internal") == 20
    assert results(samples, "none")["sampled_out"] == results(samples, "filtered")["filtered"] == 26
    assert (results(samples, "shadow0")["mirrored"], results(samples, "shadow0")["detached"]) == (6, 20)
    assert metric_of(samples, "doppel_sessions_active") == 0


def test_sessions_accepted_are_those_closed_and_active(doppel, server):
    mirror = doppel(server(echo), shadows=[server(sink)], workers=2)
    clients = [mirror.connect() for _ in range(10)]
    for client in clients:
        client.exchange(b"hello")
    for client in clients[:4]:
        client.close()
    mirror.wait_metric("doppel_sessions_closed_total", 4)

    samples = mirror.metrics()

    assert metric_of(samples, "doppel_sessions_total") == 10
    assert metric_of(samples, "doppel_sessions_closed_total") == 4
    assert metric_of(samples, "doppel_sessions_active") == 6
    assert metric_of(samples, "doppel_shadow_active", shadow="shadow0") == 6


def talk(request):
    """Whatever comes: workers die under it."""
    def script(client):
        client.send(request)
        with suppress(OSError):     # reset already
            client.shutdown(socket.SHUT_WR)
        while True:
            yield READ
            if not client.recv(crowds.MOST):
                return
    return script


def some_script(choice):
    request = b"e" + pattern(choice.choice((1, 100, 5000, 60000)), choice.randrange(50))
    return choice.choice((talk(request), talk(request), talk(b"f" + request), crowds.send_and_reset(b"r"),
                          crowds.send_and_reset(request), crowds.say_nothing, crowds.reset_at_once))


def chaos(mirror, sessions, choice):
    """The clients, and what happens while they come: kills, and turns of the kill switch."""
    kills = {sessions // 4, sessions // 2, 3 * sessions // 4}
    for number in range(sessions):
        if number in kills:
            os.kill(choice.choice(mirror.workers()), signal.SIGKILL)
        if number % (sessions // 10) == sessions // 20:
            mirror.signal(signal.SIGUSR2)
        yield some_script(choice)


@pytest.mark.parametrize("sessions", [
    2000, pytest.param(10000, marks=pytest.mark.release)], ids=["sanitized", "release"])
def test_the_books_balance_after_chaos(doppel, server, crowd, seed, sessions):
    """Faults of every kind, workers killed, mirroring switched off and on: each byte has its fate."""
    choice = random.Random(seed)
    shadows = [
        shadow(crowd.serve(crowds.swallow), "whole"),
        shadow(crowd.serve(crowds.swallow), "half", sample=50),
        shadow(crowd.serve(crowds.swallow), "slow", rate=20),
        shadow(crowd.serve(crowds.swallow), "first", max_bytes="2k"),
        shadow(crowd.serve(crowds.swallow), "held", greeting="20ms"),
        shadow(crowd.serve(crowds.answer_first), "talking", greeting="1s"),
        shadow(crowd.serve(crowds.reset_on_data), "resetting"),
        shadow(crowd.serve(crowds.close_unread), "closing"),
        shadow(server(state="refusing"), "refusing", breaker="5/100ms"),
        shadow(server(state="black hole"), "hole", max_sessions=20, connect_timeout="100ms"),
        shadow(crowd.serve(crowds.swallow), "filtered", from_="10.0.0.0/8"),
    ]
    mirror = doppel(crowd.serve(crowds.obey), "--sndbuf", "16k", "--half-close-timeout", "5s", workers=3,
                    shadows=shadows)
    mirror.expect(identity="none", access_log=False, problems=("worker_died",))

    crowd.run(mirror.addresses[0], chaos(mirror, sessions, choice))
    crowd.settle(lambda: mirror.metric("doppel_sessions_active") == 0, "all sessions end")

    samples = mirror.metrics()
    request_bytes = metric_of(samples, "doppel_bytes_total", direction="request")
    for target in shadows:
        assert_balanced(samples, target.name)
        assert fates(samples, target.name)["offered"] == request_bytes
        assert results(samples, target.name)["paused"] > 0, target.name
    assert metric_of(samples, "doppel_worker_restarts_total") == 3
    assert results(samples, "refusing")["breaker"] > 0 and results(samples, "slow")["rate"] > 0
