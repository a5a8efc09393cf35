"""
test_outages.py — targets that are gone for long, come and go, or cannot be reached; and clients with
unusual addresses.  Bounded dials, a quiet log, and nobody else notices.
"""
import json
import socket
import subprocess

import pytest

from support import crowd as crowds
from support.pattern import KIB, pattern
from support.peers import Client, echo, sink
from support.proxy import shadow

NOWHERE = "192.0.2.1:80"        # documentation addresses (RFC 5737, RFC 3849)
NOWHERE_V6 = "[2001:db8::1]:80"


def requests(count):
    return (crowds.exchange(b"e" + pattern(100 + number % 400, number % 50)) for number in range(count))


def count_syns(network, *ports):
    """From now on; asks(port) tells how many came."""
    for port in ports:
        network.nft(f"add rule inet faults input tcp dport {port} tcp flags & (syn|ack) == syn counter")

    def asks(port):
        listed = subprocess.run(["nft", "-j", "list", "table", "inet", "faults"], capture_output=True,
                                text=True, check=True).stdout
        rules = [entry["rule"]["expr"] for entry in json.loads(listed)["nftables"] if "rule" in entry]
        for rule in rules:
            if any(part.get("match", {}).get("right") == port for part in rule):
                return next(part["counter"]["packets"] for part in rule if "counter" in part)
        raise AssertionError(f"no rule for {port}")
    return asks


# S15, S20: shadows.

@pytest.mark.netns
def test_S15_shadows_that_are_all_down_are_dialled_once_a_session_and_logged_rarely(network, doppel,
                                                                                    server, crowd):
    """Nobody dials twice for one session, and nothing goes on when the sessions are over."""
    gone = [server(state="refusing") for _ in range(2)]
    mirror = doppel(crowd.serve(crowds.obey), shadows=[shadow(one, breaker="off") for one in gone])
    asks = count_syns(network, *[one.port for one in gone])

    crowd.run(mirror.addresses[0], requests(1000), at_once=50)
    crowd.settle(lambda: mirror.metric("doppel_sessions_active") == 0, "all sessions end")

    assert mirror.metric("doppel_sessions_closed_total", reason="client_fin") == 1000
    for number, one in enumerate(gone):
        assert mirror.shadow_closed("refused", f"shadow{number}") == 1000
        assert asks(one.port) == 1000
    # One a shadow in ten seconds, and the run may take longer than that.
    mirror.assert_log_count(" shadow_detached ", 2, 8, level="warning")
    mirror.assert_not_spinning(1)
    assert [asks(one.port) for one in gone] == [1000, 1000]


def test_S15_shadows_that_are_black_holes_hold_no_more_than_their_share(doppel, server, crowd):
    """As many as may be open at a time; the other sessions go without, and say so."""
    hole = server(state="black hole")
    mirror = doppel(crowd.serve(crowds.obey), shadows=[
        shadow(hole, breaker="off", max_sessions=20, connect_timeout="300ms", linger="300ms")])

    crowd.run(mirror.addresses[0], requests(1000), at_once=50)
    assert mirror.metric("doppel_shadow_active") <= 20
    crowd.settle(lambda: mirror.metric("doppel_sessions_active") == 0, "all sessions end")

    assert mirror.metric("doppel_sessions_closed_total", reason="client_fin") == 1000
    results = {result: mirror.metric("doppel_shadow_sessions_total", result=result)
               for result in ("limit", "detached")}
    assert sum(results.values()) == 1000 and results["limit"] > 0 and results["detached"] >= 20
    assert mirror.shadow_closed("connect_timeout") == results["detached"]
    mirror.assert_log_count(" shadow_detached ", 1, 4, level="warning")


def test_S20_a_shadow_that_comes_and_goes_is_mirrored_to_whenever_it_is_there(doppel, server):
    primary, flapping = server(echo), server(sink)
    mirror = doppel(primary, shadows=[flapping])

    for number in range(6):
        there = number % 2 == 0
        client = mirror.connect()
        assert client.exchange(pattern(KIB, number)) == pattern(KIB, number)
        client.finish()
        assert client.drain() == "fin"
        entry = mirror.shadow(number, "shadow0")
        assert (entry["result"], entry["reason"]) == (
            ("mirrored", "fin") if there else ("detached", "refused"))
        if there:
            flapping.refuse()
        else:
            flapping.listen()

    mirror.assert_log_count(" shadow_detached ", 1, 2, level="warning")


def test_S20_sessions_of_before_the_shadow_was_back_are_not_mirrored_late(doppel, server):
    """A shadow starts at the first byte or not at all (D2)."""
    primary, flapping = server(echo), server(sink)
    mirror = doppel(primary, shadows=[flapping])
    mirror.connect().exchange(b"its first")
    flapping.connection(0).wait_received(9)
    flapping.refuse()
    client = mirror.connect()
    client.exchange(b"before")
    mirror.wait_metric("doppel_shadow_closed_total", 1, shadow="shadow0", reason="refused")

    flapping.listen()
    client.exchange(b"after")
    client.finish()
    assert client.drain() == "fin"

    assert mirror.shadow(0, "shadow0")["lost_bytes"] == len(b"before" + b"after")
    assert len(flapping.connections) == 1


# P14: no way to the target.

@pytest.mark.netns
@pytest.mark.parametrize("primary", [NOWHERE, NOWHERE_V6])
def test_P14_without_a_route_the_client_is_reset_at_once(network, doppel, server, primary):
    copy = server(sink)
    mirror = doppel(primary, shadows=[copy])
    mirror.expect(identity="prefix")

    for _ in range(20):
        client = mirror.connect()
        assert client.drain() == "rst"
        client.close()

    assert [line["reason"] for line in mirror.access_log(20)] == ["primary_unreachable"] * 20
    mirror.assert_log_count("reason=primary_unreachable", 1, 1, level="warning")
    mirror.assert_not_spinning(1)
    assert copy.connections == []


@pytest.mark.netns
@pytest.mark.parametrize("how", ["host-unreachable", "admin-prohibited", "no-route"])
def test_P14_a_target_that_a_firewall_rejects_is_not_dialled_again(network, doppel, server, how):
    primary, copy = server(echo), server(sink)
    mirror = doppel(primary, "--connect-timeout", "20s", shadows=[copy])
    mirror.expect(identity="prefix")
    asks = count_syns(network, primary.port)
    network.reject(primary.port, f"icmpx type {how}")

    assert mirror.connect().drain() == "rst"

    assert mirror.session(0)["reason"] == "primary_unreachable"
    mirror.assert_not_spinning(1)
    assert asks(primary.port) == 1
    assert copy.connections == []
    network.lift()
    assert mirror.connect().exchange(b"welcome back") == b"welcome back"


@pytest.mark.netns
@pytest.mark.parametrize("route", ["prohibit", "unreachable"])
def test_P14_what_the_machines_own_routes_forbid_is_unreachable(network, doppel, server, route):
    """The connect itself fails, with EACCES or EHOSTUNREACH."""
    subprocess.run(["ip", "route", "add", route, "192.0.2.0/24"], check=True)
    mirror = doppel(NOWHERE, shadows=[server(sink)])
    mirror.expect(identity="prefix")

    client = mirror.connect()

    assert client.drain() == "rst"
    assert mirror.session(0)["reason"] == "primary_unreachable"
    mirror.assert_not_spinning(1)


@pytest.mark.netns
@pytest.mark.parametrize("target", [NOWHERE, NOWHERE_V6])
def test_P14_a_shadow_without_a_route_costs_only_itself(network, doppel, server, target):
    primary, copy = server(echo), server(sink)
    mirror = doppel(primary, shadows=[shadow(target, "nowhere", breaker="off"), shadow(copy, "there")])
    for number in range(20):
        client = mirror.connect()
        assert client.exchange(pattern(KIB, number)) == pattern(KIB, number)
        client.finish()
        assert client.drain() == "fin"

    for number in range(20):
        assert mirror.shadow(number, "nowhere")["reason"] == "unreachable"
        assert mirror.shadow(number, "there")["result"] == "mirrored"
    mirror.assert_log_count("reason=unreachable", 1, 1, level="warning")


# C14: unusual clients.

def test_C14_a_v4_client_of_a_dual_stack_listener_is_logged_as_v4(doppel, server):
    primary, copy = server(echo), server(sink)
    mirror = doppel(primary, listens=["0"], shadows=[shadow(copy, from_="127.0.0.0/8")])
    port = mirror.addresses[0][1]
    plain, v6 = Client(("127.0.0.1", port)), Client(("::1", port))
    mirror.clients += [plain, v6]

    for client in (plain, v6):
        assert client.exchange(b"hello") == b"hello"
        client.finish()
        assert client.drain() == "fin"

    lines = {line["client"]: line for line in mirror.access_log(2)}
    results = {peer: line["shadows"][0]["result"] for peer, line in lines.items()}
    assert results == {f"127.0.0.1:{plain.local[1]}": "mirrored", f"[::1]:{v6.local[1]}": "filtered"}


def test_C14_a_client_that_says_its_v4_address_in_v6_is_logged_as_v4(doppel, server):
    mirror = doppel(server(echo), listens=["[::]:0"])
    client = Client(("::ffff:127.0.0.1", mirror.addresses[0][1]))
    mirror.clients.append(client)

    assert client.exchange(b"hello") == b"hello"
    client.finish()
    assert client.drain() == "fin"

    assert mirror.session(0)["client"] == f"127.0.0.1:{client.local[1]}"


def make_link():
    """An interface with a link-local address of its own, in this thread's network namespace."""
    for command in ("link add name near type veth peer name far", "link set far up", "link set near up",
                    "address add fe80::1/64 dev near nodad"):
        subprocess.run(["ip", *command.split()], check=True)


def link_client(mirror):
    _, port = mirror.addresses[0]
    mirror.clients.append(Client(("fe80::1", port, 0, socket.if_nametoindex("near"))))
    return mirror.clients[-1]


@pytest.mark.netns
def test_C14_a_link_local_client_is_logged_with_its_zone(network, doppel, server):
    make_link()
    primary, copy = server(echo), server(sink)
    mirror = doppel(primary, listens=["[::]:0"], shadows=[copy])

    client = link_client(mirror)
    assert client.exchange(b"hello") == b"hello"
    client.finish()
    assert client.drain() == "fin"

    assert mirror.session(0)["client"] == f"[fe80::1%near]:{client.local[1]}"
    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"


@pytest.mark.netns
def test_C14_a_link_local_listener_and_target_work_with_their_zone(network, doppel, server):
    make_link()
    primary = server(echo, host="::")
    mirror = doppel(f"[fe80::1%near]:{primary.port}", listens=["[fe80::1%near]:0"])

    client = link_client(mirror)
    assert client.exchange(b"hello") == b"hello"
    client.finish()
    assert client.drain() == "fin"

    assert mirror.addresses[0][0] == "fe80::1%near"
    assert mirror.session(0)["primary"] == f"[fe80::1%near]:{primary.port}"
