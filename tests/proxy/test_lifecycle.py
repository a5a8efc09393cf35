"""
test_lifecycle.py — from the first worker to the last: starting, draining, signals, workers that
die and a supervisor that dies; no client pays for any of it.
"""
import os
import re
import signal
import socket
from pathlib import Path

import pytest

from support import processes
from support.faults import NO_LEAK_CHECK, strace_inject, why_no_strace
from support.pattern import KIB, MIB, pattern
from support.peers import Ended, answer, echo, hold, sink, unanswered
from support.proxy import SMALL, shadow
from support.waiting import eventually, let_pass

ALL = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
TERM_AND_INT = (signal.SIGTERM, signal.SIGINT)


def is_ready(mirror):
    return mirror.get("/readyz")[0] == 200


def begin_draining(mirror, number=signal.SIGTERM):
    """Sends the signal and waits until it has been taken."""
    mirror.signal(number)
    eventually(lambda: not is_ready(mirror), "/readyz is red")


def is_listened_to(address):
    """Whether a TCP socket listens on that port, as the kernel says: a probe would be a session."""
    listening = "0A"
    wanted = f":{address[1]:04X}"
    with open("/proc/net/tcp") as rows:
        fields = [row.split() for row in rows]
    return any(row[1].endswith(wanted) and row[3] == listening for row in fields[1:])


def wait_until_closed(address):
    eventually(lambda: not is_listened_to(address), f"nobody listens at {address}")


def wait_until_gone(pids):
    eventually(lambda: not any(processes.is_running(pid) for pid in pids), f"{pids} end")


def serials(mirror, count):
    """The worker of each session: the middle of its id (interface.md)."""
    return [line["session"].split("-")[1] for line in mirror.access_log(count)]


def begin_transfer(mirror, primary, number):
    """A client that has half of its answer; answers client and connection."""
    client = mirror.connect()
    client.send(b"go")
    connection = primary.connection(number)
    connection.recv_exact(2)
    connection.send(pattern(256 * KIB, number))
    client.recv_exact(256 * KIB)
    return client, connection


def stop_workers(mirror):
    """Holds the workers still: what connects now waits in the listeners' queues."""
    pids = mirror.workers()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return pids


def continue_workers(pids):
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


# L8: what is open is served to its end.

@pytest.mark.parametrize("number", ALL, ids=lambda number: number.name)
@pytest.mark.parametrize("workers", [1, 2])
def test_L08_a_stop_lets_transfers_complete_while_readyz_is_red(doppel, server, number, workers):
    primary, copy = server(), server(sink)
    mirror = doppel(primary, shadows=[copy], workers=workers)
    transfers = [begin_transfer(mirror, primary, i) for i in range(8)]

    begin_draining(mirror, number)
    wait_until_closed(mirror.addresses[0])

    assert mirror.get("/healthz")[0] == 200
    for i, (client, connection) in enumerate(transfers):
        upload = client.start(client.send, pattern(256 * KIB, 100 + i))
        assert connection.recv_exact(256 * KIB) == pattern(256 * KIB, 100 + i)
        upload.result()
        connection.send(pattern(MIB, i, offset=256 * KIB))
        assert client.recv_exact(MIB) == pattern(MIB, i, offset=256 * KIB)
    assert not is_ready(mirror)
    for client, connection in transfers:
        client.finish()
        assert connection.recv() == b""
        connection.close()
        assert client.recv() == b""
    assert mirror.wait_exit() == 0
    assert [line["reason"] for line in mirror.access_log(8)] == ["client_fin"] * 8
    assert [mirror.shadow(i, "shadow0")["result"] for i in range(8)] == ["mirrored"] * 8


def test_L08_a_stop_without_sessions_ends_at_once(doppel, server):
    mirror = doppel(server(echo), "--drain-timeout", "1h", workers=2)

    assert mirror.stop() == 0

    assert [line.fields["signal"] for line in mirror.log(" draining ")] == ["TERM"]


@pytest.mark.parametrize("workers", [1, 2])
def test_L08_connections_that_wait_in_the_queue_are_served(doppel, server, workers):
    primary, copy = server(echo), server(sink)
    mirror = doppel(primary, shadows=[copy], workers=workers)
    stopped = stop_workers(mirror)
    clients = [mirror.connect() for _ in range(30)]
    for i, client in enumerate(clients):
        client.send(pattern(KIB, i))

    begin_draining(mirror)
    continue_workers(stopped)

    for i, client in enumerate(clients):
        assert client.recv_exact(KIB) == pattern(KIB, i)
        client.finish()
        assert client.recv() == b""
    assert mirror.wait_exit() == 0
    assert [line["reason"] for line in mirror.access_log(30)] == ["client_fin"] * 30


def test_L08_connections_beyond_the_limit_wait_and_are_served_while_draining(doppel, server):
    """Draining takes what waits in the queue, and max-sessions still holds: one after the other."""
    primary = server()
    mirror = doppel(primary, "--max-sessions", "1")
    first, connection = begin_transfer(mirror, primary, 0)
    mirror.wait_metric("doppel_accept_paused", 0)
    second = mirror.connect()
    second.send(b"second")

    begin_draining(mirror)
    first.finish()
    connection.recv()
    connection.close()
    assert first.recv() == b""

    waiting = primary.connection(1)
    assert waiting.recv_exact(6) == b"second"
    waiting.send(b"answer")
    assert second.recv_exact(6) == b"answer"
    second.finish()
    waiting.recv()
    waiting.close()
    assert mirror.wait_exit() == 0


# --drain-delay: red first, then closed.

def test_during_the_drain_delay_clients_are_still_accepted_while_readyz_is_red(doppel, server):
    primary = server(echo)
    mirror = doppel(primary, "--drain-delay", "1500ms", shadows=[server(sink)], workers=2)
    before = mirror.connect()
    before.exchange(b"before")

    begin_draining(mirror)
    for number in range(5):
        client = mirror.connect()
        assert client.exchange(pattern(KIB, number)) == pattern(KIB, number)
        client.close()
    assert is_listened_to(mirror.addresses[0]) and not is_ready(mirror)

    wait_until_closed(mirror.addresses[0])
    assert before.exchange(b"after") == b"after"
    before.finish()
    assert before.recv() == b""
    assert mirror.wait_exit() == 0
    assert mirror.log(" draining ")[0].fields["delay"] == "1.500"
    assert len(mirror.access_log(6)) == 6


def test_a_worker_that_dies_during_the_drain_delay_is_replaced(doppel, server):
    mirror = doppel(server(echo), "--drain-delay", "1h")
    mirror.expect(descriptors=False, exit_status=1, totals=False, problems=("worker_died",))
    begin_draining(mirror)

    os.kill(mirror.workers()[0], signal.SIGKILL)
    mirror.wait_metric("doppel_worker_restarts_total", 1)
    client = mirror.connect()
    assert client.exchange(b"hello") == b"hello"
    client.close()
    mirror.insist(signal.SIGTERM)


@pytest.mark.parametrize("number", TERM_AND_INT, ids=lambda number: number.name)
def test_L10_a_second_signal_during_the_drain_delay_ends_at_once(doppel, server, number):
    mirror = doppel(server(hold), "--drain-delay", "1h", "--drain-timeout", "1h")
    mirror.expect(exit_status=1, identity="none")
    client = mirror.connect()
    begin_draining(mirror)

    assert mirror.insist(number) == 1
    assert client.drain() in ("fin", "rst")
    assert mirror.log(" hurried ")


def test_a_term_after_a_quit_during_the_drain_delay_sets_the_limit(doppel, server):
    mirror = doppel(server(hold), "--drain-delay", "800ms", "--drain-timeout", "300ms")
    mirror.expect(identity="none")
    client = mirror.connect()
    begin_draining(mirror, signal.SIGQUIT)

    mirror.signal(signal.SIGTERM)

    assert mirror.wait_exit() == 0
    assert client.drain() == "fin"
    assert [line.fields["timeout"] for line in mirror.log(" draining ")] == ["0.000", "0.300"]
    assert mirror.session(0)["reason"] == "drain"


# L9: the deadline.

@pytest.mark.parametrize("number", TERM_AND_INT, ids=lambda number: number.name)
def test_L09_a_session_that_never_ends_is_closed_at_the_drain_timeout(doppel, server, number):
    primary, copy = server(hold), server(hold)
    mirror = doppel(primary, "--drain-timeout", "300ms", shadows=[copy])
    mirror.expect(identity="prefix")
    quiet, busy = mirror.connect(), mirror.connect()
    busy.send(b"never answered")
    primary.connection(1)
    copy.connection(0)

    mirror.signal(number)

    assert mirror.wait_exit() == 0
    assert quiet.drain() == "fin"       # nothing was buffered for it
    assert [line["reason"] for line in mirror.access_log(2)] == ["drain", "drain"]
    entries = [entry for line in mirror.access_log(2) for entry in line["shadows"]]
    assert sorted((entry["result"], entry.get("reason")) for entry in entries) == [
        ("detached", "drain"), ("no_data", None)]


def test_L09_what_is_still_buffered_at_the_drain_timeout_ends_with_a_reset(doppel, server):
    primary = server(answer(8 * MIB))
    mirror = doppel(primary, *SMALL, "--drain-timeout", "300ms")
    mirror.expect(identity="prefix")
    client = mirror.connect(rcvbuf=4096)
    client.send(b"?")
    mirror.wait_metric("doppel_buffered_bytes", 1)

    mirror.signal(signal.SIGTERM)

    client.wait_reset()
    assert mirror.wait_exit() == 0
    assert mirror.session(0)["reason"] == "drain"
    assert mirror.session(0)["response_bytes"] < 8 * MIB


def test_L09_who_still_waits_for_a_place_at_the_drain_timeout_is_not_let_in(doppel, server):
    """Each session that is closed makes room for one more; but it is too late."""
    primary = server(hold)
    mirror = doppel(primary, "--max-sessions", "1", "--drain-timeout", "300ms")
    mirror.expect(identity="prefix")
    inside = unanswered(mirror, primary)
    waiting = [mirror.connect() for _ in range(5)]

    mirror.signal(signal.SIGTERM)

    assert mirror.wait_exit() == 0
    assert [client.drain() for client in waiting] == ["rst"] * 5
    assert inside.drain() in ("fin", "rst")
    assert [line["reason"] for line in mirror.access_log(1)] == ["drain"]
    assert mirror.log(" totals ")[0].fields["sessions"] == "1" and len(primary.connections) == 1


def test_L09_a_worker_that_stands_still_is_killed_some_time_after_the_drain_timeout(doppel, server):
    primary = server(hold)
    mirror = doppel(primary, "--drain-timeout", "300ms", workers=2)
    mirror.expect(identity="prefix", access_log=False, exit_status=1,
                  problems=("worker_died", "workers_killed"))
    client = unanswered(mirror, primary)
    stop_workers(mirror)

    mirror.signal(signal.SIGTERM)

    assert mirror.wait_exit() == 1
    assert len(mirror.log(" workers_killed ", level="error")) == 1
    assert client.drain() in ("fin", "rst")


# L10: once more.

@pytest.mark.parametrize("first, second", [(a, b) for a in TERM_AND_INT for b in TERM_AND_INT],
                         ids=lambda number: number.name)
def test_L10_a_second_signal_ends_it_at_once_with_status_1(doppel, server, first, second):
    primary = server(hold)
    mirror = doppel(primary, "--drain-timeout", "1h", workers=2)
    mirror.expect(identity="prefix", exit_status=1, access_log=False)
    client = unanswered(mirror, primary)
    workers = mirror.workers()
    begin_draining(mirror, first)

    assert mirror.insist(second) == 1
    wait_until_gone(workers)
    assert client.drain() in ("fin", "rst")
    assert len(mirror.log(" hurried ", level="warning")) == 1


def test_L10_quit_drains_without_a_limit_and_term_then_bounds_it(doppel, server):
    primary = server(hold)
    mirror = doppel(primary, "--drain-timeout", "300ms")
    mirror.expect(identity="prefix")
    client = unanswered(mirror, primary)

    begin_draining(mirror, signal.SIGQUIT)
    mirror.assert_not_spinning(1.0)     # well beyond the drain timeout
    assert mirror.is_running() and client.end is None

    mirror.signal(signal.SIGTERM)
    assert mirror.wait_exit() == 0
    assert mirror.session(0)["reason"] == "drain"
    assert [line.fields["timeout"] for line in mirror.log(" draining ")] == ["0.000", "0.300"]


def test_L10_a_second_quit_changes_nothing(doppel, server):
    mirror = doppel(server(echo))
    client = mirror.connect()
    client.exchange(b"before")
    begin_draining(mirror, signal.SIGQUIT)

    mirror.signal(signal.SIGQUIT)

    assert client.exchange(b"after") == b"after"
    client.finish()
    assert client.recv() == b""
    assert mirror.wait_exit() == 0


def test_L10_term_after_quit_and_once_more_ends_it_at_once(doppel, server):
    primary = server(hold)
    mirror = doppel(primary, "--drain-timeout", "1h")
    mirror.expect(identity="prefix", exit_status=1, access_log=False)
    unanswered(mirror, primary)
    begin_draining(mirror, signal.SIGQUIT)

    mirror.signal(signal.SIGTERM)
    mirror.wait_log(" draining .*TERM")
    assert mirror.is_running()
    assert mirror.insist(signal.SIGTERM) == 1


@pytest.mark.parametrize("number", ALL, ids=lambda number: number.name)
def test_L10_timeout_signals_twice_and_sessions_still_go_on_to_their_end(doppel, server, number):
    """timeout(1) signals its child and then its whole group, within microseconds; ALRM is its time."""
    primary = server()
    mirror = doppel(primary, "--drain-timeout", "1h", workers=2,
                    prefix=["timeout", "-s", number.name.removeprefix("SIG"), "1h"])
    mirror.expect(exit_status=124)
    client, connection = begin_transfer(mirror, primary, 0)
    parent = int(Path(f"/proc/{mirror.pid()}/stat").read_text().rpartition(")")[2].split()[1])

    os.kill(parent, signal.SIGALRM)
    mirror.wait_log(" draining ")
    wait_until_closed(mirror.addresses[0])

    connection.send(pattern(MIB, 0, offset=256 * KIB))
    assert client.recv_exact(MIB) == pattern(MIB, 0, offset=256 * KIB)
    client.finish()
    assert connection.recv() == b""
    connection.close()

    assert client.recv() == b""
    assert mirror.wait_exit() == 124
    assert mirror.session(0)["reason"] == "client_fin"
    assert mirror.log(" hurried ") == []


def test_L10_signals_of_one_moment_are_one(doppel, server):
    primary = server(echo)
    mirror = doppel(primary, "--drain-timeout", "1h")
    client = mirror.connect()
    client.exchange(b"before")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        mirror.signal(number)
    eventually(lambda: not is_ready(mirror), "/readyz is red")

    assert client.exchange(b"after") == b"after"
    client.finish()
    assert client.recv() == b""
    assert mirror.wait_exit() == 0


# L11: exit in the middle of a flush.

@pytest.mark.release
def test_L10_signals_before_the_first_worker_is_ready_are_obeyed(doppel, server, faults):
    """Its worker stops as soon as it begins."""
    fault = faults(f"calloc:signal={signal.SIGSTOP:d}:n=1")
    mirror = doppel(server(echo), env=fault.env, wait=False)
    mirror.expect(exit_status=1, identity="none")
    eventually(lambda: len(mirror.workers()) == 1, "a worker starts")
    mirror.wait_log(" starting ")

    mirror.signal(signal.SIGQUIT)
    mirror.wait_log(" draining ")
    assert mirror.status()["listeners"] != []
    mirror.signal(signal.SIGTERM)
    mirror.wait_log(" draining ", 2)
    assert not is_ready(mirror)
    assert mirror.insist(signal.SIGTERM) == 1


@pytest.mark.parametrize("hurried", [False, True])
def test_L11_a_stop_while_a_flush_is_under_way_is_clean(doppel, server, hurried):
    primary, stalled = server(answer(50 * MIB)), server(hold, rcvbuf=4096)
    mirror = doppel(primary, "--drain-timeout", "1h" if hurried else "300ms",
                    shadows=[shadow(stalled, buffer="16m")])
    mirror.expect(identity="prefix", exit_status=int(hurried), access_log=not hurried)
    client = mirror.connect(rcvbuf=4096)
    upload = client.start(client.send, pattern(8 * MIB))
    mirror.wait_metric("doppel_bytes_total", 8 * MIB, direction="request")
    mirror.wait_metric("doppel_shadow_buffered_bytes", MIB)
    upload.result()

    begin_draining(mirror)
    if hurried:
        mirror.insist(signal.SIGTERM)

    assert mirror.wait_exit() == int(hurried)
    assert client.drain() in ("fin", "rst")
    assert client.received.count < 50 * MIB
    if not hurried:
        assert mirror.session(0)["reason"] == "drain"
        assert mirror.shadow(0, "shadow0")["reason"] == "drain"


def test_L11_a_reader_that_wakes_up_while_draining_gets_everything(doppel, server):
    primary = server(answer(24 * MIB))
    mirror = doppel(primary)
    client = mirror.connect(rcvbuf=4096)
    client.send(b"?")
    mirror.wait_metric("doppel_buffered_bytes", 1)
    begin_draining(mirror)

    client.finish()
    assert client.drain() == "fin"

    assert client.received.count == 24 * MIB
    assert mirror.wait_exit() == 0


# Signals to the whole process group.

@pytest.mark.parametrize("number", ALL, ids=lambda number: number.name)
def test_a_signal_to_the_whole_group_is_one_to_the_supervisor(doppel, server, number):
    """Ctrl-C and service managers signal workers too."""
    mirror = doppel(server(echo), workers=2)
    client = mirror.connect()
    client.exchange(b"before")

    for pid in reversed(mirror.pids()):
        os.kill(pid, number)
    eventually(lambda: not is_ready(mirror), "/readyz is red")

    assert client.exchange(b"after") == b"after"
    client.finish()
    assert client.recv() == b""
    assert mirror.wait_exit() == 0
    assert mirror.log("worker_died") == []


# Workers that die.

def test_a_killed_worker_is_replaced_and_the_books_balance(doppel, server):
    primary, copy = server(echo), server(sink)
    mirror = doppel(primary, shadows=[copy, shadow(copy.address, "none", sample=0)])
    mirror.expect(identity="prefix", access_log=False, problems=("worker_died",))
    clients = [mirror.connect() for _ in range(5)]
    for i, client in enumerate(clients):
        assert client.exchange(pattern(64 * KIB, i)) == pattern(64 * KIB, i)
    mirror.wait_metric("doppel_shadow_bytes_total", 5 * 64 * KIB, shadow="shadow0", fate="sent")
    killed, = mirror.workers()

    os.kill(killed, signal.SIGKILL)

    for client in clients:
        assert client.drain() in ("fin", "rst")
    mirror.wait_metric("doppel_worker_restarts_total", 1)
    mirror.wait_metric("doppel_workers", 1)
    assert mirror.workers() != [killed]
    assert mirror.metric("doppel_sessions_closed_total", reason="internal") == 5
    assert mirror.metric("doppel_shadow_sessions_total", shadow="shadow0") == 5
    died, = mirror.log(" worker_died ", level="error")
    assert died.fields["signal"] == "KILL"
    again = mirror.connect()
    assert again.exchange(pattern(MIB, 9)) == pattern(MIB, 9)
    again.close()
    eventually(lambda: mirror.metric("doppel_sessions_closed_total", reason="client_fin") == 1,
               "the new worker has a session")
    assert mirror.metric("doppel_sessions_total") == 6


def test_a_killed_worker_costs_no_connection_that_waits(doppel, server):
    primary = server(echo)
    mirror = doppel(primary)
    mirror.expect(problems=("worker_died",))
    stopped = stop_workers(mirror)
    clients = [mirror.connect() for _ in range(50)]
    for i, client in enumerate(clients):
        client.send(pattern(KIB, i))

    os.kill(stopped[0], signal.SIGKILL)

    for i, client in enumerate(clients):
        assert client.recv_exact(KIB) == pattern(KIB, i)
    assert mirror.metric("doppel_sessions_total") == 50


def test_a_killed_worker_leaves_the_other_alone(doppel, server):
    primary = server(echo)
    mirror = doppel(primary, workers=2)
    mirror.expect(identity="prefix", access_log=False, problems=("worker_died",))
    clients = [mirror.connect() for _ in range(40)]
    for i, client in enumerate(clients):
        client.exchange(pattern(KIB, i))

    os.kill(mirror.workers()[0], signal.SIGKILL)
    mirror.wait_metric("doppel_worker_restarts_total", 1)
    lost = int(mirror.metric("doppel_sessions_closed_total", reason="internal"))

    assert 0 < lost < 40
    survived = 0
    for i, client in enumerate(clients):
        try:
            survived += client.exchange(pattern(KIB, i)) == pattern(KIB, i)
        except Ended:
            pass
    assert survived == 40 - lost
    mirror.wait_metric("doppel_workers", 2)


def test_a_killed_worker_gives_back_its_share_of_max_sessions(doppel, server):
    primary = server(echo)
    mirror = doppel(primary, "--max-sessions", "4")
    mirror.expect(identity="prefix", access_log=False, problems=("worker_died",))
    for client in [mirror.connect() for _ in range(4)]:
        client.exchange(b"one of four")

    os.kill(mirror.workers()[0], signal.SIGKILL)

    for client in [mirror.connect() for _ in range(4)]:
        assert client.exchange(b"four more") == b"four more"


def test_a_worker_that_dies_while_draining_is_not_replaced(doppel, server):
    primary = server(hold)
    mirror = doppel(primary, "--drain-timeout", "1h")
    mirror.expect(identity="prefix", access_log=False, problems=("worker_died",))
    unanswered(mirror, primary)
    begin_draining(mirror)

    os.kill(mirror.workers()[0], signal.SIGKILL)

    mirror.expect(exit_status=mirror.wait_exit())
    assert mirror.exit_status in (0, 1)
    assert "sessions=1" in mirror.log(" totals ")[0].text


# A supervisor that dies.

def test_workers_end_when_the_supervisor_is_killed_and_the_port_is_free(doppel, server):
    mirror = doppel(server(echo), workers=2)
    mirror.expect(exit_status=-signal.SIGKILL, totals=False)
    workers = mirror.workers()

    os.kill(mirror.pid(), signal.SIGKILL)

    wait_until_gone(workers)
    with socket.socket() as taking:
        taking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taking.bind(mirror.addresses[0])
        taking.listen()


def test_open_sessions_outlive_a_killed_supervisor(doppel, server):
    primary, copy = server(echo), server(sink)
    mirror = doppel(primary, shadows=[copy])
    mirror.expect(exit_status=-signal.SIGKILL, totals=False)
    client = mirror.connect()
    client.exchange(b"before")
    workers = mirror.workers()

    os.kill(mirror.pid(), signal.SIGKILL)
    wait_until_closed(mirror.addresses[0])

    assert client.exchange(pattern(MIB)) == pattern(MIB)
    client.finish()
    assert client.recv() == b""
    wait_until_gone(workers)
    assert mirror.session(0)["reason"] == "client_fin"
    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"


# Several workers.

def test_two_workers_share_the_connections_and_both_are_drained(doppel, server):
    primary, copy = server(echo), server(sink)
    mirror = doppel(primary, shadows=[copy], workers=2)
    clients = [mirror.connect() for _ in range(60)]
    for i, client in enumerate(clients):
        assert client.exchange(pattern(KIB, i)) == pattern(KIB, i)

    begin_draining(mirror)

    for i, client in enumerate(clients):
        assert client.exchange(pattern(KIB, 100 + i)) == pattern(KIB, 100 + i)
        client.close()
    assert mirror.wait_exit() == 0
    assert set(serials(mirror, 60)) == {"1", "2"}
    assert len({line["session"] for line in mirror.access_log(60)}) == 60


def test_two_workers_share_one_unix_socket(doppel, server, tmp_path):
    path = str(tmp_path / "listener")
    mirror = doppel(server(echo), listens=[f"unix:{path}"], workers=2)

    clients = [mirror.connect() for _ in range(20)]
    for i, client in enumerate(clients):
        assert client.exchange(pattern(KIB, i)) == pattern(KIB, i)
    for client in clients:
        client.close()

    assert mirror.metric("doppel_sessions_total") == 20


@pytest.mark.parametrize("workers", [1, 2])
def test_max_sessions_is_never_exceeded_over_all_workers(doppel, server, workers):
    mirror = doppel(server(echo), "--max-sessions", "10", workers=workers)

    for number in range(4):
        clients = [mirror.connect() for _ in range(40)]
        eventually(lambda: mirror.metric("doppel_sessions_active") >= 10, "the limit is reached")
        for _ in range(10):
            assert mirror.metric("doppel_sessions_active") == 10
        for client in clients:
            client.finish()
        for client in clients:
            assert client.recv() == b""
            client.close()
        mirror.wait_metric("doppel_sessions_closed_total", 40 * (number + 1), reason="client_fin")


@pytest.mark.skipif(why_no_strace() is not None, reason=str(why_no_strace()))
def test_max_sessions_is_not_exceeded_by_two_workers_that_accept_at_the_same_time(doppel, server):
    """accept4 takes a moment: each worker has looked at the limit before the other is done."""
    mirror = doppel(server(echo), "--max-sessions", "1", workers=2, env=NO_LEAK_CHECK,
                    prefix=strace_inject("accept4:delay_enter=50000"))

    clients = [mirror.connect() for _ in range(12)]
    mirror.wait_metric("doppel_sessions_active", 1)
    let_pass(0.2)       # both workers have accepted whatever they are going to
    assert mirror.metric("doppel_sessions_active") == 1
    for client in clients:
        client.finish()
    for client in clients:
        assert client.recv() == b""


# The last words.

def test_the_totals_at_exit_are_the_sums_of_the_sessions(doppel, server):
    primary, copy, refusing = server(answer(KIB, after=KIB)), server(sink), server(state="refusing")
    mirror = doppel(primary, shadows=[shadow(copy, "copy"), shadow(refusing, "gone", breaker="off"),
                                      shadow(copy.address, "none", sample=0)], workers=2)
    for i in range(10):
        client = mirror.connect()
        client.send(pattern(KIB, i))
        client.recv_exact(KIB)
        client.close()
    mirror.access_log(10)

    assert mirror.stop() == 0

    totals, = mirror.log(" totals ", level="info")
    assert (totals.fields["sessions"], totals.fields["request_bytes"],
            totals.fields["response_bytes"]) == ("10", "10240", "10240")
    assert mirror.log_lines[-1] == totals.raw
    for said in ("copy offered_bytes=10240 sent_bytes=10240 lost_bytes=0 skipped_bytes=0",
                 "gone offered_bytes=10240 sent_bytes=0 lost_bytes=10240 skipped_bytes=0",
                 "none offered_bytes=10240 sent_bytes=0 lost_bytes=0 skipped_bytes=10240"):
        name, *fates = said.split()
        flat = re.sub(r"shadows\.\d+\.", "", totals.text)
        assert flat.count(f"name={name} {' '.join(fates)}") == 1
