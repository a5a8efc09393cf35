"""
test_reload.py — the configuration is read again while clients come and go: what is wrong changes
nothing, what is right loses nobody, and sessions end as they began.
"""
import json
import os
import resource
import signal
import socket
import ssl
import stat
import threading
from contextlib import suppress

import pytest

from support import processes
from support.crowd import Crowd, exchange, obey
from support.dead_mount import DeadMount, why_no_dead_mount
from support.dns import Name, NameServer
from support.pattern import KIB, MIB, pattern
from support.peers import Client, echo, sink
from support.proxy import parse_address, shadow
from support.secure import Authority, secure
from support.waiting import eventually, let_pass

RELOADS = 20
LONG = 10               # sessions that live through all of them
MOST_GENERATIONS = 16
GIVES_UP = 6            # quick deaths in a row, of every worker


class File:
    """A configuration file that is written again and again."""

    def __init__(self, path):
        self.path = path

    def write(self, primary, listens=("127.0.0.1:0",), shadows=(), **settings):
        """settings: buffer="64k", tls_cert=[...], ..."""
        lines = [f"listen = {listen}" for listen in listens]
        lines += [f"primary = {getattr(primary, 'address', primary)}"]
        lines += [f"shadow = {getattr(one, 'text', None) or one.address}" for one in shadows]
        for key, value in {"workers": 1, **settings}.items():
            for one in value if isinstance(value, list) else [value]:
                lines += [f"{key.replace('_', '-')} = {one}"]
        self.path.write_text("\n".join([*lines, ""]))


@pytest.fixture
def file(tmp_path):
    return File(tmp_path / "doppel.conf")


@pytest.fixture
def crowd():
    made = Crowd()
    yield made
    made.close()


def reloads(mirror, result):
    return mirror.metric("doppel_reloads_total", result=result)


def refused(mirror, count=1):
    """Asks for a reload that fails, and answers the one line that says so."""
    before = len(mirror.log(" reload_failed "))
    mirror.signal(signal.SIGHUP)
    said = mirror.wait_log(" reload_failed ", before + 1, level="error")
    assert len(said) == before + 1
    assert reloads(mirror, "failed") == before + 1 == count
    return said[-1].fields["why"]


def talk(client, number=0, size=64 * KIB):
    assert client.exchange(pattern(size, number)) == pattern(size, number)


def addresses(mirror):
    return [parse_address(listener["address"]) for listener in mirror.status()["listeners"]]


def only_workers(mirror, count):
    """Old ones have finished."""
    eventually(lambda: len(mirror.workers()) == count, lambda: f"{count}: {mirror.workers()}")


def nobody_listens(address):
    try:
        Client(address).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    return False


# L6: a reload that cannot be.

def _write(text):
    return lambda setup: setup.file.path.write_text(text(setup))


def _say(**settings):
    return lambda setup: setup.file.write(setup.primary, shadows=setup.shadows, **settings)


def _half_a_certificate(setup):
    """Whoever renews it has not finished."""
    with open(setup.certificate, "r+") as pem:
        pem.truncate(os.path.getsize(setup.certificate) // 2)


def _another_key(setup):
    certificate, _ = setup.authority.pair("localhost")
    _, key = setup.authority.pair("localhost")
    setup.file.write(setup.primary, shadows=setup.shadows, listens=["tls://127.0.0.1:0"],
                     tls_cert=certificate, tls_key=key)


def _taken(setup):
    setup.file.write(setup.primary, ["127.0.0.1:0", setup.primary.address], setup.shadows,
                     allow_loop="on")


def _itself(setup):
    host, port = setup.mirror.addresses[0]
    setup.file.write(f"{host}:{port}", [f"{host}:{port}"], setup.shadows)


def _other_names(setup):
    many = [shadow(setup.shadows[0].address, f"other{number}") for number in range(256)]
    setup.file.write(setup.primary, shadows=many)


BAD = {
    "a line without a key": (_write(lambda setup: "nonsense\n"), "has no key"),
    "an unknown key": (_say(bufer="1m"), "bufer"),
    "a bad value": (_say(buffer="much"), "much"),
    "a number out of bounds": (_say(workers=257), "257"),
    "no listener": (_write(lambda setup: f"primary = {setup.primary.address}\n"), "listen"),
    "no primary": (_write(lambda setup: "listen = 127.0.0.1:0\n"), "primary"),
    "no file": (lambda setup: setup.file.path.unlink(), "No such file"),
    "two shadows of one name": (
        lambda setup: setup.file.write(setup.primary, shadows=2 * [shadow("127.0.0.1:9", "one")]), "one"),
    "too many names of shadows": (_other_names, "no room for the shadow other255"),
    "a PROXY header from nobody": (
        lambda setup: setup.file.write(setup.primary, ["127.0.0.1:0?accept-proxy=on"]), "proxy-trust"),
    "a listener that is a primary": (_itself, "loop"),
    "an address in use": (_taken, "Address already in use"),
    "an address that is not ours": (
        lambda setup: setup.file.write(setup.primary, ["192.0.2.1:0"]), "Cannot assign requested address"),
    "a source that is not ours": (_say(source="192.0.2.1"), "192.0.2.1"),
    "a certificate that is not there": (_say(listens=["tls://127.0.0.1:0"], tls_cert="/missing.pem"),
                                        "/missing.pem"),
    "a certificate half written": (_half_a_certificate, "--tls-cert"),
    "a key of another certificate": (_another_key, "key"),
    "authorities that are not there": (
        lambda setup: setup.file.write("tls://localhost:1?ca=/missing.pem"), "/missing.pem"),
    "a log file that cannot be": (_say(log_file="/missing/log"), "/missing/log"),
    "a hosts file that is not there": (
        _say(hosts="/missing"), "before it was ready: cannot read the hosts file /missing: No such file"),
    "a resolv.conf that is not there": (_say(resolv_conf="/missing"), "the resolver file /missing"),
}


class Setup:
    """What a bad reload may need to know."""


@pytest.fixture
def setup(doppel, server, authority, file):
    made = Setup()
    made.file, made.authority = file, authority
    made.primary, made.shadows = server(echo), [server(sink)]
    made.certificate = authority.certificate("localhost")
    file.write(made.primary, ["127.0.0.1:0", "tls://127.0.0.1:0"], made.shadows, tls_cert=made.certificate)
    made.mirror = doppel(made.primary, shadows=made.shadows, listens=[1, 2], config=file.path)
    return made


@pytest.mark.parametrize("change, why", BAD.values(), ids=BAD.keys())
def test_L06_a_reload_that_cannot_be_changes_nothing_and_says_why(setup, change, why):
    """Half a certificate (T20) included."""
    mirror, context = setup.mirror, setup.authority.client_context()
    mirror.expect(problems=("worker_died status=1",))       # some faults only a new worker finds
    before = mirror.connect(), secure(mirror.connect(1), context, "localhost")
    for client in before:
        talk(client)
    workers = mirror.workers()
    change(setup)

    said = refused(mirror)

    assert why in said and "\n" not in said
    for client in (*before, mirror.connect(), secure(mirror.connect(1), context, "localhost")):
        talk(client, 1)
    only_workers(mirror, 1)
    assert mirror.workers() == workers and addresses(mirror) == mirror.addresses
    assert mirror.log(" reloaded ") == [] and reloads(mirror, "ok") == 0
    assert mirror.metric("doppel_workers") == 1


def test_L06_after_reloads_that_failed_a_good_one_succeeds(setup):
    for number in range(3):
        setup.file.write(setup.primary, buffer="much")
        refused(setup.mirror, number + 1)
    setup.file.write(setup.primary, ["127.0.0.1:0", "tls://127.0.0.1:0"], setup.shadows,
                     tls_cert=setup.certificate)

    setup.mirror.reload()

    talk(setup.mirror.connect())
    assert setup.mirror.log(" reloaded ")[0].fields["generation"] == "2"
    assert (reloads(setup.mirror, "ok"), reloads(setup.mirror, "failed")) == (1, 3)


# There may be no memory for a reload.

MEMORY = "malloc,calloc,realloc,strdup,mmap"


def outcomes(mirror):
    return len(mirror.log(" reloaded ")) + len(mirror.log(" reload_failed "))


@pytest.mark.release
@pytest.mark.parametrize("who", ["supervisor", "children"])
def test_L06_each_allocation_of_a_reload_may_fail(doppel, server, file, faults, authority, who):
    """One after the other, until a reload needs no more: it is refused in one line, or succeeds."""
    primary, shadows = server(echo), [shadow(server(sink), "one"), shadow(server(sink), "two")]
    fault = faults(f"{MEMORY}:n=told" + (":who=supervisor" if who == "supervisor" else ""), on=False)

    def say():
        file.write(primary, ["127.0.0.1:0", "tls://127.0.0.1:0"], shadows, tls_alpn="h2",
                   tls_cert=authority.certificate("localhost"), shadow_from="127.0.0.0/8")
    say()
    mirror = doppel(primary, shadows=shadows, listens=[1, 2], config=file.path, env=fault.env)
    mirror.expect(problems=("reload_failed",))
    client = mirror.connect()
    talk(client)
    struck, call = -1, 0
    while fault.struck() > struck:
        struck, call, done = fault.struck(), call + 1, outcomes(mirror)
        fault.strike_call(call)
        mirror.signal(signal.SIGHUP)
        eventually(lambda: outcomes(mirror) > done, f"the reload ends while allocation {call} fails")
        fault.off()
        assert outcomes(mirror) == done + 1

    assert mirror.log(" reload(ed|_failed) ")[-1].text.startswith("supervisor reloaded")
    assert len(mirror.log(" reload_failed ")) > 50
    assert all("no memory" in line.fields["why"] or "Cannot allocate" in line.fields["why"]
               for line in mirror.log(" reload_failed "))
    talk(client, 1)
    talk(mirror.connect(), 2)
    assert mirror.metric("doppel_worker_restarts_total") == 0


def limit_address_space(pid, more):
    """To what it has and a little more."""
    with open(f"/proc/{pid}/status") as status:
        has = next(int(row.split()[1]) for row in status if row.startswith("VmSize:")) * KIB
    hard = resource.prlimit(pid, resource.RLIMIT_AS)[1]
    resource.prlimit(pid, resource.RLIMIT_AS, (has + more, hard))
    return hard


@pytest.mark.release
@pytest.mark.parametrize("more", [0, 256 * KIB, MIB, 2 * MIB, 3 * MIB, 4 * MIB, 5 * MIB])
def test_L06_without_memory_for_a_large_configuration_the_old_one_stays(doppel, server, file, more):
    primary = server(echo)
    file.write(primary)
    mirror = doppel(primary, config=file.path)
    supervisor, workers = mirror.pid(), mirror.workers()
    many = [f"10.{n >> 8}.{n & 255}.0/24" for n in range(10000)]
    file.write(primary, shadow_from=many, shadows=[shadow("127.0.0.1:9", f"s{n}") for n in range(40)])
    hard = limit_address_space(supervisor, more)

    assert "memory" in refused(mirror)

    resource.prlimit(supervisor, resource.RLIMIT_AS, (hard, hard))
    only_workers(mirror, 1)
    assert mirror.workers() == workers
    file.write(primary)
    mirror.reload()
    talk(mirror.connect())


# What a reload reads may never answer: nobody waits for it but the reload.

def _hanging(place):
    """A named pipe that nobody writes to."""
    os.mkfifo(place)
    return place


HANGING = {
    "the configuration": lambda setup, hangs: (setup.file.path.unlink(), os.rename(hangs, setup.file.path)),
    "a certificate": lambda setup, hangs: _say(listens=["tls://127.0.0.1:0"], tls_cert=hangs)(setup),
    "a key": lambda setup, hangs: _say(listens=["tls://127.0.0.1:0"], tls_cert=setup.certificate,
                                       tls_key=hangs)(setup),
    "a passphrase": lambda setup, hangs: _say(tls_key_passphrase_file=hangs)(setup),
    "authorities of clients": lambda setup, hangs: _say(
        listens=["tls://127.0.0.1:0"], tls_cert=setup.certificate, tls_client_ca=hangs)(setup),
    "authorities of a target": lambda setup, hangs: setup.file.write(f"tls://localhost:1?ca={hangs}"),
    "a certificate of a target": lambda setup, hangs: setup.file.write(
        f"tls://localhost:1?ca={setup.authority.file}&cert={hangs}"),
    "a token": lambda setup, hangs: _say(admin_token_file=hangs)(setup),
    "hosts": lambda setup, hangs: _say(hosts=hangs)(setup),
    "resolv.conf": lambda setup, hangs: _say(resolv_conf=hangs)(setup),
}


@pytest.mark.parametrize("change", HANGING.values(), ids=HANGING.keys())
def test_L06_a_file_that_does_not_answer_costs_only_the_reload(setup, tmp_path, change):
    mirror, hangs = setup.mirror, _hanging(tmp_path / "hangs")
    before = mirror.connect()
    talk(before)
    old = setup.file.path.read_text()
    change(setup, hangs)
    name = str(hangs if hangs.exists() else setup.file.path)
    mirror.signal(signal.SIGHUP)
    eventually(lambda: len(mirror.workers()) == 2, "it is being read")

    victim, = new_workers(mirror, [])
    os.kill(victim, signal.SIGKILL)             # the supervisor has not stopped supervising
    mirror.wait_metric("doppel_worker_restarts_total", 1)
    talk(mirror.connect(), 1)
    said, = mirror.wait_log(" reload_failed ", level="error")

    assert said.fields["why"] == f"{name}: it could not be read within 5 seconds"
    only_workers(mirror, 1)
    setup.file.path.unlink()
    setup.file.path.write_text(old)
    mirror.reload()
    talk(mirror.connect(), 2)
    mirror.expect(identity="prefix", access_log=False, problems=("worker_died",))


def test_L06_while_it_reads_a_file_it_obeys_signals(setup, tmp_path):
    _say(admin_token_file=_hanging(tmp_path / "hangs"))(setup)
    setup.mirror.signal(signal.SIGHUP)
    setup.mirror.expect(problems=("reload_failed",))
    eventually(lambda: len(setup.mirror.workers()) == 2, "it is being read")

    setup.mirror.signal(signal.SIGTERM)

    assert setup.mirror.wait_exit() == 0
    assert setup.mirror.log(" reload_failed ")[0].fields["why"] == "doppel is draining"


@pytest.mark.skipif(why_no_dead_mount() is not None, reason=str(why_no_dead_mount()))
def test_L06_a_dead_file_system_that_does_not_let_go_costs_only_reloads(setup, tmp_path):
    """Whoever opens a file there cannot even be killed."""
    mirror = setup.mirror
    old = setup.file.path.read_text()
    with DeadMount(tmp_path / "dead") as dead:
        _say(admin_token_file=f"{dead}/token")(setup)

        why = refused(mirror)
        assert f"{dead}/token: it could not be read within 5 seconds" in why and "does not let go" in why
        assert refused(mirror, 2) == f"an earlier reload still hangs in reading {dead}/token"
        talk(mirror.connect())
        setup.file.path.write_text(old)
        assert "still hangs" in refused(mirror, 3)

    only_workers(mirror, 1)
    mirror.reload()
    talk(mirror.connect(), 1)


@pytest.mark.skipif(why_no_dead_mount() is not None, reason=str(why_no_dead_mount()))
def test_L06_it_ends_in_good_order_while_a_dead_file_system_holds_a_reload(setup, tmp_path):
    with DeadMount(tmp_path / "dead") as dead:
        _say(admin_token_file=f"{dead}/token")(setup)
        refused(setup.mirror)
        listening = setup.mirror.addresses

        setup.mirror.signal(signal.SIGTERM)

        assert setup.mirror.wait_exit() == 0
        assert all(nobody_listens(address) for address in listening)


def is_free(address):
    with socket.socket() as another:
        try:
            another.bind(address)
        except OSError:
            return False
        return True


@pytest.mark.release
@pytest.mark.parametrize("call", ["fork:errno=EAGAIN:n=1..1", "fork:errno=ENOMEM:n=2..2",
                                  "pipe2:errno=EMFILE:n=1..1", "pipe2:errno=EMFILE:n=3..3"])
def test_L06_workers_that_cannot_start_leave_the_old_ones_alone(doppel, server, file, faults, call):
    primary = server(echo)
    fault = faults(f"{call}:who=all", on=False)
    file.write(primary, workers=2)
    mirror = doppel(primary, config=file.path, env=fault.env)
    client = mirror.connect()
    talk(client)
    workers = mirror.workers()
    elsewhere = "127.0.0.2", mirror.addresses[0][1]
    file.write(primary, ["127.0.0.1:0", "{}:{}".format(*elsewhere)], workers=2)

    fault.on()
    refused(mirror)
    fault.off()

    assert fault.struck() > 0
    talk(client, 1)
    only_workers(mirror, 2)
    assert mirror.workers() == workers
    eventually(lambda: is_free(elsewhere), "the new listener's port has been given back")
    file.write(primary, workers=2)
    mirror.reload()
    talk(mirror.connect(), 2)
    talk(client, 3)


# L7: nobody notices.

class Traffic(threading.Thread):
    """Short connections without a pause, and some that live as long as it does."""

    def __init__(self, crowd, address):
        super().__init__(daemon=True)
        self.short = self.served = self.lost = 0
        self.rounds = [0] * LONG
        self._crowd, self._address = crowd, address
        self._over = False
        self._error = None
        self.start()

    def run(self):
        try:
            self._crowd.run(self._address, self._scripts(), at_once=LONG + 8)
        except BaseException as error:      # stop() raises it where it is seen
            self._error = error

    def _scripts(self):
        for number in range(LONG):
            yield self._counted(self._long(number))
        while not self._over:
            self.short += 1
            yield self._counted(self._short)

    def _counted(self, script):
        def counted(client):
            try:
                yield from script(client)
            except (OSError, AssertionError):
                self.lost += 1
        return counted

    def _short(self, client):
        yield from exchange(pattern(KIB, 2), half_close=True)(client)
        self.served += 1

    def _long(self, number):
        def script(client):
            while not self._over:
                yield from exchange(pattern(KIB, 100 + number))(client)
                self.rounds[number] += 1
        return script

    def wait_for_more(self, count):
        """So many short sessions come and go, and each long one says something."""
        served, rounds = self.served, list(self.rounds)

        def has_more():
            return self.served >= served + count and (
                self.lost or all(now > then for now, then in zip(self.rounds, rounds)))
        eventually(lambda: has_more() or not self.is_alive(), lambda: f"{self.served - served} {self.rounds}")

    def stop(self):
        self._over = True
        self.join(60)
        assert not self.is_alive()
        if self._error is not None:
            raise self._error


@pytest.fixture
def crowded(doppel, file, crowd):
    """crowded(workers): doppel whose peers live in the crowd, and traffic through it."""
    def start(workers):
        primary, copy = crowd.serve(obey), crowd.serve(obey)
        shadows = [shadow(copy, "canary"), shadow(copy, "some", sample=50)]
        file.write(primary, shadows=shadows, workers=workers)
        mirror = doppel(primary, shadows=shadows, config=file.path)
        mirror.expect(identity="none")
        return mirror, Traffic(crowd, mirror.addresses[0])
    return start


def finish(mirror, traffic, crowd):
    traffic.wait_for_more(20)
    traffic.stop()
    crowd.settle(lambda: mirror.metric("doppel_sessions_active") == 0, "all sessions end")


@pytest.mark.parametrize("workers", [1, 2])
def test_L07_twenty_reloads_under_traffic_lose_no_connection_and_break_none(crowded, crowd, workers):
    mirror, traffic = crowded(workers)

    for _ in range(RELOADS):
        traffic.wait_for_more(20)
        mirror.reload()
    finish(mirror, traffic, crowd)

    assert crowd.refused == traffic.lost == 0
    assert traffic.served == traffic.short >= RELOADS * 20
    assert mirror.metric("doppel_sessions_total") == traffic.short + LONG
    closed = mirror.metric("doppel_sessions_closed_total")
    assert mirror.metric("doppel_sessions_closed_total", reason="client_fin") == closed
    assert reloads(mirror, "ok") == RELOADS and mirror.log(" worker_died ") == []


def test_L07_workers_that_are_killed_meanwhile_cost_only_the_sessions_they_had(crowded, crowd):
    mirror, traffic = crowded(2)
    mirror.expect(access_log=False, problems=("worker_died",))

    for number in range(RELOADS):
        traffic.wait_for_more(5)
        victim = mirror.workers()[-1 - number % 2]
        os.kill(victim, signal.SIGKILL)
        if number % 2:
            eventually(lambda: not processes.is_running(victim), "it is dead")
        mirror.reload()
    finish(mirror, traffic, crowd)

    assert crowd.refused == 0
    assert traffic.lost <= mirror.metric("doppel_sessions_closed_total", reason="internal")
    assert traffic.served >= traffic.short - traffic.lost
    assert reloads(mirror, "ok") + reloads(mirror, "failed") == RELOADS


def queue_up(mirror, count, first=0):
    clients = [mirror.connect() for _ in range(count)]
    for number, client in enumerate(clients, first):
        client.send(pattern(KIB, number))
    return clients


def all_are_served(clients, first=0):
    for number, client in enumerate(clients, first):
        assert client.recv_exact(KIB) == pattern(KIB, number)


def test_L07_fewer_and_more_workers_lose_nobody_who_waits_at_one_that_stands_still(doppel, server, file):
    """Four sockets stay four, whoever watches them."""
    primary, shadows = server(echo), [server(sink)]
    file.write(primary, shadows=shadows, workers=4)
    mirror = doppel(primary, shadows=shadows, config=file.path)
    for workers in (1, 4, 2, 4):
        still = mirror.workers()
        for pid in still:
            os.kill(pid, signal.SIGSTOP)
        clients = queue_up(mirror, 60)
        file.write(primary, shadows=shadows, workers=workers)

        mirror.reload()

        all_are_served(clients)
        for pid in still:
            os.kill(pid, signal.SIGCONT)
        more = queue_up(mirror, 20)
        all_are_served(more)
        for client in clients + more:
            client.close()
        only_workers(mirror, workers)
        assert mirror.metric("doppel_workers") == workers


def sockets(pid):
    return {link for link in processes.descriptors(pid).values() if link.startswith("socket:")}


def test_L07_who_waits_at_a_listener_that_stays_is_left_to_the_new_configuration(doppel, server, file):
    """A worker of the former one that has stood still takes the one it was about to take, no more."""
    old, new = server(echo), server(echo)
    file.write(old, workers=2)
    mirror = doppel([old, new], config=file.path)
    former = mirror.workers()
    for pid in former:
        os.kill(pid, signal.SIGSTOP)
    file.write(new, workers=2)
    mirror.reload()
    serving = set(mirror.workers()) - set(former)
    for pid in serving:
        os.kill(pid, signal.SIGSTOP)
    clients = queue_up(mirror, 20)

    for pid in former:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: not any(sockets(pid) & sockets(mirror.pid()) for pid in former), "they let go")
    for pid in serving:
        os.kill(pid, signal.SIGCONT)

    all_are_served(clients)
    assert len(old.connections) <= len(former)


def test_L07_a_session_goes_on_as_it_began_through_many_reloads(doppel, server, file):
    """Its primary and its shadow are those of its own configuration."""
    old, new = server(echo), server(echo)
    old_copy, new_copy = server(sink), server(sink)
    file.write(old, shadows=[shadow(old_copy, "copy")])
    mirror = doppel([old, new], shadows=[shadow(old_copy, "copy")], config=file.path)
    mirror.shadows.append(shadow(new_copy, "copy"))
    before = mirror.connect()
    talk(before)
    file.write(new, shadows=[shadow(new_copy, "copy")])
    mirror.reload()
    mirror.reload()

    talk(before, 1)
    talk(mirror.connect(), 2)

    for one in (old, new, old_copy, new_copy):
        assert one.connection(0).local == one.where and len(one.connections) == 1
    before.finish()
    assert before.drain() == "fin"
    only_workers(mirror, 1)
    mirror.shadows[:] = [shadow(new_copy, "copy")]
    old_copy.connection(0).wait_received(128 * KIB)
    mirror.expect(identity="prefix")


# Listeners.

def test_listeners_are_added_and_removed_and_what_waits_at_one_that_goes_is_served(doppel, server, file):
    primary = server(echo)
    kept, removed, added = "127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"
    file.write(primary, [kept, removed], workers=2)
    mirror = doppel(primary, listens=[kept, removed], config=file.path)
    here, gone = mirror.addresses
    for pid in mirror.workers():
        os.kill(pid, signal.SIGSTOP)
    waiting = [Client(gone) for _ in range(30)]
    mirror.clients += waiting
    for number, client in enumerate(waiting):
        client.send(pattern(KIB, number))
    file.write(primary, [added, kept], workers=2)

    still = mirror.workers()
    mirror.reload()
    for pid in still:
        os.kill(pid, signal.SIGCONT)

    all_are_served(waiting)
    there, same = addresses(mirror)
    assert same == here and there[0] == "127.0.0.3"
    eventually(lambda: nobody_listens(gone), "the removed one closes")
    for address in (there, here):
        mirror.clients.append(Client(address))
        talk(mirror.clients[-1])
    listening = mirror.log(" listening ")
    assert [line.fields["listener"] for line in listening] == [kept, removed, added]


def test_a_listener_that_comes_back_is_bound_again(doppel, server, file):
    primary = server(echo)
    file.write(primary, ["127.0.0.1:0", "127.0.0.2:0"])
    mirror = doppel(primary, listens=[1, 2], config=file.path)
    here, there = mirror.addresses
    talk(mirror.connect(1))
    again = ["127.0.0.1:0", f"127.0.0.2:{there[1]}"]

    for listens in (again[:1], again, again[:1], again):
        file.write(primary, listens)
        mirror.reload()
        assert addresses(mirror) == [here, there][:len(listens)]

    talk(mirror.connect(0), 1)
    talk(mirror.connect(1), 2)


@pytest.mark.parametrize("first, second", [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0"),
                                           ("", "127.0.0.1"), ("localhost", "127.0.0.1"),
                                           ("127.0.0.1", "[::]")])
def test_an_address_of_a_port_may_become_another_that_overlaps_it(doppel, server, file, first, second):
    primary = server(echo)
    file.write(primary, [f"{first}:0"])
    mirror = doppel(primary, config=file.path)
    _, port = mirror.addresses[0]
    talk(mirror.connect())

    file.write(primary, [f"{second}:{port}"])
    mirror.reload()

    mirror.addresses = [("127.0.0.1", port)]
    talk(mirror.connect(), 1)


@pytest.mark.parametrize("order", [1, -1], ids=["IPv4 first", "IPv6 first"])
def test_each_client_reaches_the_listener_that_fits_its_address_best(doppel, server, file, order):
    """As in nginx: [::]:PORT beside 0.0.0.0:PORT is for IPv6, and alone for both."""
    primary = server(echo)
    file.write(primary, ["all6=[::]:0"])
    mirror = doppel(primary, config=file.path)
    _, port = mirror.addresses[0]
    mirror.addresses = [("127.0.0.1", port), ("::1", port), ("127.0.0.2", port)]
    every = [f"all4=0.0.0.0:{port}", f"all6=[::]:{port}", f"one=127.0.0.2:{port}"][::order]

    reached = []
    for listens in ([f"all6=[::]:{port}"], every, [f"all6=[::]:{port}"]):
        file.write(primary, listens)
        mirror.reload()
        for listener in range(3):
            client = mirror.connect(listener)
            assert client.exchange(b"hello") == b"hello"
            client.close()
            reached.append(mirror.session(len(reached))["listener"])

    assert reached == ["all6"] * 3 + ["all4", "all6", "one"] + ["all6"] * 3


@pytest.mark.parametrize("order", [1, -1], ids=["IPv4 first", "IPv6 first"])
def test_listeners_that_overlap_open_in_any_order(doppel, server, order):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    listens = [f"0.0.0.0:{port}", f"127.0.0.1:{port}", f"[::]:{port}"][::order]
    mirror = doppel(server(echo), listens=listens, workers=2)

    for listener in range(3):
        assert mirror.connect(listener).exchange(b"hello") == b"hello"


def test_two_listeners_without_a_port_keep_theirs(doppel, server, file):
    primary = server(echo)
    file.write(primary, ["127.0.0.1:0", "127.0.0.1:0"])
    mirror = doppel(primary, listens=[1, 2], config=file.path)

    mirror.reload()

    assert addresses(mirror) == mirror.addresses
    for listener in (0, 1):
        talk(mirror.connect(listener), listener)


def test_of_two_listeners_without_a_port_the_one_for_tls_stays_it(doppel, server, authority, file):
    """Whatever their order is: a client in TLS must not meet the other."""
    primary, both = server(echo), ["127.0.0.1:0", "tls://127.0.0.1:0"]
    settings = {"tls_cert": authority.certificate("localhost")}
    file.write(primary, both, **settings)
    mirror = doppel(primary, listens=both, config=file.path)

    file.write(primary, both[::-1], **settings)
    mirror.reload()

    assert addresses(mirror) == mirror.addresses[::-1]
    talk(mirror.connect(0))


def test_unix_listeners_stay_go_and_change_their_mode(doppel, server, file, tmp_path):
    primary = server(echo)
    kept, removed = tmp_path / "kept", tmp_path / "removed"
    file.write(primary, [f"unix:{kept}?mode=0600", f"unix:{removed}"])
    mirror = doppel(primary, listens=[1, 2], config=file.path)
    inode = kept.stat().st_ino
    for listener in (0, 1):
        talk(mirror.connect(listener))

    file.write(primary, [f"unix:{kept}?mode=0666"])
    mirror.reload()

    assert stat.S_IMODE(kept.stat().st_mode) == 0o666 and kept.stat().st_ino == inode
    assert not removed.exists()
    talk(mirror.connect(0), 1)
    mirror.expect(descriptors=False)


# Shadows, and their books.

def test_an_added_shadow_gets_what_comes_later_and_a_removed_one_keeps_its_books(doppel, server, file):
    primary = server(echo)
    first, second = shadow(server(sink), "first"), shadow(server(sink), "second")
    file.write(primary, shadows=[first])
    mirror = doppel(primary, shadows=[first, second], config=file.path)
    mirror.expect(books=False)
    client = mirror.connect()
    talk(client)
    file.write(primary, shadows=[second])
    mirror.reload()
    talk(client, 1)
    client.close()
    client = mirror.connect()
    talk(client, 2)
    client.close()

    mirror.access_log(2)
    mirror.wait_metric("doppel_sessions_closed_total", 2)
    only_workers(mirror, 1)
    for name, size in (("first", 128 * KIB), ("second", 64 * KIB)):
        for fate in ("offered", "sent"):
            assert mirror.metric("doppel_shadow_bytes_total", shadow=name, fate=fate) == size
        assert mirror.metric("doppel_shadow_sessions_total", shadow=name, result="mirrored") == 1
        assert mirror.metric("doppel_shadow_sessions_total", shadow=name) == 1
    said = [[entry["name"] for entry in line["shadows"]] for line in mirror.access_log(2)]
    assert sorted(said) == [["first"], ["second"]]


def test_shadows_that_change_places_keep_their_books(doppel, server, file):
    primary = server(echo)
    all_of_it, none = shadow(server(sink), "all"), shadow(server(sink), "none", sample=0)
    file.write(primary, shadows=[all_of_it, none])
    mirror = doppel(primary, shadows=[all_of_it, none], config=file.path)
    talk(mirror.connect())

    file.write(primary, shadows=[none, all_of_it])
    mirror.reload()
    talk(mirror.connect(), 1)

    for name, fate in (("all", "sent"), ("none", "skipped")):
        mirror.wait_metric("doppel_shadow_bytes_total", 128 * KIB, shadow=name, fate=fate)


# Certificates.

def test_a_renewed_certificate_is_shown_to_new_clients_only(doppel, server, authority, file, tmp_path):
    primary = server(echo)
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    certificate = authority.certificate("localhost")
    file.write(primary, ["tls://127.0.0.1:0"], tls_cert=certificate)
    mirror = doppel(primary, config=file.path)
    before = secure(mirror.connect(), authority.client_context(), "localhost")
    talk(before)

    os.replace(other.certificate("localhost"), certificate)     # as those who renew them do
    mirror.reload()

    talk(before, 1)
    talk(secure(mirror.connect(), other.client_context(), "localhost"), 2)
    with pytest.raises(ssl.SSLError):
        secure(mirror.connect(), authority.client_context(), "localhost")
    mirror.expect(identity="prefix", access_log=False)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_T16_a_ticket_of_the_former_generation_costs_a_handshake(doppel, server, authority, file, version):
    primary, context = server(echo), authority.client_context(most=version)
    file.write(primary, ["tls://127.0.0.1:0"], tls_cert=authority.certificate("localhost"), workers=2)
    mirror = doppel(primary, config=file.path)
    session, resumed = None, []

    for number in range(6):
        client = secure(mirror.connect(), context, "localhost", session)
        talk(client, number)
        client.finish()
        client.drain()
        resumed.append(client.socket.session_reused)
        session = client.socket.session
        client.close()
        if number == 2:
            mirror.reload()

    assert resumed == [False, True, True, False, True, True]
    assert mirror.metric("doppel_tls_handshakes_total", side="client", result="failed") == 0


# What is read again, and what is not.

def test_flags_and_the_environment_win_over_the_file_that_is_read_again(doppel, server, file):
    primary, other = server(echo), server(echo)
    file.write(primary)
    mirror = doppel(primary, "--primary", primary.address, config=file.path)
    file.write(other)

    mirror.reload()

    talk(mirror.connect())
    assert other.connections == []


def test_the_files_that_variables_name_are_read_again(doppel, server, tmp_path):
    first, second = server(echo), server(echo)
    named = tmp_path / "primary"
    named.write_text(first.address)
    mirror = doppel([None], env={"DOPPEL_PRIMARY_FILE": str(named)})
    mirror.primaries = [first, second]
    talk(mirror.connect())

    named.write_text(second.address)
    mirror.reload()

    talk(mirror.connect(), 1)
    for one in (first, second):
        assert one.connection(0).local == one.where and len(one.connections) == 1


def test_logs_may_change_their_files_their_format_and_their_level(doppel, server, file, tmp_path):
    primary, logs = server(echo), [tmp_path / name for name in ("log", "access")]
    file.write(primary)
    mirror = doppel(primary, config=file.path)
    before = mirror.connect()
    talk(before)
    file.write(primary, log_file=logs[0], log_format="json", log_level="debug", access_log=logs[1])
    mirror.signal(signal.SIGHUP)
    eventually(lambda: "reloaded" in logs[0].read_text() if logs[0].exists() else False, "it is reloaded")
    after = mirror.connect()
    talk(after, 1)
    for client in (before, after):
        client.close()
    eventually(lambda: logs[1].read_text().count("\n") == 1, "a line for the new session")

    assert mirror.session(0)["request_bytes"] == 64 * KIB and len(mirror.access_lines) == 1
    events = [json.loads(line)["event"] for line in logs[0].read_text().splitlines()]
    assert {"reloaded", "ready"} <= set(events)
    assert mirror.log(" reloaded ") == []
    file.write(primary)
    mirror.reload()
    talk(mirror.connect(), 2)
    mirror.expect(access_log=False)


def test_what_takes_a_restart_stays_with_a_warning(doppel, server, file, tmp_path):
    primary = server(echo)
    admin, pid = tmp_path / "admin", tmp_path / "pid"
    file.write(primary, admin=f"unix:{admin}", pid_file=str(pid))
    mirror = doppel(primary, config=file.path, admin=False)
    mirror.admin_path = str(admin)
    for _ in range(2):
        file.write(primary, admin="off", pid_file=str(tmp_path / "other"), buffer="64k")
        mirror.reload()

    assert mirror.get("/readyz")[0] == 200
    assert pid.read_text() == f"{mirror.pid()}\n" and not (tmp_path / "other").exists()
    said = [line.fields["setting"] for line in mirror.log(" needs_restart ", level="warning")]
    assert said == ["admin", "pid-file"] * 2
    talk(mirror.connect())


def test_a_warning_about_the_new_configuration_stands_in_the_log(doppel, server, file, tmp_path):
    primary = server(echo, unix=str(tmp_path / "primary"))
    file.write(primary)
    mirror = doppel(primary, config=file.path)
    file.write("127.0.0.1:1", socket=primary.where)

    mirror.reload()

    said, = mirror.log(" configuration ", level="warning")
    assert "wins over" in said.fields["warning"]
    talk(mirror.connect())


def test_N16_a_reload_asks_the_servers_that_resolv_conf_names_now(doppel, server, file, tmp_path):
    with NameServer() as first, NameServer() as second:
        first.table["primary.test"] = second.table["primary.test"] = Name(a=["127.0.0.1"], ttl=3600)
        conf, hosts, primary = first.resolv_conf(tmp_path), tmp_path / "hosts", server(echo)
        hosts.write_text("")
        file.write(f"primary.test:{primary.port}", resolv_conf=conf, hosts=hosts)
        mirror = doppel([None], config=file.path)
        mirror.primaries = [primary]
        talk(mirror.connect())

        conf.write_text(second.resolv_conf(tmp_path).read_text())
        mirror.reload()

        talk(mirror.connect(), 1)
        second.wait_for("primary.test")


def test_while_no_name_server_answers_new_workers_know_the_last_addresses(doppel, server, file, tmp_path):
    primary, copy = server(echo), server(sink)
    with NameServer() as dns:
        for name in ("primary.test", "copy.test"):
            dns.table[name] = Name(a=["127.0.0.1"], ttl=1)
        conf, hosts = dns.resolv_conf(tmp_path), tmp_path / "hosts"
        hosts.write_text("")
        mirrored = shadow(f"copy.test:{copy.port}", "copy")
        file.write(f"primary.test:{primary.port}", shadows=[mirrored], resolv_conf=conf, hosts=hosts)
        mirror = doppel([None], shadows=[mirrored], config=file.path)
        mirror.primaries = [primary]
        client = mirror.connect()
        talk(client)
        copy.connection(0).wait_received(64 * KIB)

    mirror.reload()
    talk(mirror.connect(), 1)
    client.close()
    only_workers(mirror, 1)
    mirror.expect(identity="prefix", access_log=False, problems=("worker_died",))
    os.kill(mirror.workers()[0], signal.SIGKILL)
    mirror.wait_metric("doppel_worker_restarts_total", 1)

    talk(mirror.connect(), 2)
    copy.connection(2).wait_received(64 * KIB)


# Old generations end.

def test_reload_timeout_ends_sessions_of_the_former_configuration(doppel, server, file):
    primary, shadows = server(echo), [server(sink)]
    file.write(primary, shadows=shadows, reload_timeout="300ms")
    mirror = doppel(primary, shadows=shadows, config=file.path)
    mirror.expect(identity="prefix")
    old = mirror.connect()
    talk(old)

    mirror.reload()
    new = mirror.connect()
    talk(new, 1)

    assert old.drain() in ("fin", "rst")
    assert mirror.session(0)["reason"] == "drain"
    assert mirror.shadow(0, "shadow0")["reason"] == "drain"
    only_workers(mirror, 1)
    talk(new, 2)


def test_an_old_worker_that_does_not_finish_in_time_is_killed(doppel, server, file):
    primary = server(echo)
    file.write(primary, reload_timeout="100ms")
    mirror = doppel(primary, config=file.path)
    mirror.expect(identity="prefix", access_log=False, problems=("worker_died", "workers_killed"))
    talk(mirror.connect())
    old, = mirror.workers()
    mirror.reload()
    os.kill(old, signal.SIGSTOP)

    eventually(lambda: old not in mirror.workers(), "it is killed")

    said, = mirror.log(" workers_killed ", level="error")
    assert said.fields["generation"] == "1"
    talk(mirror.connect(), 1)
    assert mirror.metric("doppel_worker_restarts_total") == 0


def test_an_old_worker_that_dies_is_not_replaced_and_its_sessions_are_booked(doppel, server, file):
    primary, shadows = server(echo), [server(sink)]
    file.write(primary, shadows=shadows)
    mirror = doppel(primary, shadows=shadows, config=file.path)
    mirror.expect(identity="prefix", access_log=False)
    lost = mirror.connect()
    talk(lost)
    old, = mirror.workers()
    mirror.reload()

    os.kill(old, signal.SIGKILL)

    assert lost.drain() in ("fin", "rst")
    only_workers(mirror, 1)
    said, = mirror.wait_log(" worker_died ", level="error")
    assert said.fields["signal"] == "KILL"
    assert mirror.metric("doppel_sessions_closed_total", reason="internal") == 1
    assert mirror.metric("doppel_worker_restarts_total") == 0


def test_a_worker_that_dies_after_a_reload_is_replaced_by_one_of_the_new_configuration(doppel, server, file):
    old, new = server(echo), server(echo)
    file.write(old)
    mirror = doppel([old, new], config=file.path)
    mirror.expect(problems=("worker_died",))
    file.write(new)
    mirror.reload()
    only_workers(mirror, 1)

    os.kill(mirror.workers()[0], signal.SIGKILL)

    mirror.wait_metric("doppel_worker_restarts_total", 1)
    talk(mirror.connect())
    assert old.connections == []
    assert mirror.metric("doppel_workers", generation="2") == 1


def kill_at_once(mirror, kept, deaths):
    """Every worker but these, as soon as it is there."""
    for number in range(deaths):
        victim, = eventually(lambda: [pid for pid in mirror.workers() if pid not in kept],
                             f"worker {number} starts", timeout=40)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: not processes.is_running(victim), f"worker {number} ends")


@pytest.mark.release
def test_L13_new_workers_that_keep_dying_do_not_cut_the_sessions_of_the_old_ones(doppel, server, file):
    """They are tried again and again; only when the old sessions are over has nothing helped."""
    primary = server(echo)
    file.write(primary)
    mirror = doppel(primary, config=file.path)
    mirror.expect(exit_status=1, problems=("worker_died", "gave_up"))
    client = mirror.connect()
    talk(client)
    old = mirror.workers()
    mirror.reload()

    kill_at_once(mirror, old, GIVES_UP + 1)

    talk(client, 1)
    assert mirror.log(" gave_up ") == []
    client.finish()
    assert client.drain() == "fin"
    eventually(lambda: not processes.is_running(old[0]), "the old worker ends")
    kill_at_once(mirror, old, 1)
    assert mirror.wait_exit() == 1
    assert len(mirror.log(" gave_up ", level="error")) == 1


def one_session_for_each_generation(mirror, count):
    clients = []
    for number in range(count):
        clients.append(mirror.connect())
        talk(clients[-1], number)
        if number < count - 1:
            mirror.reload()
    return clients


def test_there_are_at_most_sixteen_generations_and_one_more_is_refused(doppel, server, file):
    primary = server(echo)
    file.write(primary)
    mirror = doppel(primary, config=file.path)
    clients = one_session_for_each_generation(mirror, MOST_GENERATIONS)

    assert "16 generations" in refused(mirror)

    assert len(mirror.workers()) == MOST_GENERATIONS
    for number in range(1, MOST_GENERATIONS + 1):
        assert mirror.metric("doppel_workers", generation=str(number)) == 1
    for number, client in enumerate(clients):
        talk(client, 100 + number)
    clients[3].close()
    eventually(lambda: mirror.metric("doppel_workers") < MOST_GENERATIONS, "one has finished")
    mirror.reload()
    talk(mirror.connect(), 99)


def test_more_workers_than_there_is_room_for_are_refused(doppel, server, file):
    """The shared page is made once, at the start."""
    primary = server(echo)
    file.write(primary)
    mirror = doppel(primary, config=file.path)
    before = mirror.workers()

    file.write(primary, workers=256)
    assert "257 workers at a time are more than 256" in refused(mirror)

    assert mirror.workers() == before
    talk(mirror.connect())


def test_limits_count_the_sessions_of_all_generations(doppel, server, file):
    primary = server(echo)
    file.write(primary, max_sessions=3, max_sessions_per_source=2)
    mirror = doppel(primary, config=file.path)
    mirror.expect(identity="prefix")
    inside = one_session_for_each_generation(mirror, 2)
    too_many = mirror.connect()
    assert too_many.drain() == "rst"
    elsewhere = mirror.connect(source="127.0.0.2")
    talk(elsewhere, 3)

    waiting = mirror.connect(source="127.0.0.3")
    waiting.send(pattern(KIB, 4))
    mirror.assert_not_spinning(0.3)
    assert mirror.metric("doppel_sessions_active") == 3
    inside[0].close()

    assert waiting.recv_exact(KIB) == pattern(KIB, 4)
    assert mirror.session(0)["reason"] == "limit"


# Signals that come together.

def end_in_good_order(mirror, clients):
    for number, client in enumerate(clients):
        talk(client, 10 + number)
        client.finish()
        assert client.drain() == "fin"
    assert mirror.wait_exit() == 0


def test_reloads_that_are_asked_for_meanwhile_are_one_more(doppel, server, file):
    primary = server(echo)
    file.write(primary)
    mirror = doppel(primary, config=file.path)
    still, = mirror.workers()
    os.kill(still, signal.SIGSTOP)          # it does not leave its sockets
    mirror.signal(signal.SIGHUP)
    eventually(lambda: len(mirror.workers()) == 2, "the first one is under way")
    eventually(lambda: mirror.metric("doppel_workers", generation="2") == 1, "it serves")
    for _ in range(5):
        mirror.signal(signal.SIGHUP)
        mirror.status()                     # that one has been taken

    os.kill(still, signal.SIGCONT)

    mirror.wait_log(" reloaded ", 2)
    mirror.assert_not_spinning(0.3)
    assert [line.fields["generation"] for line in mirror.log(" reloaded ")] == ["2", "3"]
    talk(mirror.connect())


def test_a_worker_that_stands_still_holds_up_nobody(doppel, server, file):
    primary = server(echo)
    file.write(primary, workers=2)
    mirror = doppel(primary, config=file.path)
    still = mirror.workers()
    for pid in still:
        os.kill(pid, signal.SIGSTOP)

    mirror.reload()
    mirror.reload()

    clients = queue_up(mirror, 20)
    all_are_served(clients)
    for pid in still:
        os.kill(pid, signal.SIGCONT)
    only_workers(mirror, 2)


@pytest.mark.parametrize("signals", [(signal.SIGHUP, signal.SIGTERM), (signal.SIGTERM, signal.SIGHUP),
                                     (signal.SIGHUP, signal.SIGHUP, signal.SIGQUIT)],
                         ids=lambda signals: "-".join(number.name for number in signals))
def test_who_is_told_to_stop_during_a_reload_stops(doppel, server, file, signals):
    primary, shadows = server(echo), [server(sink)]
    file.write(primary, shadows=shadows, workers=2, drain_timeout="1h")
    mirror = doppel(primary, shadows=shadows, config=file.path)
    mirror.expect(problems=("reload_failed",))
    clients = one_session_for_each_generation(mirror, 2)

    for number in signals:
        mirror.signal(number)

    mirror.wait_log(" draining ")
    end_in_good_order(mirror, clients)


def new_workers(mirror, former):
    """Not the process that reads the configuration, which holds what it has read in memory."""
    def is_worker(pid):
        return pid not in former and not any("memfd:" in link for link in processes.descriptors(pid).values())
    return [pid for pid in mirror.workers() if is_worker(pid)]


def signal_all(pids, number):
    """Those that still live."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def hold_at_start(mirror, count):
    """Reloads until one of so many new workers stands still before it is ready."""
    while True:
        former, served = mirror.workers(), len(mirror.log(" in_effect "))
        mirror.signal(signal.SIGHUP)
        still = eventually(lambda: new_workers(mirror, former), "new workers start")
        signal_all(still, signal.SIGSTOP)
        let_pass(0.5)
        if len(mirror.log(" in_effect ")) == served:
            eventually(lambda: len(new_workers(mirror, former)) == count, f"{count} start")
            return still
        signal_all(still, signal.SIGCONT)
        only_workers(mirror, count)


def test_workers_that_were_about_to_be_more_end_with_the_rest(doppel, server, file):
    """They stand still at their start, so that their own sockets are bound, and do not listen."""
    primary = server(echo)
    file.write(primary)
    mirror = doppel(primary, config=file.path)
    file.write(primary, workers=3)
    still = hold_at_start(mirror, 3)
    mirror.signal(signal.SIGQUIT)
    mirror.wait_log(" draining ")

    signal_all(still, signal.SIGCONT)

    assert mirror.wait_exit() == 0


def test_a_reload_while_it_drains_is_refused(doppel, server, file):
    primary = server(echo)
    file.write(primary, drain_timeout="1h")
    mirror = doppel(primary, config=file.path)
    client = mirror.connect()
    talk(client)
    mirror.signal(signal.SIGTERM)
    mirror.wait_log(" draining ")

    assert "draining" in refused(mirror)

    end_in_good_order(mirror, [client])


def test_the_drain_deadline_ends_the_sessions_of_all_generations(doppel, server, file):
    primary = server(echo)
    file.write(primary, drain_timeout="300ms")
    mirror = doppel(primary, config=file.path)
    mirror.expect(identity="prefix")
    clients = one_session_for_each_generation(mirror, 3)

    mirror.signal(signal.SIGTERM)

    assert mirror.wait_exit() == 0
    for client in clients:
        assert client.drain() in ("fin", "rst")
    assert {line["reason"] for line in mirror.access_log(3)} == {"drain"}


def test_L14_every_generation_finishes_when_the_supervisor_is_killed(doppel, server, file):
    primary = server(echo)
    file.write(primary, reload_timeout="1s")
    mirror = doppel(primary, config=file.path)
    mirror.expect(exit_status=-signal.SIGKILL, totals=False, identity="none")
    clients = one_session_for_each_generation(mirror, 2)
    workers = mirror.workers()

    os.kill(mirror.pid(), signal.SIGKILL)

    eventually(lambda: nobody_listens(mirror.addresses[0]), "the port is free")
    for client in clients:
        assert client.drain() in ("fin", "rst")
    eventually(lambda: not any(processes.is_running(pid) for pid in workers), "all end")
    assert len(mirror.log(" supervisor_gone ", level="warning")) == 1
