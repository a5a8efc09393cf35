"""
test_primary.py — whatever happens to the primary, the client sees what it would have seen without
us: every byte that came, then the end that came.
"""
import fcntl
import socket
import struct
import termios

import pytest

from support.checks import assert_prefix, assert_same
from support.dns import Name, NameServer
from support.pattern import KIB, MIB, pattern
from support.peers import ANSWER, Ended, close_at_once, echo, flood, greet, hold, read_slowly, sink
from support.proxy import SMALL
from support.waiting import eventually, let_pass, patient

pytestmark = pytest.mark.path

TINY = 4096     # a receive buffer that fills at once


def send_until_ended(peer, data):
    """As much as goes before the other side resets; answers how it ended, or None."""
    try:
        peer.send(data)
    except Ended as ended:
        return ended.how
    return None


def unacknowledged(peer):
    """Bytes the peer's kernel has not got rid of yet."""
    return struct.unpack("i", fcntl.ioctl(peer.socket, termios.TIOCOUTQ, struct.pack("i", 0)))[0]


def closed(mirror, reason):
    return mirror.metric("doppel_sessions_closed_total", reason=reason)


# P1, P2: no connection.

def test_P01_a_refused_primary_resets_the_client(doppel, server):
    shadow = server(sink)
    mirror = doppel(server(state="refusing"), shadows=[shadow])
    mirror.expect(identity="prefix")

    for number in range(10):
        client = mirror.connect()
        send_until_ended(client, b"hello")
        assert client.drain() == "rst"
        assert client.received.count == 0
        session = mirror.session(number)
        assert session["reason"] == "primary_refused"
        assert "connect_ms" not in session and "first_byte_ms" not in session

    assert shadow.connections == []     # no byte leaves before the primary is connected
    assert closed(mirror, "primary_refused") == 10
    mirror.assert_log_count("reason=primary_refused", 1, 1, level="warning")


def test_P01_a_unix_primary_that_is_not_there_is_refused(doppel, tmp_path):
    mirror = doppel(f"unix:{tmp_path}/nobody")
    client = mirror.connect()

    assert client.drain() == "rst"
    assert mirror.session(0)["reason"] == "primary_refused"


def test_P02_a_silent_primary_times_out_and_the_client_is_reset(doppel, server):
    shadow = server(sink)
    mirror = doppel(server(sink, state="black hole"), "--connect-timeout", "200ms", shadows=[shadow])
    mirror.expect(identity="prefix")
    client = mirror.connect()

    client.send(b"hello")
    assert client.drain() == "rst"

    session = mirror.session(0)
    assert session["reason"] == "primary_timeout"
    assert "connect_ms" not in session
    assert mirror.shadow(0, "shadow0")["reason"] == "session_aborted"
    assert shadow.connections == []


def test_P02_a_session_that_waits_for_its_primary_costs_no_cpu_and_holds_nobody_up(doppel, server):
    mirror = doppel([server(sink, state="black hole"), server(echo)], "--connect-timeout", "1500ms")
    waiting = mirror.connect()

    waiting.send(pattern(4 * KIB))
    mirror.assert_not_spinning()

    assert waiting.recv_exact(4 * KIB) == pattern(4 * KIB)


def test_several_primaries_are_tried_in_order(doppel, server):
    refusing, silent = server(state="refusing"), server(sink, state="black hole")
    third, fourth = server(echo), server(echo)
    mirror = doppel([refusing, silent, third, fourth], "--connect-timeout", "200ms")

    for number in range(2):
        client = mirror.connect()
        assert client.exchange(pattern(KIB)) == pattern(KIB)
        client.close()
        assert mirror.session(number)["primary"] == third.address
    assert fourth.connections == []


def test_a_primary_on_a_unix_socket_whose_queue_is_full_is_waited_for(doppel, tmp_path):
    path = str(tmp_path / "primary")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        filler = socket.socket(socket.AF_UNIX)
        filler.connect(path)
        mirror = doppel(f"unix:{path}", "--connect-timeout", "1h")
        mirror.expect(identity="none")
        client = mirror.connect()
        client.send(b"hello")
        mirror.wait_metric("doppel_sessions_active", 1)
        mirror.assert_not_spinning(0.5)

        listener.settimeout(patient())
        listener.accept()[0].close()
        connection, _ = listener.accept()
        with connection, filler:
            connection.settimeout(patient())
            assert connection.recv(5) == b"hello"
            connection.sendall(b"world")
            assert client.recv_exact(5) == b"world"
    client.close()
    assert mirror.session(0)["response_bytes"] == 5


def test_when_no_primary_connects_the_last_reason_counts(doppel, server):
    mirror = doppel([server(sink, state="black hole"), server(state="refusing")],
                    "--connect-timeout", "200ms")
    mirror.expect(identity="prefix")

    assert mirror.connect().drain() == "rst"

    assert mirror.session(0)["reason"] == "primary_refused"
    assert closed(mirror, "primary_refused") == 1


def test_the_log_and_the_access_log_name_the_address_that_was_tried_last(doppel, server):
    first, second = server(state="refusing"), server(state="refusing")
    mirror = doppel([first, second])
    mirror.expect(identity="prefix")

    assert mirror.connect().drain() == "rst"

    assert mirror.session(0)["primary"] == second.address
    assert mirror.wait_log(" primary_failed ")[0].fields["address"] == second.address


def test_a_primary_without_an_address_is_named_as_it_was_written(doppel, tmp_path):
    with NameServer() as dns:
        mirror = doppel("gone.test:81", "--resolv-conf", str(dns.resolv_conf(tmp_path)))

        assert mirror.connect().drain() == "rst"

        assert "primary" not in mirror.session(0)
        assert mirror.wait_log(" primary_failed ")[0].fields["address"] == "gone.test:81"


def test_P01_a_primary_that_cannot_be_reached_is_said_at_the_start(doppel, server, tmp_path):
    """Where it is known without a connection, which the primary would see."""
    (tmp_path / "plain").write_text("")
    down = server(state="refusing")
    targets = {f"unix:{tmp_path}/none": "No such file or directory",
               f"unix:{tmp_path}/plain": "it is no socket",
               down.address: "no program of this machine listens there",
               f"localhost:{down.port}": "no program of this machine listens there"}
    for target, why in targets.items():
        mirror = doppel(target)
        said = mirror.wait_log(" primary_unreachable ", level="warning")[0].fields
        assert (said["primary"], said["why"]) == (target, why)


@pytest.mark.parametrize("listens, host", [("127.0.0.1", "localhost"), ("127.0.0.1", "0.0.0.0"),
                                           ("0.0.0.0", "127.0.0.2"), ("::", "127.0.0.1"), ("::1", "[::1]")])
def test_P01_a_primary_that_listens_is_found_however_it_does(doppel, server, listens, host):
    primary = server(echo, host=listens)
    mirror = doppel(f"{host}:{primary.port}")
    mirror.primaries = [primary]

    assert mirror.connect().exchange(b"hello") == b"hello"

    assert mirror.log(" primary_unreachable ") == []


def test_P01_a_name_that_does_not_resolve_is_said_at_the_start(doppel, tmp_path):
    with NameServer() as dns:
        mirror = doppel("gone.test:81", "--resolv-conf", str(dns.resolv_conf(tmp_path)))

        assert mirror.wait_log(" name_unresolved ", level="warning")[0].fields["name"] == "gone.test"


@pytest.mark.netns
def test_P01_a_primary_without_a_route_is_said_at_the_start(network, doppel):
    mirror = doppel("192.0.2.1:80")

    said = mirror.wait_log(" primary_unreachable ", level="warning")[0].fields
    assert (said["address"], said["why"]) == ("192.0.2.1:80", "Network is unreachable")


def test_a_primary_that_failed_after_it_connected_is_not_followed_by_the_next(doppel, server):
    def read_and_reset(connection):
        connection.recv_exact(5)
        connection.reset()

    second = server(echo)
    mirror = doppel([server(read_and_reset), second])
    client = mirror.connect()

    client.send(b"hello")

    assert client.drain() == "rst"      # the second would see a request from its middle on
    assert mirror.session(0)["reason"] == "primary_rst"
    assert second.connections == []


# P3: nobody reads.

def test_P03_a_primary_that_never_reads_stops_the_client_until_the_idle_timeout(doppel, server):
    primary, shadow = server(hold, rcvbuf=TINY), server(sink)
    mirror = doppel(primary, *SMALL, "--idle-timeout", "800ms", shadows=[shadow])
    mirror.expect(identity="prefix")
    client = mirror.connect(sndbuf=TINY)

    moved = client.send_until_blocked(pattern(4 * MIB))

    assert moved < MIB
    primary.connection().wait_reset()
    session = mirror.session(0)
    assert session["reason"] == "idle"
    # The shadow is not starved by it: it had all we read.
    assert shadow.connection().wait_end() == "rst"
    assert shadow.connection().received.count == session["request_bytes"]
    assert_prefix(shadow.connection().received, client.sent)
    assert mirror.shadow(0, "shadow0")["reason"] == "session_aborted"


def test_P03_a_stopped_session_does_not_spin(doppel, server):
    primary = server(hold, rcvbuf=TINY)
    mirror = doppel(primary, *SMALL)
    client = mirror.connect(sndbuf=TINY)

    client.send_until_blocked(pattern(4 * MIB))
    mirror.assert_not_spinning()
    assert mirror.metric("doppel_buffered_bytes") <= 4 * KIB

    primary.release()
    client.finish()
    assert client.drain() == "fin"
    assert_same(primary.connection().received, client.sent)


def test_P03_a_slow_primary_that_lives_is_never_killed(doppel, server):
    primary = server(read_slowly(4 * KIB, 0.02), rcvbuf=TINY)
    mirror = doppel(primary, *SMALL, "--idle-timeout", "500ms", "--half-close-timeout", "500ms")
    client = mirror.connect(sndbuf=TINY)

    client.send(pattern(256 * KIB))     # far longer than the timeouts altogether
    client.finish()

    assert client.drain() == "fin"
    assert_same(primary.connection().received, client.sent)
    assert mirror.session(0)["reason"] == "client_fin"


# P4, P5, P12: the primary resets.

def test_P04_bytes_before_a_reset_arrive_and_then_the_reset(doppel, server):
    def answer_and_reset(connection):
        connection.recv_exact(1)
        connection.send(pattern(1000))
        connection.reset()

    mirror = doppel(server(answer_and_reset))

    for number in range(20):
        client = mirror.connect()
        client.send(b"?")
        assert client.recv_all() == pattern(1000)
        assert client.end == "rst"
        session = mirror.session(number)
        assert (session["reason"], session["response_bytes"]) == ("primary_rst_delivered", 1000)


def test_P04_all_that_had_arrived_reaches_a_client_that_reads_later(doppel, server):
    primary = server()
    mirror = doppel(primary)
    client = mirror.connect(rcvbuf=TINY)
    answering = primary.connection()

    # More than the client takes and than we keep: the rest waits in the kernel, unread.
    answering.send_until_blocked(pattern(64 * MIB))
    arrived = answering.sent.count - unacknowledged(answering)
    mirror.expect(identity="prefix")
    answering.reset()

    assert client.drain() == "rst"
    assert_prefix(client.received, answering.sent)
    assert client.received.count >= arrived
    assert mirror.session(0)["reason"] == "primary_rst"


def test_P04_a_reset_is_noticed_while_the_client_reads_nothing(doppel, server):
    primary, shadow = server(), server(sink)
    mirror = doppel(primary, *SMALL, shadows=[shadow])
    mirror.expect(identity="prefix")
    client = mirror.connect(rcvbuf=TINY)
    client.send(b"begin")
    shadow.connection().wait_received(5)
    answering = primary.connection()
    answering.recv_exact(5)

    answering.send_until_blocked(pattern(4 * MIB))      # now nobody reads from the primary
    answering.reset()

    assert shadow.connection().wait_end() == "rst"      # while the client still reads nothing
    assert client.received.count == 0
    mirror.assert_not_spinning()
    assert client.drain() == "rst"
    assert mirror.session(0)["reason"] == "primary_rst"


def test_P04_a_client_that_resets_while_its_answer_is_on_its_way_disturbs_nobody(doppel, server):
    """Its socket is nobody's any more, and was watched for a reset while nobody read it."""
    primary = server(rcvbuf=TINY)
    mirror = doppel(primary)
    mirror.expect(identity="prefix")
    client = mirror.connect(sndbuf=TINY, rcvbuf=TINY)
    client.send_until_blocked(pattern(16 * MIB))
    primary.connection().send(pattern(32 * KIB, ANSWER))
    mirror.wait_metric("doppel_bytes_total", 32 * KIB, direction="response")
    primary.connection().reset()
    assert mirror.session(0)["reason"] == "primary_rst"

    client.reset()

    other = mirror.connect()
    talk = primary.connection(1)
    other.send(b"hello")
    assert talk.recv_exact(5) == b"hello"
    mirror.assert_not_spinning(0.5)
    assert mirror.metric("doppel_worker_restarts_total") == 0


def test_P04_an_early_answer_arrives_although_the_request_was_not_read(doppel, server):
    def refuse_the_rest(connection):
        connection.recv_exact(1000)
        connection.send(b"413 too much")
        connection.close()              # with bytes unread: the kernel makes it a reset

    mirror = doppel(server(refuse_the_rest))
    mirror.expect(identity="prefix")

    for number in range(10):
        client = mirror.connect(keep=True)
        sending = client.start(send_until_ended, client, pattern(8 * MIB))
        client.drain()
        # The kernel tells of a reset once, and it may be the sender whom it tells.
        assert "rst" in (client.end, sending.result())
        assert client.received.bytes == b"413 too much"
        assert mirror.session(number)["reason"] == "primary_rst"


def test_P05_a_reset_in_the_middle_leaves_the_shadow_what_the_client_sent_so_far(doppel, server):
    def read_one_and_reset(connection):
        connection.recv_exact(1)
        connection.reset()

    shadow = server(sink)
    mirror = doppel(server(read_one_and_reset), shadows=[shadow])
    mirror.expect(identity="prefix")
    client = mirror.connect()

    send_until_ended(client, pattern(8 * MIB))
    assert client.drain() == "rst"

    session = mirror.session(0)
    assert session["reason"] == "primary_rst"
    assert shadow.connection().wait_end() == "rst"      # a FIN would look like a whole request
    assert shadow.connection().received.count == session["request_bytes"]
    assert_prefix(shadow.connection().received, client.sent)
    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["reason"]) == ("detached", "session_aborted")


def test_P05_a_reset_with_bytes_queued_towards_the_primary_is_seen_as_one(doppel, server):
    primary, shadow = server(), server(sink)
    mirror = doppel(primary, *SMALL, shadows=[shadow])
    mirror.expect(identity="prefix")
    client = mirror.connect(sndbuf=TINY)
    client.send_until_blocked(pattern(4 * MIB))

    primary.connection().reset()

    assert client.drain() == "rst"
    session = mirror.session(0)
    assert session["reason"] == "primary_rst"
    assert shadow.connection().wait_end() == "rst"
    assert shadow.connection().received.count == session["request_bytes"]


def test_P12_a_reset_right_after_the_connect_is_not_a_refusal(doppel, server):
    mirror = doppel(server(lambda connection: connection.reset()))

    for number in range(20):
        assert mirror.connect().drain() == "rst"
        assert mirror.session(number)["reason"] == "primary_rst"
    assert closed(mirror, "primary_rst") == 20
    mirror.assert_log_count("reason=primary_rst", 1, 1, level="warning")


def test_a_primary_that_closes_at_once_is_a_fin(doppel, server):
    mirror = doppel(server(close_at_once))
    client = mirror.connect()

    assert client.drain() == "fin"
    client.close()

    assert mirror.session(0)["reason"] == "primary_fin"


# P8, P9: how it speaks.

def test_P08_a_server_that_speaks_first_is_heard_first(doppel, server):
    shadow = server(greet(b"220 shadow\r\n"))
    mirror = doppel(server(greet(b"220 primary\r\n")), shadows=[shadow])
    client = mirror.connect()

    assert client.recv_exact(13) == b"220 primary\r\n"
    assert client.sent.count == 0
    assert client.exchange(b"EHLO client\r\n") == b"EHLO client\r\n"
    shadow.connection().wait_received(13)


def test_P08_a_greeting_is_no_answer_to_the_clients_first_byte(doppel, server):
    mirror = doppel(server(greet(b"220 hello\r\n", then=sink)))
    silent, speaking = mirror.connect(), mirror.connect()

    silent.recv_exact(11)
    silent.close()
    assert "first_byte_ms" not in mirror.session(0)
    speaking.recv_exact(11)
    speaking.send(b"QUIT\r\n")
    speaking.finish()
    assert speaking.drain() == "fin"
    assert "first_byte_ms" not in mirror.session(1)     # nothing came after its first byte


def test_P09_single_bytes_arrive_exactly(doppel, server):
    count = 20000

    def one_at_a_time(connection):
        for byte in pattern(count):
            connection.send(bytes([byte]))
        connection.drain()

    shadow = server(sink)
    mirror = doppel(server(one_at_a_time), shadows=[shadow])
    client = mirror.connect()

    sending = client.start(lambda: [client.send(bytes([byte])) for byte in pattern(count, 1)])
    assert client.recv_exact(count) == pattern(count)
    sending.result()
    client.finish()
    assert client.drain() == "fin"

    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"
    assert_same(shadow.connection().received, client.sent)


# P10, P11: size and silence.

@pytest.mark.release
def test_P10_a_huge_answer_takes_no_memory_and_holds_nobody_up(doppel, server):
    size = 256 * MIB
    big, small = server(flood(size)), server(echo)
    mirror = doppel(big)
    other = doppel(small)
    client = mirror.connect()
    client.recv_exact(MIB)
    before = mirror.rss_bytes()

    draining = client.start(client.drain)
    most = 0
    for _ in range(30):
        assert other.connect().exchange(b"ping") == b"ping"
        most = max(most, mirror.rss_bytes())
    client.wait_received(size)
    client.finish()

    assert draining.result() == "fin"
    assert max(most, mirror.rss_bytes()) - before < 4 * MIB


def test_P10_a_huge_answer_holds_up_no_other_session(doppel, server):
    def flood_whoever_asks(connection):
        if connection.recv_exact(1) == b"f":
            flood(128 * MIB)(connection)
        else:
            echo(connection)

    mirror = doppel(server(flood_whoever_asks))
    flooded, other = mirror.connect(), mirror.connect()
    flooded.send(b"f")
    draining = flooded.start(flooded.drain)
    other.send(b"e")

    for number in range(50):
        assert other.exchange(b"%d" % number) == b"%d" % number
    assert mirror.metric("doppel_buffered_bytes") <= 256 * KIB

    flooded.wait_received(128 * MIB)
    flooded.finish()
    assert draining.result() == "fin"


@pytest.mark.netns
def test_P11_a_primary_whose_host_vanishes_is_given_up_after_the_user_timeout(network, doppel, server):
    primary, shadow = server(echo), server(sink)
    mirror = doppel(primary, "--tcp-user-timeout", "500ms", shadows=[shadow])
    mirror.expect(identity="prefix")
    client = mirror.connect()
    client.exchange(b"hello")

    network.drop(primary.port)
    client.send(b"is anybody there?")

    assert client.drain() == "rst"
    assert mirror.session(0)["reason"] == "primary_timeout"
    assert shadow.connection().wait_end() == "rst"
    assert shadow.connection().received.count == client.sent.count


@pytest.mark.netns
def test_a_primary_that_is_unreachable_is_told_from_one_that_refuses(network, doppel, server):
    primary = server(sink)
    mirror = doppel(primary)
    mirror.expect(identity="prefix")
    network.reject(primary.port, "icmpx type host-unreachable")

    assert mirror.connect().drain() == "rst"

    assert mirror.session(0)["reason"] == "primary_unreachable"


# P16, P17: coming and going.

def test_P16_a_primary_that_comes_back_serves_the_next_client(doppel, server):
    primary = server(echo)
    mirror = doppel(primary)
    mirror.expect(identity="prefix")

    for number in range(3):
        assert mirror.connect().exchange(pattern(KIB, number)) == pattern(KIB, number)
        primary.refuse()
        assert mirror.connect().drain() == "rst"
        primary.listen()
    assert mirror.connect().exchange(b"hello") == b"hello"
    assert closed(mirror, "primary_refused") == 3


def test_P16_sessions_under_way_go_on_while_new_ones_are_refused(doppel, server):
    primary = server(echo)
    mirror = doppel(primary)
    mirror.expect(identity="prefix")
    old = mirror.connect()
    old.exchange(b"before")

    primary.refuse()
    for _ in range(20):
        assert mirror.connect().drain() == "rst"
        assert old.exchange(b"meanwhile") == b"meanwhile"
    primary.listen()

    assert mirror.connect().exchange(b"after") == b"after"
    assert old.exchange(b"after") == b"after"


def test_P17_a_silent_client_that_has_gone_ends_the_dial_at_once(doppel, server):
    primary = server(sink, state="black hole")
    mirror = doppel(primary, "--connect-timeout", "60s")
    mirror.expect(identity="prefix")
    client = mirror.connect()
    mirror.wait_metric("doppel_sessions_active", 1)

    client.reset()

    assert mirror.session(0)["reason"] == "client_rst"
    assert mirror.metric("doppel_sessions_active") == 0


def test_P17_a_client_that_has_gone_leaves_the_primary_its_bytes_and_a_reset(doppel, server, tmp_path):
    primary = server(sink)
    with NameServer() as dns:
        dns.table["primary.test"] = Name(a=["127.0.0.1"], delay=0.4)
        mirror = doppel(f"primary.test:{primary.port}", "--resolv-conf", str(dns.resolv_conf(tmp_path)))
        mirror.expect(identity="prefix")
        client = mirror.connect()
        client.send(pattern(KIB))
        dns.wait_for("primary.test")
        client.reset()

        assert primary.connection().wait_end() == "rst"
        assert_same(primary.connection().received, client.sent)
        assert mirror.session(0)["reason"] == "client_rst"


# Timeouts.

def test_an_idle_session_ends_in_good_order(doppel, server):
    primary = server(echo)
    mirror = doppel(primary, "--idle-timeout", "300ms")
    client = mirror.connect()

    client.exchange(b"hello")

    assert client.drain() == "fin"
    assert primary.connection().wait_end() == "fin"
    assert mirror.session(0)["reason"] == "idle"


@pytest.mark.parametrize("speaks", ["client", "primary"])
def test_traffic_in_one_direction_keeps_a_session_alive(doppel, server, speaks):
    def now_and_then(peer):
        for _ in range(6):
            let_pass(0.15)
            peer.send(b".")

    primary = server(sink if speaks == "client" else
                     lambda connection: (now_and_then(connection), connection.drain()))
    mirror = doppel(primary, "--idle-timeout", "500ms")
    client = mirror.connect()

    if speaks == "client":
        now_and_then(client)
        primary.connection().wait_received(6)
    else:
        client.recv_exact(6)
    client.finish()

    assert client.drain() == "fin"
    assert mirror.session(0)["reason"] == "client_fin"


def test_an_idle_timeout_that_is_off_never_strikes(doppel, server):
    mirror = doppel(server(echo), "--idle-timeout", "0", "--half-close-timeout", "off")
    client = mirror.connect()

    client.exchange(b"hello")
    mirror.assert_not_spinning()

    assert client.exchange(b"still here") == b"still here"
    eventually(lambda: mirror.metric("doppel_sessions_active") == 1, "the session lives")
