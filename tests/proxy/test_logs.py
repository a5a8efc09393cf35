"""
test_logs.py — logging never waits, never forges and never costs a client anything: full pipes,
readers that went away, full disks, and text that would like to be a line of its own.
"""
import fcntl
import json
import os
import re
import resource
import select
import signal
import socket
import subprocess
import tempfile

import pytest

from support import processes
from support.pattern import KIB, MIB, pattern
from support.peers import Job, echo, hold, sink
from support.proxy import LINE, LogLine, binary, clean_environment, parse_address, shadow
from support.waiting import eventually, patient

SMALLEST_PIPE = 4096
MANY = 12       # shadows that are sampled out make each access-log line long


def padding(count=MANY):
    """Shadows that get nothing, wherever they are."""
    return [shadow("127.0.0.1:1", f"some-shadow-with-a-long-name-{number}", sample=0)
            for number in range(count)]


def exchanges(mirror, count, listener=0):
    """That many whole sessions, one after the other."""
    for number in range(count):
        client = mirror.connect(listener)
        assert client.exchange(pattern(KIB, number)) == pattern(KIB, number)
        client.close()


def small_pipe():
    """(read end, write end) of a pipe that holds one page."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
    return ends


def stream_socket():
    """The same as a socket, which cannot be opened again through /proc."""
    return tuple(end.detach() for end in socket.socketpair())


def read_lines(descriptor, until):
    """Reads whole lines until the condition holds for them."""
    text = b""
    lines = []

    def step():
        nonlocal text
        if select.select([descriptor], [], [], 0)[0]:
            text += os.read(descriptor, 65536)
        lines[:] = text.decode().split("\n")[:-1]
        return until(lines)
    eventually(step, lambda: f"{len(lines)} lines, the last: {lines[-1:]}")
    return lines


def exchange_until_dropped(mirror, least=1):
    """Sessions until lines are dropped; answers how many sessions that took."""
    count = 0
    while mirror.metric("doppel_log_dropped_total") < least:
        exchanges(mirror, 20)
        count += 20
        assert count < 4000, "nothing is ever dropped"
    return count


# L16: nobody reads.

@pytest.mark.parametrize("make", [os.pipe, stream_socket])
def test_L16_a_full_stdout_drops_lines_and_never_blocks(doppel, server, make):
    primary = server(echo)
    reading, writing = make()
    mirror = doppel(primary, shadows=padding(), stdout=writing)
    os.close(writing)

    sessions = exchange_until_dropped(mirror, 10)
    mirror.assert_not_spinning()
    exchanges(mirror, 5)                    # still served
    sessions += 5
    mirror.wait_metric("doppel_sessions_closed_total", sessions)

    lines = read_lines(reading, lambda found: told(mirror) + len(found) == sessions)
    dropped = told(mirror)
    assert dropped >= 10 and mirror.metric("doppel_log_dropped_total") == dropped
    numbers = [json.loads(line)["session"] for line in lines]      # whole lines, each once
    assert len(set(numbers)) == len(lines) == sessions - dropped

    exchanges(mirror, 3)
    more = read_lines(reading, lambda found: len(found) == 3)
    assert all(json.loads(line)["reason"] == "client_fin" for line in more)
    assert mirror.metric("doppel_log_dropped_total") == dropped
    os.close(reading)


def told(mirror):
    """How many lines of the access log were lost, as the log says."""
    return sum(int(line.fields["lines"]) for line in mirror.log(" log dropped sink=access"))


def test_L16_a_full_stderr_drops_lines_and_never_blocks(doppel, server):
    primary = server(sink)
    reading, writing = small_pipe()
    mirror = doppel(primary, "-v", shadows=padding(1), stderr=writing)
    os.close(writing)

    count = 0
    while mirror.metric("doppel_log_dropped_total") < 10:
        for pid in [mirror.pid()] * 50:
            os.kill(pid, signal.SIGUSR1)    # each is a line
        count += 1
        assert count < 2000, "nothing is ever dropped"
    mirror.assert_not_spinning()
    client = mirror.connect()
    client.send(pattern(KIB))
    client.finish()
    assert client.recv() == b""

    def is_told(lines):
        mirror.metrics()                    # the supervisor writes when something happens
        return any(" log dropped sink=log" in line for line in lines)
    lines = read_lines(reading, is_told)
    assert all(LINE.match(line) for line in lines)
    said = sum(int(LogLine.parse(line).fields["lines"]) for line in lines if " log dropped " in line)
    assert 0 < said <= mirror.metric("doppel_log_dropped_total")
    os.close(reading)


def test_L16_a_full_stdout_does_not_hold_up_the_exit(doppel, server):
    primary = server(echo)
    reading, writing = small_pipe()
    mirror = doppel(primary, shadows=padding(), stdout=writing)
    os.close(writing)
    exchange_until_dropped(mirror)

    assert mirror.stop() == 0
    os.close(reading)


def test_a_file_that_others_write_to_as_well_keeps_every_line_of_each(doppel, server, tmp_path):
    """As in: { echo begin; doppel ...; echo end; } > FILE 2>&1"""
    path = tmp_path / "log"
    shared = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(shared, b"begin\n")
    mirror = doppel(server(echo), stdout=shared, stderr=shared, workers=2)
    exchanges(mirror, 3)
    eventually(lambda: path.read_text().count("client_fin") == 3, "three lines of the access log")
    os.write(shared, b"between\n")
    exchanges(mirror, 3)
    assert mirror.stop() == 0
    os.write(shared, b"end\n")
    os.close(shared)

    lines = path.read_text().splitlines()
    assert lines[0] == "begin" and lines[-1] == "end" and "between" in lines
    assert len([json.loads(line) for line in lines if line.startswith("{")]) == 6
    assert [line.split()[3] for line in lines if LINE.match(line)] == [
        "admin", "starting", "listening", "in_effect", "draining", "totals"]


# L17: nobody is there to read.

@pytest.mark.parametrize("make", [os.pipe, stream_socket])
def test_L17_a_reader_that_went_away_costs_only_the_lines(doppel, server, make):
    reading, writing = make()
    mirror = doppel(server(echo), shadows=[server(sink)], stdout=writing, workers=2)
    os.close(writing)
    os.close(reading)

    exchanges(mirror, 20)

    mirror.wait_metric("doppel_log_dropped_total", 20)
    mirror.assert_not_spinning(0.5)
    assert mirror.metric("doppel_worker_restarts_total") == 0
    assert mirror.stop() == 0
    assert mirror.log("log dropped") == []      # who would read on stdout? nobody ever again


def test_L17_a_log_reader_that_went_away_costs_only_the_lines(doppel, server):
    reading, writing = os.pipe()
    refusing = server(state="refusing")
    mirror = doppel(server(echo), "-v", shadows=[refusing], stderr=writing)
    os.close(writing)
    os.close(reading)

    exchanges(mirror, 10)
    os.kill(mirror.pid(), signal.SIGUSR1)

    mirror.wait_metric("doppel_log_dropped_total", 2)
    assert mirror.stop() == 0
    assert [line["reason"] for line in mirror.access_log(10)] == ["client_fin"] * 10


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)], ids=str)
def test_L17_closed_standard_streams_are_not_taken_by_sockets(doppel, server, closed):
    """What a library prints to descriptor 2 must never reach a client."""
    def close_them():
        for number in closed:
            os.close(number)
    mirror = doppel(server(echo), shadows=[server(sink)], stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL, preexec=close_them)

    exchanges(mirror, 5)

    for pid in mirror.pids():
        there = processes.descriptors(pid)
        assert set(range(3)) <= set(there)
        assert not any(there[number].startswith(("socket:", "anon_inode:")) for number in range(3))


# L18: no room, no permission.

def test_L18_a_full_disk_costs_only_the_lines(doppel, server):
    mirror = doppel(server(echo), "--log-file", "/dev/full", "--access-log", "/dev/full", workers=2,
                    shadows=[server(sink)])

    exchanges(mirror, 20)

    mirror.wait_metric("doppel_log_dropped_total", 20)
    mirror.assert_not_spinning()
    assert mirror.metric("doppel_worker_restarts_total") == 0
    assert mirror.stop() == 0


def test_L18_a_full_disk_behind_stdout_costs_only_the_lines(doppel, server):
    with open("/dev/full", "w") as full:
        mirror = doppel(server(echo), stdout=full, stderr=full)

    exchanges(mirror, 20)

    mirror.wait_metric("doppel_log_dropped_total", 20)
    assert mirror.stop() == 0


def test_L18_a_file_that_may_not_grow_costs_only_the_lines(doppel, server, tmp_path):
    """The kernel's way to say so is a signal that would end the process: SIGXFSZ."""
    def may_not_grow():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    path = tmp_path / "access"
    mirror = doppel(server(echo), "--access-log", str(path), preexec=may_not_grow)

    exchanges(mirror, 20)

    mirror.wait_metric("doppel_log_dropped_total", 1)
    assert mirror.metric("doppel_worker_restarts_total") == 0
    assert path.stat().st_size <= 2000


@pytest.mark.parametrize("flag, what", [("--log-file", "log file"),
                                        ("--access-log", "access log file")])
def test_L18_a_log_that_cannot_be_opened_is_a_sentence_at_the_start(server, tmp_path, flag, what):
    ended = run_until_it_ends("-l", "127.0.0.1:0", "-r", server(echo).address, flag, str(tmp_path))

    assert ended.returncode == 1
    assert ended.stderr == f"doppel: cannot open the {what} {tmp_path}: Is a directory\n"


def run_until_it_ends(*arguments, environment=None):
    return subprocess.run([binary(), "-w", "1", *arguments], env=clean_environment(environment),
                          capture_output=True, timeout=patient(), check=False, text=True,
                          errors="surrogateescape")


# USR1: the files are opened anew.

class Files:
    """The log and the access log of one proxy, and where rotation moves them."""

    def __init__(self, directory):
        self.log, self.access = directory / "log", directory / "access"
        self.flags = ("--log-file", str(self.log), "--access-log", str(self.access))
        self.turns = 0

    def rotate(self, mirror):
        """As logrotate does: moves both away and tells doppel, whose new log begins with a line."""
        self.turns += 1
        for path in (self.log, self.access):
            path.rename(f"{path}.{self.turns}")
        mirror.signal(signal.SIGUSR1)
        eventually(lambda: self.log.exists() and " reopening_logs " in self.log.read_text(),
                   "the supervisor opens its log anew")

    def all_of(self, path):
        """Every line that was ever written there."""
        found = sorted(path.parent.glob(path.name + "*"))
        return [line for one in found for line in one.read_text().splitlines()]


def test_rotation_of_both_logs_loses_no_line_of_any_worker(doppel, server, tmp_path):
    files = Files(tmp_path)
    mirror = doppel(server(echo), *files.flags, workers=2)

    jobs = [twenty_sessions(mirror, number) for number in range(4)]
    for _ in range(5):
        files.rotate(mirror)
    for job in jobs:
        job.result()
    eventually(lambda: len(files.all_of(files.access)) == 80, "all lines")
    exchanges(mirror, 4)
    eventually(lambda: len(files.all_of(files.access)) == 84, "the last lines")

    assert len({json.loads(line)["session"] for line in files.all_of(files.access)}) == 84
    assert len(files.access.read_text().splitlines()) >= 4      # what came last is in the new file
    assert mirror.metric("doppel_log_dropped_total") == 0
    assert mirror.stop() == 0
    said = files.log.read_text()
    assert " reopening_logs " in said.splitlines()[0] and " totals " in said
    assert not any("not_reopened" in line for line in files.all_of(files.log))


def test_after_rotation_no_process_holds_the_old_files(doppel, server, tmp_path):
    files = Files(tmp_path)
    mirror = doppel(server(echo), *files.flags, workers=2)

    files.rotate(mirror)

    def held():
        return [link for pid in mirror.pids() for link in processes.descriptors(pid).values()
                if link.endswith(".1")]
    eventually(lambda: not held(), lambda: f"idle workers let go: {held()}")


def test_R06_a_log_that_cannot_be_opened_anew_goes_on_in_the_old_file(doppel, server, tmp_path):
    """The directory is gone: reported where somebody reads, kept, and tried with the next USR1."""
    home = tmp_path / "logs"
    home.mkdir()
    path = home / "access"
    mirror = doppel(server(echo), "--access-log", str(path))
    exchanges(mirror, 2)
    home.rename(tmp_path / "moved")

    mirror.signal(signal.SIGUSR1)
    said = mirror.wait_log(" not_reopened ", 2, level="warning")     # supervisor and worker
    exchanges(mirror, 3)
    old = tmp_path / "moved" / "access"
    eventually(lambda: len(old.read_text().splitlines()) == 5, "all lines are in the old file")
    assert said[0].fields == {**said[0].fields, "sink": "access", "file": str(path),
                              "why": "No such file or directory"}

    home.mkdir()
    mirror.signal(signal.SIGUSR1)
    eventually(path.exists, "the file is there again")
    eventually(lambda: str(path) in processes.descriptors(mirror.workers()[0]).values(),
               "the worker has it")
    exchanges(mirror, 1)
    eventually(lambda: len(path.read_text().splitlines()) == 1, "lines go there")
    assert len(old.read_text().splitlines()) == 5
    mirror.assert_log_count(" not_reopened ", 2, 2)


def test_usr1_with_logs_on_standard_streams_changes_nothing(doppel, server):
    mirror = doppel(server(echo), workers=2)

    mirror.signal(signal.SIGUSR1)
    mirror.wait_log(" reopening_logs ")
    exchanges(mirror, 4)

    assert len(mirror.access_log(4)) == 4
    mirror.assert_log_count("not_reopened", 0, 0)


# L19: text that would like to be a line of its own.

FORGED = "2026-11-21T10:00:00.000Z error x forged reason=none"
NASTY = {
    "newline": f"a\n{FORGED}\nb",
    "return": f"a\r{FORGED}\r",
    "quotes": 'a","reason":"forged","x":"',
    "backslash": "a\\",
    "escape": "\x1b[2J\x1b[31m",
    "no_utf8": b"\xff\xfe\xc3".decode("utf-8", "surrogateescape"),
    "next_line": "a\x85b\u2028c",
    "logfmt": "a reason=forged",
}
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffd]")


@pytest.fixture
def short_path():
    """A directory whose sockets' names leave room for text: the kernel takes 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="d", dir="/tmp") as path:
        yield path


def assert_no_line_is_forged(mirror):
    assert mirror.log_lines
    for line in mirror.log_lines:
        assert not UNPRINTABLE.search(line), repr(line)
        assert LINE.match(line) and not line.startswith(FORGED), repr(line)
        assert LogLine.parse(line).fields.get("reason") != "forged", line


@pytest.mark.parametrize("access_format", ["json", "text"])
@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
def test_L19_the_path_of_a_unix_client_cannot_forge_a_line(doppel, server, short_path, text,
                                                           access_format):
    """A client chooses the path it is bound to: the one text of a client that a log could show."""
    mirror = doppel(server(echo), "--access-format", access_format, listens=[f"unix:{short_path}/l"])
    mirror.expect(identity="none", access_log=False)
    with socket.socket(socket.AF_UNIX) as client:
        client.bind(os.fsencode(f"{short_path}/{text}"))
        client.connect(f"{short_path}/l")
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"

    eventually(lambda: len(mirror.access_lines) == 1, "the session's line")
    mirror.stop()
    line, = mirror.access_lines
    assert not UNPRINTABLE.search(line), repr(line)
    if access_format == "json":
        assert json.loads(line)["reason"] == "client_fin"
        assert line.count('"reason"') == 1
    else:
        assert re.search(r" client_fin +[\d.]+s +5 +5$", line), line
    assert_no_line_is_forged(mirror)


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
def test_L19_what_a_client_sends_never_reaches_a_log(doppel, server, text):
    primary, refusing = server(echo), server(state="refusing")
    mirror = doppel(primary, "-vv", shadows=[refusing])

    client = mirror.connect()
    secret = f"secret payload {text}".encode("utf-8", "surrogateescape")
    client.exchange(secret)
    client.close()

    mirror.access_log(1)
    mirror.stop()
    assert "secret payload" not in "\n".join(mirror.log_lines + mirror.access_lines)
    assert_no_line_is_forged(mirror)


@pytest.mark.parametrize("where", ["listen", "primary", "shadow", "admin"])
@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
def test_L19_a_path_in_the_configuration_cannot_forge_a_line(doppel, server, short_path, text, where):
    """It is taken and escaped, or refused in one line; the sockets' names reach every log."""
    path = f"unix:{short_path}/" + text.replace(",", "%2C").replace("?", "%3F").replace("&", "%26")
    targets = {"listen": "127.0.0.1:0", "primary": server(echo).address, "shadow": None,
               where: path}
    flags = ["-d", targets["shadow"]] if targets["shadow"] else []
    flags += ["--admin", path] if where == "admin" else []
    command = ["-l", targets["listen"], "-r", targets["primary"], *flags]

    ended = run_until_it_ends(*command, "-t")
    if ended.returncode != 0:
        assert ended.returncode == 2
        assert ended.stderr.count("\n") == 1
        assert not UNPRINTABLE.search(ended.stderr[:-1]), repr(ended.stderr)
        return
    mirror = doppel(targets["primary"], *flags, listens=[targets["listen"]], admin=where != "admin",
                    wait=False)
    mirror.expect(identity="none", quiesce=False, descriptors=False, access_log=False)
    said, = mirror.wait_log(" listening ")
    if where != "listen":
        mirror.addresses = [parse_address(said.fields["address"])]
        client = mirror.connect()
        client.finish()
        client.drain()
        eventually(lambda: mirror.access_lines, "the session's line")
    mirror.stop()
    for line in mirror.access_lines:
        assert json.loads(line) and not UNPRINTABLE.search(line), repr(line)
    assert_no_line_is_forged(mirror)


@pytest.mark.parametrize("arguments, environment", [
    (["-l", f"127.0.0.1:0\n{FORGED}"], None),
    (["-l", "127.0.0.1:0", "--" + f"no\n{FORGED}"], None),
    (["-l", "127.0.0.1:0", "-d", f"a\x1b[31m=127.0.0.1:1\n{FORGED}"], None),
    (["-l", "127.0.0.1:0", "--buffer", f"1\n{FORGED}"], None),
    (["-l", "127.0.0.1:0", "-c", f"/nowhere\n{FORGED}"], None),
    (["-l", "127.0.0.1:0"], {"DOPPEL_BUFFER": f"1\n{FORGED}"}),
    (["-l", "127.0.0.1:0", "-t"], {"DOPPEL_BUFFET\nforged": "1"}),
], ids=["listen", "flag", "shadow", "size", "file", "value", "variable"])
def test_L19_a_refused_command_line_is_one_printable_line(server, arguments, environment):
    ended = run_until_it_ends("-r", server(echo).address, *arguments, environment=environment)

    assert ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stderr.startswith("doppel: ")
    assert not UNPRINTABLE.search(ended.stderr[:-1]), repr(ended.stderr)


# What is in effect.

def test_one_line_at_the_start_says_what_is_not_the_default_and_no_secret(doppel, server, authority,
                                                                          tmp_path):
    secret = tmp_path / "passphrase"
    secret.write_text("the secret itself\n")
    secret.chmod(0o600)
    copy = server(sink)
    mirror = doppel(server(echo), "--idle-timeout", "90s", "--allow", "127.0.0.0/8,10.0.0.0/8",
                    "--tls-key-passphrase-file", str(secret), "--tls-cert",
                    str(authority.certificate("localhost")),
                    shadows=[shadow(copy, "canary", sample=10, overflow="block"), copy])

    said, = mirror.wait_log(" in_effect ", level="info")

    assert {key: said.fields[key] for key in ("listen", "primary", "workers", "idle_timeout", "allow",
                                              "tls_key_passphrase_file")} == {
        "listen": "127.0.0.1:0", "primary": mirror.primaries[0].address,
        "workers": "1", "idle_timeout": "90s", "allow": "127.0.0.0/8,10.0.0.0/8",
        "tls_key_passphrase_file": str(secret)}
    assert "buffer" not in said.fields and "log_level" not in said.fields
    assert {key: value for key, value in said.fields.items() if key.startswith("shadows.")} == {
        "shadows.0.name": "canary", "shadows.0.address": copy.address, "shadows.0.sample": "10",
        "shadows.0.overflow": "block", "shadows.1.name": "shadow1", "shadows.1.address": copy.address}
    assert "the secret itself" not in "\n".join(mirror.log_lines)
    assert [line.fields["shadow"] for line in mirror.log(" shadow ")] == ["canary", "shadow1"]


def test_what_is_doubtful_about_the_command_line_is_a_line_of_the_log(doppel, server):
    mirror = doppel(server(echo), "--proxy-trust", "10.0.0.0/8", "--log-format", "json")

    mirror.assert_log_count(r'"level":"warning","whose":"supervisor","event":"configuration",'
                            r'"warning":"--proxy-trust has no effect', 1, 1)
    assert all(line.startswith("{") for line in mirror.log_lines)


def events_of(mirror, session):
    """What the log says of a session, as {event: fields}; an event of a shadow has its name behind it."""
    events = {}
    for line in mirror.log(f"session={session['session']} "):
        name = line.text.split()[1]
        fields = {key: value for key, value in line.fields.items() if key != "session"}
        events[f"{name} {fields['shadow']}" if "shadow" in fields else name] = fields
    return events


def test_v_says_what_happens_to_each_session_and_how_many_bytes_moved(doppel, server):
    primary, copy, refusing = server(echo), server(sink), server(state="refusing")
    mirror = doppel(primary, "-v", shadows=[shadow(copy, "canary"), shadow(refusing, "dead"),
                                            shadow(copy, "off", sample=0)])
    client = mirror.connect()
    assert client.exchange(b"payload" * 100) == b"payload" * 100
    client.close()
    session = mirror.session(0)
    mirror.wait_log(" session_ended ", level="debug")

    events = events_of(mirror, session)

    assert list(events)[0] == "session_begun" and list(events)[-1] == "session_ended"
    assert events["session_begun"] == {"listener": session["listener"], "client": session["client"]}
    assert events["primary_connected"]["address"] == session["primary"]
    assert events["shadow_connected canary"]["address"] == copy.address
    assert "shadow_connected dead" not in events and "shadow_connected off" not in events
    assert events["shadow_ended canary"] == {
        "shadow": "canary", "result": "mirrored", "reason": "fin", "sent_bytes": "700", "lost_bytes": "0",
        "skipped_bytes": "0", "response_bytes": "0"}
    assert events["shadow_ended dead"]["reason"] == "refused"
    assert events["shadow_ended dead"]["lost_bytes"] == "700"
    assert events["shadow_ended off"]["result"] == "sampled_out"
    assert "reason" not in events["shadow_ended off"]
    assert {key: events["session_ended"][key] for key in ("reason", "request_bytes", "response_bytes")} == {
        "reason": "client_fin", "request_bytes": "700", "response_bytes": "700"}
    assert "payload" not in "\n".join(mirror.log_lines)


def test_the_first_session_that_a_shadow_gets_whole_is_told_once(doppel, server):
    """So that people see that it works; over all workers, and not again after a reload."""
    mirror = doppel(server(echo), workers=2, shadows=[
        shadow(server(sink), "canary"), shadow(server(state="refusing"), "dead"),
        shadow(server(sink), "off", sample=0)])

    exchanges(mirror, 10)
    line, = mirror.wait_log(" shadow_mirrored_first ", level="info")
    mirror.reload()
    exchanges(mirror, 5)
    mirror.access_log(15)

    assert line.fields["shadow"] == "canary" and int(line.fields["sent_bytes"]) == KIB
    mirror.assert_log_count(" shadow_mirrored_first ", 1, 1)


def test_a_shadow_that_lags_is_told_with_what_to_do(doppel, server):
    mirror = doppel(server(echo), "--sndbuf", "16k", shadows=[
        shadow(server(hold, rcvbuf=4096), "slow", buffer="64k")])
    mirror.expect(identity="prefix")
    mirror.connect().exchange(pattern(MIB))

    told = mirror.wait_log(" shadow_detached .*reason=lag", level="warning")[0].fields

    assert all(word in told["why"] for word in ("buffer=", "sample="))
    assert int(told["unsent_bytes"]) > 0 and "lost_bytes" not in told     # of the session it may lose more


def test_nothing_is_told_without_words(doppel, server):
    """A reason that needs no explanation has none: why="" says nothing."""
    paused = server(sink)
    mirror = doppel(server(sink), "-v", shadows=[shadow(paused, "canary")])
    mirror.expect(identity="prefix")
    client = mirror.connect()
    client.send(pattern(KIB))
    paused.connection().wait_received(KIB)
    mirror.get("/shadows/canary/pause", method="POST")
    mirror.wait_log(" shadow_detached .*reason=admin")

    assert not mirror.log('why=""')


@pytest.mark.parametrize("by", ["USR2", "unix"])
def test_the_kill_switch_is_as_loud_whoever_turns_it(doppel, server, by):
    mirror = doppel(server(echo), shadows=[server(sink)])

    def turn(path):
        if by == "USR2":
            mirror.signal(signal.SIGUSR2)
        else:
            mirror.get(path, method="POST")
    turn("/mirroring/off")
    off, = mirror.wait_log(" mirroring .*state=off", level="warning")
    turn("/mirroring/on")
    on, = mirror.wait_log(" mirroring .*state=on", level="info")

    assert off.fields["by"] == on.fields["by"] == by


def test_without_v_a_good_session_is_one_line_of_the_access_log_only(doppel, server):
    mirror = doppel(server(echo), shadows=[server(sink)])
    exchanges(mirror, 2)
    session = mirror.session(1)

    assert events_of(mirror, session) == {}


# What every line looks like.

def test_json_log_lines_are_objects_with_time_level_whose_and_event(doppel, server):
    primary, refusing = server(echo), server(state="refusing")
    mirror = doppel(primary, "-v", "--log-format", "json", "--log-file", "-", shadows=[refusing])
    exchanges(mirror, 2)
    os.kill(mirror.pid(), signal.SIGUSR1)
    mirror.wait_log("reopening_logs")
    mirror.stop()

    lines = [json.loads(line) for line in mirror.log_lines]
    for line in lines:
        assert {"time", "level", "event"} <= set(line), line
        assert "whose" in line or "session" in line, line
        assert line["level"] in ("error", "warning", "info", "debug")
    assert {"starting", "listening", "draining", "totals", "shadow_detached"} <= {
        line["event"] for line in lines}


@pytest.mark.parametrize("into", ["pipe", "file"])
def test_lines_of_several_workers_never_mix(doppel, server, tmp_path, into):
    primary = server(echo)
    path = tmp_path / "access"
    flags = ["--access-log", str(path)] if into == "file" else []
    mirror = doppel(primary, *flags, shadows=padding(20), workers=2)

    jobs = [twenty_sessions(mirror, number) for number in range(8)]
    for job in jobs:
        job.result()

    mirror.wait_metric("doppel_sessions_closed_total", 160)

    def lines():
        return path.read_text().splitlines() if into == "file" else mirror.access_lines
    eventually(lambda: len(lines()) == 160, "a line for each session")
    names = {json.loads(line)["session"] for line in lines()}
    assert len(names) == 160
    assert {name.split("-")[1] for name in names} == {"1", "2"}


def twenty_sessions(mirror, number):
    """One after the other, in the background."""
    def talk():
        for turn in range(20):
            client = mirror.connect()
            data = pattern(KIB, number, offset=turn)
            assert client.exchange(data) == data
            client.close()
    return Job(talk)


def test_a_line_has_at_most_4096_bytes_and_says_what_it_omits(doppel, server):
    primary = server(echo)
    mirror = doppel(primary, shadows=padding(60))
    exchanges(mirror, 3)

    for session in mirror.access_log(3):
        assert session["reason"] == "client_fin"
        assert len(session["shadows"]) + session["shadows_omitted"] == 60
        assert 0 < session["shadows_omitted"] < 60
    assert all(len(line) + 1 <= 4096 for line in mirror.access_lines)


def test_the_access_log_can_be_off(doppel, server):
    mirror = doppel(server(echo), "--access-log", "off")

    exchanges(mirror, 3)

    mirror.wait_metric("doppel_sessions_closed_total", 3)
    assert mirror.stop() == 0
    assert mirror.access_lines == []
    assert mirror.exit_status == 0
