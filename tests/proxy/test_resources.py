"""
test_resources.py — system calls that fail, are interrupted or move one byte; descriptors that
come back; and ports that are not ours to have.
"""
import os
import re
import signal
import subprocess

import pytest

from support import crowd as crowds
from support import processes
from support.pattern import KIB, MIB, pattern
from support.peers import Ended, close_at_once, echo, reset_after, sink
from support.proxy import SMALL, binary, clean_environment, shadow
from support.waiting import eventually, patient

NOBODY = 65534


def run_until_it_ends(*arguments, program=None, **options):
    return subprocess.run([program or binary(), "-w", "1", *arguments], env=clean_environment(), text=True,
                          capture_output=True, timeout=patient(), check=False, **options)


def ignored_signals(pid):
    with open(f"/proc/{pid}/status") as status:
        mask = int(re.search(r"^SigIgn:\s*(\w+)", status.read(), re.MULTILINE)[1], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


# R9: SIGPIPE.

def test_R09_no_process_dies_of_a_broken_pipe(doppel, server):
    primary = server(reset_after(1))
    mirror = doppel(primary, shadows=[server(close_at_once), server(reset_after(1))], workers=2)
    mirror.expect(identity="prefix")
    pids = mirror.pids()

    for pid in pids:
        assert signal.SIGPIPE in ignored_signals(pid)
        os.kill(pid, signal.SIGPIPE)
    for number in range(10):
        client = mirror.connect()
        with pytest.raises(Ended):
            client.send(pattern(32 * MIB, number))

    assert mirror.pids() == pids


# R10, R11, R12: calls that are interrupted, or move one byte.

@pytest.mark.release
def test_R10_interrupted_calls_are_made_again(doppel, server, faults):
    primary, copy = server(echo), server(echo)
    fault = faults("*:errno=EINTR:p=.2")
    mirror = doppel(primary, shadows=[copy], env=fault.env)

    for number in range(10):
        client = mirror.connect()
        assert client.exchange(pattern(256 * KIB, number)) == pattern(256 * KIB, number)
        client.finish()
        assert client.recv() == b""

    assert fault.struck() > 25
    for number in range(10):
        assert mirror.session(number)["reason"] == "client_fin"
        assert mirror.shadow(number, "shadow0")["result"] == "mirrored"


def test_R10_a_storm_of_signals_disturbs_no_transfer(doppel, server):
    primary, copy = server(echo), server(sink)
    mirror = doppel(primary, shadows=[copy], workers=2)
    clients = [mirror.connect() for _ in range(4)]
    transfers = [client.start(client.exchange, pattern(4 * MIB, i))
                 for i, client in enumerate(clients)]

    while any(transfer.is_alive() for transfer in transfers):
        for pid in mirror.pids():
            os.kill(pid, signal.SIGUSR2)

    for number, transfer in enumerate(transfers):
        assert transfer.result() == pattern(4 * MIB, number)
    assert mirror.wait_log(" mirroring ")[0].fields["by"] == "USR2"


def exchange_in_small_steps(doppel, server, fault):
    """Three whole sessions with two shadows, while the fault strikes every byte."""
    mirror = doppel(server(echo), shadows=[server(echo), server(sink)], env=fault.env)

    for number in range(3):
        client = mirror.connect()
        assert client.exchange(pattern(16 * KIB, number)) == pattern(16 * KIB, number)
        client.finish()
        assert client.recv() == b""

    assert fault.struck() > 16 * KIB
    for number in range(3):
        assert mirror.session(number)["request_bytes"] == 16 * KIB
        for name in ("shadow0", "shadow1"):
            assert mirror.shadow(number, name)["result"] == "mirrored"


@pytest.mark.release
def test_R11_writes_of_one_byte_lose_none(doppel, server, faults):
    exchange_in_small_steps(doppel, server, faults("write,writev,send,sendto,sendmsg,splice_out:short=1"))


@pytest.mark.release
def test_R12_reads_of_one_byte_lose_none(doppel, server, faults):
    exchange_in_small_steps(doppel, server, faults("read,readv,recv,recvfrom,recvmsg,splice_in:short=1"))


@pytest.mark.release
def test_R12_one_byte_at_a_time_in_and_out_loses_none(doppel, server, faults):
    exchange_in_small_steps(doppel, server, faults("*:short=1"))


# R14: a connect that fails is told once.

def test_R14_a_refused_connect_is_counted_once(doppel, server):
    primary = server(state="refusing")
    mirror = doppel(primary)
    mirror.expect(identity="prefix")

    for _ in range(20):
        client = mirror.connect()
        assert client.drain() == "rst"
        client.close()

    assert [line["reason"] for line in mirror.access_log(20)] == ["primary_refused"] * 20
    assert mirror.metric("doppel_sessions_closed_total") == 20


@pytest.mark.netns
def test_R14_a_connect_that_fails_later_is_counted_once(network, doppel, server):
    """The refusal answers the second SYN: epoll says writable, error and hang-up at once."""
    primary, copy = server(state="refusing"), server(sink)
    network.drop(primary.port)
    mirror = doppel(primary, shadows=[copy])
    mirror.expect(identity="prefix")
    client = mirror.connect()
    client.send(b"for nobody")
    eventually(lambda: processes.is_dialling(primary.port), "the primary is dialled")

    network.lift()

    assert client.drain() == "rst"
    assert mirror.session(0)["reason"] == "primary_refused"
    assert mirror.metric("doppel_sessions_closed_total") == 1
    mirror.assert_log_count("reason=primary_refused", 1, 1, level="warning")
    assert copy.connections == []


@pytest.mark.netns
def test_R14_a_shadow_that_refuses_later_is_counted_once(network, doppel, server):
    primary, copy = server(echo), server(state="refusing")
    network.drop(copy.port)
    mirror = doppel(primary, shadows=[shadow(copy, connect_timeout="20s")])
    client = mirror.connect()
    client.exchange(b"before")
    eventually(lambda: processes.is_dialling(copy.port), "the shadow is dialled")

    network.lift()
    mirror.wait_metric("doppel_shadow_closed_total", 1, shadow="shadow0", reason="refused")

    assert client.exchange(b"after") == b"after"
    client.close()
    assert mirror.shadow(0, "shadow0")["reason"] == "refused"
    assert mirror.metric("doppel_shadow_closed_total") == 1


# R15: a reset stays a reset.

@pytest.mark.parametrize("size", [1, 1000, 100 * KIB])
def test_R15_a_reset_is_not_taken_for_an_end(doppel, server, size):
    """A second read after ECONNRESET answers 0: the reason must be the first."""
    def answer_and_reset(connection):
        connection.recv_exact(1)
        connection.send(pattern(size))
        connection.reset()
    primary = server(answer_and_reset)
    mirror = doppel(primary)
    mirror.expect(identity="prefix")

    for _ in range(10):
        client = mirror.connect()
        client.send(b"?")
        assert client.drain() == "rst"
        client.close()

    assert {line["reason"] for line in mirror.access_log(10)} == {"primary_rst_delivered"}


def test_R15_a_shadow_that_answers_and_resets_has_reset(doppel, server):
    def answer_and_reset(connection):
        connection.recv_exact(1)
        connection.send(pattern(1000))
        connection.reset()
    mirror = doppel(server(echo), shadows=[server(answer_and_reset)])

    for number in range(10):
        client = mirror.connect()
        client.exchange(pattern(KIB, number))
        client.exchange_until(lambda: mirror.shadow_closed("rst") > number, "the reset is noticed")
        client.close()

    assert {mirror.shadow(number, "shadow0")["reason"] for number in range(10)} == {"rst"}


def test_R15_a_client_that_sends_and_resets_has_reset(doppel, server):
    mirror = doppel(server(sink), shadows=[server(sink)])
    mirror.expect(identity="prefix")

    for number in range(10):
        client = mirror.connect()
        client.send(pattern(1000, number))
        mirror.wait_metric("doppel_sessions_total", number + 1)
        client.reset()

    assert {line["reason"] for line in mirror.access_log(10)} == {"client_rst"}
    reasons = {mirror.shadow(number, "shadow0")["reason"] for number in range(10)}
    assert reasons == {"session_aborted"}


# R16: a hang-up behind unread data.

def test_R16_a_hang_up_does_not_hide_what_was_sent_before(doppel, server):
    def answer_after_the_end(connection):
        connection.recv_all()
        connection.send(pattern(100 * KIB))
    primary = server(answer_after_the_end)
    mirror = doppel(primary, *SMALL)
    client = mirror.connect(rcvbuf=4096)
    client.send(b"?")

    client.finish()
    assert primary.connection().script_ended.wait(patient())    # sent, closed, and not yet read

    assert client.recv_all() == pattern(100 * KIB)
    assert client.end == "fin"
    assert mirror.session(0)["reason"] == "client_fin"


# R17, R24: descriptors come back, and to the right owner.

def seeded(number, kind=b"e"):
    """A request that no other client of the test sends."""
    return kind + pattern(64 + number % 1500, seed=number % 50, offset=number)


def mixed_scripts(count):
    """Clients of every kind in turn, as exactly as an echo allows."""
    kinds = (
        lambda number: crowds.exchange(seeded(number)),
        lambda number: crowds.exchange(seeded(number), half_close=True),
        lambda number: crowds.send_and_reset(seeded(number)),
        lambda number: crowds.say_nothing,
        lambda number: crowds.reset_at_once,
        lambda number: crowds.read_to_the_end(seeded(number, b"r")),
        lambda number: crowds.read_to_the_end(seeded(number, b"f")),
    )
    return (kinds[number % len(kinds)](number) for number in range(count))


def test_R17_no_event_reaches_the_next_owner_of_a_descriptor(doppel, crowd, tmp_path):
    """Resets free descriptors in the turns in which others are accepted and dialled."""
    primary = crowd.serve(crowds.obey)
    path = tmp_path / "access"      # a file takes every line, however fast they come
    mirror = doppel(primary, "--access-log", str(path),
                    shadows=[crowd.serve(crowds.reset_on_data), crowd.serve(crowds.swallow)])
    kinds = (crowds.exchange, crowds.send_and_reset)
    scripts = (kinds[number % 2](seeded(number)) for number in range(1000))

    crowd.run(mirror.addresses[0], scripts, at_once=100)

    crowd.settle(lambda: mirror.metric("doppel_sessions_closed_total") == 1000, "all sessions end")
    eventually(lambda: path.read_bytes().count(b"\n") == 1000, "each session has its line")
    assert mirror.metric("doppel_worker_restarts_total") == 0


def test_R24_ten_thousand_sessions_with_every_fault_leave_nothing_behind(doppel, server, crowd,
                                                                         tmp_path):
    """The closing checks compare descriptors, gauges and books with those at the start."""
    primary = crowd.serve(crowds.obey)
    shadows = [
        shadow(crowd.serve(crowds.swallow), "healthy", sample=30),
        shadow(crowd.serve(crowds.reset_on_data), "resetting", sample=10),
        shadow(crowd.serve(crowds.close_unread), "closing", sample=10),
        shadow(crowd.serve(crowds.answer_first), "talking", sample=10),
        shadow(server(state="refusing"), "refusing", sample=10),
        shadow(crowd.serve(crowds.swallow), "few", max_sessions=2, sample=20),
        shadow(crowd.serve(crowds.swallow), "eager", connect_on="start", sample=10),
    ]
    path = tmp_path / "access"      # a file takes every line, however fast they come
    mirror = doppel(primary, "--access-log", str(path), shadows=shadows, workers=2)

    crowd.run(mirror.addresses[0], mixed_scripts(10000), at_once=64)

    crowd.settle(lambda: mirror.metric("doppel_sessions_active") == 0, "all sessions end")
    assert mirror.metric("doppel_sessions_total") == 10000
    assert mirror.metric("doppel_sessions_closed_total", reason="internal") == 0
    for reason in ("client_fin", "client_rst", "primary_rst", "primary_fin"):
        assert mirror.metric("doppel_sessions_closed_total", reason=reason) > 0
    for name, reason in (("healthy", "fin"), ("resetting", "rst_delivered"), ("refusing", "refused")):
        assert mirror.metric("doppel_shadow_closed_total", shadow=name, reason=reason) > 0
    eventually(lambda: path.read_bytes().count(b"\n") == 10000, "each session has its line")
    assert mirror.metric("doppel_log_dropped_total") == 0
    assert mirror.metric("doppel_worker_restarts_total") == 0


def test_R24_a_primary_that_refuses_leaves_nothing_behind(doppel, server, crowd):
    mirror = doppel(server(state="refusing"), shadows=[crowd.serve(crowds.swallow)])

    crowd.run(mirror.addresses[0], (crowds.read_to_the_end(seeded(i)) for i in range(500)))

    mirror.wait_metric("doppel_sessions_closed_total", 500, reason="primary_refused")
    assert crowd.accepted == 0


# R18: what epoll refuses.

def test_R18_logs_in_plain_files_make_nobody_spin(doppel, server, tmp_path):
    with open(tmp_path / "out", "w") as out, open(tmp_path / "log", "w") as log:
        mirror = doppel(server(echo), "-v", shadows=[server(sink)], workers=2, stdout=out,
                        stderr=log)
    client = mirror.connect()
    client.exchange(pattern(MIB))

    mirror.assert_not_spinning()
    for pid in mirror.pids():
        watched = [int(row.split()[1]) for number, link in processes.descriptors(pid).items()
                   if "eventpoll" in link for row in epoll_rows(pid, number)]
        files = [number for number, link in processes.descriptors(pid).items()
                 if link.startswith(str(tmp_path))]
        assert files and not set(watched) & set(files)
    client.close()
    eventually(lambda: (tmp_path / "out").read_text().count("\n") == 1, "the session has its line")


def epoll_rows(pid, number):
    with open(f"/proc/{pid}/fdinfo/{number}") as rows:
        return [row for row in rows if row.startswith("tfd:")]


# R25, R26: addresses that cannot be had.

def test_R25_an_address_in_use_is_named_and_nothing_is_half_started(doppel, server, tmp_path):
    primary = server(echo)
    mirror = doppel(primary, workers=2)
    host, port = mirror.addresses[0]
    path = tmp_path / "bound-first"

    ended = run_until_it_ends("-l", f"unix:{path}", "-l", f"{host}:{port}", "-r", primary.address)

    assert ended.returncode == 1
    assert ended.stderr == f"doppel: cannot listen on {host}:{port}: Address already in use\n"
    assert ended.stdout == ""
    assert not path.exists()
    assert mirror.connect().exchange(b"undisturbed") == b"undisturbed"


def test_R25_an_admin_address_in_use_is_named(server):
    taken, primary = server(echo), server(echo)

    ended = run_until_it_ends("-l", "127.0.0.1:0", "-r", primary.address, "--admin", taken.address)

    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        f"doppel: cannot listen on {taken.address}: Address already in use")


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0"])
def test_R25_a_port_that_somebody_shares_is_not_joined(doppel, server, listen):
    """Another doppel's SO_REUSEPORT must not let us take part of its connections."""
    primary = server(echo)
    mirror = doppel(primary, listens=[listen])
    host, port = mirror.addresses[0]
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    ended = run_until_it_ends("-l", where, "-r", primary.address)

    assert ended.returncode == 1
    assert where in ended.stderr


@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_R26_a_privileged_port_is_refused_in_clear_text(network, server, program):
    ended = run_until_it_ends("-l", "127.0.0.1:80", "-r", server(echo).address, program=program,
                              user=NOBODY, group=NOBODY, extra_groups=[])

    assert ended.returncode == 1
    assert ended.stderr == ("doppel: cannot listen on 127.0.0.1:80: Permission denied "
                            "(ports below 1024 need CAP_NET_BIND_SERVICE)\n")


@pytest.mark.parametrize("address", ["192.0.2.1:8080", "[2001:db8::1]:8080"])
def test_R26_an_address_that_is_not_ours_is_refused_in_clear_text(server, address):
    ended = run_until_it_ends("-l", address, "-r", server(echo).address)

    assert ended.returncode == 1
    assert ended.stderr == f"doppel: cannot listen on {address}: this machine does not have that address\n"


def test_R26_a_directory_that_is_missing_is_named(server, tmp_path):
    path = tmp_path / "missing" / "listener"

    ended = run_until_it_ends("-l", f"unix:{path}", "-r", server(echo).address)

    assert ended.returncode == 1
    assert ended.stderr == f"doppel: cannot listen on unix:{path}: No such file or directory\n"
