"""
test_start.py — what doppel makes of the process that its parent leaves it, and a start in which a
system call fails, or a signal arrives, at every single place.
"""
import contextlib
import os
import re
import resource
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from support import processes
from support.faults import Faults
from support.pattern import KIB, pattern
from support.peers import Client, echo
from support.proxy import UnixConnection, binary, clean_environment, parse_address
from support.waiting import eventually, patient

WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
           signal.SIGCHLD)


def wait_until_gone(pids):
    eventually(lambda: not any(processes.is_running(pid) for pid in pids), f"{pids} end")


def ask_again(mirror):
    """One session of a new client."""
    client = mirror.connect()
    assert client.exchange(pattern(64 * KIB)) == pattern(64 * KIB)
    client.close()


def assert_obeys(mirror, end=signal.SIGTERM):
    """It serves, replaces a dead worker, follows every signal, and ends in good order."""
    ask_again(mirror)
    victim = mirror.workers()[0]
    os.kill(victim, signal.SIGKILL)
    mirror.wait_log(" worker_died ")
    mirror.wait_metric("doppel_worker_restarts_total", 1)
    mirror.reload()
    mirror.signal(signal.SIGUSR1)
    mirror.wait_log(" reopening_logs ")
    mirror.signal(signal.SIGUSR2)
    mirror.wait_log(" mirroring .*state=off")
    ask_again(mirror)
    assert mirror.stop(end) == 0


# What a parent leaves.

@pytest.mark.parametrize("numbers", [*[(number,) for number in WATCHED], tuple(range(1, 32))],
                         ids=lambda numbers: numbers[0].name if len(numbers) == 1 else "all")
def test_signals_that_the_parent_blocked_are_obeyed(doppel, server, numbers):
    mirror = doppel(server(echo), workers=2,
                    preexec=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, numbers))
    mirror.expect(descriptors=False, problems=("worker_died",))

    assert_obeys(mirror, numbers[0] if numbers[0] in WATCHED[:3] else signal.SIGTERM)


@pytest.mark.parametrize("number", WATCHED, ids=lambda number: number.name)
def test_signals_that_the_parent_ignored_are_obeyed(doppel, server, number):
    """Also HUP, which nohup(1) ignores: doppel does not end by it, and goes on when a terminal goes."""
    mirror = doppel(server(echo), workers=2, preexec=lambda: signal.signal(number, signal.SIG_IGN))
    mirror.expect(descriptors=False, problems=("worker_died",))

    assert_obeys(mirror, number if number in WATCHED[:3] else signal.SIGTERM)


def test_under_nohup_it_outlives_a_terminal_that_hangs_up_and_still_reloads(doppel, server):
    mirror = doppel(server(echo), prefix=["nohup"])

    mirror.reload()     # what the kernel sends then, and what an operator sends

    ask_again(mirror)


@pytest.mark.parametrize("number", [signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF],
                         ids=lambda number: number.name)
def test_the_signal_of_a_timer_that_the_parent_set_does_not_kill_it(doppel, server, number):
    mirror = doppel(server(echo))

    for pid in mirror.pids():
        os.kill(pid, number)

    ask_again(mirror)
    assert mirror.log(" worker_died ") == []


def test_a_timer_that_ran_out_before_the_start_does_not_kill_it(doppel, server):
    """Its signal waits until somebody unblocks it."""
    def leave_a_signal():
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        while signal.SIGALRM not in signal.sigpending():
            pass

    mirror = doppel(server(echo), preexec=leave_a_signal)

    ask_again(mirror)


def test_a_working_directory_that_is_gone_is_not_missed(doppel, server):
    def lose_it():
        gone = tempfile.mkdtemp()
        os.chdir(gone)
        os.rmdir(gone)

    mirror = doppel(server(echo), preexec=lose_it)
    mirror.expect(descriptors=False, problems=("worker_died",))

    assert_obeys(mirror)


@pytest.mark.parametrize("mask", [0o000, 0o777], ids=oct)
def test_a_umask_neither_opens_nor_closes_what_doppel_makes(doppel, server, tmp_path, mask):
    path, pid_file = tmp_path / "listener", tmp_path / "pid"
    mirror = doppel(server(echo), "--pid-file", str(pid_file), listens=[f"unix:{path}?mode=0660"],
                    preexec=lambda: os.umask(mask))

    ask_again(mirror)

    assert path.stat().st_mode & 0o777 == 0o660
    assert Path(mirror.admin_path).stat().st_mode & 0o777 == 0o600
    assert pid_file.stat().st_mode & 0o777 == 0o644


def test_a_file_size_limit_costs_log_lines_only(doppel, server, tmp_path):
    log = tmp_path / "log"
    mirror = doppel(server(echo), "--log-file", str(log),
                    preexec=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200)))

    ask_again(mirror)

    assert mirror.stop() == 0
    assert log.stat().st_size <= 200


def test_a_pid_file_beyond_the_file_size_limit_is_a_sentence(server, tmp_path):
    ended = subprocess.run([binary(), "-l", "127.0.0.1:0", "-r", server(echo).address, "--pid-file",
                            str(tmp_path / "pid")], env=clean_environment(), capture_output=True, text=True,
                           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
                           timeout=patient(), check=False)

    assert ended.returncode == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_streams_do_not_become_sockets(doppel, server, tmp_path, closed):
    log = tmp_path / "log"
    mirror = doppel(server(echo), "--log-file", str(log),
                    prefix=["sh", "-c", f'exec "$0" "$@" {closed}'])
    mirror.expect(access_log=False)

    ask_again(mirror)

    for pid in mirror.pids():
        assert not [stream for stream in range(3)
                    if processes.descriptors(pid)[stream].startswith("socket:")]


# close_range(2) is missing, or refused.

@pytest.mark.release
@pytest.mark.parametrize("listing", ["", ";opendir:errno=ENOENT"], ids=["proc", "no proc"])
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_without_close_range_workers_still_hold_nothing_but_their_own(doppel, server, faults, error, listing):
    usual = doppel(server(echo), workers=3)
    fault = faults(f"close_range:errno={error}{listing}")

    mirror = doppel(server(echo), workers=3, env=fault.env)

    assert fault.struck(0) >= 3 and (not listing or fault.struck(1) >= 3)
    for with_it, without in zip(usual.workers(), mirror.workers()):
        assert processes.descriptor_kinds(with_it) == processes.descriptor_kinds(without)
    for _ in range(10):
        ask_again(mirror)
    mirror.reload()
    ask_again(mirror)
    assert mirror.stop() == 0


@pytest.mark.release
def test_without_close_range_the_death_of_the_supervisor_is_noticed(doppel, server, faults):
    fault = faults("close_range:errno=ENOSYS")
    mirror = doppel(server(echo), workers=2, env=fault.env)
    mirror.expect(exit_status=-signal.SIGKILL, totals=False)
    workers = mirror.workers()

    os.kill(mirror.pid(), signal.SIGKILL)

    wait_until_gone(workers)


# Each call of a start.

class Start:
    """One start with everything that a start makes; it serves, or it ends."""

    def __init__(self, directory, primary, fault, *flags):
        self.directory = Path(directory)
        self.paths = [self.directory / name for name in ("listener", "admin", "pid")]
        self.log = self.directory / "log"
        command = [binary(release=True), "-w", "2", "-l", "127.0.0.1:0", "-l", f"unix:{self.paths[0]}",
                   "-r", primary.address, "--admin", f"unix:{self.paths[1]}",
                   "--pid-file", str(self.paths[2]), *flags]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, env=clean_environment(fault.env), stderr=log,
                                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def said(self):
        return self.log.read_text().splitlines()

    def addresses(self):
        return [parse_address(line.rpartition("address=")[2]) for line in self.said()
                if " listening " in line]

    def wait(self):
        """True: it listens.  False: it has ended."""
        def has_settled():
            if self.process.poll() is not None:
                return True
            pids = [self.process.pid, *processes.children(self.process.pid)]
            return len(self.addresses()) == 2 and all(processes.is_asleep(pid) for pid in pids)
        eventually(has_settled, lambda: f"it listens, or ends: {self.said()}", 60)
        return self.process.poll() is None

    def assert_serves(self):
        for address in self.addresses() * 3:
            client = Client(address)
            try:
                assert client.exchange(b"hello") == b"hello"
                client.finish()
                assert client.recv() == b""
            finally:
                client.close()
        connection = UnixConnection(str(self.paths[1]))
        connection.request("GET", "/readyz", headers={"Connection": "close"})
        assert connection.getresponse().status == 200
        connection.close()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patient(20))

    def assert_failed_in_good_order(self):
        assert self.process.returncode == 1, self.said()
        sentences = [line for line in self.said() if line.startswith("doppel: ") or " error " in line]
        assert sentences, self.said()

    def assert_nothing_is_left(self):
        assert [path.name for path in self.paths if path.exists()] == [], self.said()
        assert {path.name for path in self.directory.iterdir()} == {"log"}

    def kill(self):
        if self.process.poll() is None:
            for pid in [self.process.pid, *processes.children(self.process.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()


@contextlib.contextmanager
def started(primary, fault, *flags):
    with tempfile.TemporaryDirectory(prefix="start-") as directory:
        os.chmod(directory, 0o777)
        start = Start(directory, primary, fault, *flags)
        try:
            yield start
        finally:
            start.kill()


def each_call(spec, who="all"):
    """A Faults for each call, in turn, until a start makes no further one."""
    for number in range(1, 5000):
        fault = Faults(f"{spec}:n=told:who={who}:fd=any", on=False)
        fault.strike_call(number)
        yield fault
        struck = fault.struck()
        fault.close()
        if struck == 0:
            assert number > 1, f"a start never calls {spec}"
            return


MEMORY = ("mmap", "malloc", "calloc", "strdup")
CALLS = [
    ("open", "EMFILE"), ("fopen", "EMFILE"), ("fcntl", "EMFILE"), ("fcntl", "EPERM"), ("socket", "EMFILE"),
    ("setsockopt", "ENOPROTOOPT"), ("setsockopt", "EPERM"), ("getsockopt", "ENOPROTOOPT"),
    ("bind", "EACCES"), ("listen", "EPERM"), ("getsockname", "ENOBUFS"), ("lstat", "EACCES"),
    ("fstat", "EIO"), ("epoll_create1", "EMFILE"), ("epoll_ctl", "ENOMEM"),
    ("signalfd", "ENOSYS"), ("signal", "EINVAL"), ("sigprocmask", "EINVAL"), ("pipe2", "EMFILE"),
    ("fork", "EAGAIN"), ("close_range", "ENOSYS"), ("close_range", "EPERM"), ("getrandom", "ENOSYS"),
    ("prctl", "EPERM"), ("getrlimit", "EPERM"), ("setrlimit", "EPERM"), ("fchmod", "EPERM"),
    ("rename", "EACCES"), ("mkostemp", "EROFS"), ("flock", "ENOSYS"), ("read", "EIO"), ("write", "ENOSPC"),
    *((call, "ENOMEM") for call in MEMORY),
]


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
@pytest.mark.parametrize("call", ["prctl", "setresuid", "setresgid", "initgroups", "fchownat", "fchown",
                                  "open"])
def test_whichever_step_to_another_user_fails_it_has_become_that_user_or_ends(server, call):
    primary = server(echo)

    for fault in each_call(f"{call}:errno=EPERM", "supervisor"):
        with started(primary, fault, "--user", "nobody") as start:
            if start.wait():
                fault.off()
                for pid in [start.process.pid, *processes.children(start.process.pid)]:
                    status = Path(f"/proc/{pid}/status").read_text()
                    assert re.search(r"^Uid:(\s65534){4}$", status, re.MULTILINE)
                start.assert_serves()
                assert start.end() == 0, start.said()
            else:
                start.assert_failed_in_good_order()
            start.assert_nothing_is_left()


@pytest.mark.parametrize("call, error", CALLS, ids=lambda value: value)
def test_whichever_call_of_a_start_fails_it_serves_or_ends_with_a_sentence(server, call, error):
    primary = server(echo)

    for fault in each_call(f"{call}:errno={error}"):
        with started(primary, fault) as start:
            if start.wait():
                fault.off()
                start.assert_serves()
                assert start.end() == 0, start.said()
            else:
                start.assert_failed_in_good_order()
            if call not in MEMORY:  # what is left then is stale, and the next start takes it over
                start.assert_nothing_is_left()


@pytest.mark.parametrize("call", ["open", "fopen", "socket", "setsockopt", "bind", "listen", "mkostemp",
                                  "rename", "epoll_create1", "pipe2", "fork", "signalfd", "calloc"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT], ids=lambda n: n.name)
def test_a_stop_at_any_moment_of_a_start_ends_in_good_order(server, number, call):
    primary = server(echo)

    for fault in each_call(f"{call}:signal={number}", "supervisor"):
        with started(primary, fault) as start:
            start.wait()
            if fault.struck() > 0:
                assert start.process.wait(patient(20)) in (0, 1), start.said()
                start.assert_nothing_is_left()


@pytest.mark.parametrize("call", ["open", "socket", "bind", "rename", "pipe2", "fork"])
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2], ids=lambda n: n.name)
def test_a_request_at_any_moment_of_a_start_is_obeyed_afterwards(server, number, call):
    primary = server(echo)
    answers = {signal.SIGHUP: " reloaded ", signal.SIGUSR1: " reopening_logs ", signal.SIGUSR2: " mirroring "}

    for fault in each_call(f"{call}:signal={number}", "supervisor"):
        with started(primary, fault) as start:
            assert start.wait(), start.said()
            if fault.struck() > 0:
                eventually(lambda: any(answers[number] in line for line in start.said()), "it is obeyed")
            start.assert_serves()
            assert start.end() == 0
