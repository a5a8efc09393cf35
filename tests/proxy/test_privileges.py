"""
test_privileges.py — root opens what only root may open, then becomes --user and never root again;
and nobody can look into the memory that clients' bytes pass through.
"""
import os
import pwd
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from support import processes
from support.pattern import KIB, pattern
from support.peers import Client, echo, sink
from support.proxy import clean_environment
from support.secure import secure
from support.waiting import eventually, patient

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

NOBODY = pwd.getpwnam("nobody")
UNKNOWN = 54321         # no user and no group has this number
BIND_SERVICE, NET_ADMIN = 1 << 10, 1 << 12      # linux/capability.h


def identity(pid):
    """What /proc/PID/status says about whom it is and what it may."""
    with open(f"/proc/{pid}/status") as lines:
        said = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
    return {"users": set(map(int, said["Uid"])), "groups": set(map(int, said["Gid"])),
            "others": set(map(int, said["Groups"])), "no_new_privs": said["NoNewPrivs"] == ["1"],
            "capabilities": {int(said[name][0], 16) for name in ("CapPrm", "CapEff", "CapBnd")},
            "handed_on": {int(said[name][0], 16) for name in ("CapInh", "CapAmb")}}


def assert_dropped(mirror, user, group, others, capabilities=BIND_SERVICE):
    for pid in mirror.pids():
        assert identity(pid) == {"users": {user}, "groups": {group}, "others": others,
                                 "no_new_privs": True, "capabilities": {capabilities},
                                 "handed_on": {0}}


def exchange(mirror, listener=0):
    client = mirror.connect(listener)
    assert client.exchange(pattern(KIB)) == pattern(KIB)
    client.close()


def test_every_process_becomes_the_user_and_cannot_go_back(doppel, server):
    mirror = doppel(server(echo), "--user", "nobody", shadows=[server(sink)], workers=2)

    assert_dropped(mirror, NOBODY.pw_uid, NOBODY.pw_gid, {NOBODY.pw_gid})
    exchange(mirror)


def test_a_worker_that_replaces_a_dead_one_is_the_user_too(doppel, server):
    mirror = doppel(server(echo), "--user", "nobody")
    mirror.expect(descriptors=False, problems=("worker_died",))

    os.kill(mirror.workers()[0], signal.SIGKILL)
    mirror.wait_metric("doppel_worker_restarts_total", 1)
    exchange(mirror)

    assert_dropped(mirror, NOBODY.pw_uid, NOBODY.pw_gid, {NOBODY.pw_gid})


def test_numbers_that_no_database_knows_are_as_good_as_names(doppel, server):
    mirror = doppel(server(echo), "--user", str(UNKNOWN), "--group", str(UNKNOWN))

    assert_dropped(mirror, UNKNOWN, UNKNOWN, set())
    exchange(mirror)


def test_a_group_of_its_own_replaces_that_of_the_user(doppel, server):
    mirror = doppel(server(echo), "--user", "nobody", "--group", str(UNKNOWN))

    assert_dropped(mirror, NOBODY.pw_uid, UNKNOWN, {UNKNOWN})


def test_with_transparent_the_capability_that_it_needs_is_kept(doppel, server):
    mirror = doppel(server(echo), "--user", "nobody", "--transparent")

    assert_dropped(mirror, NOBODY.pw_uid, NOBODY.pw_gid, {NOBODY.pw_gid}, BIND_SERVICE | NET_ADMIN)
    exchange(mirror)


def test_without_the_flag_root_stays_root(doppel, server):
    mirror = doppel(server(echo))

    assert all(identity(pid)["users"] == {0} for pid in mirror.pids())


@pytest.mark.netns
def test_R26_a_port_of_root_is_served_by_the_user(network, doppel, server):
    mirror = doppel(server(echo), "--user", "nobody", listens=["127.0.0.1:80"], workers=2)

    exchange(mirror)


@pytest.mark.netns
def test_a_reload_without_root_may_add_workers_and_ports_of_root(network, doppel, server, place):
    """Sockets of one port must be of one user (SO_REUSEPORT), and port 81 needs the kept capability."""
    configuration = place / "doppel.conf"
    configuration.write_text("workers = 1\nlisten = 127.0.0.1:80\nuser = nobody\n")
    configuration.chmod(0o644)
    mirror = doppel(server(echo), "-c", str(configuration), listens=[], workers=None, wait=False)
    mirror.expect(descriptors=False)
    mirror.wait_log(" listening ")
    mirror.addresses = [("127.0.0.1", 80), ("127.0.0.1", 81)]

    configuration.write_text("workers = 3\nlisten = 127.0.0.1:80,127.0.0.1:81\nuser = root\n")
    mirror.signal(signal.SIGHUP)
    mirror.wait_log(" reloaded ")

    assert [line.fields["setting"] for line in mirror.log(" needs_restart ")] == ["user"]
    eventually(lambda: len(mirror.workers()) == 3, "three workers")
    assert_dropped(mirror, NOBODY.pw_uid, NOBODY.pw_gid, {NOBODY.pw_gid})
    for listener in (0, 1):
        for _ in range(6):
            exchange(mirror, listener)


def test_a_reload_does_not_make_anybody_else_of_it_and_says_so(doppel, server, place):
    configuration = place / "doppel.conf"
    configuration.write_text("user = nobody\n")
    configuration.chmod(0o644)
    mirror = doppel(server(echo), "-c", str(configuration))

    configuration.write_text(f"user = {UNKNOWN}\ngroup = {UNKNOWN}\n")
    mirror.reload()

    assert [line.fields["setting"] for line in mirror.log(" needs_restart ", level="warning")] == [
        "user", "group"]
    assert str(UNKNOWN) not in mirror.status()["configuration"]
    eventually(lambda: len(mirror.workers()) == 1, "the former worker has gone")
    assert_dropped(mirror, NOBODY.pw_uid, NOBODY.pw_gid, {NOBODY.pw_gid})


def test_a_path_that_the_user_may_not_make_is_refused_without_a_word_of_ports(doppel, server, place,
                                                                              tmp_path):
    tmp_path.chmod(0o700)
    path, configuration = tmp_path / "socket", place / "doppel.conf"
    configuration.write_text("user = nobody\nlisten = 127.0.0.1:0\n")
    mirror = doppel(server(echo), "-c", str(configuration), listens=[], wait=False)
    mirror.wait_log(" listening ")
    mirror.expect(descriptors=False)

    configuration.write_text(f"user = nobody\nlisten = unix:{path}\n")
    mirror.signal(signal.SIGHUP)

    said, = mirror.wait_log(" reload_failed ", level="error")
    assert said.fields["why"] == f"cannot listen on unix:{path}: Permission denied"


def as_nobody():
    os.setgroups([])
    os.setgid(NOBODY.pw_gid)
    os.setuid(NOBODY.pw_uid)


def run(program, *arguments):
    return subprocess.run([program, "-l", "127.0.0.1:0", "-r", "127.0.0.1:1", "-w", "1", *arguments],
                          env=clean_environment(), capture_output=True, text=True, check=False, cwd="/",
                          preexec_fn=as_nobody, timeout=patient())


def test_who_is_not_root_is_told_so_in_one_sentence(program):
    ended = run(program, "--user", str(UNKNOWN), "--group", str(UNKNOWN))

    assert ended.returncode == 1
    assert ended.stderr == "doppel: --user needs root; start doppel as root, or leave --user out\n"
    assert run(program, "--user", "nobody", "-t").returncode == 0


def test_who_is_the_user_already_just_starts(doppel, server, program):
    mirror = doppel(server(echo), "--user", "nobody", program=program, preexec=as_nobody, cwd="/",
                    admin=False)
    mirror.expect(quiesce=False, descriptors=False, access_log=False)

    assert identity(mirror.workers()[0])["users"] == {NOBODY.pw_uid}
    exchange(mirror)
    assert mirror.stop() == 0


# What was opened before.

def test_sockets_and_logs_that_doppel_makes_belong_to_the_user(doppel, server, tmp_path):
    tmp_path.chmod(0o700)
    log, there = tmp_path / "log", tmp_path / "access"
    there.touch()
    path = tmp_path / "listener"
    mirror = doppel(server(echo), "--user", "nobody", "--log-file", str(log), "--access-log", str(there),
                    "--pid-file", str(tmp_path / "pid"), listens=[f"unix:{path}?mode=0600"])
    mirror.expect(access_log=False)

    owners = {one.name: one.stat().st_uid for one in (log, there, path, tmp_path / "pid")}
    assert owners == {"log": NOBODY.pw_uid, "access": 0, "listener": NOBODY.pw_uid, "pid": 0}
    assert os.stat(mirror.admin_path).st_uid == NOBODY.pw_uid
    assert path.stat().st_mode & 0o777 == 0o600
    client = Client(str(path))
    mirror.clients.append(client)
    assert client.exchange(b"hello") == b"hello"
    client.close()
    eventually(there.read_text, "the session's line is in the file that root had made")


def test_what_a_reload_could_not_read_is_named(doppel, server, authority, place):
    """Keys only root may read serve until the end, although nobody can read them any more."""
    pem = authority.certificate("127.0.0.1")
    os.chmod(pem, 0o600)
    configuration, name = place / "doppel.conf", place / "limit"
    configuration.write_text("backlog = 16\n")
    configuration.chmod(0o600)
    name.write_text("32\n")
    name.chmod(0o644)
    mirror = doppel(server(echo), "--user", "nobody", "--tls-cert", str(pem), "-c", str(configuration),
                    env={"DOPPEL_MAX_SESSIONS_FILE": str(name)}, listens=["tls://127.0.0.1:0"])

    said = mirror.wait_log(" not_readable ", 2, level="warning")
    assert [(line.fields["file"], line.fields["why"]) for line in said] == [
        (str(configuration), "Permission denied"), (str(pem), "Permission denied")]
    client = mirror.connect()
    secure(client, authority.client_context(), "127.0.0.1")
    assert client.exchange(b"hello") == b"hello"


def test_every_file_that_a_reload_would_read_is_tried(doppel, server, authority, place):
    """Certificates, keys and authorities of all sides, and the token."""
    def only_root(name):
        path = place / name
        path.write_bytes(Path(authority.certificate("127.0.0.1")).read_bytes())
        path.chmod(0o600)
        return str(path)
    names = ("token", "clients", "primary-ca", "primary", "primary-key", "shadow-ca", "shadow", "shadow-key")
    files = {name: only_root(name) for name in names}
    Path(files["token"]).write_text("s3cret\n")

    def target(one, whose):
        return (f"tls://{one.address}?ca={files[whose + '-ca']}&cert={files[whose]}"
                f"&key={files[whose + '-key']}")
    primary, copy = server(echo), server(sink)
    for one in "primary", "shadow":
        certificate, key = authority.pair("127.0.0.1")
        Path(files[one]).write_bytes(Path(certificate).read_bytes())
        Path(files[one + "-key"]).write_bytes(Path(key).read_bytes())
    mirror = doppel(target(primary, "primary"), "--user", "nobody", "--admin-token-file", files["token"],
                    "--tls-client-ca", files["clients"], "--tls-cert", authority.certificate("127.0.0.1"),
                    shadows=[target(copy, "shadow")], listens=["tls://127.0.0.1:0"])

    said = {line.fields["file"] for line in mirror.log(" not_readable ", level="warning")}
    assert set(files.values()) <= said


def test_what_everybody_may_read_is_not_named(doppel, server, place):
    configuration = place / "doppel.conf"
    configuration.write_text("backlog = 16\n")
    configuration.chmod(0o644)
    mirror = doppel(server(echo), "--user", "nobody", "-c", str(configuration))

    mirror.assert_log_count(" not_readable ", 0, 0)


def test_logs_are_opened_anew_by_the_user_where_it_may(doppel, server, place):
    os.chown(place, NOBODY.pw_uid, NOBODY.pw_gid)
    path = place / "access"
    mirror = doppel(server(echo), "--user", "nobody", "--access-log", str(path))

    path.rename(place / "access.1")
    mirror.signal(signal.SIGUSR1)
    eventually(lambda: str(path) in processes.descriptors(mirror.workers()[0]).values(), "the new file")
    exchange(mirror)

    eventually(lambda: len(path.read_text().splitlines()) == 1, "the line is there")
    assert path.stat().st_uid == NOBODY.pw_uid


def test_R06_a_log_that_only_root_may_make_goes_on_in_the_old_file(doppel, server, tmp_path):
    tmp_path.chmod(0o700)
    path = tmp_path / "access"
    mirror = doppel(server(echo), "--user", "nobody", "--access-log", str(path))

    path.rename(tmp_path / "access.1")
    mirror.signal(signal.SIGUSR1)
    said = mirror.wait_log(" not_reopened ", 2, level="warning")
    exchange(mirror)

    assert {line.fields["why"] for line in said} == {"Permission denied"}
    eventually(lambda: len((tmp_path / "access.1").read_text().splitlines()) == 1, "the line")


def test_a_reload_back_to_stderr_writes_behind_what_stands_there(doppel, server, place):
    """The shell opened that file, without O_APPEND, and only root may open it again."""
    os.chown(place, NOBODY.pw_uid, NOBODY.pw_gid)
    log, configuration = place / "stderr", place / "doppel.conf"
    configuration.write_text("user = nobody\n")
    with open(log, "wb") as stderr:
        mirror = doppel(server(echo), "-c", str(configuration), stderr=stderr)
        at_start = log.read_text()
        for number, text in enumerate((f"user = nobody\nlog-file = {place}/log\n", "user = nobody\n"), 1):
            configuration.write_text(text)
            mirror.signal(signal.SIGHUP)
            mirror.wait_metric("doppel_reloads_total", number, result="ok")
        exchange(mirror)
        assert mirror.stop() == 0

    assert at_start.count(" listening ") == 1
    assert log.read_text().startswith(at_start)
    assert log.read_text().splitlines()[-1].count(" totals ") == 1


# The memory.

def core_limits(pid):
    with open(f"/proc/{pid}/limits") as rows:
        return next(row for row in rows if row.startswith("Max core file size")).split()[4:6]


@pytest.mark.release
@pytest.mark.parametrize("flags", [(), ("--user", "nobody")], ids=["as_it_is", "as_nobody"])
def test_no_process_can_be_looked_into_or_leave_a_core(doppel, server, program, flags):
    """Files below /proc/PID of a process that may not be looked into belong to root (proc(5))."""
    become = None if flags else as_nobody
    mirror = doppel(server(echo), *flags, program=program, preexec=become, cwd="/", admin=False)
    mirror.expect(quiesce=False, descriptors=False, access_log=False)

    for pid in mirror.pids():
        assert identity(pid)["users"] == {NOBODY.pw_uid}
        assert os.stat(f"/proc/{pid}/mem").st_uid == 0
        assert core_limits(pid) == ["0", "0"]


@pytest.mark.release
@pytest.mark.parametrize("flags", [(), ("--user", "nobody")], ids=["as_it_is", "as_nobody"])
def test_with_core_debuggers_and_core_files_are_allowed_and_a_warning_says_so(doppel, server, flags):
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    mirror = doppel(server(echo), "--core", *flags, cwd="/")

    for pid in mirror.pids():
        assert os.stat(f"/proc/{pid}/mem").st_uid == identity(pid)["users"].pop()
        wanted = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
        assert core_limits(pid) == [wanted, wanted]
    mirror.assert_log_count("not_hidden", 1, 1, level="warning")


@pytest.mark.release
def test_descriptors_are_counted_although_nobody_can_look(doppel, server):
    mirror = doppel(server(echo), "--user", "nobody", workers=2)
    held = sum(len(processes.descriptors(pid)) for pid in mirror.pids())

    assert mirror.metric("process_open_fds") == held + 1       # and the question's own connection
