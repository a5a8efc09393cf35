"""
test_workers.py — workers that die, again and again; whose connections wait meanwhile; who ends when
nothing helps; and what being process 1 of a container asks for.
"""
import functools
import os
import signal
import socket
import subprocess
from collections import Counter
from contextlib import suppress

import pytest

from support import crowd as crowds
from support import processes
from support.crowd import Crowd
from support.pattern import KIB, MIB, pattern
from support.peers import Ended, echo, sink
from support.waiting import eventually, patient

# Beyond three quick deaths a place waits before it tries again: after the seventh four seconds.
DEATHS_TO_A_LONG_WAIT = 7
# Three times at once, then after a half, one and two seconds: it gives up on the sixth.
MOST_DEATHS = 12
AS_PROCESS_1 = ["unshare", "-rpf", "--mount-proc"]


def wait_until_gone(pids):
    eventually(lambda: not any(processes.is_running(pid) for pid in pids), f"{pids} end")


def stop(pids):
    """They hold still: what connects now waits in the listeners' queues."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)


def kill(pid, number=signal.SIGKILL):
    os.kill(pid, number)
    wait_until_gone([pid])


def others(mirror, survivors):
    return [pid for pid in mirror.workers() if pid not in survivors]


def kill_the_other(mirror, *survivors, deaths):
    """As often as that, as soon as it is there."""
    for number in range(deaths):
        victim, = eventually(lambda: others(mirror, survivors), f"worker {number} starts", timeout=20)
        kill(victim)


def served(clients):
    """How many of them get their bytes back."""
    count = 0
    for number, client in enumerate(clients):
        try:
            count += client.recv_exact(KIB) == pattern(KIB, number)
        except Ended:
            pass
    return count


def queue(mirror, count):
    clients = [mirror.connect() for _ in range(count)]
    for number, client in enumerate(clients):
        client.send(pattern(KIB, number))
    return clients


def is_free(address):
    with socket.socket() as taking:
        taking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taking.bind(address)
        except OSError:
            return False
        taking.listen()
        return True


# L12: a worker dies.

@pytest.mark.parametrize("workers", [1, 2, 4])
def test_L12_of_fifty_connections_that_wait_for_a_killed_worker_none_is_lost(doppel, server, workers):
    primary, copy = server(echo), server(sink)
    mirror = doppel(primary, shadows=[copy], workers=workers)
    mirror.expect(problems=("worker_died",))
    stopped = mirror.workers()
    stop(stopped)
    clients = queue(mirror, 50)

    for pid in stopped:
        kill(pid)

    assert served(clients) == 50
    assert mirror.metric("doppel_worker_restarts_total") == workers
    assert mirror.metric("doppel_sessions_total") == 50
    assert mirror.metric("doppel_sessions_closed_total", reason="internal") == 0


def test_L12_one_of_two_workers_is_killed_and_what_waits_for_it_is_served(doppel, server):
    mirror = doppel(server(echo), workers=2)
    mirror.expect(problems=("worker_died",))
    first, second = mirror.workers()
    stop([first, second])
    clients = queue(mirror, 50)

    kill(first)
    os.kill(second, signal.SIGCONT)

    assert served(clients) == 50
    assert {line.fields["signal"] for line in mirror.log(" worker_died ", level="error")} == {"KILL"}


def test_L12_a_worker_that_hangs_and_is_killed_loses_only_its_sessions(doppel, server):
    mirror = doppel(server(echo))
    mirror.expect(identity="prefix", access_log=False, problems=("worker_died",))
    open_one = mirror.connect()
    open_one.exchange(b"in a session")
    hanging, = mirror.workers()
    stop([hanging])
    clients = queue(mirror, 20)

    kill(hanging)

    assert open_one.drain() in ("fin", "rst")
    assert served(clients) == 20
    assert mirror.metric("doppel_sessions_closed_total", reason="internal") == 1


def test_L12_connections_for_a_place_that_waits_for_its_worker_are_served_by_another(doppel, server):
    """Half of all connections are queued at that place's socket, wherever its worker is."""
    primary, copy = server(echo), server(sink)
    mirror = doppel(primary, shadows=[copy], workers=2)
    mirror.expect(problems=("worker_died",))
    survivor, _ = mirror.workers()

    kill_the_other(mirror, survivor, deaths=DEATHS_TO_A_LONG_WAIT)
    clients = queue(mirror, 50)

    assert served(clients) == 50
    assert mirror.workers() == [survivor]       # nobody else can have served them
    mirror.assert_not_spinning(1)
    for client in clients:
        client.finish()
        assert client.drain() == "fin"
    assert {line["session"].split("-")[1] for line in mirror.access_log(50)} == {"1"}
    eventually(lambda: len(mirror.workers()) == 2, "it is tried again")
    mirror.wait_metric("doppel_workers", 2)
    assert served(queue(mirror, 50)) == 50


def test_L12_a_place_that_was_watched_by_another_is_drained_too(doppel, server):
    mirror = doppel(server(echo), workers=2)
    mirror.expect(problems=("worker_died",))
    survivor, _ = mirror.workers()
    kill_the_other(mirror, survivor, deaths=DEATHS_TO_A_LONG_WAIT)
    clients = queue(mirror, 30)
    assert served(clients[:1]) == 1

    mirror.signal(signal.SIGTERM)

    for number, client in enumerate(clients[1:], 1):
        assert client.recv_exact(KIB) == pattern(KIB, number)
    for client in clients:
        client.finish()
        assert client.drain() == "fin"
    assert mirror.wait_exit() == 0
    assert len(mirror.access_log(30)) == 30


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_L12_what_waits_for_workers_that_are_killed_while_they_drain_is_served(doppel, server, workers):
    mirror = doppel(server(echo), workers=workers)
    mirror.expect(problems=("worker_died",))
    stopped = mirror.workers()
    stop(stopped)
    clients = queue(mirror, 50)
    mirror.signal(signal.SIGTERM)
    mirror.wait_log(" draining ")

    for pid in stopped:
        kill(pid)

    assert served(clients) == 50
    for client in clients:
        client.finish()
        assert client.drain() == "fin"
    assert mirror.wait_exit() == 0
    assert len(mirror.access_log(50)) == 50


def test_L12_what_waits_for_one_that_is_killed_while_another_drains_is_served(doppel, server):
    mirror = doppel(server(echo), workers=2)
    mirror.expect(problems=("worker_died",))
    first, second = stopped = mirror.workers()
    stop(stopped)
    clients = queue(mirror, 50)
    mirror.signal(signal.SIGTERM)
    mirror.wait_log(" draining ")

    os.kill(second, signal.SIGCONT)
    kill(first)

    assert served(clients) == 50
    for client in clients:
        client.finish()
    assert mirror.wait_exit() == 0


@pytest.mark.release
def test_L12_workers_that_keep_dying_while_they_drain_do_not_hold_it_up(doppel, server):
    """Not in a sanitized build, which looks for leaks in a child process of its own."""
    mirror = doppel(server(echo), "--drain-timeout", "1h")
    stop(mirror.workers())
    queue(mirror, 5)
    mirror.expect(identity="none", access_log=False, problems=("worker_died",))
    mirror.signal(signal.SIGTERM)
    mirror.wait_log(" draining ")

    while mirror.is_running():
        for pid in eventually(lambda: mirror.workers() or not mirror.is_running() and [0], "it goes on"):
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    assert mirror.wait_exit() == 0
    assert is_free(mirror.addresses[0])


def test_L12_a_full_worker_is_helped_by_one_with_room_while_a_third_is_gone(doppel, server):
    """Wherever connections are queued, they are served as long as any worker has descriptors."""
    mirror = doppel(server(echo), workers=3, prefix=["prlimit", "--nofile=128"])
    mirror.expect(problems=("worker_died",))
    most = int(mirror.log(" starting ")[0].fields["max_sessions"]) // 3
    first, _, third = mirror.workers()
    kill_the_other(mirror, first, third, deaths=DEATHS_TO_A_LONG_WAIT)

    clients = queue(mirror, 2 * most + 10)

    eventually(lambda: mirror.metric("doppel_sessions_active") == 2 * most, "both are full")
    assert mirror.workers() == [first, third]
    for number, client in enumerate(clients):
        assert client.recv_exact(KIB) == pattern(KIB, number)
        client.finish()
        assert client.drain() == "fin"


def test_L12_sessions_go_on_while_their_neighbours_die(doppel, server):
    primary, copy = server(echo), server(sink)
    mirror = doppel(primary, shadows=[copy], workers=2)
    mirror.expect(identity="prefix", access_log=False, problems=("worker_died",))
    survivor, victim = mirror.workers()
    stop([victim])
    clients = [mirror.connect() for _ in range(20)]
    own = []
    for client in clients:
        client.socket.settimeout(patient(0.3))
        try:
            client.exchange(b"whose am I")
            own.append(client)
        except AssertionError:
            pass                                # its worker stands still
        client.socket.settimeout(patient())
    assert 0 < len(own) < 20
    transfers = [client.start(client.exchange, pattern(2 * MIB, i)) for i, client in enumerate(own)]

    kill(victim)
    kill_the_other(mirror, survivor, deaths=2)

    for number, transfer in enumerate(transfers):
        assert transfer.result() == pattern(2 * MIB, number)


@pytest.mark.release
@pytest.mark.parametrize("call, error", [("fork", "EAGAIN"), ("fork", "ENOMEM"), ("pipe2", "EMFILE")])
def test_L12_a_worker_that_cannot_be_started_at_once_is_started_later(doppel, server, faults, call, error):
    fault = faults(f"{call}:errno={error}:n=1..3:who=all", on=False)
    mirror = doppel(server(echo), env=fault.env)
    mirror.expect(problems=("worker_died", "worker_not_started"))
    killed, = mirror.workers()
    fault.on()

    stop([killed])
    clients = queue(mirror, 20)
    kill(killed)

    assert served(clients) == 20
    assert fault.struck() == 3
    assert len(mirror.log(" worker_not_started ", level="error")) == 3


@pytest.mark.release
@pytest.mark.parametrize("call, error", [("fork", "EAGAIN"), ("pipe2", "EMFILE")])
def test_L12_starting_a_worker_is_tried_again_now_and_then_for_as_long_as_it_takes(doppel, server, faults,
                                                                                   call, error):
    fault = faults(f"{call}:errno={error}:who=all", on=False)
    mirror = doppel(server(echo), env=fault.env)
    mirror.expect(problems=("worker_died",))
    mirror.assert_not_spinning(2.5)     # longer than what counts as quick
    killed, = mirror.workers()

    fault.on()
    kill(killed)
    mirror.wait_log(" worker_not_started ")
    mirror.assert_not_spinning(2)
    fault.off()

    assert served(queue(mirror, 5)) == 5
    mirror.assert_log_count(" worker_not_started ", 2, 4, level="error")
    assert mirror.metric("doppel_worker_restarts_total") == 1


# L13: nothing helps.

@pytest.mark.release
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL], ids=lambda number: number.name)
def test_L13_when_every_worker_keeps_dying_it_ends_with_an_error(doppel, server, workers, number):
    mirror = doppel(server(echo), workers=workers)
    mirror.expect(exit_status=1, problems=("gave_up", "worker_died"))
    deaths = 0

    while mirror.is_running():
        victims = eventually(lambda: mirror.workers() or not mirror.is_running(), "one starts or all end",
                             timeout=20)
        for victim in victims if isinstance(victims, list) else []:
            kill(victim, number)
            deaths += 1

    assert mirror.wait_exit() == 1
    assert 4 * workers <= deaths <= MOST_DEATHS * workers
    assert [line.level for line in mirror.log(" gave_up ")] == ["error"]
    assert len(mirror.log(" worker_died ")) == deaths
    assert is_free(mirror.addresses[0])


def test_L13_a_worker_that_keeps_dying_does_not_end_the_others(doppel, server):
    mirror = doppel(server(echo), workers=2)
    survivor, _ = mirror.workers()
    client = mirror.connect()
    client.exchange(b"before")
    mirror.expect(identity="prefix", access_log=False, problems=("worker_died",))

    kill_the_other(mirror, survivor, deaths=DEATHS_TO_A_LONG_WAIT)

    assert mirror.is_running() and mirror.workers() == [survivor]
    assert mirror.get("/readyz")[0] == 200
    assert served(queue(mirror, 10)) == 10


def test_L13_a_worker_that_lived_for_a_while_starts_the_count_anew(doppel, server):
    """Quick deaths count in a row only: these are too few to give up, together they are not."""
    mirror = doppel(server(echo))
    mirror.expect(problems=("worker_died",))
    for _ in range(3):
        kill(eventually(mirror.workers, "it is replaced")[0])
    eventually(mirror.workers, "it is replaced")
    mirror.assert_not_spinning(2.5)     # longer than what counts as quick

    for _ in range(5):
        kill(eventually(mirror.workers, "it is replaced")[0])

    eventually(mirror.workers, "it is replaced")
    assert served(queue(mirror, 5)) == 5
    assert mirror.log(" gave_up ") == []


# L14: the supervisor dies.

def test_L14_another_doppel_can_take_the_port_of_a_killed_one(doppel, server, tmp_path):
    first = doppel(server(echo), "--pid-file", str(tmp_path / "pid"), workers=2)
    first.expect(exit_status=-signal.SIGKILL, totals=False)
    workers = first.workers()

    os.kill(first.pid(), signal.SIGKILL)
    wait_until_gone(workers)
    host, port = first.addresses[0]
    second = doppel(server(echo), "--pid-file", str(tmp_path / "pid"), listens=[f"{host}:{port}"],
                    workers=2)

    assert served(queue(second, 20)) == 20


def test_L14_stopped_workers_of_a_killed_supervisor_end_when_they_go_on(doppel, server):
    mirror = doppel(server(echo), workers=2)
    mirror.expect(exit_status=-signal.SIGKILL, totals=False)
    workers = mirror.workers()
    stop(workers)

    os.kill(mirror.pid(), signal.SIGKILL)
    for pid in workers:
        os.kill(pid, signal.SIGCONT)

    wait_until_gone(workers)
    assert is_free(mirror.addresses[0])


# L15: process 1.

@functools.lru_cache(maxsize=None)
def why_no_process_1():
    tried = subprocess.run([*AS_PROCESS_1, "true"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"no process namespace here: {tried.stderr.strip()}"


process_1 = pytest.mark.skipif(why_no_process_1() is not None, reason=str(why_no_process_1()))


def children_with_the_dead(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return [int(child) for child in children.read().split()]


def own_number(pid):
    """In the innermost namespace."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(row.split()[-1]) for row in status if row.startswith("NSpid:"))


@process_1
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT],
                         ids=lambda number: number.name)
def test_L15_as_process_1_it_serves_and_obeys_signals(doppel, server, number):
    primary, copy = server(echo), server(sink)
    mirror = doppel(primary, shadows=[copy], workers=2, prefix=AS_PROCESS_1)
    mirror.expect(problems=("reload_failed",))
    assert own_number(mirror.pid()) == 1
    client = mirror.connect()
    assert client.exchange(pattern(MIB)) == pattern(MIB)

    for harmless in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
        mirror.signal(harmless)
    assert client.exchange(b"still there") == b"still there"
    client.finish()
    assert client.drain() == "fin"

    assert mirror.stop(number) == 0


@process_1
def test_L15_as_process_1_it_reaps_what_others_leave_behind(doppel, server):
    mirror = doppel(server(echo), workers=2, prefix=AS_PROCESS_1)
    workers = mirror.workers()
    # Its parent enters the namespace and ends, so that it becomes a child of process 1.
    subprocess.run(["nsenter", "-t", str(mirror.pid()), "-U", "-p", "--preserve-credentials",
                    "sh", "-c", "sleep 1000 >&- 2>&- & exit 0"], check=True, stdin=subprocess.DEVNULL)
    adopted, = eventually(lambda: set(children_with_the_dead(mirror.pid())) - set(workers), "it is adopted")

    os.kill(adopted, signal.SIGKILL)

    eventually(lambda: children_with_the_dead(mirror.pid()) == workers, "it is reaped")
    assert mirror.metric("doppel_worker_restarts_total") == 0
    assert mirror.log(" worker_died ") == []


@process_1
def test_L15_as_process_1_it_replaces_and_reaps_its_workers(doppel, server):
    mirror = doppel(server(echo), workers=2, prefix=AS_PROCESS_1)
    mirror.expect(problems=("worker_died",))
    first, second = mirror.workers()

    kill(first)
    mirror.wait_metric("doppel_worker_restarts_total", 1)
    mirror.wait_metric("doppel_workers", 2)

    assert first not in children_with_the_dead(mirror.pid())
    assert served(queue(mirror, 20)) == 20


# Who gets how much.

def test_a_thousand_connections_are_spread_over_the_workers_within_a_fifth(doppel):
    crowd = Crowd()
    mirror = doppel(crowd.serve(crowds.obey), workers=2)

    crowd.run(mirror.addresses[0], (crowds.exchange(b"hello", half_close=True) for _ in range(1000)))
    crowd.settle(lambda: mirror.metric("doppel_sessions_active") == 0, "all sessions end")

    lines = mirror.access_log(1000)
    crowd.close()
    shares = Counter(line["session"].split("-")[1] for line in lines)       # start-worker-count
    assert len(shares) == 2 and all(400 <= share <= 600 for share in shares.values()), shares
