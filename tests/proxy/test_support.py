"""
test_support.py — the checks that every test ends with can fail.

A check that never fails proves nothing, so each gets a proxy that misbehaves: a stand-in made of
the numbers and streams such a proxy would leave behind.
"""
import os
import subprocess
import sys
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from support import checks, processes
from support.pattern import PERIOD, Received, Sent, is_prefix, pattern
from support.peers import Client, echo
from support.proxy import Doppel, Expectation, LogLine, metric_of, parse_address, parse_metrics
from support.waiting import eventually


def peer(sent=b"", received=b""):
    made = SimpleNamespace(sent=Sent(), received=Received(), end="fin")
    made.sent.add(sent)
    made.received.add(received)
    return made


def stand_in(clients=(), connections=(), shadow_streams=(), mirrored=0, log=()):
    shadow_server = SimpleNamespace(connections=[peer(received=stream) for stream in shadow_streams])
    return SimpleNamespace(
        expectation=Expectation(), clients=list(clients),
        primaries=[SimpleNamespace(connections=list(connections))],
        shadows=[SimpleNamespace(name="shadow0", server=shadow_server)],
        log_lines=list(log), exit_status=0, command=[],
        log=lambda wanted: [line for line in log if "totals" in line],
        last_metrics={("doppel_shadow_sessions_total",
                       (("result", "mirrored"), ("shadow", "shadow0"))): mirrored})


def test_equal_streams_pass_whatever_their_order():
    clients = [peer(b"one", b"1"), peer(b"two", b"2")]
    primaries = [peer(b"2", b"two"), peer(b"1", b"one")]
    assert not checks.check_identity(stand_in(clients, primaries, [b"two", b"one"], 2))


@pytest.mark.parametrize("seen", [
    peer(b"1", b"onx"),     # a wrong byte
    peer(b"1", b"on"),      # one is missing
    peer(b"1", b"onee"),    # one too many
    peer(b"2", b"one"),     # the answer of somebody else
])
def test_a_primary_that_saw_something_else_is_found(seen):
    assert checks.check_identity(stand_in([peer(b"one", b"1")], [seen]))


@pytest.mark.parametrize("stream, mirrored", [(b"ons", 0), (b"ne", 0), (b"onee", 0), (b"on", 1)])
def test_a_shadow_that_saw_something_else_is_found(stream, mirrored):
    assert checks.check_identity(stand_in([peer(b"one", b"1")], [peer(b"1", b"one")], [stream], mirrored))


def test_a_shadow_that_saw_a_beginning_passes_when_it_was_cut():
    assert not checks.check_identity(stand_in([peer(b"one", b"1")], [peer(b"1", b"one")], [b"on"], 0))


def test_broken_transfers_pass_only_as_prefixes():
    mirror = stand_in([peer(b"one", b"")], [peer(b"1", b"o")])
    assert checks.check_identity(mirror)
    mirror.expectation.identity = "prefix"
    assert not checks.check_identity(mirror)
    mirror.primaries[0].connections = [peer(b"1", b"n")]
    assert checks.check_identity(mirror)


BALANCED = """
doppel_sessions_total 2
doppel_sessions_closed_total{reason="client_fin"} 2
doppel_bytes_total{direction="request"} 30
doppel_shadow_bytes_total{shadow="shadow0",fate="offered"} 30
doppel_shadow_bytes_total{shadow="shadow0",fate="sent"} 10
doppel_shadow_bytes_total{shadow="shadow0",fate="lost"} 15
doppel_shadow_bytes_total{shadow="shadow0",fate="skipped"} 5
doppel_shadow_sessions_total{shadow="shadow0",result="mirrored"} 1
doppel_shadow_sessions_total{shadow="shadow0",result="detached"} 1
doppel_shadow_closed_total{shadow="shadow0",reason="fin"} 1
doppel_shadow_closed_total{shadow="shadow0",reason="lag"} 1
"""


def books_of(text):
    samples = parse_metrics(text)
    mirror = SimpleNamespace(metrics=lambda: samples, shadows=[SimpleNamespace(name="shadow0")],
                             expectation=Expectation(identity="prefix"), access_lines=[])
    return checks.check_books(mirror)


def test_balanced_books_pass():
    assert not books_of(BALANCED)


@pytest.mark.parametrize("row", [row for row in BALANCED.splitlines() if row])
def test_each_number_of_the_books_counts(row):
    name, _, value = row.rpartition(" ")
    assert books_of(BALANCED.replace(row, f"{name} {int(value) + 1}"))


@pytest.mark.parametrize("line", [
    "stream.c:12: runtime error: signed integer overflow",
    "==12==ERROR: AddressSanitizer: heap-use-after-free",
    "==12==ERROR: LeakSanitizer: detected memory leaks",
    "doppel: stream.c:40: stream_fill: Assertion `room > 0' failed.",
    "2026-11-21T10:00:00.123Z error supervisor worker_died signal=SEGV",
    '{"time":"2026-11-21T10:00:00.123Z","level":"error","whose":"supervisor","event":"worker_died"}',
])
def test_a_crash_or_an_error_in_the_log_is_found(line):
    assert checks.check_problems(stand_in(log=[line]))


def test_an_error_passes_when_the_test_expects_it():
    mirror = stand_in(log=["2026-11-21T10:00:00.123Z error supervisor worker_died signal=SEGV"])
    mirror.expectation.problems = (" reload_failed ",)
    assert checks.check_problems(mirror)
    mirror.expectation.problems += (" worker_died ",)
    assert not checks.check_problems(mirror)


@pytest.fixture
def python():
    """python("code") runs it as a process of its own and answers the process."""
    with ExitStack() as stack:
        def start(code):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", code]))
            stack.callback(process.kill)
            return process
        yield start


def test_a_process_that_spins_is_found_and_one_that_waits_is_not(python):
    spinning, waiting = python("while True: pass"), python("import signal; signal.pause()")
    eventually(lambda: processes.is_asleep(waiting.pid), "it waits")

    Doppel.assert_not_spinning(SimpleNamespace(pids=lambda: [waiting.pid]), 0.2)
    with pytest.raises(AssertionError, match="they spin"):
        Doppel.assert_not_spinning(SimpleNamespace(pids=lambda: [spinning.pid, waiting.pid]), 0.2)


def test_a_missing_line_of_totals_and_a_wrong_exit_status_are_found():
    assert checks.check_ended(stand_in(log=["2026-11-21T10:00:00.123Z info supervisor stopping"]))
    mirror = stand_in(log=["2026-11-21T10:00:00.123Z info supervisor totals sessions=1"])
    assert not checks.check_ended(mirror)
    mirror.exit_status = 1
    assert checks.check_ended(mirror)


def test_the_pattern_shows_holes_and_repetitions():
    sent, received = Sent(), Received()
    for start in range(0, 100000, 777):
        sent.add(pattern(777, seed=3, offset=start))
    received.add(pattern(50000, seed=3))
    assert is_prefix(received, sent)
    received.add(pattern(10, seed=3, offset=50001))
    assert not is_prefix(received, sent)
    assert pattern(20, offset=PERIOD - 5)[5:] == pattern(15)


def test_log_lines_addresses_and_metrics_are_read_as_they_are_written():
    line = LogLine.parse('2026-11-21T10:00:00.123Z info worker 2 listening listener=:80 '
                         'address=[::]:8080 why="a \\"b\\" c"')
    assert (line.level, line.fields["address"], line.fields["why"]) == ("info", "[::]:8080", 'a "b" c')
    assert LogLine.parse('{"level":"info","event":"listening"}').text == "listening"
    assert parse_address("[::]:8080") == ("::1", 8080)
    assert parse_address("unix:/x") == "/x"
    samples = parse_metrics('# HELP a b\na{x="1",y="2"} 3\na{x="2",y="2"} 4\n')
    assert metric_of(samples, "a", y="2") == 7
    with pytest.raises(AssertionError):
        parse_metrics("a 1\na 1\n")


def test_peers_agree_on_what_they_sent_each_other(server):
    echoing = server(echo)
    client = Client(echoing.where)
    assert client.exchange(pattern(100000)) == pattern(100000)
    client.finish()
    assert client.drain() == "fin"
    connection = echoing.connection()
    assert connection.wait_end() == "fin"
    checks.assert_same(connection.received, client.sent)
    checks.assert_same(client.received, connection.sent)
    client.close()


def test_a_black_hole_answers_nothing_until_it_opens(server):
    hole = server(echo, state="black hole")
    with pytest.raises(TimeoutError):
        Client(hole.where, timeout=0.2)
    hole.open()
    client = Client(hole.where)
    assert client.exchange(b"there") == b"there"
    client.close()


def test_the_fault_shim_strikes_where_its_specification_says(faults):
    fault = faults("recv,send:short=1:who=all;recv:errno=EINTR:n=2:who=all")
    program = ("import socket; a, b = socket.socketpair(); print(a.send(b'abc'), b.recv(9)); "
               "a.send(b'd'); a.close(); print(b.recv(9))")
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, **fault.env},
                          capture_output=True, text=True, check=True)
    assert done.stdout == "1 b'a'\nb'd'\n"
    assert fault.struck(0) == 4
    assert fault.struck(1) == 0     # the first rule that is due strikes, alone


@pytest.mark.netns
def test_a_namespace_loses_packets_only_where_it_is_told(network, server):
    echoing = server(echo)
    network.drop(echoing.port)
    with pytest.raises(TimeoutError):
        Client(echoing.where, timeout=0.2)
    network.lift()
    client = Client(echoing.where)
    assert client.exchange(b"there") == b"there"
    client.close()
    network.reject(echoing.port)
    with pytest.raises(ConnectionRefusedError):
        Client(echoing.where)
