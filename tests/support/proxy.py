"""
proxy.py — doppel as a process: started, watched and stopped by a test.

    mirror = doppel(primary, "--idle-timeout", "300ms", shadows=[shadow])      (the fixture)
    client = mirror.connect()
    mirror.session(0)["reason"]                  the first line of the access log
    mirror.shadow(0, "shadow0")["sent_bytes"]    its entry for one shadow
    mirror.metric("doppel_shadow_bytes_total", shadow="shadow0", fate="lost")
    mirror.wait_log("listening")                 a log line as LogLine: level, text, fields
    mirror.assert_not_spinning()                 while a fault is held
    doppel(primary, shadows=[s], config=path)    all that is said stands in that file
    mirror.reload()                              which is read once more
    mirror.expect(identity="prefix")             what the closing checks are to expect

Addresses are those doppel says it listens on.  Every peer made by connect() and every Server given
as primary or shadow takes part in the checks of support.checks.
"""
import http.client
import json
import os
import re
import shutil
import signal as signals
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from support import processes
from support.peers import Client, Server
from support.waiting import eventually, let_pass, patient

ROOT = Path(__file__).resolve().parents[2]

# Everything small, so that on loopback a few hundred kilobytes reach every limit.
SMALL = ("--sndbuf", "4k", "--rcvbuf", "4k", "--buffer", "4k")

SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:exitcode=99:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}

SPINNING_TRIES = 4      # who spins never stops

LINE = re.compile(r"^(?P<time>\S+Z) (?P<level>[a-z]+) (?P<text>.*)$")
PAIR = re.compile(r'([A-Za-z_][\w.]*)=("(?:[^"\\]|\\.)*"|\S*)')
SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def binary(release=False):
    """The program under test."""
    variable, usual = (("DOPPEL_RELEASE", "build/release/doppel") if release
                       else ("DOPPEL", "build/sanitized/doppel"))
    return str((ROOT / os.environ.get(variable, usual)).resolve())


def program_in(directory, release=False):
    """A copy of it, for users who cannot reach the sources: those may lie in root's directory."""
    return shutil.copy(binary(release), directory)


def io_mode():
    """How all proxies are to move bytes that are not told by their test: $DOPPEL_TEST_IO, or ""."""
    return os.environ.get("DOPPEL_TEST_IO", "")


def clean_environment(extra=None):
    """Without DOPPEL_* of the test run itself: doppel would take them for its own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DOPPEL")}
    return {**kept, **SANITIZERS, **(extra or {})}


@dataclass
class ShadowTarget:
    """One entry of -d, and the Server behind it when there is one."""
    text: str
    server: object = None
    name: str = None


def shadow(target, name=None, **options):
    """shadow(server, "canary", buffer="64k", max_sessions=2, from_="10.0.0.0/8") for shadows=[...]."""
    address = target.address if isinstance(target, Server) else target
    query = "&".join(f"{key.strip('_').replace('_', '-')}={value}" for key, value in options.items())
    mark = "&" if "?" in address else "?"
    text = (f"{name}=" if name else "") + address + (f"{mark}{query}" if query else "")
    return ShadowTarget(text, target if isinstance(target, Server) else None, name)


@dataclass
class LogLine:
    raw: str
    level: str = ""
    text: str = ""
    fields: dict = field(default_factory=dict)

    @staticmethod
    def parse(raw):
        if raw.startswith("{"):
            fields = json.loads(raw)
            return LogLine(raw, fields.get("level", ""), fields.get("event", ""), fields)
        found = LINE.match(raw)
        if found is None:
            return LogLine(raw)
        pairs = {key: _unquoted(value) for key, value in PAIR.findall(found["text"])}
        return LogLine(raw, found["level"], found["text"], pairs)


def _unquoted(value):
    if value.startswith('"'):
        return value[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return value


class LineReader(threading.Thread):
    """Reads a pipe to its end, line by line, so that doppel never waits for us."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self.lines = []
        self._pipe = pipe
        self.start()

    def run(self):
        with self._pipe:
            for raw in self._pipe:
                self.lines.append(raw.decode("utf-8", "replace").rstrip("\n"))


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=patient())
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass
class Expectation:
    """What the closing checks expect; a test changes it through Doppel.expect()."""
    identity: str = "exact"     # "prefix": some transfer was broken off; "none": not comparable
    exit_status: int = 0
    quiesce: bool = True        # all sessions end once the peers have ended
    descriptors: bool = True    # as many of each kind as at the start
    books: bool = True
    access_log: bool = True     # one whole line per session arrived
    spinning: bool = True
    totals: bool = True
    problems: tuple = ()        # patterns of errors that the test provokes; wait_log(level="error") adds one


class Doppel:
    """One running proxy.  See the top of this file; the fixture passes its arguments on."""

    def __init__(self, primary, *flags, shadows=(), listens=("127.0.0.1:0",), workers=1, env=None,
                 prefix=(), preexec=None, stdout=None, stderr=None, cwd=None, release=False,
                 admin=True, wait=True, program=None, pass_fds=(), config=None, io=None, user=None):
        self.directory = tempfile.mkdtemp(prefix="doppel-")
        self.program = program or (binary(release) if user is None else program_in(self.directory, release))
        self.admin_path = os.path.join(self.directory, "admin")
        self.expectation = Expectation()
        self.clients = []
        self.exit_status = None
        self.last_metrics = {}
        self.release = release
        primaries = primary if isinstance(primary, (list, tuple)) else [primary]
        self.primaries = [p for p in primaries if isinstance(p, Server)]
        self.shadows = _named([s if isinstance(s, ShadowTarget) else shadow(s) for s in shadows])
        self.listens = list(listens)
        said = ["-c", str(config)] if config else self._arguments(primaries, workers)
        admin = ["--admin", f"unix:{self.admin_path}"] if admin else []
        self.command = [*prefix, self.program, *said, *admin, *flags]
        self.addresses = []
        self.descriptors_at_start = {}
        self._access = None
        self.io = io or io_mode()
        self._identity = {}
        if user is not None:
            os.chown(self.directory, user, user)
            self._identity = {"user": user, "group": user, "extra_groups": []}
        told = {"DOPPEL_IO": self.io} if self.io else {}
        self._start({**told, **(env or {})}, preexec, stdout, stderr, cwd, pass_fds)
        if wait:
            self.wait_until_listening()

    # Talking to it.

    def connect(self, listener=0, **options):
        """A Client of this proxy; options as in peers.Client (rcvbuf, sndbuf, source, keep)."""
        client = Client(self.addresses[listener], **options)
        self.clients.append(client)
        return client

    def expect(self, **changes):
        """Opts out of closing checks: identity="prefix", totals=False, ... (Expectation); problems add up."""
        self.expectation.problems += tuple(changes.pop("problems", ()))
        for name, value in changes.items():
            assert hasattr(self.expectation, name), name
            setattr(self.expectation, name, value)

    def get(self, path, method="GET", headers=None):
        """(status, body) of an admin request."""
        connection = UnixConnection(self.admin_path)
        try:
            connection.request(method, path, headers={"Connection": "close", **(headers or {})})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def metrics(self):
        """{(name, ((label, value), ...)): number}, labels sorted."""
        status, text = self.get("/metrics")
        assert status == 200, text
        self.last_metrics = parse_metrics(text)
        return self.last_metrics

    def metric(self, name, **labels):
        """The sum over all samples of that name that carry these labels."""
        return metric_of(self.metrics(), name, **labels)

    def shadow_closed(self, reason, name="shadow0"):
        """How many of that shadow's connections ended for that reason."""
        return self.metric("doppel_shadow_closed_total", shadow=name, reason=reason)

    def wait_metric(self, name, least, timeout=10, **labels):
        """Waits until the metric is at least that much, and answers it."""
        eventually(lambda: self.metric(name, **labels) >= least,
                   lambda: f"{name}{labels} >= {least}: {self.metric(name, **labels)}", timeout)
        return self.metric(name, **labels)

    def status(self):
        code, text = self.get("/status")
        assert code == 200, text
        return json.loads(text)

    def access_log(self, count):
        """Waits for count lines and answers them all, parsed."""
        eventually(lambda: len(self.access_lines) >= count,
                   lambda: f"{count} access-log lines: {self.access_lines}")
        return [json.loads(line) for line in self.access_lines]

    def session(self, number=0):
        return self.access_log(number + 1)[number]

    def shadow(self, number, name):
        """What the access log's line number says about one shadow."""
        session = self.session(number)
        found = [entry for entry in session.get("shadows", []) if entry["name"] == name]
        assert len(found) == 1, f"{name} in {session}"
        return found[0]

    @property
    def access_lines(self):
        return list(self._access.lines) if self._access else []

    @property
    def log_lines(self):
        return list(self._log.lines) if self._log else []

    def log(self, wanted="", level=None):
        """The log lines that match the pattern (anywhere in the raw line), as LogLine."""
        parsed = (LogLine.parse(raw) for raw in self.log_lines if re.search(wanted, raw))
        return [line for line in parsed if level is None or line.level == level]

    def wait_log(self, wanted, count=1, level=None):
        if level == "error":
            self.expect(problems=(wanted,))
        eventually(lambda: len(self.log(wanted, level)) >= count,
                   lambda: f"log line {wanted!r}:\n" + "\n".join(self.log_lines))
        return self.log(wanted, level)

    def assert_log_count(self, wanted, least, most, level=None):
        """The rate limits work: not fewer lines than least, not more than most."""
        self.wait_log(wanted, least, level)
        found = self.log(wanted, level)
        assert len(found) <= most, "\n".join(line.raw for line in found)

    # Watching the processes.

    def pid(self):
        """The supervisor: under a prefix command it may be a descendant of what was started."""
        candidates = [self._process.pid]
        while candidates:
            candidate = candidates.pop(0)
            try:
                if os.readlink(f"/proc/{candidate}/exe") == self.program:
                    return candidate
            except OSError:
                pass
            candidates += processes.children(candidate)
        return self._process.pid

    def workers(self):
        return processes.children(self.pid())

    def pids(self):
        """Supervisor first, then its workers."""
        supervisor = self.pid()
        return [supervisor, *processes.children(supervisor)]

    def cpu_ticks(self):
        return sum(processes.cpu_ticks(pid) for pid in self.pids())

    def fds(self):
        """[(supervisor's kinds), (worker's kinds), ...], each {kind: count}."""
        return [processes.descriptor_kinds(pid) for pid in self.pids()]

    def rss_bytes(self):
        return sum(processes.rss_bytes(pid) for pid in self.pids())

    def assert_not_spinning(self, seconds=1.0):
        """
        Holds what is, and sees the processes use less than 5 % of a CPU, and none of them run or wait
        for a CPU all the time.  On a busy machine work takes longer to end, so it gets more tries.
        """
        for _ in range(SPINNING_TRIES if os.getloadavg()[0] > len(os.sched_getaffinity(0)) else 1):
            pids = self.pids()
            before = [processes.scheduled_seconds(pid) for pid in pids]
            began = time.monotonic()
            let_pass(seconds)
            elapsed = time.monotonic() - began
            spent = [tuple(now - then for now, then in zip(processes.scheduled_seconds(pid), its))
                     for pid, its in zip(pids, before)]
            if (sum(ran for ran, _ in spent) < 0.02 + 0.03 * elapsed
                    and all(ran + waited < 0.8 * elapsed for ran, waited in spent)):
                return
        raise AssertionError(f"seconds on a CPU and waiting for one: {spent} in {elapsed:.1f} s: they spin")

    # Its life.

    def is_running(self):
        return self._process.poll() is None

    def signal(self, number):
        os.kill(self.pid(), number)

    def stop(self, number=signals.SIGTERM, timeout=20):
        """Sends the signal and waits; answers the exit status (negative: died of a signal)."""
        if self.is_running():
            self.signal(number)
        return self.wait_exit(timeout)

    def insist(self, number=signals.SIGTERM):
        """Signals until doppel ends at once; what comes within a second of the first is the same request."""
        def has_ended():
            if self.is_running() and not self.log(" hurried "):
                self.signal(number)
            return not self.is_running()
        eventually(has_ended, "it ends at once")
        return self.wait_exit()

    def wait_exit(self, timeout=20):
        try:
            self.exit_status = self._process.wait(patient(timeout))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running {patient(timeout)} s after the signal") from None
        for reader in (self._access, self._log):
            if reader is not None:
                reader.join(patient(2))
        return self.exit_status

    def kill(self):
        """However it stands: nothing of it is left afterwards."""
        if self.is_running():
            for pid in reversed(self.pids()):
                try:
                    os.kill(pid, signals.SIGKILL)
                except ProcessLookupError:
                    pass
            self._process.kill()
            self._process.wait(patient())
        shutil.rmtree(self.directory, ignore_errors=True)

    def reload(self):
        """Sends HUP, and waits until each new connection meets the new configuration."""
        so_far = len(self.log(" reloaded "))
        self.signal(signals.SIGHUP)
        self.wait_log(" reloaded ", so_far + 1)

    def wait_until_listening(self):
        """Until the contract lines are there, one per listener; with -q, until /readyz says so."""
        def ready():
            if not self.is_running():
                self.wait_exit()
                raise AssertionError("doppel ended at start:\n" + self.report())
            if self._log is None or self._is_quiet():
                return self._listening_by_status()
            lines = self.log("listening", level="info")
            return len(lines) >= len(self.listens) and [line.fields["address"] for line in lines]
        said = eventually(ready, lambda: "listening:\n" + self.report())
        self.addresses = [parse_address(text) for text in said]
        # A worker that sleeps has closed what it needed for its start; and our own questions to
        # /status are over when only the listeners and the admin endpoint are left.
        eventually(lambda: all(processes.is_asleep(pid) for pid in self.pids()), "all are at rest")
        if self._log is None or self._is_quiet():
            sockets = len(self.workers()) * len(self.listens) + 1
            eventually(lambda: processes.descriptor_kinds(self.pid())["socket"] <= sockets,
                       "the supervisor closes the connections of our questions")
        self.descriptors_at_start = {pid: processes.descriptor_kinds(pid) for pid in self.pids()}

    def report(self):
        """All there is to know, for a test that failed."""
        status = "(not running)"
        if self.is_running():
            try:
                status = json.dumps(json.loads(self.get("/status")[1]))
            except (OSError, ValueError) as error:
                status = f"(no answer: {error})"
        return "\n".join([
            "command: " + " ".join(self.command), f"exit status: {self.exit_status}",
            "log:", *self.log_lines[-60:],
            "access log:", *self.access_lines[-20:], "status:", status])

    def _arguments(self, primaries, workers):
        arguments = ["-w", str(workers)] if workers else []
        for listen in self.listens:
            arguments += ["-l", listen]
        for target in primaries:
            if target is not None:
                arguments += ["-r", target.address if isinstance(target, Server) else target]
        for target in self.shadows:
            arguments += ["-d", target.text]
        return arguments

    def _start(self, env, preexec, stdout, stderr, cwd, pass_fds):
        self._process = subprocess.Popen(
            self.command, env=clean_environment(env), cwd=cwd, preexec_fn=preexec, pass_fds=pass_fds,
            **self._identity,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.PIPE if stderr is None else stderr)
        self._access = LineReader(self._process.stdout) if stdout is None else None
        self._log = LineReader(self._process.stderr) if stderr is None else None

    def _is_quiet(self):
        return "-q" in self.command or "--log-level" in self.command or "--log-file" in self.command

    def _listening_by_status(self):
        try:
            if self.get("/readyz")[0] != 200:
                return None
            return [listener["address"] for listener in self.status()["listeners"]]
        except OSError:
            return None


def _named(targets):
    for number, target in enumerate(targets):
        if target.name is None:
            found = re.match(r"([\w.-]+)=", target.text)
            target.name = found[1] if found else f"shadow{number}"
    return targets


def parse_address(text):
    """What a socket takes: ("127.0.0.1", 80), ("::1", 80) or a path."""
    if text.startswith("unix:"):
        return text[len("unix:"):]
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    return {"::": "::1", "0.0.0.0": "127.0.0.1"}.get(host, host), int(port)


def parse_metrics(text):
    samples = {}
    for row in text.splitlines():
        if row.startswith("#") or not row:
            continue
        found = SAMPLE.match(row)
        assert found, f"not a sample: {row!r}"
        labels = tuple(sorted(LABEL.findall(found[2] or "")))
        assert (found[1], labels) not in samples, f"twice: {row!r}"
        samples[found[1], labels] = float(found[3])
    return samples


def metric_of(samples, name, **labels):
    """The sum over the samples of that name whose labels include these."""
    wanted = set(labels.items())
    return sum(value for (sample, its), value in samples.items()
               if sample == name and wanted <= set(its))
