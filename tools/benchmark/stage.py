"""
stage.py — where measurements take place, so that they disturb nobody and nobody disturbs them.

    network namespace of its own, cubic on loopback
      core A: the proxy           everything it uses is its own cost
      core B: load, servers, this program

A process that was started here does not outlive this program.
"""
import ctypes
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "build/bench"
INSIDE = "BENCH_INSIDE"         # set for the copy of this program that runs in the namespace
CONGESTION_CONTROL = "cubic"
PR_SET_PDEATHSIG = 1
START_SECONDS = 10
LISTEN = "0A"
FORGET_PEAK = "5"               # proc(5), clear_refs
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Debian's haproxy and nginx are here, and not on everybody's PATH.
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"])

_libc = ctypes.CDLL(None, use_errno=True)


class Trouble(Exception):
    """A measurement could not be made, and why."""


def find(program):
    path = shutil.which(program, path=PATH)
    if path is None:
        raise Trouble(f"{program} is not installed")
    return path


def enter_namespace():
    """Starts this program again in a network namespace, where that is possible; then never returns."""
    if INSIDE in os.environ:
        return
    command = ["unshare", "--net"]
    if os.geteuid() != 0:
        # Not as a root of its own: nginx would want to be somebody else then, and may not.
        command += ["--user", "--map-current-user", "--keep-caps"]
    possible = shutil.which("unshare") and subprocess.run(
        [*command, "true"], stderr=subprocess.DEVNULL).returncode == 0
    os.environ[INSIDE] = "1" if possible else ""
    if possible:
        os.execvp("unshare", [*command, sys.executable, *sys.argv])


def _quietly(command):
    return shutil.which(command.split()[0], path=PATH) is not None and subprocess.run(
        command.split(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PATH": PATH}).returncode == 0


def _force_congestion_control():
    """By the routes of loopback, whose rows win over the namespace's default; and by that default."""
    _quietly(f"ip route change local 127.0.0.0/8 dev lo table local congctl {CONGESTION_CONTROL}")
    _quietly(f"ip route change local 127.0.0.1 dev lo table local congctl {CONGESTION_CONTROL}")
    try:
        Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text(CONGESTION_CONTROL)
    except OSError:
        pass


def congestion_control():
    """What both ends of a connection here really use, as they say themselves."""
    with socket.create_server(("127.0.0.1", 0)) as listener, \
            socket.create_connection(listener.getsockname()) as client, listener.accept()[0] as server:
        names = {end.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).split(b"\0")[0].decode()
                 for end in (client, server)}
    return "/".join(sorted(names))


class Stage:
    """Use it with `with`: at the end the processes and the directory are gone."""

    def __init__(self):
        self.has_namespace = os.environ.get(INSIDE) == "1"
        cores = sorted(os.sched_getaffinity(0))
        self.proxy_core, self.load_core = cores[0], cores[min(1, len(cores) - 1)]
        self.processes = []

    def __enter__(self):
        if self.has_namespace:
            _quietly("ip link set lo up")
            _force_congestion_control()
            try:
                Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("10000 65000")
            except OSError:
                pass
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self.descriptors = most
        os.sched_setaffinity(0, {self.load_core})
        self.directory = Path(tempfile.mkdtemp(prefix="doppel-bench-"))
        return self

    def __exit__(self, *_):
        self.clear()
        shutil.rmtree(self.directory)

    def clear(self):
        """Ends what was started; a measurement leaves nothing behind for the next one."""
        while self.processes:
            self.processes.pop().end()

    def write(self, name, text):
        (self.directory / name).write_text(text)
        return str(self.directory / name)

    def start(self, command, core, **pipes):
        process = Process(command, core, self.directory / "log", **pipes)
        self.processes.append(process)
        return process

    def start_proxy(self, command, port):
        """Answers when it listens on that port."""
        proxy = self.start(command, self.proxy_core)
        until = time.monotonic() + START_SECONDS
        while not is_listening(port):
            if proxy.has_ended() or time.monotonic() > until:
                raise Trouble(f"{Path(command[0]).name} does not listen: {proxy.last_words()}")
            time.sleep(0.005)
        return proxy

    def free_port(self):
        """In the namespace nobody else can take it meanwhile."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]


def is_listening(port):
    """Asks the kernel: a connection would be one more for the proxy, and its targets."""
    rows = (_read("/proc/net/tcp") + _read("/proc/net/tcp6")).splitlines()
    return any(fields[1].endswith(f":{port:04X}") and fields[3] == LISTEN for fields in map(str.split, rows))


class Process:
    """A program on one core, the leader of a session of its own, with all its descendants in it."""

    def __init__(self, command, core, log, **pipes):
        def before_exec():
            os.sched_setaffinity(0, {core})
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

        self.log = log
        # doppel reads DOPPEL_... as its own settings.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("DOPPEL")}
        with open(log, "wb") as said:
            try:
                self.child = subprocess.Popen(
                    command, preexec_fn=before_exec, start_new_session=True, env=environment,
                    **{"stdin": subprocess.DEVNULL, "stdout": said, "stderr": said, **pipes})
            except OSError as error:
                raise Trouble(f"{command[0]}: {error.strerror}") from error
        self.pid = self.child.pid

    def has_ended(self):
        return self.child.poll() is not None

    def last_words(self):
        return self.log.read_text(errors="replace").strip()[-500:] or "it says nothing"

    def end(self):
        """At once, with its descendants."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.child.wait()
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                pipe.close()

    def members(self):
        """{process id: fields of its stat from the state on}, of all in its session."""
        found = {}
        for entry in filter(str.isdigit, os.listdir("/proc")):
            fields = _stat(entry)
            if fields and int(fields[3]) == self.pid:
                found[int(entry)] = fields
        return found

    def cpu_seconds(self):
        """User and system time of the whole session, children that have ended included."""
        return sum(_own_seconds(pid, fields) + (int(fields[13]) + int(fields[14])) / TICKS_PER_SECOND
                   for pid, fields in self.members().items())

    def pss_bytes(self):
        """User memory: what is shared counts once, in equal parts."""
        return sum(_kib(f"/proc/{pid}/smaps_rollup", "Pss") * 1024 for pid in self.members())

    def rss_bytes(self):
        return sum(_kib(f"/proc/{pid}/status", "VmRSS") * 1024 for pid in self.members())

    def most_rss_bytes(self):
        """The most that each has had since forget_most_rss(), or ever."""
        return sum(_kib(f"/proc/{pid}/status", "VmHWM") * 1024 for pid in self.members())

    def forget_most_rss(self):
        """Only root may, for a program that keeps its memory to itself; its start takes little, too."""
        for pid in self.members():
            with suppress(PermissionError):
                Path(f"/proc/{pid}/clear_refs").write_text(FORGET_PEAK)


def _read(path):
    """A file of /proc; "" when the process has gone."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _stat(pid):
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _own_seconds(pid, fields):
    """
    The scheduler's nanoseconds, where the kernel tells them: utime and stime count in steps of 10 ms.
    They miss threads that have ended, which utime and stime have; so the larger one is right.
    """
    ticks = (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND
    times = [_read(path) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return max(ticks, sum(int(time_.split()[0]) for time_ in times if time_) / 1e9)


def _kib(path, key):
    rows = (row.split() for row in _read(path).splitlines())
    return next((int(row[1]) for row in rows if row and row[0] == f"{key}:"), 0)
