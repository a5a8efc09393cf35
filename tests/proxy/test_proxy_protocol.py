"""
test_proxy_protocol.py — PROXY headers: read strictly, believed only from whom the operator trusts,
and written in front of everything else.
"""
import json
import os
import random
import re
import signal
import ssl

import pytest

from support.headers import (ALPN, AUTHORITY, LISTENER, LOCAL, MARK, MIRRORED, SHOWN, SHOWN_NOW, SPOKE_TLS,
                             TLS, TLS_CIPHER, TLS_NAME, TLS_VERSION, UNIQUE_ID, binary, header_of,
                             introduce, introduced, secured_of, tlv, v1, v2)
from support.pattern import KIB, pattern
from support.peers import FIN, RST, Ended, echo, greet, hold, sink
from support.programs import run
from support.proxy import SMALL, shadow
from support.secure import secure
from support.waiting import eventually, let_pass

ACCEPT = ("127.0.0.1:0?accept-proxy=on",)
TRUST = ("--proxy-trust", "127.0.0.1")
CLIENT = ("10.0.0.9", 51312)
OTHER = ("10.0.1.5", 443)
HEADERS = {"v1": v1(CLIENT, OTHER), "v2": v2(CLIENT, OTHER)}


def proxied(doppel, primary, *flags, **options):
    """doppel that wants headers from 127.0.0.1."""
    return doppel(primary, *TRUST, *flags, **{"listens": ACCEPT, **options})


def assert_refused(mirror, client, primary, number=0):
    """Reset, with its reason, and nobody else has heard of it."""
    mirror.expect(identity="none")
    assert client.drain() == RST
    session = mirror.session(number)
    assert session["reason"] == "proxy_header"
    assert "primary" not in session and session["request_bytes"] == session["response_bytes"] == 0
    assert all(entry["result"] == "no_data" for entry in session.get("shadows", []))
    assert primary.connections == []


# Reading.

@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_Y1_what_follows_a_header_in_the_same_segment_is_forwarded_once(doppel, server, header):
    primary, copy = server(echo), server(sink)
    mirror = proxied(doppel, primary, shadows=[copy])
    client = mirror.connect()
    data = pattern(5 * KIB)

    client.sent.add(data)
    client.socket.sendall(header + data)

    assert client.recv_exact(len(data)) == data
    client.finish()
    assert client.drain() == FIN
    assert mirror.session()["client"] == "10.0.0.9:51312"
    assert mirror.session()["request_bytes"] == len(data)
    assert mirror.shadow(0, "shadow0")["sent_bytes"] == len(data)


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_Y1_a_header_may_come_in_any_pieces(doppel, server, header, seed):
    primary = server(echo)
    mirror = proxied(doppel, primary)
    chance = random.Random(seed)

    for number in range(5):
        client = mirror.connect()
        rest = header + pattern(100)
        client.sent.add(rest[len(header):])
        while rest:
            size = 1 if number == 0 else chance.randint(1, len(rest))
            client.socket.sendall(rest[:size])
            let_pass(0.001)
            rest = rest[size:]
        assert client.recv_exact(100) == pattern(100)
        client.finish()
        client.drain()
        assert mirror.session(number)["client"] == "10.0.0.9:51312"


@pytest.mark.release
@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_R11_R12_Y7_headers_survive_calls_that_move_one_byte(doppel, server, faults, header):
    primary, copy = server(introduced(echo)), server(introduced(sink))
    fault = faults("read,readv,recv,recvmsg,write,writev,send,sendmsg:short=1")
    mirror = proxied(doppel, f"{primary.address}?proxy=v1", shadows=[shadow(copy, proxy="v2")], env=fault.env)
    client = mirror.connect()

    introduce(client, header)

    assert client.exchange(pattern(2 * KIB)) == pattern(2 * KIB)
    client.finish()
    assert client.drain() == FIN
    for peer, version in ((primary, 1), (copy, 2)):
        told = header_of(peer)
        assert (told.version, told.source, told.destination) == (version, CLIENT, OTHER)
    assert fault.struck() > 100


@pytest.mark.release
def test_R11_headers_survive_interrupted_calls(doppel, server, faults):
    primary = server(introduced(echo))
    fault = faults("recv:errno=EINTR:p=.5;recv:errno=EAGAIN:p=.3;"
                   "send:errno=EINTR:n=1;send:errno=ENOBUFS:n=1..2")
    mirror = proxied(doppel, f"{primary.address}?proxy=v2", env=fault.env)
    client = mirror.connect()

    introduce(client, HEADERS["v2"])

    assert client.exchange(pattern(1 * KIB)) == pattern(1 * KIB)
    assert header_of(primary).source == CLIENT
    assert fault.struck(2) == 1 and fault.struck(3) == 2


BAD = {
    "no header": b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
    "lower case": b"proxy tcp4 10.0.0.9 10.0.1.5 1 2\r\n",
    "two blanks": b"PROXY TCP4  10.0.0.9 10.0.1.5 1 2\r\n",
    "leading zero": b"PROXY TCP4 010.0.0.9 10.0.1.5 1 2\r\n",
    "port 65536": b"PROXY TCP4 10.0.0.9 10.0.1.5 65536 2\r\n",
    "lone LF": b"PROXY UNKNOWN\n",
    "lone CR": b"PROXY UNKNOWN\rx",
    "108 bytes": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    "version 3": b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
    "command 2": binary(2, 0x11, b"x" * 12),
    "family 4": binary(1, 0x41, b"x" * 12),
    "length 65535": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
    "values too long": v2(CLIENT, OTHER, b"\x04\0\x09x"),
    "wrong checksum": v2(CLIENT, OTHER, tlv(3, b"\0\0\0\0")),
}


@pytest.mark.parametrize("header", BAD.values(), ids=BAD)
def test_Y2_Y3_Y4_a_bad_header_is_refused_and_nobody_hears_of_it(doppel, server, header):
    primary, copy = server(sink), server(sink)
    mirror = proxied(doppel, primary, shadows=[copy])
    client = mirror.connect()

    introduce(client, header)

    assert_refused(mirror, client, primary)
    assert copy.connections == []
    [line] = mirror.wait_log("header_refused", level="info")
    assert line.fields["peer"].startswith("127.0.0.1:") and line.fields["why"]
    assert mirror.metric("doppel_sessions_closed_total", reason="proxy_header") == 1


def test_Y2_an_end_within_the_header_is_none(doppel, server):
    primary = server(sink)
    mirror = proxied(doppel, primary)
    client = mirror.connect()

    introduce(client, HEADERS["v2"][:20])
    client.finish()

    assert_refused(mirror, client, primary)


def test_Y2_a_client_that_resets_within_the_header_did_so(doppel, server):
    primary = server(sink)
    mirror = proxied(doppel, primary)
    client = mirror.connect()

    introduce(client, b"PROXY TC")
    client.reset()

    assert mirror.session()["reason"] == "client_rst"
    assert primary.connections == []
    mirror.expect(identity="none")


OWN = {"UNKNOWN": b"PROXY UNKNOWN\r\n", "UNKNOWN and text": b"PROXY UNKNOWN 10.0.0.9 \x1b[31m\r\n",
       "LOCAL": v2(command=LOCAL), "LOCAL with addresses": v2(CLIENT, OTHER, command=LOCAL),
       "unspecified": v2(), "unspecified, with junk": v2(values=b"\xff\xff")}


@pytest.mark.parametrize("header", OWN.values(), ids=OWN)
def test_Y3_a_header_about_nobody_leaves_the_real_address(doppel, server, header):
    primary = server(introduced(echo))
    mirror = proxied(doppel, f"{primary.address}?proxy=v2")
    client = mirror.connect()

    introduce(client, header)

    assert client.exchange(pattern(100)) == pattern(100)
    assert header_of(primary).source == client.local
    assert header_of(primary).destination == mirror.addresses[0]
    client.finish()
    client.drain()
    host, port = client.local
    assert mirror.session()["client"] == f"{host}:{port}"


def test_L19_what_a_header_says_of_nobody_is_in_no_log(doppel, server):
    mirror = proxied(doppel, server(echo), "--log-level", "debug", "--log-format", "json")
    mirror.expect(identity="none")
    for number, evil in enumerate((b"PROXY UNKNOWN evil\x1b[31m\"}\r\n", b"PROXY UNKNOWN evil\n",
                                   binary(1, 0x31, b"/evil\"\n\x1b[31m".ljust(216, b"\0")))):
        client = mirror.connect()
        introduce(client, evil)
        if number != 1:
            assert client.exchange(b"word") == b"word"
            client.finish()
        client.drain()
        mirror.session(number)

    said = mirror.log("evil")       # the path is an address; what stands behind UNKNOWN is nobody's
    assert [json.loads(line.raw)["client"] for line in said] == ["unix:/evil\"\n\x1b[31m"]
    assert "\x1b" not in said[0].raw
    assert [re.sub(r":\d+$", "", line["client"]) for line in mirror.access_log(3)] \
        == ["127.0.0.1", "127.0.0.1", "unix:/evil\"\n\x1b[31m"]
    assert "\x1b" not in "".join(mirror.access_lines) and "\\u000a" in mirror.access_lines[2]


def test_Y5_a_header_on_a_plain_listener_is_bytes(doppel, server):
    primary = server(echo)
    mirror = doppel(primary)
    client = mirror.connect()

    assert client.exchange(HEADERS["v1"]) == HEADERS["v1"]
    client.finish()
    client.drain()
    assert mirror.session()["client"] == "{}:{}".format(*client.local)


def test_Y5_C6_a_client_without_a_word_is_cut_and_the_primary_never_dialled(doppel, server):
    primary = server(greet(b"220 hello"))
    mirror = proxied(doppel, primary, "--handshake-timeout", "600ms", "--idle-timeout", "1h")
    silent, begun = mirror.connect(), mirror.connect()
    introduce(begun, HEADERS["v1"][:-1])

    mirror.assert_not_spinning(0.3)
    assert mirror.access_lines == []

    for number, client in enumerate((silent, begun)):
        assert_refused(mirror, client, primary, number)
        assert 0.5 < mirror.session(number)["seconds"] < 5


def test_Y6_a_peer_that_is_not_trusted_is_refused_with_a_good_header_too(doppel, server):
    primary = server(echo)
    mirror = proxied(doppel, primary, listens=("127.0.0.1:0?accept-proxy=on", "127.0.0.1:0"))
    stranger = mirror.connect(source="127.0.0.2")

    assert_refused(mirror, stranger, primary)
    [line] = mirror.wait_log("header_refused")
    assert line.fields["peer"].startswith("127.0.0.2:") and "--proxy-trust" in line.fields["why"]

    plain = mirror.connect(1, source="127.0.0.2")       # the other listener wants none
    assert plain.exchange(b"word") == b"word"


def test_P8_a_greeting_waits_for_the_header(doppel, server):
    primary = server(greet(b"220 hello"))
    mirror = proxied(doppel, primary)
    client = mirror.connect()

    let_pass(0.2)
    assert primary.connections == []
    introduce(client, HEADERS["v2"])

    assert client.recv_exact(9) == b"220 hello"
    assert client.exchange(b"word") == b"word"


def test_a_client_on_a_unix_socket_is_trusted(doppel, server, tmp_path):
    primary = server(echo)
    path = tmp_path / "front"
    mirror = doppel(primary, listens=(f"unix:{path}?accept-proxy=on",))
    client = mirror.connect()

    introduce(client, HEADERS["v1"])

    assert client.exchange(pattern(100)) == pattern(100)
    client.finish()
    client.drain()
    assert mirror.session()["client"] == "10.0.0.9:51312"


def test_many_headers_at_once_leave_nothing_behind(doppel, server):
    primary = server(echo)
    mirror = proxied(doppel, primary, workers=2)
    clients = [mirror.connect() for _ in range(100)]
    for number, client in enumerate(clients):
        introduce(client, v1((f"10.0.0.{number}", 1000 + number), OTHER))
    for client in clients:
        assert client.exchange(pattern(500)) == pattern(500)
        client.finish()
        client.drain()
    told = {line["client"] for line in mirror.access_log(100)}
    assert told == {f"10.0.0.{number}:{1000 + number}" for number in range(100)}


def test_a_drain_cuts_who_is_still_sending_a_header(doppel, server):
    primary = server(echo)
    mirror = proxied(doppel, primary, "--drain-timeout", "300ms")
    client = mirror.connect()
    introduce(client, b"PROXY ")
    mirror.wait_metric("doppel_sessions_active", 1)

    mirror.stop()

    assert client.drain() == RST
    assert mirror.session()["reason"] == "drain"
    assert primary.connections == []
    mirror.expect(identity="none")


def test_R23_a_header_that_came_while_the_process_stood_still_is_in_time(doppel, server):
    primary = server(echo)
    mirror = proxied(doppel, primary, "--handshake-timeout", "300ms")
    client = mirror.connect()
    introduce(client, b"PROXY ")
    mirror.wait_metric("doppel_sessions_active", 1)
    [worker] = mirror.workers()

    os.kill(worker, signal.SIGSTOP)
    introduce(client, HEADERS["v1"][6:])
    let_pass(0.5)
    os.kill(worker, signal.SIGCONT)

    assert client.exchange(b"word") == b"word"


def answered_or_reset(mirror):
    """A whole session with a header; whether it was served."""
    client = mirror.connect()
    data = pattern(4 * KIB)
    try:
        introduce(client, HEADERS["v2"])
        answered = client.exchange(data) == data
        client.finish()
        client.drain()
        return answered
    except (Ended, ConnectionError):
        return False


@pytest.mark.release
def test_R08_each_allocation_of_a_session_with_headers_may_fail(doppel, server, faults):
    fault = faults("malloc,calloc,realloc,strdup,mmap:n=told", on=False)
    primary, copy = server(introduced(echo)), server(introduced(sink))
    mirror = proxied(doppel, f"{primary.address}?proxy=v1", shadows=[shadow(copy, proxy="v2")], env=fault.env)
    mirror.expect(identity="none", access_log=False)
    failed = 0

    for call in range(1, 100):
        struck = fault.struck()
        fault.strike_call(call)
        answered = answered_or_reset(mirror)
        failed += not answered
        eventually(lambda: mirror.metric("doppel_sessions_active") == 0, "the session ends")
        if fault.struck() == struck:
            assert answered
            break
    else:
        raise AssertionError("a session never stops allocating")
    fault.off()

    assert call > 10 and failed > 4
    assert mirror.metric("doppel_sessions_closed_total", reason="no_memory") == failed
    assert mirror.metric("doppel_worker_restarts_total") == 0
    assert answered_or_reset(mirror)


@pytest.mark.release
@pytest.mark.parametrize("error", ["ENOBUFS", "ECONNRESET", "EPIPE"])
def test_a_header_that_cannot_be_sent_costs_that_connection(doppel, server, faults, error):
    first, second, copy = (server(introduced(behave)) for behave in (echo, echo, sink))
    fault = faults(f"send:errno={error}:n=1")
    mirror = doppel([f"{first.address}?proxy=v1", f"{second.address}?proxy=v2"],
                    shadows=[shadow(copy, proxy="v2")], env=fault.env)
    mirror.expect(identity="none")      # a primary that is tried in vain is a connection, too
    client = mirror.connect()

    assert client.exchange(b"word") == b"word"

    assert fault.struck() == 1
    served = first if error == "ENOBUFS" else second
    assert header_of(served).source == client.local


# What the address that a header carries is used for.

def test_allow_looks_at_the_header(doppel, server):
    primary = server(echo)
    mirror = proxied(doppel, primary, "--allow", "10.0.0.0/24")
    mirror.expect(identity="none")
    good, bad = mirror.connect(), mirror.connect()

    introduce(bad, v1(("10.0.9.9", 1), OTHER))
    assert bad.drain() == RST
    introduce(good, HEADERS["v1"])
    assert good.exchange(b"word") == b"word"
    good.finish()
    good.drain()

    assert [(line["client"], line["reason"]) for line in mirror.access_log(2)] \
        == [("10.0.9.9:1", "denied"), ("10.0.0.9:51312", "client_fin")]


def test_a_shadows_from_looks_at_the_header(doppel, server):
    inside, outside = server(sink), server(sink)
    mirror = proxied(doppel, server(echo), shadows=[shadow(inside, "inside", from_="10.0.0.0/24"),
                                                    shadow(outside, "outside", from_="127.0.0.0/8")])
    client = mirror.connect()
    introduce(client, HEADERS["v2"])
    assert client.exchange(b"word") == b"word"
    client.finish()
    client.drain()
    assert mirror.shadow(0, "inside")["result"] == "mirrored"
    assert mirror.shadow(0, "outside")["result"] == "filtered"


def test_a_sample_by_source_goes_by_the_header(doppel, server):
    mirror = proxied(doppel, server(echo), shadows=[shadow(server(sink), "half", sample=50, by="source")])
    for number in range(60):
        client = mirror.connect()
        introduce(client, v1((f"10.0.{number % 20}.9", 1 + number), OTHER))
        assert client.exchange(b"word") == b"word"
        client.finish()
        client.drain()
        mirror.session(number)
    results = {}
    for line in mirror.access_log(60):
        results.setdefault(line["client"].split(":")[0], set()).add(line["shadows"][0]["result"])
    assert len(results) == 20 and all(len(kinds) == 1 for kinds in results.values()), results
    assert set.union(*results.values()) == {"mirrored", "sampled_out"}


def test_sessions_per_source_are_counted_by_the_header(doppel, server):
    mirror = proxied(doppel, server(echo), "--max-sessions-per-source", "1")
    mirror.expect(identity="none")
    first, second, other = (mirror.connect() for _ in range(3))
    introduce(first, HEADERS["v1"])
    assert first.exchange(b"word") == b"word"

    introduce(second, v1((CLIENT[0], 1), OTHER))
    assert second.drain() == RST
    assert mirror.session(0)["reason"] == "limit"
    introduce(other, v1(("10.0.0.10", 1), OTHER))
    assert other.exchange(b"word") == b"word"

    first.finish()
    first.drain()
    mirror.session(1)
    again = mirror.connect()
    introduce(again, HEADERS["v2"])
    assert again.exchange(b"word") == b"word"


# Writing.

def test_Y7_Y8_each_target_gets_the_header_it_wants_before_anything_else(doppel, server):
    primary = server(introduced(echo))
    one, two, none = server(introduced(sink)), server(introduced(sink)), server(sink)
    mirror = doppel(f"{primary.address}?proxy=v2", "--shadow-proxy", "v2", listens=("front=127.0.0.1:0",),
                    shadows=[shadow(one, "one", proxy="v1"), shadow(two, "two"),
                             shadow(none, "none", proxy="off")])
    client = mirror.connect()

    assert client.exchange(pattern(64 * KIB)) == pattern(64 * KIB)
    client.finish()
    assert client.drain() == FIN

    mine, here = client.local, mirror.addresses[0]
    for peer, version in ((primary, 2), (one, 1), (two, 2)):
        told = header_of(peer)
        assert (told.version, told.source, told.destination) == (version, mine, here)
    assert header_of(primary).values == {}
    assert header_of(two).values == {MIRRORED: MARK, UNIQUE_ID: mirror.session()["session"].encode(),
                                     LISTENER: b"front"}
    # The books know nothing of headers; the closing checks compare every byte behind them.
    for name in ("one", "two", "none"):
        assert mirror.shadow(0, name)["sent_bytes"] == 64 * KIB


@pytest.fixture
def told_of_tls(doppel, server, authority):
    """told_of_tls(*flags) answers doppel behind a tls:// listener, and talk(context, name, session): one
    session, whose client and shadow's header it answers."""
    def start(*flags):
        primary, copy = server(introduced(echo)), server(introduced(sink))
        mirror = doppel(f"{primary.address}?proxy=v2", "--tls-cert", authority.certificate("localhost"),
                        *flags, listens=("tls://127.0.0.1:0",), shadows=[shadow(copy, proxy="v2")])

        def talk(context, name="localhost", session=None):
            number = len(mirror.access_lines)
            client = secure(mirror.connect(), context, name, session)
            assert client.exchange(b"word") == b"word"
            client.finish()
            client.drain()
            mirror.session(number)
            assert header_of(primary, number).values == {}
            return client.socket, header_of(copy, number)
        return talk
    return start


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_shadow_learns_how_the_client_spoke_tls(told_of_tls, authority, version):
    talk = told_of_tls("--tls-alpn", "h2,http/1.1")
    spoken, header = talk(authority.client_context(most=version, alpn=["h2"]))

    told = secured_of(header)
    assert (told.bits, told.verify) == (SPOKE_TLS, 1)
    assert told.values == {TLS_VERSION: spoken.version().encode(), TLS_CIPHER: spoken.cipher()[0].encode()}
    assert (header.values[AUTHORITY], header.values[ALPN]) == (b"localhost", b"h2")


def test_a_shadow_learns_nothing_that_the_client_did_not_say(told_of_tls, authority):
    context = authority.client_context()
    context.check_hostname = False
    _, header = told_of_tls()(context, name=None)
    assert set(header.values) == {MIRRORED, UNIQUE_ID, LISTENER, TLS}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_shadow_learns_whose_certificate_the_client_has_shown(told_of_tls, authority, version):
    alice = authority.certificate("alice.example", common_name="Alic\u00e9")
    context = authority.client_context(most=version, certificate=alice)
    talk = told_of_tls("--tls-client-ca", authority.file)

    first, header = talk(context)
    told = secured_of(header)
    assert (told.bits, told.verify) == (SPOKE_TLS | SHOWN_NOW | SHOWN, 0)
    assert told.values[TLS_NAME] == "Alic\u00e9".encode()

    again, header = talk(context, session=first.session)
    told = secured_of(header)
    assert again.session_reused
    assert (told.bits, told.verify) == (SPOKE_TLS | SHOWN, 0)
    assert told.values[TLS_NAME] == "Alic\u00e9".encode()


def test_a_common_name_that_is_no_name_is_left_out(told_of_tls, authority, tmp_path):
    """It has a NUL byte; half of it would be somebody else's name."""
    talk = told_of_tls("--tls-client-ca", authority.file, "--tls-client-auth", "optional")
    evil = authority.certificate("evil.example", common_name="alice\0.evil.example")
    _, header = talk(authority.client_context(certificate=evil))
    assert secured_of(header).bits == SPOKE_TLS | SHOWN_NOW | SHOWN
    assert TLS_NAME not in secured_of(header).values


def test_a_header_is_passed_on_from_one_to_the_next(doppel, server):
    primary = server(introduced(echo))
    mirror = proxied(doppel, f"{primary.address}?proxy=v1")
    for number, source in enumerate((CLIENT, ("2001:db8::9", 7))):
        client = mirror.connect()
        introduce(client, v2(source, ("10.0.1.5", 443) if number == 0 else ("2001:db8::5", 8)))
        assert client.exchange(b"word") == b"word"
        assert header_of(primary, number).source == source


def test_C14_the_family_is_that_of_the_client(doppel, server):
    primary = server(introduced(echo))
    mirror = doppel(f"{primary.address}?proxy=v2", listens=("[::]:0",))
    port = mirror.addresses[0][1]
    told = []
    for number, host in enumerate(("127.0.0.1", "::1")):
        mirror.addresses.append((host, port))
        client = mirror.connect(1 + number)
        assert client.exchange(b"word") == b"word"
        told.append(header_of(primary, number))
        assert told[-1].source == client.local[:2]
        client.finish()
        client.drain()
        mirror.session(number)
    assert [header.destination for header in told] == [("127.0.0.1", port), ("::1", port)]
    assert [line["client"].rpartition(":")[0] for line in mirror.access_log(2)] == ["127.0.0.1", "[::1]"]


def test_a_client_on_a_unix_socket_has_paths(doppel, server, tmp_path):
    primary, copy = server(introduced(echo)), server(introduced(sink), unix=str(tmp_path / "copy"))
    path = str(tmp_path / "front")
    mirror = doppel(f"{primary.address}?proxy=v1", listens=(f"unix:{path}",),
                    shadows=[shadow(copy, proxy="v2")])
    client = mirror.connect()
    assert client.exchange(b"word") == b"word"
    client.finish()
    client.drain()
    mirror.session()
    assert header_of(primary).source is None
    assert (header_of(copy).source, header_of(copy).destination) == ("", path)


def test_a_primary_that_is_tried_second_gets_its_own_header(doppel, server):
    first, second = server(state="refusing"), server(introduced(echo))
    mirror = doppel([f"{first.address}?proxy=v1", f"{second.address}?proxy=v2"])
    client = mirror.connect()
    assert client.exchange(b"word") == b"word"
    assert header_of(second).version == 2


def test_a_header_that_finds_no_room_waits_for_it(doppel, server):
    """Nothing is sent before the header, and a shadow that takes none of it holds up nobody."""
    copy = server(hold, rcvbuf=4096)
    primary = server(introduced(echo))
    mirror = doppel(f"{primary.address}?proxy=v2", *SMALL,
                    shadows=[shadow(copy, proxy="v2", buffer="16k", stall_timeout="300ms")])
    client = mirror.connect()
    assert client.exchange(pattern(256 * KIB)) == pattern(256 * KIB)
    client.finish()
    client.drain()
    entry = mirror.shadow(0, "shadow0")
    assert entry["result"] == "detached" and entry["unacked_bytes"] <= entry["sent_bytes"]
    mirror.expect(identity="none")     # what it got begins with a header


def test_a_header_that_the_kernel_has_no_memory_for_is_tried_again_at_rest(doppel, server, faults):
    """The socket is writable all the time: no event says when."""
    fault = faults("send:errno=ENOBUFS", on=False)
    primary = server(introduced(echo))
    mirror = doppel(f"{primary.address}?proxy=v2", "--connect-timeout", "1h", env=fault.env, release=True)
    fault.on()
    client = mirror.connect()
    eventually(lambda: fault.struck() > 2, "it is tried again and again")

    mirror.assert_not_spinning(0.5)
    fault.off()

    assert client.exchange(b"word") == b"word"


def test_the_unacknowledged_bytes_of_a_shadow_are_the_clients(doppel, server):
    """A header that is never read must not look like the client's bytes."""
    copy = server(state="black hole")
    mirror = doppel(server(echo), "--shadow-connect-timeout", "200ms", shadows=[shadow(copy, proxy="v2")])
    client = mirror.connect()
    assert client.exchange(b"word") == b"word"
    client.finish()
    client.drain()
    assert mirror.shadow(0, "shadow0")["sent_bytes"] == mirror.shadow(0, "shadow0")["unacked_bytes"] == 0


# A copy is not copied again.

def test_a_session_that_is_a_copy_already_is_relayed_but_not_mirrored(doppel, server):
    last, other = server(echo), server(sink)
    second = proxied(doppel, last, shadows=[other])
    second_address = "{}:{}".format(*second.addresses[0])
    first = doppel(server(echo), shadows=[shadow(second_address, "second", proxy="v2")])
    client = first.connect()

    assert client.exchange(pattern(5 * KIB)) == pattern(5 * KIB)
    client.finish()
    client.drain()

    assert first.shadow(0, "second")["result"] == "mirrored"
    session = second.session()
    assert session["shadows"][0]["result"] == "filtered"
    assert session["client"] == "{}:{}".format(*client.local)
    assert session["request_bytes"] == 5 * KIB
    assert other.connections == []
    second.expect(identity="none")      # its client is no peer of ours


def test_a_copy_made_by_another_program_is_mirrored(doppel, server):
    mirror = proxied(doppel, server(echo), shadows=[server(sink)])
    client = mirror.connect()
    introduce(client, v2(CLIENT, OTHER, tlv(MIRRORED, b"something else")))
    assert client.exchange(b"word") == b"word"
    client.finish()
    client.drain()
    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"


# Real peers.

def test_nginx_as_primary_and_shadow_logs_the_address_of_the_client(programs, doppel):
    primary, copy = (programs.nginx(listen_options="proxy_protocol", client="$proxy_protocol_addr")
                     for _ in range(2))
    mirror = doppel(f"{primary.address}?proxy=v1", shadows=[shadow(copy.address, proxy="v2")])
    mirror.expect(identity="none")
    (primary.www / "small").write_bytes(pattern(100))

    said = run(f"curl -sSf --interface 127.0.0.3 http://127.0.0.1:{mirror.addresses[0][1]}/small")

    assert said == pattern(100)
    for one in (primary, copy):
        eventually(one.requests, one.log)
        assert one.requests()[0].split()[0] == "127.0.0.3", one.requests()


def test_haproxy_in_front_as_primary_and_as_shadow_agrees(programs, doppel):
    web = programs.nginx()
    (web.www / "small").write_bytes(pattern(100))
    primary = programs.haproxy(bind="accept-proxy", server=web.address)
    copy = programs.haproxy(bind="accept-proxy", server=web.address)
    mirror = proxied(doppel, f"{primary.address}?proxy=v2", shadows=[shadow(copy.address, proxy="v2")])
    mirror.expect(identity="none")
    front = programs.haproxy(server="{}:{}".format(*mirror.addresses[0]), send="send-proxy-v2")

    said = run(f"curl -sSf --interface 127.0.0.3 http://{front.address}/small")

    assert said == pattern(100)
    assert mirror.session()["client"].startswith("127.0.0.3:")
    for one in (primary, copy):
        eventually(lambda: one.clients(), one.log)
        assert one.clients() == ["127.0.0.3"]
