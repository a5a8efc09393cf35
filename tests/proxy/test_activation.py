"""
test_activation.py — doppel under a service manager: it takes the sockets that were opened for it, says
when it is ready and when it stops, and another doppel can take its place without losing a client.
"""
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from support import processes
from support.manager import Manager
from support.pattern import KIB, pattern
from support.peers import Client, echo, sink
from support.proxy import ROOT, binary, parse_address
from support.waiting import eventually, patient


@pytest.fixture
def manager(tmp_path):
    one = Manager(tmp_path)
    yield one
    one.close()


def exchange(mirror, listener=0):
    client = mirror.connect(listener)
    assert client.exchange(pattern(KIB)) == pattern(KIB)
    client.close()


def inode(opened):
    return f"socket:[{os.fstat(opened.fileno()).st_ino}]"


# Sockets that were opened for it.

@pytest.mark.parametrize("workers", [1, 3])
def test_a_listener_uses_the_socket_that_was_passed_for_its_address(manager, doppel, server, workers):
    manager.listen()
    mirror = doppel(server(echo), shadows=[server(sink)], listens=manager.addresses, workers=workers,
                    **manager.start())

    for _ in range(6):
        exchange(mirror)

    opened, _ = manager._listening[0]
    for pid in mirror.pids():
        assert inode(opened) in processes.descriptors(pid).values()


def test_all_kinds_of_addresses_are_found_and_the_others_are_opened(manager, doppel, server, tmp_path):
    manager.listen(name="four")
    manager.listen("::1", name="six")
    manager.listen(str(tmp_path / "listener"), name="path")
    mirror = doppel(server(echo), listens=[*manager.addresses, "127.0.0.1:0"], workers=2,
                    **manager.start())

    for listener in range(4):
        exchange(mirror, listener)


def test_the_short_form_of_an_address_finds_a_socket_on_every_address(manager, doppel, server):
    text = manager.listen("::", name="everywhere")
    port = text.rpartition(":")[2]
    mirror = doppel(server(echo), listens=[port], **manager.start())
    mirror.addresses = [("127.0.0.1", int(port))]

    exchange(mirror)


def test_the_admin_endpoint_uses_a_passed_socket_too(manager, doppel, server, tmp_path):
    path = str(tmp_path / "admin-socket")
    manager.listen(path)
    manager.addresses = []
    mirror = doppel(server(echo), "--admin", f"unix:{path}", admin=False, wait=False, **manager.start())
    mirror.admin_path = path
    mirror.wait_until_listening()

    assert mirror.get("/readyz")[0] == 200


def test_the_managers_path_stays_when_doppel_ends(manager, doppel, server, tmp_path):
    path = tmp_path / "listener"
    manager.listen(str(path))
    mirror = doppel(server(echo), listens=manager.addresses, **manager.start())

    assert mirror.stop() == 0

    assert path.is_socket()


def test_sockets_that_are_meant_for_another_process_are_not_touched(manager, doppel, server):
    manager.listen()
    opened, _ = manager._listening[0]
    mirror = doppel(server(echo), listens=["127.0.0.1:0"], **manager.start(for_this_process=False))

    exchange(mirror)

    # Inherited, as any descriptor, but by the supervisor alone: no worker has it.
    assert all(inode(opened) not in processes.descriptors(pid).values() for pid in mirror.workers())


def assert_ends_with(mirror, sentence):
    mirror.expect(exit_status=1, totals=False)
    assert mirror.wait_exit() == 1
    assert sentence in mirror.log_lines


def test_a_socket_that_nobody_wants_is_one_sentence(manager, doppel, server):
    wanted = manager.listen(name="wanted")
    extra = manager.listen(name="extra")
    mirror = doppel(server(echo), listens=[wanted], wait=False, **manager.start())

    assert_ends_with(mirror, f"doppel: LISTEN_FDS: nobody listens at {extra} (extra); say -l {extra}, "
                             "or do not pass the socket")


@pytest.mark.parametrize("kind", ["datagram", "connected"])
def test_what_is_no_listening_socket_is_one_sentence(manager, doppel, server, kind):
    one, other = socket.socketpair()
    if kind == "datagram":
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    manager.add(one, "odd")
    mirror = doppel(server(echo), wait=False, **manager.start())

    assert_ends_with(mirror, "doppel: LISTEN_FDS: descriptor 3 (odd) is no listening stream socket; "
                             "pass one that ListenStream= made")
    other.close()


def test_clients_that_wait_before_doppel_runs_are_served_by_it(manager, doppel, server):
    """That is what activation is for: the manager's queue is open before anybody serves."""
    manager.listen()
    host, port = manager.addresses[0].split(":")
    early = [Client((host, int(port))) for _ in range(20)]
    mirror = doppel(server(echo), listens=manager.addresses, workers=2, **manager.start())
    mirror.clients += early
    mirror.expect(descriptors=False)        # there were clients at the start

    for number, client in enumerate(early):
        assert client.exchange(pattern(KIB, number)) == pattern(KIB, number)


def test_what_waits_at_a_passed_socket_survives_the_end_of_doppel(manager, doppel, server):
    manager.listen()
    primary = server(echo)
    first = doppel(primary, listens=manager.addresses, **manager.start())
    exchange(first)
    assert first.stop() == 0
    host, port = manager.addresses[0].split(":")
    waiting = [Client((host, int(port))) for _ in range(5)]

    second = doppel(primary, listens=manager.addresses, **manager.start())
    first.expect(identity="none")
    second.expect(identity="none", descriptors=False)
    for client in waiting:
        assert client.exchange(b"hello") == b"hello"
        client.close()


def test_a_passed_socket_is_let_go_when_draining_begins(manager, doppel, server):
    """As long as somebody had it, whoever connects would wait there for nobody."""
    manager.listen()
    opened, _ = manager._listening[0]
    mirror = doppel(server(echo), "--drain-timeout", "1h", listens=manager.addresses, **manager.start())
    client = mirror.connect()
    client.exchange(b"before")

    mirror.signal(signal.SIGTERM)

    eventually(lambda: not any(inode(opened) in processes.descriptors(pid).values() for pid in mirror.pids()),
               "nobody has it")
    assert client.exchange(b"after") == b"after"
    client.finish()
    assert client.drain() == "fin"
    assert mirror.wait_exit() == 0


# What it says.

@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_the_manager_hears_of_readiness_and_of_the_end(doppel, server, tmp_path, abstract):
    manager = Manager(tmp_path, abstract)
    mirror = doppel(server(echo), workers=2, **manager.start())

    ready = manager.wait_said("READY=1")
    assert ready["MAINPID"] == str(mirror.pid()) and ready["STATUS"]
    assert manager.said("STOPPING=1") == []
    assert mirror.stop() == 0
    assert manager.wait_said("STOPPING=1")["STATUS"]
    assert len(manager.said("READY=1")) == 1
    manager.close()


def test_the_manager_hears_of_reloads_whether_they_succeed_or_not(manager, doppel, server, tmp_path):
    configuration = tmp_path / "doppel.conf"
    configuration.write_text("workers = 1\n")
    manager.listen()
    mirror = doppel(server(echo), "-c", str(configuration), listens=manager.addresses, workers=None,
                    **manager.start())
    mirror.expect(descriptors=False, problems=("reload_failed",))

    configuration.write_text("workers = 2\n")
    mirror.signal(signal.SIGHUP)
    begun = manager.wait_said("RELOADING=1")
    manager.wait_said("READY=1", 2)
    exchange(mirror)
    mirror.wait_log(" reloaded ")
    configuration.write_text("workers = none\n")
    mirror.signal(signal.SIGHUP)
    manager.wait_said("RELOADING=1", 2)
    manager.wait_said("READY=1", 3)

    assert 0 < int(begun["MONOTONIC_USEC"]) <= time.monotonic_ns() / 1000
    assert "failed" in manager.said("READY=1")[2]["STATUS"]
    order = [next(key for key in ("READY", "RELOADING", "STOPPING") if key in message)
             for message in manager.heard]
    assert order == ["READY", "RELOADING", "READY", "RELOADING", "READY"]
    exchange(mirror)


def test_during_the_drain_delay_nothing_is_reloaded_and_the_manager_hears_no_more(manager, doppel, server,
                                                                                  tmp_path):
    configuration = tmp_path / "doppel.conf"
    configuration.write_text("workers = 1\ndrain-delay = 1h\n")
    mirror = doppel(server(echo), "-c", str(configuration), workers=None, **manager.start())
    mirror.expect(exit_status=1)
    mirror.signal(signal.SIGTERM)
    manager.wait_said("STOPPING=1")

    mirror.signal(signal.SIGHUP)

    said, = mirror.wait_log(" reload_failed ", level="error")
    assert said.fields["why"] == "doppel is draining"
    assert mirror.get("/reload", method="POST")[0] == 409
    exchange(mirror)
    assert mirror.log(" reloaded ") == []
    assert mirror.insist() == 1
    assert len(manager.said("STOPPING=1")) == 1
    assert [list(message)[0] for message in manager.heard] == ["READY", "STOPPING"]


def test_a_passed_socket_that_a_reload_left_out_serves_again_later(manager, doppel, server, tmp_path):
    manager.listen()
    manager.listen()
    both = [f"listen = {address}\n" for address in manager.addresses]
    configuration = tmp_path / "doppel.conf"
    configuration.write_text("".join(both))
    mirror = doppel(server(echo), "-c", str(configuration), listens=[], wait=False, workers=2,
                    **manager.start())
    mirror.wait_log(" listening ", 2)
    mirror.expect(descriptors=False)
    mirror.addresses = [parse_address(address) for address in manager.addresses]

    for text, count in ((both[0], 1), ("".join(both), 2)):
        configuration.write_text(text)
        mirror.signal(signal.SIGHUP)
        mirror.wait_log(" reloaded ", count)
        exchange(mirror, 0)
    exchange(mirror, 1)


@pytest.mark.parametrize("name", ["relative", "/nonexistent/notify", "@", "@nobody-hears-" + "x" * 200])
def test_a_manager_that_cannot_be_told_costs_a_warning(doppel, server, name):
    mirror = doppel(server(echo), env={"NOTIFY_SOCKET": name})

    mirror.wait_log(" not_notified ", level="warning")
    exchange(mirror)
    assert mirror.stop() == 0


def test_a_manager_that_does_not_listen_does_not_hold_doppel_up(manager, doppel, server):
    """Its queue is full: nothing waits for it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood:
        flood.setblocking(False)
        try:
            while True:
                flood.sendto(b"X=1", manager.path)
        except BlockingIOError:
            pass
    mirror = doppel(server(echo), **manager.start())

    mirror.wait_log(" not_notified ", level="warning")
    exchange(mirror)


# The units.

def test_the_units_say_nothing_that_systemd_does_not_know(tmp_path):
    systemd = shutil.which("systemd-analyze")
    if systemd is None:
        pytest.skip("systemd-analyze is not installed")
    units = []
    for unit in sorted((ROOT / "packaging").iterdir()):
        text = unit.read_text().replace("/usr/bin/doppel", binary(release=True))
        units.append(tmp_path / unit.name)
        units[-1].write_text(text)

    said = subprocess.run([systemd, "verify", "--man=no", *units], capture_output=True, text=True,
                          timeout=patient(30))

    assert [unit.name for unit in units] == ["doppel.service", "doppel.socket"]
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


# L26: another program takes its place.

class Load(threading.Thread):
    """One session after the other; what fails is kept."""

    def __init__(self, address, number):
        super().__init__(daemon=True)
        self._address, self._number = address, number
        self.done, self.failed = 0, []
        self.stopping = False
        self.start()

    def run(self):
        while not self.stopping:
            data = pattern(KIB, self._number, offset=self.done)
            try:
                client = Client(self._address)
                assert client.exchange(data) == data
                client.close()
            except Exception as error:     # whatever it is, it is a failure of the upgrade
                self.failed.append(repr(error))
            self.done += 1


def test_L26_a_new_program_takes_over_and_no_connection_fails(manager, doppel, server):
    manager.listen()
    primary, copy = server(echo), server(sink)
    host, port = manager.addresses[0].split(":")

    def start():
        mirror = doppel(primary, shadows=[copy], listens=manager.addresses, workers=2, **manager.start())
        mirror.expect(identity="none", descriptors=False)
        return mirror
    running = start()
    long_lived = running.connect()
    long_lived.exchange(b"before")
    loads = [Load((host, int(port)), number) for number in range(4)]

    served = []
    for turn in range(3):
        done = sum(load.done for load in loads)
        eventually(lambda: sum(load.done for load in loads) > done + 50, "sessions go on")
        following = start()
        manager.wait_said("READY=1", turn + 2)
        running.signal(signal.SIGTERM)
        if turn == 0:
            assert long_lived.exchange(b"after") == b"after"
            long_lived.close()
        assert running.wait_exit() == 0
        served.append(len(running.access_log(1)))
        running = following
    for load in loads:
        load.stopping = True
    for load in loads:
        load.join(20)

    assert [load.failed for load in loads] == [[], [], [], []]
    served.append(int(running.metric("doppel_sessions_total")))
    assert sum(served) == sum(load.done for load in loads) + 1
    assert all(count > 10 for count in served)
