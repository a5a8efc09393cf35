"""
test_paths.py — what doppel leaves in the file system, and what it leaves alone: unix sockets and the pid
file, beside others who want the same names.
"""
import os
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from support import processes
from support.pattern import KIB, pattern
from support.peers import Client, echo
from support.proxy import binary, clean_environment
from support.waiting import eventually, patient


def wait_until_gone(pids):
    eventually(lambda: not any(processes.is_running(pid) for pid in pids), f"{pids} end")


def is_listened_to(path):
    """As the kernel says: a probe would be a session."""
    accepts = "00010000"
    rows = [row.split() for row in Path("/proc/net/unix").read_text().splitlines()]
    return any(row[-1] == str(path) and row[3] == accepts for row in rows)


def run_until_it_ends(*arguments, **options):
    return subprocess.run([binary(), "-w", "1", *arguments], env=clean_environment(), text=True,
                          capture_output=True, timeout=patient(), check=False, **options)


def test_the_pid_file_names_the_supervisor_and_goes_with_it(doppel, server, tmp_path):
    path = tmp_path / "pid"
    mirror = doppel(server(echo), "--pid-file", str(path))

    assert path.read_text() == f"{mirror.pid()}\n"
    assert mirror.stop() == 0
    assert not path.exists()


def test_a_pid_file_that_cannot_be_written_is_a_sentence(server, tmp_path):
    ended = run_until_it_ends("-l", "127.0.0.1:0", "-r", server(echo).address,
                              "--pid-file", str(tmp_path / "missing" / "pid"))

    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("doppel: cannot write the pid file ")


def test_one_that_cannot_start_leaves_the_pid_file_of_another_alone(doppel, server, tmp_path):
    path = tmp_path / "pid"
    primary = server(echo)
    mirror = doppel(primary, "--pid-file", str(path))
    host, port = mirror.addresses[0]

    ended = run_until_it_ends("-l", f"{host}:{port}", "-r", primary.address,
                              "--pid-file", str(path))

    assert ended.returncode == 1
    assert path.read_text() == f"{mirror.pid()}\n"


def test_a_stale_unix_socket_is_taken_over_and_removed_at_exit(doppel, server, tmp_path):
    path = tmp_path / "listener"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    mirror = doppel(server(echo), listens=[f"unix:{path}?mode=0600"])

    client = mirror.connect()
    assert client.exchange(pattern(64 * KIB)) == pattern(64 * KIB)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    client.close()
    assert mirror.stop() == 0
    assert not path.exists()


def test_a_unix_socket_that_a_killed_doppel_left_is_taken_over(doppel, server, tmp_path):
    path = tmp_path / "listener"
    first = doppel(server(echo), listens=[f"unix:{path}"])
    first.expect(exit_status=-signal.SIGKILL, totals=False)
    workers = first.workers()
    os.kill(first.pid(), signal.SIGKILL)
    wait_until_gone(workers)

    second = doppel(server(echo), listens=[f"unix:{path}"])

    assert second.connect().exchange(b"hello") == b"hello"


@pytest.mark.parametrize("flag", ["--listen", "--admin"])
def test_a_live_unix_socket_is_refused_and_stays(doppel, server, tmp_path, flag):
    path = tmp_path / "taken"
    taken = server(echo, unix=str(path))
    listen = [] if flag == "--listen" else ["-l", "127.0.0.1:0"]

    ended = run_until_it_ends(*listen, flag, f"unix:{path}", "-r", server(echo).address)

    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        f"doppel: cannot listen on unix:{path}: Address already in use")
    assert stat.S_ISSOCK(path.stat().st_mode)
    client = Client(str(path))
    assert client.exchange(b"still there") == b"still there"
    client.close()
    assert len(taken.connections) >= 1


@pytest.mark.parametrize("flag", ["--listen", "--admin"])
def test_a_file_that_is_no_socket_is_never_removed(server, tmp_path, flag):
    path = tmp_path / "precious"
    path.write_text("not a socket")
    listen = [] if flag == "--listen" else ["-l", "127.0.0.1:0"]

    ended = run_until_it_ends(*listen, flag, f"unix:{path}", "-r", server(echo).address)

    assert ended.returncode == 1
    assert str(path) in ended.stderr
    assert path.read_text() == "not a socket"


# Whose path it is, is known by what is there, not by its name.

@pytest.mark.parametrize("flag", ["--listen", "--admin"])
def test_a_unix_socket_of_a_successor_stays_when_the_old_one_ends(doppel, server, tmp_path, flag):
    path = tmp_path / "socket"
    listens = [f"unix:{path}"] if flag == "--listen" else ["127.0.0.1:0"]
    admin = [] if flag == "--listen" else ["--admin", f"unix:{path}"]
    old = doppel(server(echo), *admin, listens=listens, admin=not admin)
    path.unlink()
    new = doppel(server(echo), *admin, listens=listens, admin=not admin)
    inode = path.stat().st_ino

    assert old.stop() == 0

    assert path.stat().st_ino == inode
    client = new.connect()
    assert client.exchange(b"hello") == b"hello"
    client.close()
    assert new.stop() == 0
    assert not path.exists()


def test_a_unix_socket_of_a_successor_stays_also_when_the_old_one_drains_meanwhile(doppel, server, tmp_path):
    """Nobody listens at the old path any more, so the new one takes it over by itself."""
    path = tmp_path / "socket"
    old = doppel(server(echo), listens=[f"unix:{path}"])
    inside = old.connect()
    inside.exchange(b"before")
    old.signal(signal.SIGTERM)
    eventually(lambda: not is_listened_to(path), "the old one has closed its listener")
    new = doppel(server(echo), listens=[f"unix:{path}"])

    inside.finish()
    assert inside.recv() == b""
    assert old.wait_exit() == 0

    client = new.connect()
    assert client.exchange(b"hello") == b"hello"
    client.close()


def test_a_reload_that_drops_a_listener_leaves_the_socket_of_another_program(doppel, server, tmp_path):
    path, config = tmp_path / "socket", tmp_path / "conf"
    primary = server(echo)
    config.write_text(f"listen = 127.0.0.1:0\nlisten = unix:{path}\nprimary = {primary.address}\n")
    mirror = doppel(primary, config=config, listens=["127.0.0.1:0", f"unix:{path}"])
    path.unlink()
    other = server(echo, unix=str(path))

    config.write_text(f"listen = 127.0.0.1:0\nprimary = {primary.address}\n")
    mirror.reload()
    mirror.expect(descriptors=False)

    assert mirror.stop() == 0
    client = Client(str(path))
    assert client.exchange(b"still there") == b"still there"
    client.close()
    other.connection(0)


def test_a_reload_makes_the_path_of_a_unix_socket_again_that_somebody_removed(doppel, server, tmp_path):
    path, config = tmp_path / "socket", tmp_path / "conf"
    primary = server(echo)
    config.write_text(f"listen = unix:{path}\nprimary = {primary.address}\n")
    mirror = doppel(primary, config=config, listens=[f"unix:{path}"])
    before = mirror.connect()
    before.exchange(b"before")
    path.unlink()

    mirror.reload()

    client = mirror.connect()
    assert client.exchange(b"hello") == b"hello"
    assert before.exchange(b"after") == b"after"


def test_a_reload_fails_when_the_path_of_a_listener_is_another_programs_now(doppel, server, tmp_path):
    path, config = tmp_path / "socket", tmp_path / "conf"
    primary = server(echo)
    config.write_text(f"listen = unix:{path}\nprimary = {primary.address}\n")
    mirror = doppel(primary, config=config, listens=[f"unix:{path}"])
    mirror.expect(problems=("reload_failed",))
    path.unlink()
    server(echo, unix=str(path))

    mirror.signal(signal.SIGHUP)

    failed, = mirror.wait_log(" reload_failed ")
    assert failed.fields["why"] == f"cannot listen on unix:{path}: Address already in use"
    assert mirror.stop() == 0
    assert path.exists()


def test_of_many_that_start_at_a_stale_unix_socket_one_serves_and_the_others_say_so(server, tmp_path):
    """Between bind and listen the socket of another one looks stale."""
    primary, path = server(echo), tmp_path / "socket"
    for _ in range(3):
        left = socket.socket(socket.AF_UNIX)
        left.bind(str(path))
        left.close()
        logs = [tmp_path / f"log{number}" for number in range(8)]
        command = [binary(release=True), "-w", "1", "-l", f"unix:{path}", "-r", primary.address]
        started = [subprocess.Popen([*command, "--log-file", str(log)], env=clean_environment(),
                                    stderr=subprocess.PIPE) for log in logs]
        eventually(lambda: sum(one.poll() is None for one in started) == 1, "one is left", 30)
        winner, = (one for one in started if one.poll() is None)
        client = Client(str(path))
        assert client.exchange(b"hello") == b"hello"
        client.close()
        winner.terminate()
        assert winner.wait(patient()) == 0
        for one in started:
            said = one.communicate()[1].decode()
            refused = f"doppel: cannot listen on unix:{path}: Address already in use\n"
            assert one is winner or said == refused
        assert not path.exists()
        for log in logs:
            log.unlink(missing_ok=True)


def test_a_pid_file_of_a_successor_stays_when_the_old_one_ends(doppel, server, tmp_path):
    path = tmp_path / "pid"
    old = doppel(server(echo), "--pid-file", str(path))
    new = doppel(server(echo), "--pid-file", str(path))

    assert old.stop() == 0

    assert path.read_text() == f"{new.pid()}\n"


def test_a_pid_file_that_another_program_wrote_into_stays(doppel, server, tmp_path):
    path = tmp_path / "pid"
    mirror = doppel(server(echo), "--pid-file", str(path))
    path.write_text("1\n")

    assert mirror.stop() == 0

    assert path.read_text() == "1\n"


def test_a_pid_file_replaces_a_symbolic_link_and_leaves_what_it_leads_to_alone(doppel, server, tmp_path):
    precious, path = tmp_path / "precious", tmp_path / "pid"
    precious.write_text("not a pid file")
    path.symlink_to(precious)
    mirror = doppel(server(echo), "--pid-file", str(path))

    assert path.read_text() == f"{mirror.pid()}\n" and not path.is_symlink()
    assert mirror.stop() == 0

    assert precious.read_text() == "not a pid file"
    assert {entry.name for entry in tmp_path.iterdir()} == {"precious"}


@pytest.mark.release
def test_a_pid_file_that_was_made_in_a_closed_directory_is_written_to(doppel, server, faults, tmp_path):
    path = tmp_path / "pid"
    path.write_text("a number of many digits that was there before\n")
    inode = path.stat().st_ino
    fault = faults("mkostemp:errno=EACCES:who=supervisor")

    mirror = doppel(server(echo), "--pid-file", str(path), env=fault.env)

    assert fault.struck() == 1
    assert path.read_text() == f"{mirror.pid()}\n" and path.stat().st_ino == inode


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
def test_in_a_closed_directory_a_link_is_not_written_through(server, faults, tmp_path, link):
    precious, path = tmp_path / "precious", tmp_path / "pid"
    precious.write_text("not a pid file")
    link(precious, path)
    fault = faults("mkostemp:errno=EACCES:who=supervisor")

    ended = subprocess.run([binary(release=True), "-l", "127.0.0.1:0", "-r", server(echo).address,
                            "--pid-file", str(path)], env=clean_environment(fault.env), timeout=patient(),
                           capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    said = f"doppel: cannot write the pid file {path}: Permission denied"
    assert ended.stderr.splitlines()[-1] == said
    assert precious.read_text() == "not a pid file"


@pytest.mark.parametrize("kind", ["fifo", "device", "directory"])
def test_a_pid_file_replaces_nothing_but_files(server, tmp_path, kind):
    path = tmp_path / "pid"
    if kind == "device":
        if os.geteuid() != 0:
            pytest.skip("making a device needs root")
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    else:
        {"fifo": os.mkfifo, "directory": os.mkdir}[kind](path)
    before = path.lstat()

    ended = run_until_it_ends("-l", "127.0.0.1:0", "-r", server(echo).address, "--pid-file", str(path))

    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == f"doppel: cannot write the pid file {path}: it is no regular file"
    assert (path.lstat().st_mode, path.lstat().st_ino) == (before.st_mode, before.st_ino)
