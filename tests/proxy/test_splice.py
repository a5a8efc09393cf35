"""
Bytes that never come to memory arrive like all others: exactly, in order and with the same ending,
whatever splice(2), tee(2) and pipe2(2) say, and however different the shadows are.
"""
import os
import re
import signal
import socket
import subprocess
from contextlib import contextmanager

import pytest

from support.faults import NO_LEAK_CHECK
from support.pattern import KIB, MIB, pattern
from support.peers import answer, echo, hold, read_slowly, reset_after, sink
from support.proxy import SMALL, shadow
from support.waiting import eventually

NOBODY = 65534
SEEN = "splice_in:short=1048576"    # changes nothing, but is counted


def upload(mirror, size, number=0):
    """All of it at once, and the same back from a primary that echoes."""
    client = mirror.connect()
    assert client.exchange(pattern(size, number)) == pattern(size, number)
    return client


def end(client):
    client.finish()
    assert client.drain() == "fin"


def fallbacks(mirror, why):
    return mirror.metric("doppel_splice_fallback_total", why=why)


# When pipes are used.

@pytest.mark.parametrize("mode, size, spliced", [
    ("splice", KIB, True), ("auto", 8 * MIB, True), ("auto", KIB, False), ("copy", 8 * MIB, False)])
def test_bytes_are_spliced_when_told_or_when_there_are_many(doppel, server, faults, mode, size, spliced):
    fault = faults(SEEN)
    mirror = doppel(server(echo), shadows=[server(sink)], env=fault.env, release=True, io=mode)
    client = upload(mirror, size)
    for number in range(20):
        assert client.exchange(pattern(100, number)) == pattern(100, number)
    end(client)

    assert (fault.struck() > 0) == spliced


def test_Z14_the_way_changes_with_the_traffic_and_every_byte_arrives(doppel, server, faults):
    """Bulk and single requests by turns: in pipes, in memory, in pipes, ..."""
    fault = faults(SEEN + ";readv:short=1048576")
    shadows = [server(sink), shadow(server(read_slowly(64 * KIB, 0.01)), buffer="64m")]
    mirror = doppel(server(echo), shadows=shadows, env=fault.env, release=True, io="auto")
    client = mirror.connect()
    before = fault.struck(0), fault.struck(1)
    for number in range(12):
        client.exchange(pattern(MIB, number))
        for _ in range(12):
            client.exchange(pattern(200, number))
        now = fault.struck(0), fault.struck(1)
        assert now[0] > before[0] and now[1] > before[1], "both ways are taken in each round"
        before = now
    end(client)


def test_a_worker_without_sessions_holds_no_pipe(doppel, server):
    mirror = doppel(server(echo), shadows=[server(sink)], io="splice")
    before = [kinds.get("pipe", 0) for kinds in mirror.fds()]
    for number in range(3):
        end(upload(mirror, 2 * MIB, number))

    eventually(lambda: mirror.metric("doppel_sessions_active") == 0, "all sessions end")
    eventually(lambda: [kinds.get("pipe", 0) for kinds in mirror.fds()] == before, "the pipes are closed")


def test_a_session_that_is_quiet_holds_no_bytes_and_does_not_spin_Z01(doppel, server):
    mirror = doppel(server(echo), shadows=[server(sink)], io="splice")
    client = upload(mirror, 4 * MIB)

    eventually(lambda: mirror.metric("doppel_buffered_bytes") == 0, "everything has gone on")
    mirror.assert_not_spinning(1)
    assert client.exchange(b"still here") == b"still here"


# Z2, Z3, Z4: full pipes.

@pytest.mark.parametrize("io", ["splice", "auto"])
def test_Z02_Z03_Z04_single_bytes_behind_a_primary_that_waits_arrive_and_end(doppel, server, io):
    primary = server(hold, rcvbuf=4096)
    mirror = doppel(primary, *SMALL, shadows=[server(sink)], io=io)
    client = mirror.connect(sndbuf=4096)
    filling = client.start(client.send, pattern(512 * KIB))
    mirror.wait_metric("doppel_bytes_total", 1, direction="request")
    mirror.assert_not_spinning(1)
    primary.release()
    filling.result()
    for number in range(300):
        client.send(pattern(1, offset=number))
    client.finish()

    assert client.drain() == "fin"
    assert primary.connection().wait_end() == "fin"
    assert mirror.shadow(0, "shadow0")["sent_bytes"] == 512 * KIB + 300


@pytest.mark.parametrize("io", ["splice", "auto"])
def test_L02_pipes_hold_one_buffer_and_no_more(doppel, server, io):
    primary = server(hold, rcvbuf=4096)
    mirror = doppel(primary, "--buffer", "64k", "--sndbuf", "4k", shadows=[server(sink)], io=io)
    client = mirror.connect()
    sending = client.start(client.send, pattern(4 * MIB))

    mirror.wait_metric("doppel_buffered_bytes", 1)
    for _ in range(10):
        assert mirror.metric("doppel_buffered_bytes") <= 64 * KIB
    mirror.assert_not_spinning(1)
    primary.release()
    sending.result()


# Z5: what cannot be spliced is copied.

@pytest.mark.parametrize("error", ["EINVAL", "ENOSYS", "EPERM"])
@pytest.mark.parametrize("call", ["splice_in", "splice_out"])
@pytest.mark.parametrize("first", [1, 2, 7])
def test_Z05_what_the_kernel_refuses_to_splice_is_copied(doppel, server, faults, call, error, first):
    """From the first call on, or later, with bytes in the pipes."""
    fault = faults(f"{call}:errno={error}:n={first}..100000")
    mirror = doppel(server(echo), shadows=[server(sink), server(sink)], env=fault.env, release=True,
                    io="splice")
    client = upload(mirror, 4 * MIB)
    end(client)

    assert fault.struck() > 0
    if call == "splice_in":
        assert fallbacks(mirror, "refused") > 0
    assert mirror.shadow(0, "shadow1")["sent_bytes"] == 4 * MIB


@pytest.mark.parametrize("error, again", [("ENOSYS", 0), ("EPERM", 0), ("EINVAL", 1)])
@pytest.mark.parametrize("call", ["splice_in", "splice_out"])
def test_Z05_what_no_socket_may_is_not_tried_by_another_one(doppel, server, faults, call, error, again):
    """EINVAL is about one socket; without such a call, or with a filter before it, no other fares better."""
    fault = faults(f"{call}:errno={error}")
    mirror = doppel(server(echo), shadows=[server(sink)], env=fault.env, release=True, io="splice")
    end(upload(mirror, 4 * MIB, 0))
    struck = fault.struck()
    assert struck == 1 or again
    end(upload(mirror, 4 * MIB, 1))

    assert (fault.struck() > struck) == again


@pytest.mark.parametrize("io", ["splice", "auto"])
@pytest.mark.parametrize("not_first", [False, True])
def test_C12_an_urgent_byte_among_many_holds_nothing_up_and_ends_nothing(doppel, server, io, not_first):
    """splice(2) stops before it for ever, with the socket readable, or says that this was the end."""
    primary, copy = server(sink, keep=True), server(sink, keep=True)
    mirror = doppel(primary, shadows=[copy], io=io)
    mirror.expect(identity="none")      # the urgent byte is in no tally
    client = mirror.connect()
    client.send(pattern(2 * MIB, 0))
    if not_first:
        client.socket.send(b"!", socket.MSG_OOB)
        client.send(pattern(2 * MIB, 1))
    mirror.assert_not_spinning()
    for worker in mirror.workers():
        os.kill(worker, signal.SIGSTOP)     # so that all of this is there when it looks again
    client.socket.send(b"!", socket.MSG_OOB)
    client.send(b"the rest")
    client.finish()
    for worker in mirror.workers():
        os.kill(worker, signal.SIGCONT)

    assert client.drain() == "fin"
    for peer in (primary.connection(), copy.connection()):
        assert peer.wait_end() == "fin"
        assert peer.received.bytes == pattern(2 * MIB, 0) + pattern(2 * MIB, 1) * not_first + b"the rest"


# Z6: endings.

def test_Z06_what_came_before_a_reset_goes_out_first(doppel, server):
    def answer_and_reset(connection):
        connection.recv_exact(1)
        connection.send(pattern(100 * KIB))
        connection.reset()
    mirror = doppel(server(answer_and_reset), shadows=[server(sink)], io="splice")
    mirror.expect(identity="prefix")
    client = mirror.connect(keep=True)
    client.send(b"?")

    assert client.drain() == "rst"
    assert pattern(100 * KIB).startswith(client.received.bytes)
    assert mirror.session(0)["reason"] == "primary_rst_delivered"


# Z7, Z8, Z10: copies that fall short.

@pytest.mark.parametrize("fault_spec", [
    "tee:short=5000:p=.3", "tee:errno=EAGAIN:p=.3", "tee:errno=ENOMEM:n=2..3", "tee:errno=EINTR:p=.5",
    "splice_in:short=30000:p=.5;tee:short=20000:p=.5"])
def test_Z07_Z08_Z10_a_copy_that_falls_short_costs_no_shadow_a_byte(doppel, server, faults, fault_spec):
    fault = faults(fault_spec)
    slow = shadow(server(read_slowly(128 * KIB, 0.002)), buffer="64m")
    mirror = doppel(server(echo), shadows=[server(sink), slow, server(sink)], env=fault.env,
                    release=True, io="splice")
    clients = [upload(mirror, 6 * MIB, number) for number in range(2)]
    for client in clients:
        end(client)

    assert fault.struck() > 0
    for session in range(2):
        for number in range(3):
            assert mirror.shadow(session, f"shadow{number}")["sent_bytes"] == 6 * MIB


@pytest.mark.parametrize("size", [1, 700])
def test_R11_R12_R13_spliced_in_little_pieces_the_streams_are_the_same(doppel, server, faults, size):
    fault = faults(f"splice_in,splice_out,readv,writev:short={size};"
                   "splice_in,splice_out:errno=EAGAIN:p=.1;splice_in,splice_out,tee:errno=EINTR:p=.1")
    mirror = doppel(server(echo), shadows=[server(sink), server(sink)], env=fault.env, release=True,
                    io="splice")
    for number in range(2):
        end(upload(mirror, 2000 * size, number))

    assert fault.struck(0) > 0


# Laggards.

@pytest.mark.parametrize("workers", [1, 2])
def test_three_shadows_of_different_speed_get_every_byte(doppel, server, workers):
    """One at once, one with pauses, one that first waits: what it lacks goes to memory meanwhile."""
    waiting = server(hold, rcvbuf=4096)
    shadows = [server(sink), shadow(server(read_slowly(256 * KIB, 0.005)), buffer="64m"),
               shadow(waiting, buffer="64m")]
    mirror = doppel(server(echo), shadows=shadows, workers=workers, io="splice")
    clients = [upload(mirror, 20 * MIB, number) for number in range(2)]
    mirror.wait_metric("doppel_shadow_buffered_bytes", 1, shadow="shadow2")
    for client in clients:
        end(client)
    waiting.release()

    for session in range(2):
        for number in range(3):
            entry = mirror.shadow(session, f"shadow{number}")
            assert (entry["reason"], entry["sent_bytes"]) == ("fin", 20 * MIB)


def test_a_laggard_that_finds_few_pipes_gets_every_byte(doppel, server):
    """So few that they are read out all the time, each with as much as may be in one."""
    waiting = server(hold, rcvbuf=4096)
    slow = shadow(waiting, buffer="64m", linger="60s")
    mirror = doppel(server(echo), "--sndbuf", "64k", shadows=[slow], io="splice",
                    prefix=["prlimit", "--nofile=1024"])
    client = upload(mirror, 20 * MIB)
    end(client)
    waiting.release()

    entry = mirror.shadow(0, "shadow0")
    assert (entry["reason"], entry["sent_bytes"]) == ("fin", 20 * MIB)


@pytest.mark.parametrize("stalled", [0, 1, 2])
def test_S13_a_stalled_shadow_is_cut_at_its_limit_and_the_others_get_all(doppel, server, stalled):
    copies = [server(hold if number == stalled else sink, rcvbuf=4096) for number in range(3)]
    shadows = [shadow(copy, buffer="2m") if number == stalled else copy
               for number, copy in enumerate(copies)]
    mirror = doppel(server(echo), "--sndbuf", "4k", shadows=shadows, io="splice")
    end(upload(mirror, 8 * MIB))
    copies[stalled].release()

    for number in range(3):
        entry = mirror.shadow(0, f"shadow{number}")
        assert entry["reason"] == ("lag" if number == stalled else "fin")
        assert entry["max_lag_bytes"] <= 2 * MIB + 256 * KIB or number != stalled


def test_Z13_pipes_of_a_stalled_shadow_are_in_the_shadow_memory(doppel, server):
    """Far below its own limit, but all shadows together may have no more than this."""
    stalled = server(hold, rcvbuf=4096)
    mirror = doppel(server(echo), "--sndbuf", "4k", "--shadow-memory", "1m",
                    shadows=[shadow(stalled, buffer="64m")], io="splice")
    end(upload(mirror, 8 * MIB))
    stalled.release()

    entry = mirror.shadow(0, "shadow0")
    assert entry["reason"] == "memory"
    assert entry["max_lag_bytes"] <= 2 * MIB


def test_S17_a_shadow_that_closes_with_bytes_in_its_pipe_takes_nobody_along(doppel, server, faults):
    fault = faults("splice_out:errno=EPIPE:n=2")    # the first is the primary's
    mirror = doppel(server(sink), shadows=[server(sink)], env=fault.env, release=True, io="splice")
    mirror.expect(identity="prefix")
    client = mirror.connect()
    client.send(pattern(KIB))
    eventually(lambda: fault.struck() == 1, "the shadow's fails")
    client.send(pattern(2 * MIB - KIB, offset=KIB))
    end(client)

    assert mirror.shadow(0, "shadow0")["reason"] == "rst"
    assert mirror.session(0)["reason"] == "client_fin"
    assert mirror.session(0)["request_bytes"] == 2 * MIB


def test_S07_R09_splicing_to_a_shadow_that_has_gone_does_not_end_the_process(doppel, server):
    mirror = doppel(server(echo), shadows=[server(reset_after(100 * KIB))], io="splice")
    end(upload(mirror, 8 * MIB))

    assert mirror.shadow(0, "shadow0")["reason"] == "rst"


# Z12: one client's bytes never reach another.

def test_Z12_pipes_with_bytes_in_them_are_never_used_again(doppel, server):
    stalled = server(hold, rcvbuf=4096)
    primary = server(echo)
    mirror = doppel(primary, "--sndbuf", "4k", shadows=[shadow(stalled, buffer="64m")], io="splice")
    mirror.expect(identity="prefix")
    kept = upload(mirror, KIB, 1)   # a worker without sessions would keep no pipe for the next
    for number in range(6):
        client = mirror.connect()
        sending = client.start(client.send_until_blocked, pattern(2 * MIB, number))
        sending.result()
        client.reset()
        assert kept.exchange(pattern(100, number)) == pattern(100, number)
        end(upload(mirror, 2 * MIB, 100 + number))
    stalled.release()


# Pipes that cannot be had: R5, Z11.

def test_R05_without_descriptors_for_pipes_bytes_are_copied(doppel, server, faults):
    fault = faults("pipe2:errno=EMFILE")
    mirror = doppel(server(echo), shadows=[server(sink)], env=fault.env, release=True, io="splice")
    end(upload(mirror, 8 * MIB))

    assert fault.struck() > 0
    assert fallbacks(mirror, "no_descriptor") > 0
    assert mirror.shadow(0, "shadow0")["sent_bytes"] == 8 * MIB


def test_R05_a_shadow_without_a_pipe_of_its_own_gets_the_bytes_from_memory(doppel, server, faults):
    fault = faults("pipe2:errno=EMFILE:n=2..3")
    mirror = doppel(server(echo), shadows=[server(sink), server(sink)], env=fault.env, release=True,
                    io="splice")
    end(upload(mirror, 8 * MIB))

    assert fault.struck() > 0
    for number in range(2):
        assert mirror.shadow(0, f"shadow{number}")["sent_bytes"] == 8 * MIB


@contextmanager
def all_pipes_taken(user):
    """By another process of the same user, as far as an unprivileged one gets them (pipe(7))."""
    script = ("import os, sys, fcntl\nkept = []\n"
              "try:\n    while True:\n        kept.append(os.pipe())\n"
              "        fcntl.fcntl(kept[-1][0], 1031, 1 << 20)\n"
              "except OSError:\n    pass\nprint('taken', flush=True)\nsys.stdin.read()\n")
    taker = subprocess.Popen(["python3", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             user=user, group=user, extra_groups=[])
    try:
        assert taker.stdout.readline() == b"taken\n"
        yield
    finally:
        taker.stdin.close()
        taker.wait()
        taker.stdout.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become somebody else")
def test_Z11_where_only_little_pipes_are_to_be_had_bytes_are_copied(doppel, server):
    with all_pipes_taken(NOBODY):
        mirror = doppel(server(echo), shadows=[server(sink)], io="splice", user=NOBODY)
        end(upload(mirror, 8 * MIB))
        assert fallbacks(mirror, "pipe_size") > 0

    assert mirror.shadow(0, "shadow0")["sent_bytes"] == 8 * MIB


# Z15: nothing is held back.

def test_Z15_the_kernel_is_never_told_that_more_will_come(doppel, server, tmp_path):
    """SPLICE_F_MORE would keep the last bytes for 200 ms."""
    trace = tmp_path / "trace"
    mirror = doppel(server(echo), shadows=[server(sink)], io="splice", env=NO_LEAK_CHECK,
                    prefix=["strace", "-f", "-qq", "-e", "trace=splice", "-o", str(trace)])
    client = upload(mirror, 2 * MIB)
    for number in range(10):
        assert client.exchange(pattern(1, number)) == pattern(1, number)
    end(client)
    mirror.stop()

    calls = re.findall(r"splice\(.*\) = \d+", trace.read_text())
    assert len(calls) > 20
    assert [call for call in calls if "MORE" in call] == []


# Answers.

@pytest.mark.parametrize("io", ["splice", "auto"])
@pytest.mark.parametrize("shadows", [0, 1])
def test_answers_are_spliced_too(doppel, server, faults, io, shadows):
    fault = faults(SEEN)
    mirror = doppel(server(answer(16 * MIB)), shadows=[server(sink)] * shadows, env=fault.env,
                    release=True, io=io)
    client = mirror.connect()
    client.send(b"?")
    client.finish()

    assert client.drain() == "fin"
    assert client.received.count == 16 * MIB
    assert fault.struck() > 0
