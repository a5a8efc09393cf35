"""
test_limits.py — every limit holds, says so, and costs only what it is about: sessions, sessions of a
source, descriptors, a session's buffers, the memory of all shadows, ports in TIME_WAIT.
"""
import os
import resource
import signal
import subprocess

import pytest

from support import crowd as crowds
from support import processes
from support.pattern import KIB, MIB, pattern
from support.peers import echo, hold, keep_open, sink
from support.proxy import shadow
from support.waiting import eventually, patient

# What a peer does not read is then in our memory, but for a few kilobytes in the kernel's.
NARROW = ("--sndbuf", "16k")
CHUNK = 16 * KIB
SLACK = 8 * MIB     # of resident memory: the allocator's own, and pages touched once


@pytest.fixture
def stalled(server, tmp_path):
    """A shadow that never reads.  A unix socket takes some 200 kilobytes, and is not slower for it."""
    return server(hold, unix=f"{tmp_path}/stalled")


def few_descriptors(count):
    return ["prlimit", f"--nofile={count}"]


def starting(mirror):
    """The members of the line that says with which limits it starts."""
    return mirror.log(" starting ")[0].fields


def upload(client, size, number):
    """The primary echoes: it is as fast as ever, whatever its shadow does."""
    assert client.exchange(pattern(size, number)) == pattern(size, number)


def echo_patiently(connection):
    """For sessions that wait for their turn longer than a peer usually does."""
    connection.socket.settimeout(patient(60))
    echo(connection)


def shadow_bytes(mirror):
    return mirror.metric("doppel_shadow_buffered_bytes")


# L1: sessions.

@pytest.mark.parametrize("workers", [1, 2])
def test_L01_at_max_sessions_the_next_waits_until_one_leaves(doppel, server, workers):
    primary, copy = server(echo), server(sink)
    mirror = doppel(primary, "--max-sessions", "10", shadows=[copy], workers=workers)
    clients = [mirror.connect() for _ in range(10)]
    for client in clients:
        client.exchange(b"one of ten")

    eleventh = mirror.connect()
    eleventh.send(b"waits")
    eventually(lambda: mirror.metric("doppel_accept_paused") > 0, "accepting pauses")
    mirror.assert_not_spinning(1)
    assert mirror.metric("doppel_sessions_total") == 10
    assert eleventh.received.count == 0
    clients[0].finish()
    assert clients[0].drain() == "fin"

    assert eleventh.recv_exact(5) == b"waits"
    eleventh.finish()
    assert eleventh.drain() == "fin"
    eventually(lambda: mirror.metric("doppel_accept_paused") == 0, "accepting goes on")
    assert mirror.metric("doppel_accept_errors_total") == 0
    for client in clients[1:]:
        assert client.exchange(b"undisturbed") == b"undisturbed"


def test_L01_a_lingering_shadow_does_not_keep_the_next_client_waiting(doppel, server):
    """The limit is about clients."""
    primary, copy = server(echo), server(keep_open)
    mirror = doppel(primary, "--max-sessions", "1", shadows=[shadow(copy, linger="30s")])
    for number in range(3):
        client = mirror.connect()
        assert client.exchange(pattern(KIB, number)) == pattern(KIB, number)
        client.finish()
        assert client.drain() == "fin"

    assert mirror.metric("doppel_shadow_active") == 3


# Sessions of one source.

@pytest.mark.parametrize("workers", [1, 2])
def test_a_source_has_at_most_its_sessions_and_others_have_theirs(doppel, server, workers):
    primary, copy = server(echo), server(sink)
    mirror = doppel(primary, "--max-sessions-per-source", "1", shadows=[copy], workers=workers)
    mirror.expect(identity="prefix")
    first = mirror.connect(source="127.0.0.1")
    first.exchange(b"the only one")

    refused = [mirror.connect(source="127.0.0.1") for _ in range(8)]
    assert [client.drain() for client in refused] == ["rst"] * 8
    other = mirror.connect(source="127.0.0.2")

    assert other.exchange(b"another") == b"another"
    assert [line["reason"] for line in mirror.access_log(8)] == ["limit"] * 8
    primary.connection(1)
    assert len(primary.connections) == 2
    first.finish()
    assert first.drain() == "fin"
    mirror.wait_metric("doppel_sessions_closed_total", 1, reason="client_fin")
    again = mirror.connect(source="127.0.0.1")
    assert again.exchange(b"the next one") == b"the next one"


def test_a_source_that_comes_and_goes_never_loses_a_place(doppel, server):
    mirror = doppel(server(echo), "--max-sessions-per-source", "2")

    for number in range(100):
        client = mirror.connect()
        assert client.exchange(pattern(64, number)) == pattern(64, number)
        if number % 2:
            client.finish()
            assert client.drain() == "fin"
        else:
            mirror.expect(identity="prefix")
            client.reset()
        mirror.wait_metric("doppel_sessions_closed_total", number + 1)

    assert mirror.metric("doppel_sessions_closed_total", reason="limit") == 0


def test_a_killed_worker_gives_back_the_places_of_its_sources(doppel, server):
    mirror = doppel(server(echo), "--max-sessions-per-source", "3")
    mirror.expect(identity="prefix", access_log=False, problems=("worker_died",))
    for client in [mirror.connect() for _ in range(3)]:
        client.exchange(b"one of three")
    os.kill(mirror.workers()[0], signal.SIGKILL)
    mirror.wait_metric("doppel_worker_restarts_total", 1)

    for client in [mirror.connect() for _ in range(3)]:
        assert client.exchange(b"three more") == b"three more"
    assert mirror.connect().drain() == "rst"


def test_a_v4_client_of_a_v6_socket_is_one_source(doppel, server):
    mirror = doppel(server(echo), "--max-sessions-per-source", "1",
                    listens=["127.0.0.1:0", "[::]:0"])
    mirror.expect(identity="prefix")
    mirror.connect(0).exchange(b"the only one")

    mapped = mirror.connect(0)
    assert mapped.drain() == "rst"
    host, port = mirror.addresses[1]
    assert host == "::1"
    mirror.addresses[1] = ("127.0.0.1", port)
    assert mirror.connect(1).drain() == "rst"
    mirror.addresses[1] = (host, port)
    assert mirror.connect(1).exchange(b"another source") == b"another source"


@pytest.mark.netns
def test_a_v6_source_is_its_network_of_64_bits(network, doppel, server):
    for address in ("fd00:1::1", "fd00:1::2", "fd00:2::1"):
        subprocess.run(["ip", "address", "add", f"{address}/128", "dev", "lo", "nodad"], check=True)
    mirror = doppel(server(echo), "--max-sessions-per-source", "1", listens=["[::]:0"])
    mirror.expect(identity="prefix")
    mirror.connect(source="fd00:1::1").exchange(b"the only one")

    assert mirror.connect(source="fd00:1::2").drain() == "rst"
    assert mirror.connect(source="fd00:2::1").exchange(b"another network") == b"another network"
    assert [line["reason"] for line in mirror.access_log(1)] == ["limit"]


# L2: a session's buffers.

def test_L02_a_primary_that_reads_nothing_fills_one_buffer_and_no_more(doppel, server):
    primary = server(hold, rcvbuf=4096)
    mirror = doppel(primary, "--buffer", "64k", *NARROW, io="copy")
    client = mirror.connect()
    sending = client.start(client.send, pattern(4 * MIB))

    mirror.wait_metric("doppel_buffered_bytes", 64 * KIB - CHUNK)
    for _ in range(10):
        assert mirror.metric("doppel_buffered_bytes") <= 64 * KIB
    mirror.assert_not_spinning(1)
    primary.release()
    sending.result()


def test_L02_a_client_that_reads_nothing_fills_one_buffer_and_no_more(doppel, server):
    def talk(connection):
        connection.recv_exact(1)
        connection.send(pattern(4 * MIB))
        connection.drain()
    mirror = doppel(server(talk), "--buffer", "64k", *NARROW, io="copy")
    client = mirror.connect(rcvbuf=4096)
    client.send(b"?")

    mirror.wait_metric("doppel_buffered_bytes", 64 * KIB - CHUNK)
    for _ in range(10):
        assert mirror.metric("doppel_buffered_bytes") <= 64 * KIB + CHUNK
    mirror.assert_not_spinning(1)
    assert client.recv_exact(4 * MIB) == pattern(4 * MIB)


def test_L02_a_shadow_is_cut_before_it_lags_further_than_its_buffer(doppel, server):
    primary = server(echo)
    mirror = doppel(primary, shadows=[
        shadow(server(hold, rcvbuf=4096), "small", buffer="64k"),
        shadow(server(hold, rcvbuf=4096), "large", buffer="1m")])
    client = mirror.connect()

    upload(client, 8 * MIB, 1)
    client.finish()
    assert client.drain() == "fin"

    for name, buffer in (("small", 64 * KIB), ("large", MIB)):
        entry = mirror.shadow(0, name)
        assert (entry["result"], entry["reason"]) == ("detached", "lag")
        assert entry["max_lag_bytes"] <= buffer + 256 * KIB     # one read
        assert entry["sent_bytes"] + entry["lost_bytes"] == 8 * MIB


# L3: the memory of all shadows.

@pytest.mark.parametrize("workers", [1, 2])
def test_L03_fifty_stalled_shadows_take_no_more_than_their_memory(doppel, server, stalled, workers):
    mirror = doppel(server(echo_patiently), "--shadow-memory", "8m", shadows=[stalled], workers=workers)
    clients = [mirror.connect() for _ in range(50)]

    for number, client in enumerate(clients):
        upload(client, MIB, number)

    # A megabyte each, less what the kernel holds.
    mirror.wait_metric("doppel_shadow_closed_total", 35, shadow="shadow0", reason="memory")
    eventually(lambda: 0 < shadow_bytes(mirror) <= 8 * MIB, lambda: f"{shadow_bytes(mirror)} are held")
    eventually(lambda: mirror.metric("doppel_shadow_active") == 50 - mirror.shadow_closed("memory") > 0,
               "the others stay")
    mirror.assert_log_count("reason=memory", 1, 2 * workers, level="warning")
    mirror.assert_not_spinning(1)
    for number, client in enumerate(clients):
        upload(client, KIB, 100 + number)
        client.finish()
        assert client.drain() == "fin"


def test_L03_the_most_lagging_shadow_goes_first(doppel, server, stalled):
    mirror = doppel(server(echo), "--shadow-memory", "8m", shadows=[stalled])
    small, big = [mirror.connect() for _ in range(10)], mirror.connect()
    for number, client in enumerate(small[:5]):
        upload(client, 512 * KIB, number)
    upload(big, 6 * MIB, 77)
    assert mirror.shadow_closed("memory") == 0

    for number, client in enumerate(small[5:]):
        upload(client, 512 * KIB, number)

    mirror.wait_metric("doppel_shadow_closed_total", 1, shadow="shadow0", reason="memory")
    stalled.release()
    for client in [*small, big]:
        client.finish()
        assert client.drain() == "fin"
    results = sorted((line["request_bytes"], line["shadows"][0]["result"]) for line in mirror.access_log(11))
    assert results == [(512 * KIB, "mirrored")] * 10 + [(6 * MIB, "detached")]


def test_L03_of_one_session_the_shadow_that_lags_most_goes_first(doppel, server, stalled):
    healthy = server(sink)
    mirror = doppel(server(echo), "--shadow-memory", "2m",
                    shadows=[shadow(healthy, "healthy"), shadow(stalled, "stalled")])
    client = mirror.connect()

    for number in range(1, 17):
        upload(client, 256 * KIB, number)
        healthy.connection().wait_received(number * 256 * KIB)
    client.finish()
    assert client.drain() == "fin"

    assert mirror.shadow(0, "healthy")["result"] == "mirrored"
    assert mirror.shadow(0, "stalled")["reason"] == "memory"


def test_L03_a_shadow_that_must_get_everything_is_never_cut_for_memory(doppel, server, stalled, tmp_path):
    """Its buffer is a session's own, as the primary's is; the others share what they may share."""
    held = server(hold, unix=f"{tmp_path}/held")
    mirror = doppel(server(echo_patiently), "--shadow-memory", "3m", shadows=[
        shadow(held, "blocking", overflow="block", buffer="4m", from_="127.0.0.2"),
        shadow(stalled, "detaching", from_="127.0.0.1")])
    waiting = mirror.connect(source="127.0.0.2")
    sending = waiting.start(waiting.exchange, pattern(8 * MIB))
    mirror.wait_metric("doppel_shadow_buffered_bytes", 4 * MIB - 256 * KIB, shadow="blocking")

    for number, client in enumerate([mirror.connect(source="127.0.0.1") for _ in range(10)]):
        upload(client, MIB, number)

    eventually(lambda: mirror.metric("doppel_shadow_buffered_bytes", shadow="detaching") <= 3 * MIB,
               "the others keep to the budget")
    assert 6 <= mirror.shadow_closed("memory", "detaching") < 10
    assert mirror.metric("doppel_shadow_active", shadow="blocking") == 1
    held.release()
    assert sending.result() == pattern(8 * MIB)


def test_L03_in_one_session_the_shadow_that_must_get_everything_is_passed_over(doppel, server, tmp_path):
    """Though it lags furthest: what it has in pipes is not what there is too much of."""
    held, stalled = server(hold, unix=f"{tmp_path}/held"), server(hold)
    mirror = doppel(server(echo_patiently), "--shadow-memory", "512k", io="splice", shadows=[
        shadow(held, "blocking", overflow="block", buffer="16m"), shadow(stalled, "detaching")])
    client = mirror.connect()
    sending = client.start(client.exchange, pattern(24 * MIB))

    mirror.wait_metric("doppel_shadow_closed_total", 1, shadow="detaching", reason="memory")
    mirror.assert_not_spinning(0.5)
    assert mirror.metric("doppel_shadow_active", shadow="blocking") == 1
    held.release()
    assert sending.result() == pattern(24 * MIB)


def one_client_at_each_worker(mirror):
    """Of two workers: two clients whose sessions are not at the same one."""
    first = mirror.connect()
    first.exchange(b"here")
    while True:
        second = mirror.connect()
        second.exchange(b"there")
        if sorted(worker["sessions"] for worker in mirror.status()["workers"]) == [1, 1]:
            return first, second
        second.close()
        eventually(lambda: mirror.metric("doppel_sessions_active") == 1, "it has gone")


def test_L03_a_worker_below_its_share_cuts_nobody_for_the_others(doppel, server, stalled):
    """Whoever came last made it too much, but the other one has more than its half of the budget."""
    mirror = doppel(server(echo), "--shadow-memory", "2m", workers=2, io="copy",
                    shadows=[shadow(stalled, linger="10ms")])
    much, little = one_client_at_each_worker(mirror)

    upload(much, MIB + 768 * KIB, 1)
    assert mirror.shadow_closed("memory") == 0
    upload(little, 768 * KIB, 2)

    mirror.wait_metric("doppel_shadow_closed_total", 1, reason="memory")
    mirror.assert_not_spinning(1.0)
    assert mirror.metric("doppel_shadow_active") == 1
    ended = len(mirror.access_lines)
    much.close()
    assert mirror.access_log(ended + 1)[ended]["shadows"][0]["reason"] == "memory"


def test_L03_a_killed_worker_gives_back_its_share_of_the_memory(doppel, server, stalled):
    mirror = doppel(server(echo), "--shadow-memory", "8m", shadows=[stalled], workers=2)
    mirror.expect(identity="prefix", access_log=False, problems=("worker_died",))
    upload(mirror.connect(), 6 * MIB, 1)
    mirror.wait_metric("doppel_shadow_buffered_bytes", 5 * MIB)
    assert mirror.status()["memory"]["shadow_memory_bytes"] > 5 * MIB
    for victim in mirror.workers():
        os.kill(victim, signal.SIGKILL)
    mirror.wait_metric("doppel_worker_restarts_total", 2)
    assert shadow_bytes(mirror) == mirror.status()["memory"]["shadow_memory_bytes"] == 0

    client = mirror.connect()
    upload(client, 6 * MIB, 2)
    mirror.wait_metric("doppel_shadow_buffered_bytes", 5 * MIB)

    assert mirror.shadow_closed("memory") == 0
    upload(client, 4 * MIB, 3)
    mirror.wait_metric("doppel_shadow_closed_total", 1, shadow="shadow0", reason="memory")


def test_a_killed_worker_gives_back_its_share_of_a_shadows_sessions(doppel, server):
    mirror = doppel(server(echo), shadows=[shadow(server(sink), max_sessions=2)])
    mirror.expect(identity="prefix", access_log=False, problems=("worker_died",))
    for client in [mirror.connect() for _ in range(3)]:
        client.exchange(b"two of three")
    assert mirror.metric("doppel_shadow_active") == 2
    os.kill(mirror.workers()[0], signal.SIGKILL)
    mirror.wait_metric("doppel_worker_restarts_total", 1)

    for client in [mirror.connect() for _ in range(3)]:
        client.exchange(b"two of three")

    eventually(lambda: mirror.metric("doppel_shadow_active") == 2, "two are mirrored again")


def test_L03_the_worst_case_is_told_at_the_start(doppel, server):
    mirror = doppel(server(echo), "--max-sessions", "100", "--buffer", "64k", "--shadow-memory", "8m",
                    shadows=[server(sink)])

    assert int(starting(mirror)["worst_case_bytes"]) == 100 * 2 * 64 * KIB + 8 * MIB


@pytest.mark.release
def test_L03_two_hundred_stalled_shadows_cost_what_the_budget_says(doppel, server, stalled):
    """Resident memory, not gauges: below the budget it is what lags, above it the budget."""
    mirror = doppel(server(echo_patiently), "--shadow-memory", "32m", shadows=[stalled], io="copy")
    mirror.expect(identity="none")      # 200 times 200 comparisons would take longer than the rest
    clients = [mirror.connect() for _ in range(200)]
    for client in clients:
        client.exchange(b"hello")
    idle = mirror.rss_bytes()

    for number, client in enumerate(clients):
        upload(client, 300 * KIB, number)
    assert mirror.shadow_closed("memory") == 0
    assert 200 * 40 * KIB <= mirror.rss_bytes() - idle <= 200 * 300 * KIB + SLACK

    for number, client in enumerate(clients):
        upload(client, 160 * KIB, 1000 + number)
    assert 20 <= mirror.shadow_closed("memory") < 200
    assert mirror.rss_bytes() - idle <= 32 * MIB + SLACK

    for client in clients:
        client.finish()
        assert client.drain() == "fin"
    stalled.release()
    eventually(lambda: mirror.metric("doppel_sessions_active") == 0, "all sessions end")
    eventually(lambda: mirror.rss_bytes() - idle <= SLACK, "the memory is given back")


# L4, R4: descriptors.

def test_L04_max_sessions_follows_from_the_descriptors(doppel, server):
    few = doppel(server(echo), shadows=[server(sink)], prefix=few_descriptors(256))
    more = doppel(server(echo), shadows=[server(sink)], prefix=few_descriptors(1024))

    assert 20 <= int(starting(few)["max_sessions"]) <= 256 // 3
    assert 200 <= int(starting(more)["max_sessions"]) <= 1024 // 3
    assert few.log(level="warning") == []


def test_L04_the_soft_limit_is_raised_to_the_hard_one(doppel, server):
    mirror = doppel(server(echo), prefix=["prlimit", "--nofile=64:1024"])

    for pid in mirror.pids():
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (1024, 1024)
    assert int(starting(mirror)["max_sessions"]) > 200


def test_L04_the_sockets_of_workers_that_are_no_more_count(doppel, server, tmp_path):
    """They stay open, so that nobody who waits there is lost; fewer sessions fit beside them."""
    primary, configuration = server(echo), tmp_path / "doppel.conf"

    def places(*counts):
        """How many sessions the last of these numbers of workers may have."""
        configuration.write_text(f"workers = {counts[0]}\nmax-sessions = 10000\n")
        mirror = doppel(primary, "-c", str(configuration), workers=None, prefix=few_descriptors(512))
        mirror.expect(identity="none", descriptors=False)
        for workers in counts[1:]:
            configuration.write_text(f"workers = {workers}\nmax-sessions = 10000\n")
            mirror.reload()
        return int(mirror.log(" max_sessions_lowered ")[-1].fields["max_sessions"])

    assert places(5, 1) == places(1) - 2        # four sockets less, and each session has two


@pytest.mark.parametrize("workers", [1, 2])
def test_L04_more_sessions_than_descriptors_are_lowered_with_a_warning(doppel, server, workers):
    """And as many as it says it can have it really can, each with its shadow or without."""
    primary, copies = server(echo), [server(sink), server(sink)]
    mirror = doppel(primary, "--max-sessions", "10000", shadows=copies, workers=workers,
                    prefix=few_descriptors(256))
    most = int(starting(mirror)["max_sessions"])
    assert 50 <= most <= workers * 128
    said, = mirror.log("max_sessions|max-sessions", level="warning")
    assert str(most) in said.text and "10000" in said.text

    clients = [mirror.connect() for _ in range(most + 20)]
    for number, client in enumerate(clients):
        client.send(pattern(KIB, number))
    eventually(lambda: mirror.metric("doppel_sessions_active") >= most - workers * 2,
               "as many as may are open")
    mirror.assert_not_spinning(1)
    for number, client in enumerate(clients):
        assert client.recv_exact(KIB) == pattern(KIB, number)
        client.finish()
        assert client.drain() == "fin"

    mirror.wait_metric("doppel_sessions_closed_total", most + 20, reason="client_fin")
    assert mirror.metric("doppel_accept_errors_total") == 0
    assert mirror.metric("doppel_sessions_closed_total", reason="no_descriptor") == 0


@pytest.mark.parametrize("descriptors", [24, 32, 64])
def test_L04_a_handful_of_descriptors_serves_a_handful_of_clients_at_a_time(doppel, server, descriptors):
    mirror = doppel(server(echo), shadows=[server(sink)], workers=2, prefix=few_descriptors(descriptors))

    clients = [mirror.connect() for _ in range(50)]
    for number, client in enumerate(clients):
        client.send(pattern(KIB, number))
        client.finish()
    for number, client in enumerate(clients):
        assert client.recv_all() == pattern(KIB, number)

    mirror.wait_metric("doppel_sessions_closed_total", 50, reason="client_fin")
    assert mirror.metric("doppel_accept_errors_total") == 0


def test_R04_shadows_never_take_the_descriptors_of_sessions(doppel, server):
    """Room for some shadows is left; who finds none is detached, and every client is served."""
    primary, copies = server(echo), [server(sink), server(sink), server(sink)]
    mirror = doppel(primary, "--max-sessions", "30", shadows=copies, prefix=few_descriptors(128))
    clients = []

    for number in range(30):
        clients.append(mirror.connect())
        assert clients[-1].exchange(pattern(KIB, number)) == pattern(KIB, number)

    detached = mirror.wait_metric("doppel_shadow_closed_total", 1, reason="no_descriptor")
    assert mirror.metric("doppel_shadow_active") == 90 - detached
    said, = mirror.log(" shadows_lowered ", level="warning")
    assert int(said.fields["shadows_per_worker"]) == 90 - detached
    assert mirror.metric("doppel_accept_errors_total") == 0
    assert mirror.metric("doppel_sessions_active") == 30
    mirror.assert_log_count("reason=no_descriptor", 1, 3, level="warning")
    for client in clients:
        client.finish()
        assert client.drain() == "fin"
    eventually(lambda: mirror.metric("doppel_sessions_active") == 0, "all sessions end")
    again = mirror.connect()
    again.exchange(b"room again")
    eventually(lambda: mirror.metric("doppel_shadow_active") == 3, "its shadows find room")


@pytest.mark.parametrize("workers", [1, 2])
def test_the_backlog_of_each_listener_is_the_one_that_was_said(doppel, server, workers):
    mirror = doppel(server(echo), "--backlog", "7", workers=workers)

    rows = subprocess.run(["ss", "-ltnH", "sport", "=", f":{mirror.addresses[0][1]}"],
                          capture_output=True, text=True, check=True).stdout.splitlines()

    assert [row.split()[2] for row in rows] == ["7"] * workers      # Send-Q, of those that listen


# L25, L27: what a great many sessions leave behind.

@pytest.mark.release
def test_L25_memory_and_descriptors_return_after_a_churn(doppel, server, crowd):
    mirror = doppel(crowd.serve(crowds.obey), "--access-log", "off", workers=2,
                    shadows=[crowd.serve(crowds.swallow), crowd.serve(crowds.reset_on_data),
                             server(state="refusing")])

    def churn(count):
        scripts = (crowds.exchange(b"e" + pattern(64 + number % 4000, number % 50)) if number % 3
                   else crowds.send_and_reset(b"e" + pattern(2000, number % 50)) for number in range(count))
        crowd.run(mirror.addresses[0], scripts, at_once=100)
        crowd.settle(lambda: mirror.metric("doppel_sessions_active") == 0, "all sessions end")
        return mirror.rss_bytes()

    warm = churn(2000)
    after = churn(6000)

    assert after <= warm + MIB
    assert mirror.metric("doppel_sessions_total") == 8000
    assert mirror.metric("doppel_worker_restarts_total") == 0
    assert [processes.descriptor_kinds(pid) for pid in mirror.pids()] == list(
        mirror.descriptors_at_start.values())


def time_waits(port):
    """Our ends of past connections to that port, in this thread's network namespace."""
    rows = subprocess.run(["ss", "-tanH", "state", "time-wait", "dport", "=", f":{port}"],
                          capture_output=True, text=True, check=True).stdout
    return len(rows.splitlines())


@pytest.mark.netns
def test_L27_a_session_keeps_at_most_one_port_of_each_target_for_a_while(network, doppel, crowd):
    """So many sessions within a minute need no more ports than that, towards each target."""
    primary, copy = crowd.serve(crowds.obey), crowd.serve(crowds.swallow)
    mirror = doppel(primary, shadows=[copy])
    # A port in TIME_WAIT would be used again after a second on loopback, which spoils the count.
    network.sysctl("net.ipv4.tcp_tw_reuse", "0")
    network.sysctl("net.ipv4.ip_local_port_range", "40000 41999")

    crowd.run(mirror.addresses[0], (crowds.exchange(b"e" + pattern(100, number)) for number in range(900)),
              at_once=20)
    crowd.settle(lambda: mirror.metric("doppel_sessions_active") == 0, "all sessions end")

    assert mirror.metric("doppel_sessions_closed_total", reason="no_port") == 0
    assert mirror.metric("doppel_shadow_closed_total", reason="no_port") == 0
    for target in (primary, copy):
        assert time_waits(target.rpartition(":")[2]) <= 900


@pytest.mark.netns
def test_L27_what_is_reset_or_ended_by_the_other_side_keeps_no_port(network, doppel, crowd):
    primary, copy = crowd.serve(crowds.obey), crowd.serve(crowds.reset_on_data)
    mirror = doppel(primary, shadows=[copy])
    mirror.expect(identity="prefix")
    network.sysctl("net.ipv4.tcp_tw_reuse", "0")

    scripts = (crowds.send_and_reset(b"e" + pattern(100)) if number % 2
               else crowds.read_to_the_end(b"f") for number in range(200))
    crowd.run(mirror.addresses[0], scripts, at_once=20)
    crowd.settle(lambda: mirror.metric("doppel_sessions_active") == 0, "all sessions end")

    for target in (primary, copy):
        assert time_waits(target.rpartition(":")[2]) == 0
