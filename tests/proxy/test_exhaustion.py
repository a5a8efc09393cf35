"""
test_exhaustion.py — the system says no: no descriptor, no memory, no buffer, no port; calls that are
late or lie; clocks that jump and processes that stand still.  What fails is as small as it can be.

Faults come from the shim and mostly strike while a client of before goes on; "held" means that the
fault stays for a while, in which nothing spins.
"""
import http.client
import os
import resource
import signal
import socket
import time
from contextlib import contextmanager

import pytest

from support import processes
from support.headers import introduced, v1
from support.pattern import KIB, MIB, pattern
from support.peers import Ended, echo, hold, sink, unanswered
from support.proxy import SMALL, shadow
from support.waiting import eventually, let_pass

FULL_TABLES = ("EMFILE", "ENFILE")
NO_MEMORY = ("ENOBUFS", "ENOMEM")
PORTS = 4
# Without SO_LINGER there is no reset, which is what the client is to see.
ALL_BUT_OPTIONS = ("accept4,socket,connect,read,readv,recv,recvfrom,recvmsg,"
                   "write,writev,send,sendto,sendmsg")


def label(error):
    """The label of doppel_accept_errors_total."""
    return "no_descriptor" if error in FULL_TABLES else "no_memory"


def answered_or_reset(mirror, data, header=b""):
    """One session: True when the client got its answer and a good end, False when it was reset."""
    client = mirror.connect()
    try:
        client.send(header + data)
        assert client.recv_exact(len(data)) == data
        client.finish()
        answered = client.drain() == "fin"
    except Ended as ended:
        assert ended.how == "rst"
        answered = False
    client.close()
    return answered


def assert_all_is_well(mirror):
    client = mirror.connect()
    assert client.exchange(pattern(256 * KIB, 99)) == pattern(256 * KIB, 99)
    client.finish()
    assert client.drain() == "fin"
    client.close()


# R1, R2, R7: accept.

@pytest.mark.release
@pytest.mark.parametrize("error", [
    pytest.param("EMFILE", id="R01_EMFILE"), pytest.param("ENFILE", id="R02_ENFILE"),
    pytest.param("ENOBUFS", id="R07_ENOBUFS"), pytest.param("ENOMEM", id="R07_ENOMEM")])
def test_R01_R02_R07_accepting_pauses_without_spinning_and_goes_on(doppel, server, faults, error):
    primary, copy = server(echo), server(sink)
    fault = faults(f"accept4:errno={error}", on=False)
    mirror = doppel(primary, shadows=[copy], env=fault.env)
    before = mirror.connect()
    before.exchange(b"before")
    began = time.monotonic()

    fault.on()
    waiting = [mirror.connect() for _ in range(20)]
    for number, client in enumerate(waiting):
        client.send(pattern(KIB, number))
    mirror.wait_metric("doppel_accept_errors_total", 1, error=label(error))

    mirror.assert_not_spinning(1)
    assert mirror.metric("doppel_accept_paused") == 1
    assert mirror.metric("doppel_accept_errors_total") <= 10 * (time.monotonic() - began) + 2
    assert before.exchange(pattern(MIB)) == pattern(MIB)
    assert mirror.metric("doppel_sessions_total") == 1
    fault.off()

    for number, client in enumerate(waiting):
        assert client.recv_exact(KIB) == pattern(KIB, number)
    assert mirror.metric("doppel_accept_paused") == 0
    assert fault.struck() > 0
    mirror.assert_log_count(" accept_failed ", 1, int(time.monotonic() - began) + 2, level="error")


@pytest.mark.release
@pytest.mark.parametrize("error", ["EPERM", "EIO", "ECONNABORTED", "EPROTO"])
def test_R02_accepting_that_fails_for_whatever_reason_is_tried_again_without_spinning(doppel, server, faults,
                                                                                      error):
    fault = faults(f"accept4:errno={error}", on=False)
    mirror = doppel(server(echo), env=fault.env)
    before = mirror.connect()
    before.exchange(b"before")

    fault.on()
    waiting = mirror.connect()
    waiting.send(b"patience")
    mirror.wait_log(" accept_failed ", level="error")
    mirror.assert_not_spinning(1)
    assert before.exchange(pattern(MIB)) == pattern(MIB)
    fault.off()

    assert waiting.recv_exact(8) == b"patience"
    assert mirror.metric("doppel_accept_paused") == 0
    assert mirror.metric("doppel_accept_errors_total", error="other") > 0


@pytest.mark.release
def test_R01_a_worker_that_really_has_no_descriptor_left_keeps_what_it_has(doppel, server):
    """Its limit is lowered behind its back to the first number that is free."""
    primary = server(echo)
    mirror = doppel(primary)
    mirror.expect(problems=("accept_failed",))
    before = mirror.connect()
    before.exchange(b"before")
    worker, = mirror.workers()
    allowed = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    used = processes.descriptors(worker)
    if not used:
        pytest.skip("only root may look at a program that lets nobody look into its memory")
    free = next(number for number in range(len(used) + 1) if number not in used)

    resource.prlimit(worker, resource.RLIMIT_NOFILE, (free, allowed[1]))
    clients = [mirror.connect() for _ in range(50)]
    for number, client in enumerate(clients):
        client.send(pattern(KIB, number))
    mirror.wait_metric("doppel_accept_errors_total", 1, error="no_descriptor")
    mirror.assert_not_spinning(1)
    assert before.exchange(pattern(MIB)) == pattern(MIB)

    resource.prlimit(worker, resource.RLIMIT_NOFILE, allowed)
    for number, client in enumerate(clients):
        assert client.recv_exact(KIB) == pattern(KIB, number)
    assert mirror.metric("doppel_sessions_closed_total", reason="no_descriptor") == 0


@pytest.mark.release
@pytest.mark.parametrize("error", ["EMFILE", "ENOBUFS"])
def test_R01_what_waits_is_served_by_a_drain_without_descriptors_too(doppel, server, faults, error):
    fault = faults(f"accept4:errno={error}:n=1..3", on=False)
    mirror = doppel(server(echo), env=fault.env)
    mirror.expect(problems=("accept_failed",))
    worker, = mirror.workers()
    os.kill(worker, signal.SIGSTOP)
    clients = [mirror.connect() for _ in range(200)]
    for number, client in enumerate(clients):
        client.send(pattern(KIB, number))
        client.finish()

    fault.on()
    mirror.signal(signal.SIGTERM)
    eventually(lambda: mirror.get("/readyz")[0] == 503, "it drains")
    os.kill(worker, signal.SIGCONT)

    for number, client in enumerate(clients):
        assert client.recv_all() == pattern(KIB, number)
    assert mirror.wait_exit() == 0
    assert fault.struck() == 3


@pytest.mark.release
@pytest.mark.parametrize("error", ["ECONNABORTED", "EPROTO", "EPERM", "ENETUNREACH"])
def test_R01_an_error_of_a_connection_that_has_gone_is_not_ours(doppel, server, faults, error):
    """accept(2) passes them on: the next connection is accepted at once, nothing pauses."""
    fault = faults(f"accept4:errno={error}:n=1..5")
    mirror = doppel(server(echo), env=fault.env)

    assert_all_is_well(mirror)

    assert fault.struck() == 5
    assert mirror.metric("doppel_accept_errors_total", error="other") == 5
    assert mirror.metric("doppel_accept_paused") == 0
    assert mirror.log(" accept_failed ") == []


# R3, R4, R7: socket and connect.

@pytest.mark.release
@pytest.mark.parametrize("call, error, reason", [
    pytest.param("socket", "EMFILE", "no_descriptor", id="R03_socket_EMFILE"),
    pytest.param("socket", "ENFILE", "no_descriptor", id="R03_socket_ENFILE"),
    pytest.param("socket", "ENOBUFS", "no_memory", id="R07_socket_ENOBUFS"),
    pytest.param("connect", "ENOBUFS", "no_memory", id="R07_connect_ENOBUFS"),
    pytest.param("connect", "ENOMEM", "no_memory", id="R07_connect_ENOMEM"),
    pytest.param("connect", "EPERM", "primary_unreachable", id="P14_connect_EPERM"),
    pytest.param("connect", "EADDRNOTAVAIL", "no_port", id="P13_connect_EADDRNOTAVAIL")])
def test_R03_R07_a_client_whose_primary_cannot_be_dialled_is_reset(doppel, server, faults,
                                                                   call, error, reason):
    primary, copy = server(echo), server(sink)
    fault = faults(f"{call}:errno={error}:n=1", on=False)
    mirror = doppel(primary, shadows=[copy], env=fault.env)
    mirror.expect(identity="prefix")
    before = mirror.connect()
    before.exchange(b"before")

    fault.on()
    client = mirror.connect()
    assert client.drain() == "rst"

    assert fault.struck() == 1
    assert mirror.session(0)["reason"] == reason
    assert mirror.session(0)["response_bytes"] == 0
    mirror.assert_log_count(f"reason={reason} ", 1, 1)
    assert before.exchange(b"after") == b"after"
    assert_all_is_well(mirror)
    primary.connection(1)
    assert len(primary.connections) == 2


@pytest.mark.release
@pytest.mark.parametrize("call, error, reason", [
    pytest.param("socket", "EMFILE", "no_descriptor", id="R04_socket_EMFILE"),
    pytest.param("socket", "ENFILE", "no_descriptor", id="R04_socket_ENFILE"),
    pytest.param("connect", "ENOBUFS", "memory", id="R07_connect_ENOBUFS"),
    pytest.param("connect", "EADDRNOTAVAIL", "no_port", id="P13_connect_EADDRNOTAVAIL")])
def test_R04_R07_a_shadow_that_cannot_be_dialled_costs_only_itself(doppel, server, faults,
                                                                   call, error, reason):
    """The second such call of a session is for its first shadow."""
    primary, copies = server(echo), [server(sink), server(sink)]
    fault = faults(f"{call}:errno={error}:n=2", on=False)
    mirror = doppel(primary, shadows=copies, env=fault.env)
    mirror.connect().exchange(b"before")

    fault.on()
    client = mirror.connect()
    assert client.exchange(pattern(MIB)) == pattern(MIB)
    client.finish()
    assert client.drain() == "fin"

    assert fault.struck() == 1
    assert (mirror.shadow(0, "shadow0")["result"], mirror.shadow(0, "shadow0")["reason"]) == (
        "detached", reason)
    assert mirror.shadow(0, "shadow1")["result"] == "mirrored"
    assert mirror.session(0)["reason"] == "client_fin"
    assert_all_is_well(mirror)
    assert mirror.shadow(1, "shadow0")["result"] == "mirrored"


# R7, R13, R19: read and write.

@pytest.mark.release
@pytest.mark.parametrize("error", [
    pytest.param("EAGAIN", id="R13_EAGAIN"), pytest.param("ENOBUFS", id="R19_ENOBUFS"),
    pytest.param("ENOMEM", id="R19_ENOMEM")])
def test_R07_R13_R19_a_send_that_finds_no_room_is_only_later(doppel, server, faults, error):
    primary, copies = server(echo), [server(sink), server(echo)]
    fault = faults(f"write,writev,send,sendto,sendmsg,splice_out:errno={error}:p=.1")
    mirror = doppel(primary, *SMALL, shadows=copies, env=fault.env)
    clients = [mirror.connect() for _ in range(4)]

    transfers = [client.start(client.exchange, pattern(256 * KIB, i)) for i, client in enumerate(clients)]
    for number, transfer in enumerate(transfers):
        assert transfer.result() == pattern(256 * KIB, number)
    for client in clients:
        client.finish()
        assert client.drain() == "fin"

    assert fault.struck() > 10
    for number in range(4):
        for name in ("shadow0", "shadow1"):
            assert mirror.shadow(number, name)["result"] == "mirrored"


@pytest.mark.release
def test_R13_would_block_where_something_is_there_is_only_a_delay(doppel, server, faults):
    primary, copies = server(echo), [server(sink), server(echo)]
    fault = faults("read,readv,recv,recvfrom,recvmsg,write,writev,send,sendto,sendmsg,accept4,"
                   "splice_in,splice_out:errno=EAGAIN:p=.1")
    mirror = doppel(primary, shadows=copies, env=fault.env)

    for number in range(20):
        client = mirror.connect()
        assert client.exchange(pattern(128 * KIB, number)) == pattern(128 * KIB, number)
        client.finish()
        assert client.drain() == "fin"

    assert fault.struck() > 25
    for number in range(20):
        assert mirror.session(number)["reason"] == "client_fin"
        for name in ("shadow0", "shadow1"):
            assert mirror.shadow(number, name)["result"] == "mirrored"


@pytest.mark.release
@pytest.mark.parametrize("error", NO_MEMORY)
def test_R07_a_kernel_without_buffers_for_a_while_makes_nobody_spin(doppel, server, faults, error):
    """The socket stays writable all the time, so that waiting for that would be a busy loop."""
    primary, copy = server(echo), server(sink)
    fault = faults(f"write,writev,send,sendto,sendmsg,splice_out:errno={error}", on=False)
    mirror = doppel(primary, shadows=[copy], env=fault.env)
    client = mirror.connect()
    client.exchange(b"before")

    fault.on()
    client.send(pattern(MIB))
    eventually(lambda: fault.struck() > 0, "a send fails")
    mirror.assert_not_spinning(1)
    fault.off()

    assert client.recv_exact(MIB) == pattern(MIB)
    client.finish()
    assert client.drain() == "fin"
    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"


@pytest.mark.release
@pytest.mark.parametrize("error", NO_MEMORY)
def test_R19_memory_pressure_in_every_call_costs_at_most_the_session(doppel, server, faults, seed, error):
    primary, copy = server(echo), server(sink)
    fault = faults(f"{ALL_BUT_OPTIONS}:errno={error}:p=.05", on=False, seed=seed)
    mirror = doppel(primary, shadows=[copy], env=fault.env)
    mirror.expect(identity="prefix", problems=("accept_failed",))

    fault.on()
    answered = [answered_or_reset(mirror, pattern(16 * KIB, number)) for number in range(100)]
    fault.off()

    assert any(answered)
    assert fault.struck() > 0
    assert mirror.metric("doppel_worker_restarts_total") == 0
    assert_all_is_well(mirror)


# R8: memory of our own.

MEMORY = "malloc,calloc,realloc,strdup,mmap"


@pytest.mark.release
def test_R08_each_allocation_of_a_session_may_fail(doppel, server, faults):
    """One after the other, until a session needs no more; it costs at most that session or shadow."""
    primary, copies = server(echo), [server(sink), server(sink)]
    fault = faults(f"{MEMORY}:n=told", on=False)
    mirror = doppel(primary, shadows=copies, env=fault.env)
    mirror.expect(identity="prefix", access_log=False)
    failed = 0

    for call in range(1, 200):
        struck = fault.struck()
        fault.strike_call(call)
        answered = answered_or_reset(mirror, pattern(64 * KIB, call))
        failed += not answered
        eventually(lambda: mirror.metric("doppel_sessions_active") == 0, "the session ends")
        if fault.struck() == struck:
            assert answered
            break
    else:
        raise AssertionError("a session never stops allocating")
    fault.off()

    assert call > 8 and failed > 2      # the session, its streams, transports, chunks ...
    closed = {reason: mirror.metric("doppel_sessions_closed_total", reason=reason)
              for reason in ("client_fin", "no_memory")}
    assert closed == {"client_fin": call - failed, "no_memory": failed}
    for name in ("shadow0", "shadow1"):
        assert mirror.shadow_closed("memory", name) > 0
    assert mirror.metric("doppel_worker_restarts_total") == 0
    assert_all_is_well(mirror)


@pytest.mark.release
@pytest.mark.parametrize("share", [".01", ".2"])
def test_R08_allocations_that_fail_at_random_cost_their_sessions_only(doppel, server, faults, seed, share):
    primary, copies = server(echo), [server(sink), server(sink)]
    fault = faults(f"{MEMORY}:p={share}", on=False, seed=seed)
    mirror = doppel(primary, shadows=copies, env=fault.env)
    mirror.expect(identity="prefix", access_log=False)
    before = mirror.connect()
    before.exchange(b"before")

    fault.on()
    answered = [answered_or_reset(mirror, pattern(4 * KIB, number)) for number in range(200)]
    fault.off()

    assert fault.struck() > 0
    assert before.exchange(b"after") == b"after"
    eventually(lambda: mirror.metric("doppel_sessions_closed_total") == 200, "they are all over")
    assert mirror.metric("doppel_sessions_closed_total", reason="client_fin") == sum(answered)
    assert mirror.metric("doppel_sessions_closed_total", reason="no_memory") == 200 - sum(answered)
    assert mirror.metric("doppel_worker_restarts_total") == 0
    assert_all_is_well(mirror)


@pytest.mark.release
@pytest.mark.parametrize("query, listen, header", [
    ("", "127.0.0.1:0", b""),
    ("?proxy=v2", "127.0.0.1:0?accept-proxy=on", v1(("10.0.0.9", 51312), ("10.0.1.5", 443)))],
    ids=["plain", "with headers"])
def test_R07_a_socket_that_cannot_be_watched_costs_its_session_at_most(doppel, server, faults, query, listen,
                                                                       header):
    """Never a FIN, which would look like an end that nobody has said."""
    script = introduced if query else (lambda behaviour: behaviour)
    primary, copy = server(script(echo), query=query), server(script(sink), query=query)
    fault = faults("epoll_ctl:errno=ENOMEM:n=told", on=False)
    mirror = doppel(primary, "--proxy-trust", "127.0.0.1", shadows=[copy], listens=[listen], env=fault.env)
    mirror.expect(identity="none")
    failed = 0

    for call in range(1, 50):
        struck = fault.struck()
        fault.strike_call(call)
        failed += not answered_or_reset(mirror, pattern(64 * KIB, call), header)
        eventually(lambda: mirror.metric("doppel_sessions_active") == 0, "the session ends")
        if fault.struck() == struck:
            break
    fault.off()

    assert call > 2 and failed > 0
    assert mirror.metric("doppel_sessions_closed_total", reason="no_memory") == failed
    assert mirror.metric("doppel_worker_restarts_total") == 0
    assert answered_or_reset(mirror, b"all is well", header)


@pytest.mark.release
@pytest.mark.parametrize("listen", ["127.0.0.1:0?accept-proxy=on", "tls://127.0.0.1:0"], ids=["proxy", "tls"])
def test_R07_a_client_that_cannot_be_watched_before_it_says_a_word_is_reset(doppel, server, faults, authority,
                                                                            listen):
    """At once: nothing would ever be heard of it."""
    fault = faults("epoll_ctl:errno=ENOMEM:n=1", on=False)
    mirror = doppel(server(echo), "--proxy-trust", "127.0.0.1", "--handshake-timeout", "1h", "--tls-cert",
                    authority.certificate("localhost"), listens=[listen], env=fault.env)
    mirror.expect(identity="none")

    fault.on()
    client = mirror.connect()

    assert client.drain() == "rst"
    assert mirror.session(0)["reason"] == "no_memory"


def assert_all_is_heard(mirror):
    """By the loops of all processes: clients, questions, signals, new workers, the end of old ones."""
    def is_ready():
        try:
            return mirror.get("/readyz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False    # of a connection that could not be watched, its client hears
    eventually(is_ready, "the admin endpoint answers")
    eventually(lambda: answered_or_reset(mirror, pattern(64 * KIB)), "a client is served")
    mirror.reload()
    eventually(lambda: len(mirror.workers()) == 1, "the former worker hears that it is to finish")
    eventually(lambda: answered_or_reset(mirror, pattern(64 * KIB)), "a client is served")
    eventually(is_ready, "the admin endpoint answers")


@pytest.mark.release
@pytest.mark.parametrize("since", ["the start", "then"])
def test_R07_what_cannot_be_watched_is_watched_soon(doppel, server, faults, since):
    """Listening sockets, pipes, signals, the admin endpoint: each in its turn, in each process."""
    fault = faults("epoll_ctl:errno=ENOMEM:n=told:fd=any:who=all", on=False)
    heard = 0

    for call in range(1, 100):
        struck = fault.struck()
        if since == "the start":
            fault.strike_call(call)
        mirror = doppel(server(echo), env=fault.env, wait=False)
        mirror.expect(identity="none", access_log=False, problems=("not_watched",))
        eventually(lambda one=mirror: not one.is_running() or one.log(" listening "), "it starts or not")
        if not mirror.is_running():     # the HTTP library does not start without its own
            mirror.expect(exit_status=1, totals=False)
            mirror.wait_log("doppel: the admin server cannot start")
            continue
        mirror.wait_until_listening()
        if since == "then":
            fault.strike_call(call)
        assert_all_is_heard(mirror)
        fault.off()
        assert mirror.stop() == 0
        heard += len(mirror.log(" not_watched "))
        if fault.struck() == struck:
            break

    assert call > 5 and heard > 2


@pytest.mark.release
def test_R07_a_listener_that_cannot_be_watched_is_tried_again_and_says_so(doppel, server, faults):
    fault = faults("epoll_ctl:errno=ENOSPC")
    mirror = doppel(server(echo), "--max-sessions", "100", env=fault.env)
    client = mirror.connect()
    client.send(b"patience")

    mirror.wait_log(" not_watched what=127.0.0.1:0 ", level="error")
    mirror.assert_not_spinning(1)
    fault.off()

    assert client.recv_exact(8) == b"patience"


@pytest.mark.release
def test_R08_a_client_that_finds_no_memory_is_reset(doppel, server, faults):
    """Never a FIN, which would look like a complete and empty answer (D3)."""
    fault = faults(f"{MEMORY}:n=1", on=False)
    mirror = doppel(server(echo), "--max-sessions", "1", env=fault.env)
    mirror.expect(identity="prefix", access_log=False)

    fault.on()
    client = mirror.connect()

    assert client.drain() == "rst"
    assert mirror.wait_metric("doppel_sessions_closed_total", 1, reason="no_memory") == 1
    fault.off()
    assert mirror.connect().exchange(b"its place is free") == b"its place is free"


@pytest.mark.release
def test_R08_the_supervisor_answers_as_far_as_it_has_memory(doppel, server, faults, seed):
    """A question may go without an answer; who asks again later gets it."""
    fault = faults(f"{MEMORY}:p=.3:who=all", on=False, seed=seed)
    mirror = doppel(server(echo), env=fault.env)

    fault.on()
    for path in ("/metrics", "/status", "/readyz", "/nothing") * 20:
        try:
            assert mirror.get(path)[0] in (200, 404, 500, 503)
        except (OSError, http.client.HTTPException):
            pass        # it was closed
    fault.off()

    assert mirror.get("/readyz")[0] == 200
    assert len(mirror.workers()) == 1
    assert_all_is_well(mirror)


# R20, R21: what the kernel says about sockets.

@pytest.mark.release
@pytest.mark.parametrize("calls", ["n=1", "n=1..99"])
def test_R20_a_socket_without_an_error_may_still_not_be_connected(doppel, server, faults, calls):
    """SO_ERROR says 0 although the connect was refused; that there is no peer tells."""
    primary = server(state="refusing")
    fault = faults(f"getsockopt:option={socket.SO_ERROR}:answer=0:{calls}")
    mirror = doppel(primary, "--connect-timeout", "300ms", env=fault.env)
    mirror.expect(identity="prefix")

    client = mirror.connect()
    assert client.drain() == "rst"

    assert fault.struck() >= 1
    assert mirror.session(0)["reason"] in ("primary_refused", "primary_timeout", "io_error")
    assert "connect_ms" not in mirror.session(0)


@pytest.mark.release
def test_R20_a_shadow_without_an_error_may_still_not_be_connected(doppel, server, faults):
    primary, copy = server(echo), server(state="refusing")
    fault = faults(f"getsockopt:option={socket.SO_ERROR}:answer=0:n=1")
    mirror = doppel(primary, shadows=[shadow(copy, connect_timeout="300ms")], env=fault.env)

    client = mirror.connect()
    client.exchange(b"some bytes")
    mirror.wait_metric("doppel_shadow_closed_total", 1, shadow="shadow0")
    client.close()

    assert fault.struck() == 1
    assert mirror.shadow(0, "shadow0")["reason"] in ("refused", "connect_timeout", "io_error")
    assert mirror.shadow(0, "shadow0")["sent_bytes"] == 0
    assert "connect_ms" not in mirror.shadow(0, "shadow0")


@pytest.mark.release
@pytest.mark.parametrize("option, error", [
    pytest.param(socket.TCP_USER_TIMEOUT, "ENOPROTOOPT", id="user_timeout"),
    pytest.param(socket.SO_KEEPALIVE, "EPERM", id="keepalive"),
    pytest.param(socket.TCP_NODELAY, "EINVAL", id="nodelay")])
def test_R21_an_option_that_cannot_be_set_is_warned_about_once(doppel, server, faults, option, error):
    primary, copy = server(echo), server(sink)
    fault = faults(f"setsockopt:option={option}:errno={error}:who=all")
    mirror = doppel(primary, "--tcp-user-timeout", "5s", shadows=[copy], env=fault.env)

    clients = [mirror.connect() for _ in range(20)]
    for number, client in enumerate(clients):
        assert client.exchange(pattern(KIB, number)) == pattern(KIB, number)
    eventually(lambda: fault.struck() >= 20, "every socket has been open for a moment")
    for client in clients:
        client.finish()
        assert client.drain() == "fin"

    mirror.assert_log_count(" option_refused ", 1, 2, level="warning")   # supervisor, worker
    assert [mirror.shadow(number, "shadow0")["result"] for number in range(20)] == ["mirrored"] * 20


# R22: the wall clock jumps; deadlines do not.

JUMPS = pytest.mark.parametrize("seconds", [3600, -3600])


def jump(faults, seconds):
    return faults(f"clock_gettime:jump={seconds}:who=all", on=False)


@pytest.mark.release
@JUMPS
def test_R22_no_timeout_fires_early_when_the_clock_jumps(doppel, server, faults, seconds):
    primary, copy = server(echo), server(state="black hole")
    fault = jump(faults, seconds)
    mirror = doppel(primary, "--idle-timeout", "30m", "--half-close-timeout", "30m",
                    shadows=[shadow(copy, connect_timeout="30m", stall_timeout="30m")], env=fault.env)
    quiet, half_closed = mirror.connect(), mirror.connect()
    quiet.exchange(b"quiet")
    half_closed.exchange(b"half")

    fault.on()
    mirror.assert_not_spinning(1)
    assert quiet.exchange(b"still there") == b"still there"
    assert half_closed.exchange(pattern(MIB)) == pattern(MIB)

    assert fault.struck() > 0
    assert mirror.metric("doppel_shadow_active") == 2
    assert mirror.metric("doppel_sessions_closed_total") == 0
    assert 0 <= mirror.status()["uptime_seconds"] < 600
    copy.open()


@pytest.mark.release
@JUMPS
def test_R22_every_timeout_fires_when_the_clock_has_jumped(doppel, server, faults, seconds):
    primary = server(hold)
    stalled, hole = server(hold, rcvbuf=4096), server(state="black hole")
    fault = jump(faults, seconds)
    mirror = doppel(primary, *SMALL, "--idle-timeout", "400ms", "--drain-timeout", "400ms",
                    shadows=[shadow(stalled, "stalled", stall_timeout="200ms"),
                             shadow(hole, "hole", connect_timeout="200ms")], env=fault.env)
    mirror.expect(identity="prefix")
    client = mirror.connect()
    client.send(b"x")
    primary.connection()
    fault.on()
    client.send_until_blocked(pattern(MIB))

    mirror.wait_metric("doppel_shadow_closed_total", 1, shadow="hole", reason="connect_timeout")
    mirror.wait_metric("doppel_shadow_closed_total", 1, shadow="stalled")
    mirror.wait_metric("doppel_sessions_closed_total", 1, reason="idle")
    assert 0 <= mirror.session(0)["seconds"] < 60
    assert 0 <= mirror.shadow(0, "stalled")["connect_ms"] < 60000
    unanswered(mirror, primary, number=1)
    assert mirror.stop() == 0
    assert mirror.session(1)["reason"] in ("drain", "idle")


@pytest.mark.release
@JUMPS
def test_R22_a_pause_of_accepting_ends_when_the_clock_has_jumped(doppel, server, faults, seconds):
    fault = faults(f"clock_gettime:jump={seconds}:who=all;accept4:errno=EMFILE:n=1..3", on=False)
    mirror = doppel(server(echo), env=fault.env)
    mirror.expect(problems=("accept_failed",))

    fault.on()
    assert_all_is_well(mirror)

    assert fault.struck(1) == 3


# R23: stopped and continued.

@pytest.mark.release
def test_R23_a_process_that_was_stopped_serves_what_has_come_before_it_looks_at_the_clock(doppel, server):
    primary, copy = server(echo), server(sink)
    mirror = doppel(primary, "--idle-timeout", "500ms", shadows=[copy], workers=2)
    active, quiet = [mirror.connect() for _ in range(10)], mirror.connect()
    for client in [*active, quiet]:
        client.exchange(b"before")
    pids = mirror.pids()

    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    let_pass(0.8)       # longer than the timeout
    for number, client in enumerate(active):
        client.send(pattern(KIB, number))
    for pid in pids:
        os.kill(pid, signal.SIGCONT)

    for number, client in enumerate(active):
        assert client.recv_exact(KIB) == pattern(KIB, number)
    assert mirror.pids() == pids
    quiet.drain()
    assert mirror.metric("doppel_worker_restarts_total") == 0


@contextmanager
def stopped(pids, seconds):
    """They stand still for so long at least, and meanwhile the rest happens."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    let_pass(seconds)
    yield
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("speaks", ["client", "primary"])
def test_R23_what_has_come_meanwhile_counts_before_the_clock_does(doppel, server, speaks):
    primary = server()
    mirror = doppel(primary, "--idle-timeout", "2s")
    clients = [mirror.connect() for _ in range(3)]
    for number, client in enumerate(clients):
        client.send(b"go")
        primary.connection(number).recv_exact(2)

    ends = [(client, primary.connection(number)) for number, client in enumerate(clients)]

    with stopped(mirror.workers(), 2.2):
        for number, (client, connection) in enumerate(ends):
            (client if speaks == "client" else connection).send(pattern(KIB, number))

    for number, (client, connection) in enumerate(ends):
        reads = connection if speaks == "client" else client
        assert reads.recv_exact(KIB) == pattern(KIB, number)


def test_R23_a_primary_that_accepts_meanwhile_is_connected(doppel, server):
    """Its connect timeout is over, but it has answered."""
    primary = server(echo, state="black hole")
    mirror = doppel(primary, "--connect-timeout", "2s")
    client = mirror.connect()
    mirror.wait_metric("doppel_sessions_active", 1)

    with stopped(mirror.workers(), 2.2):
        primary.open()
        primary.connection(0)

    assert client.exchange(pattern(KIB)) == pattern(KIB)


def test_R23_a_primary_that_refuses_meanwhile_is_said_to_refuse(doppel, server):
    primary = server(echo, state="black hole")
    mirror = doppel(primary, "--connect-timeout", "2s")
    mirror.expect(identity="prefix")
    client = mirror.connect()
    eventually(lambda: processes.is_dialling(primary.port), "the first SYN is out")

    with stopped(mirror.workers(), 2.2):
        primary.refuse()
        eventually(lambda: not processes.is_dialling(primary.port), "the next SYN is refused", timeout=30)

    assert client.drain() == "rst"
    assert mirror.session(0)["reason"] == "primary_refused"


@pytest.mark.release
def test_R23_a_header_that_cannot_be_sent_after_a_pause_says_why(doppel, server, faults):
    """Its connect timeout is over, too, but that is not what failed."""
    fault = faults("send:errno=EPIPE", on=False)
    primary = server(echo, state="black hole")
    mirror = doppel(f"{primary.address}?proxy=v2", "--connect-timeout", "2s", env=fault.env)
    mirror.expect(identity="none")
    client = mirror.connect()
    eventually(lambda: processes.is_dialling(primary.port), "the first SYN is out")

    with stopped(mirror.workers(), 2.2):
        fault.on()
        primary.open()
        primary.connection(0)

    assert client.drain() == "rst"
    assert fault.struck() == 1
    said, = mirror.wait_log(" primary_failed ")
    assert said.fields["why"] == "Broken pipe"
    assert mirror.session(0)["reason"] == "primary_rst"


def test_R23_a_shadow_that_reads_meanwhile_has_not_stalled(doppel, server):
    slow = server(hold, rcvbuf=4096)
    mirror = doppel(server(echo), "--sndbuf", "64k", shadows=[shadow(slow, stall_timeout="2s")])
    client = mirror.connect()
    client.exchange(pattern(2 * MIB))

    def has_all():
        """What the kernel held for it."""
        before = slow.connection().received.count
        let_pass(0.2)
        return slow.connection().received.count == before > 0

    with stopped(mirror.workers(), 0):
        slow.release()          # before the kernel gives it up (TCP_USER_TIMEOUT)
        eventually(has_all, "the shadow reads")
        let_pass(2)
    client.close()

    assert mirror.shadow(0, "shadow0")["reason"] == "fin"


@pytest.mark.release
def test_L24_a_process_that_stood_still_says_so_and_counts_it(doppel, server):
    mirror = doppel(server(echo))
    worker, supervisor = mirror.workers()[0], mirror.pid()

    for pid, whose in ((worker, "worker 1"), (supervisor, "supervisor")):
        before = mirror.metric("doppel_loop_stalls_total")
        os.kill(pid, signal.SIGSTOP)
        let_pass(2.5)                   # a tick, a second, and some more
        os.kill(pid, signal.SIGCONT)
        mirror.wait_metric("doppel_loop_stalls_total", before + 1)
        said, = mirror.wait_log(f" {whose} loop_stalled ", level="warning")
        assert float(said.fields["seconds"]) > 1


def test_R23_a_worker_that_stands_still_costs_nobody_who_waits(doppel, server):
    primary, copy = server(echo), server(sink)
    mirror = doppel(primary, shadows=[copy])
    worker, = mirror.workers()

    os.kill(worker, signal.SIGSTOP)
    clients = [mirror.connect() for _ in range(50)]
    for number, client in enumerate(clients):
        client.send(pattern(4 * KIB, number))
        client.finish()
    os.kill(worker, signal.SIGCONT)

    for number, client in enumerate(clients):
        assert client.recv_all() == pattern(4 * KIB, number)
        assert client.end == "fin"
    assert mirror.metric("doppel_worker_restarts_total") == 0


# P13: ports.

def keep_ports(network):
    """What is bound later has these few to choose from."""
    network.sysctl("net.ipv4.ip_local_port_range", f"40000 {40000 + PORTS - 1}")


@pytest.mark.netns
@pytest.mark.parametrize("workers", [1, 2])
def test_P13_without_a_port_the_client_is_reset_and_the_next_gets_a_free_one(network, doppel,
                                                                             server, workers):
    """The clients need ports, too, and each has an address of its own for them."""
    primary = server(echo)
    mirror = doppel(primary, workers=workers)
    mirror.expect(identity="prefix")
    keep_ports(network)
    clients = [mirror.connect(source=f"127.0.1.{number}") for number in range(PORTS)]
    for client in clients:
        client.exchange(b"has a port")

    for number in range(10):
        assert mirror.connect(source=f"127.0.2.{number}").drain() == "rst"

    assert [line["reason"] for line in mirror.access_log(10)] == ["no_port"] * 10
    mirror.assert_log_count("reason=no_port", 1, workers, level="warning")
    mirror.assert_not_spinning(1)
    for client in clients:
        assert client.exchange(b"undisturbed") == b"undisturbed"
    clients.pop().reset()       # which leaves no TIME_WAIT
    mirror.wait_metric("doppel_sessions_closed_total", 1, reason="client_rst_delivered")
    again = mirror.connect(source="127.0.3.1")
    assert again.exchange(b"has the port") == b"has the port"
    assert mirror.metric("doppel_accept_paused") == 0


@pytest.mark.netns
def test_P13_accepting_pauses_while_ports_are_short(network, doppel, server):
    """Or every client that waits would be accepted only to be reset."""
    mirror = doppel(server(echo))
    mirror.expect(identity="prefix")
    keep_ports(network)
    for number in range(PORTS):
        mirror.connect(source=f"127.0.1.{number}").exchange(b"has a port")
    sources = (f"127.1.{number // 250}.{number % 250}" for number in range(60000))

    def one_more_is_refused_and_accepting_pauses():
        client = mirror.connect(source=next(sources))
        assert client.drain() == "rst"
        client.close()
        return mirror.metric("doppel_accept_paused") == 1
    eventually(one_more_is_refused_and_accepting_pauses, "accepting pauses")

    eventually(lambda: mirror.metric("doppel_accept_paused") == 0, "and goes on")


@pytest.mark.netns
def test_P13_the_clients_that_wait_are_not_all_reset_for_one_moment_without_a_port(network, doppel, server):
    mirror = doppel(server(echo))
    mirror.expect(identity="prefix")
    keep_ports(network)
    clients = [mirror.connect(source=f"127.0.1.{number}") for number in range(PORTS)]
    for client in clients:
        client.exchange(b"has a port")
    worker, = mirror.workers()
    os.kill(worker, signal.SIGSTOP)
    waiting = [mirror.connect(source=f"127.0.2.{number}") for number in range(40)]
    for client in waiting:
        client.send(b"waits for a port")

    os.kill(worker, signal.SIGCONT)
    assert waiting[0].drain() == "rst"
    for client in clients:
        client.reset()      # which leaves no TIME_WAIT

    answers = [client.recv(16) for client in waiting[1:]]
    assert answers.count(b"waits for a port") >= PORTS


@pytest.mark.netns
def test_P13_a_shadow_without_a_port_costs_only_itself(network, doppel, server, tmp_path):
    primary, copy = server(echo, unix=f"{tmp_path}/primary"), server(sink)
    mirror = doppel(primary, shadows=[copy], listens=[f"unix:{tmp_path}/listener"])
    keep_ports(network)
    clients = [mirror.connect() for _ in range(PORTS + 3)]

    for number, client in enumerate(clients):
        assert client.exchange(pattern(KIB, number)) == pattern(KIB, number)
    for client in clients:
        client.finish()
        assert client.drain() == "fin"

    assert mirror.wait_metric("doppel_shadow_closed_total", 3, shadow="shadow0", reason="no_port") == 3
    mirror.assert_log_count("reason=no_port", 1, 1, level="warning")
    assert mirror.metric("doppel_accept_paused") == 0
