"""
test_transparent.py — addresses that stay: original-dst, --transparent, --source.

Three machines: clients (10.1.0.2) ── doppel's, which is their router ── primaries (10.2.0.2).  The
rules and commands are those of docs/transparent.md, read from there.
"""
import ctypes
import os
import re
import subprocess
from contextlib import contextmanager

import pytest

from support.headers import LOCAL, header_of, introduce, introduced, v2
from support.network import ip
from support.pattern import KIB, pattern
from support.peers import Client, echo, sink
from support.proxy import ROOT, shadow
from support.waiting import eventually

DOCUMENT = ROOT / "docs/transparent.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LISTEN = ("[::]:8080",)
ROUND = pattern(64 * KIB, seed=11)
NOBODY = 65534

families = pytest.mark.parametrize("family", [4, 6])


def section(title):
    """[(language, text)] of the blocks below the heading that begins so."""
    found = re.search(rf"^## {re.escape(title)}.*?(?=^## |\Z)", DOCUMENT.read_text(),
                      re.MULTILINE | re.DOTALL)
    assert found, title
    return BLOCK.findall(found[0])


def follow(title, replace=("", "")):
    """Types what the section says; a kernel that lacks a part of it skips the test."""
    for language, text in section(title):
        if language == "nft":
            load(text.replace(*replace) if replace[0] else text)
        elif language == "sh":
            for line in text.splitlines():
                if line.startswith("ip "):
                    ip(line[len("ip "):])


def load(rules):
    loaded = subprocess.run(["nft", "-f", "-"], input=rules, capture_output=True, text=True)
    if loaded.returncode != 0 and re.search(r"No such file|not supported", loaded.stderr):
        pytest.skip(f"this kernel does not take the rules: {loaded.stderr.splitlines()[0]}")
    assert loaded.returncode == 0, loaded.stderr


def started(title):
    """The arguments of doppel() that the section's command line says: primary, then flags."""
    line = next(text for language, text in section(title) if text.startswith("doppel "))
    words = re.sub(r"-[ld] \S+", "", line).split()[1:]
    at = words.index("-r")
    return [words[at + 1], *words[:at], *words[at + 2:]]


def address(number, family):
    """Where machine number n is."""
    return f"10.{number}.0.2" if family == 4 else f"fd00:{number}::2"


def router(number, family):
    """What it knows doppel's machine as."""
    return f"10.{number}.0.1" if family == 4 else f"fd00:{number}::1"


def printed(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Wires:
    """The two machines beside doppel's."""

    def __init__(self, network, server):
        self.clients = network.host("clients", 1)
        self.primaries = network.host("primaries", 2)
        self.server = server

    def primary(self, family, behaviour=echo, port=80):
        with self.primaries:
            return self.server(behaviour, host=address(2, family), port=port)

    def connect(self, mirror, to):
        with self.clients:
            client = Client(to)
        mirror.clients.append(client)
        return client


@pytest.fixture
def wires(network, server):
    return Wires(network, server)


def seen_by(server, number=0):
    """The address from which that connection came."""
    return server.connection(number).socket.getpeername()[0]


def converse(client, *servers):
    """From start to end; answers from which addresses the servers' first connections came."""
    assert client.exchange(ROUND) == ROUND
    seen = [seen_by(server) for server in servers]
    client.close()
    return seen


# REDIRECT.

@pytest.mark.netns
@families
def test_a_redirected_client_reaches_whom_it_wanted(network, wires, doppel, server, family):
    primary, copy = wires.primary(family), server(sink)
    follow("REDIRECT: clients")
    mirror = doppel(*started("REDIRECT: clients"), listens=LISTEN, shadows=[copy])
    mirror.primaries.append(primary)

    seen = converse(wires.connect(mirror, primary.where), primary)

    session = mirror.session(0)
    assert session["primary"] == primary.address and session["reason"] == "client_fin"
    assert session["client"].startswith(printed(address(1, family), 0)[:-1])
    assert seen == [router(2, family)]
    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"


@pytest.mark.netns
def test_each_client_reaches_its_own_destination(network, wires, doppel):
    with wires.primaries:
        ip("address add 10.2.0.3/24 dev router")
        other = wires.server(echo, host="10.2.0.3", port=80)
    primary = wires.primary(4)
    follow("REDIRECT: clients")
    mirror = doppel("original-dst", listens=LISTEN, workers=2)
    mirror.primaries += [primary, other]

    clients = [(wires.connect(mirror, one.where), one) for one in (primary, other) * 4]
    for client, one in clients:
        assert client.exchange(one.address.encode()) == one.address.encode()
    for client, _ in clients:
        client.close()

    reached = sorted(line["primary"] for line in mirror.access_log(8))
    assert reached == ["10.2.0.2:80"] * 4 + ["10.2.0.3:80"] * 4
    assert len(primary.connections) == len(other.connections) == 4


@pytest.mark.netns
@families
def test_a_refusal_at_the_original_destination_names_it(network, wires, doppel, family):
    follow("REDIRECT: clients")
    mirror = doppel("original-dst", listens=LISTEN)
    mirror.expect(identity="prefix")

    assert wires.connect(mirror, (address(2, family), 80)).drain() == "rst"

    session = mirror.session(0)
    assert (session["reason"], session["primary"]) == ("primary_refused", printed(address(2, family), 80))


@contextmanager
def as_user(number):
    """Sockets made by this thread belong to that user (credentials(7): the kernel's are a thread's)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.setfsuid(number)
    try:
        yield
    finally:
        libc.setfsuid(0)


@pytest.mark.netns
@families
def test_local_programs_are_led_here_but_we_ourselves_are_not(network, wires, doppel, family):
    primary = wires.primary(family)
    follow("REDIRECT in output", ('"doppel"', str(os.getuid())))
    mirror = doppel("original-dst", listens=LISTEN)
    mirror.primaries.append(primary)

    with as_user(NOBODY):
        client = Client(primary.where)
    mirror.clients.append(client)
    converse(client)

    assert mirror.session(0)["primary"] == primary.address
    assert len(mirror.access_log(1)) == len(primary.connections) == 1


@pytest.mark.netns
@families
@pytest.mark.parametrize("more", [(), ("--transparent",)], ids=["", "transparent"])
def test_S18_without_a_rule_original_dst_is_a_loop_and_ends_at_once(network, wires, doppel, server,
                                                                    family, more):
    mirror = doppel("original-dst", *more, listens=LISTEN, shadows=[server(sink)])
    mirror.expect(identity="prefix")

    assert wires.connect(mirror, (router(1, family), 8080)).drain() == "rst"

    session = mirror.session(0)
    assert (session["reason"], session["primary"]) == ("loop", printed(router(1, family), 8080))
    assert mirror.metric("doppel_sessions_total") == 1
    mirror.assert_not_spinning(0.5)


# --transparent.

@pytest.mark.netns
@families
def test_the_primary_sees_the_clients_address(network, wires, doppel, server, family):
    primary, copy = wires.primary(family), server(sink)
    follow("Answers come back")
    mirror = doppel(primary, "--transparent", listens=LISTEN, shadows=[copy])

    seen = converse(wires.connect(mirror, (router(1, family), 8080)), primary, copy)

    assert seen == [address(1, family), "127.0.0.1"]
    assert mirror.session(0)["primary"] == primary.address
    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"


@pytest.mark.netns
@families
def test_with_tproxy_neither_side_notices(network, wires, doppel, server, family):
    primary, copy = wires.primary(family), server(sink)
    follow("TPROXY")
    mirror = doppel(*started("TPROXY"), listens=LISTEN, shadows=[copy], workers=2)
    mirror.primaries.append(primary)

    for number in range(8):
        client = wires.connect(mirror, primary.where)
        assert client.socket.getpeername()[0] == address(2, family)
        assert client.exchange(ROUND) == ROUND
        assert seen_by(primary, number) == address(1, family)
        client.close()

    for line in mirror.access_log(8):
        assert (line["primary"], line["reason"]) == (primary.address, "client_fin")
        assert line["client"].startswith(printed(address(1, family), 0)[:-1])
        assert line["shadows"][0]["result"] == "mirrored"


@pytest.mark.netns
def test_a_shadow_has_a_source_of_ours_while_the_primary_sees_the_client(network, wires, doppel, server):
    primary, copy = wires.primary(4), server(sink)
    follow("Answers come back")
    mirror = doppel(primary, "--transparent", "--source", "127.0.0.5", listens=LISTEN, shadows=[copy])

    seen = converse(wires.connect(mirror, (router(1, 4), 8080)), primary, copy)

    assert seen == [address(1, 4), "127.0.0.5"]


@pytest.mark.netns
def test_a_client_that_cannot_be_kept_is_not_replaced_by_us(network, wires, doppel):
    """The primary might trust doppel's own address more than the client's."""
    primary = wires.primary(6)
    follow("Answers come back")
    mirror = doppel(primary, "--transparent", listens=LISTEN)
    mirror.expect(identity="prefix")

    assert wires.connect(mirror, (router(1, 4), 8080)).drain() == "rst"

    assert mirror.session(0)["reason"] == "io_error"
    assert "the client's address: it is not IPv6" in mirror.wait_log("primary_failed")[0].fields["why"]
    assert primary.connections == []


@pytest.mark.netns
@families
def test_of_a_primarys_addresses_that_of_the_clients_family_is_taken(network, wires, doppel, tmp_path,
                                                                     family):
    hosts = tmp_path / "hosts"
    hosts.write_text("".join(f"{address(2, one)} primary.example\n" for one in (4, 6)))
    primary = wires.primary(family)
    follow("Answers come back")
    mirror = doppel("primary.example:80", "--hosts", str(hosts), "--transparent", listens=LISTEN)
    mirror.primaries.append(primary)

    seen = converse(wires.connect(mirror, (router(1, family), 8080)), primary)

    assert seen == [address(1, family)]


@pytest.mark.netns
def test_one_capability_is_all_it_needs(network, wires, doppel):
    primary = wires.primary(4)
    follow("Answers come back")
    alone = ["setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all"]
    mirror = doppel(primary, "--transparent", listens=LISTEN, prefix=alone)

    assert converse(wires.connect(mirror, (router(1, 4), 8080)), primary) == [address(1, 4)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can lay down its capabilities")
def test_without_the_capability_one_sentence_says_so_and_nothing_is_bound(doppel, server, program):
    """The listener's address is taken: had it been tried, that would be the sentence."""
    primary, busy = server(echo), server(echo)
    without = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--reuid", str(NOBODY), "--clear-groups"]
    mirror = doppel(primary, "--transparent", listens=[busy.address], prefix=without, admin=False,
                    program=program, wait=False)
    mirror.expect(exit_status=1, totals=False)

    assert mirror.wait_exit() == 1
    assert mirror.log_lines == ["doppel: --transparent is not possible: Operation not permitted; "
                                "start doppel with the capability CAP_NET_ADMIN"]


# PROXY headers beside it.

TRUSTED = ("--proxy-trust", "10.1.0.0/24,fd00:1::/64")
ACCEPT = (f"{LISTEN[0]}?accept-proxy=on",)


def behind(family):
    """A client of the proxy that stands where clients stand, and where it says that it was going."""
    client = ("10.1.0.77", 51312) if family == 4 else ("fd00:1::77", 51312)
    return client, (address(9, family), 9999)


@pytest.mark.netns
@families
def test_the_primary_sees_the_address_that_a_header_tells(network, wires, doppel, server, family):
    client, going = behind(family)
    primary, copy = wires.primary(family), server(introduced(sink))
    follow("Answers come back")
    mirror = doppel(primary, "--transparent", *TRUSTED, listens=ACCEPT, shadows=[shadow(copy, proxy="v2")])

    front = wires.connect(mirror, (router(1, family), 8080))
    introduce(front, v2(client, going))
    seen = converse(front, primary, copy)

    assert seen == [client[0], "127.0.0.1"]
    assert (header_of(copy).source, header_of(copy).destination) == (client, going)
    assert mirror.session(0)["client"] == printed(*client)


@pytest.mark.netns
@families
def test_a_header_about_nobody_leaves_the_address_of_the_proxy(network, wires, doppel, family):
    primary = wires.primary(family)
    follow("Answers come back")
    mirror = doppel(primary, "--transparent", *TRUSTED, listens=ACCEPT)

    front = wires.connect(mirror, (router(1, family), 8080))
    introduce(front, v2(command=LOCAL))

    assert converse(front, primary) == [address(1, family)]


@pytest.mark.netns
@families
def test_a_header_does_not_say_where_we_connect_to(network, wires, doppel, family):
    """The kernel alone does; what the header says goes on in the header that we write."""
    client, going = behind(family)
    primary = wires.primary(family, introduced(echo))
    follow("REDIRECT: clients")
    mirror = doppel("original-dst?proxy=v2", *TRUSTED, listens=ACCEPT)
    mirror.primaries.append(primary)

    front = wires.connect(mirror, primary.where)
    introduce(front, v2(client, going))
    seen = converse(front, primary)

    assert seen == [router(2, family)]
    assert mirror.session(0)["primary"] == primary.address
    assert (header_of(primary).source, header_of(primary).destination) == (client, going)


@pytest.mark.netns
@families
def test_a_header_to_the_primary_has_the_port_that_its_connection_cannot_have(network, wires, doppel, family):
    primary = wires.primary(family, introduced(echo))
    follow("TPROXY")
    mirror = doppel("original-dst?proxy=v1", "--transparent", listens=LISTEN)
    mirror.primaries.append(primary)

    client = wires.connect(mirror, primary.where)
    local = client.socket.getsockname()[:2]
    seen = converse(client, primary)

    assert seen == [address(1, family)]
    assert (header_of(primary).source, header_of(primary).destination) == (local, primary.where)


# --source.

def test_a_source_is_the_address_that_targets_see(doppel, server):
    primary, one, other = server(echo), server(sink), server(sink)
    mirror = doppel(primary, "--source", "127.0.0.5", shadows=[one, shadow(other, source="127.0.0.6")])

    assert converse(mirror.connect(), primary, one, other) == ["127.0.0.5", "127.0.0.5", "127.0.0.6"]


def test_a_target_has_a_source_of_its_own(doppel, server):
    primary, copy = server(echo), server(sink)
    mirror = doppel(f"{primary.address}?source=127.0.0.7", "--shadow-source", "127.0.0.8", shadows=[copy])
    mirror.primaries.append(primary)

    assert converse(mirror.connect(), primary, copy) == ["127.0.0.7", "127.0.0.8"]


@pytest.mark.netns
def test_each_family_has_a_source_of_its_own(network, doppel, server):
    ip("address add fd00::5/128 dev lo nodad")
    primary, copy = server(echo, host="::1"), server(sink)
    mirror = doppel(primary, "--source", "127.0.0.5,fd00::5", shadows=[copy])

    assert converse(mirror.connect(), primary, copy) == ["fd00::5", "127.0.0.5"]


def test_a_source_that_is_not_ours_is_refused_at_start(doppel, server):
    mirror = doppel(server(echo), "--source", "192.0.2.1", wait=False)
    mirror.expect(exit_status=1, totals=False)

    assert mirror.wait_exit() == 1
    assert mirror.log_lines == ["doppel: cannot connect from 192.0.2.1: it is no address of this machine"]


@pytest.mark.netns
def test_a_source_that_goes_away_ends_sessions_and_is_no_lack_of_ports(network, doppel, server):
    ip("address add 10.9.0.1/32 dev lo")
    primary = server(echo)
    mirror = doppel(primary, "--source", "10.9.0.1")
    mirror.expect(identity="prefix")
    converse(mirror.connect())
    mirror.access_log(1)
    ip("address del 10.9.0.1/32 dev lo")

    assert mirror.connect().drain() == "rst"
    assert mirror.session(1)["reason"] == "io_error"
    assert "no address of this machine" in mirror.wait_log("primary_failed")[0].fields["why"]

    ip("address add 10.9.0.1/32 dev lo")
    converse(mirror.connect())
    assert mirror.session(2)["reason"] == "client_fin"


@pytest.mark.netns
def test_P13_a_source_takes_a_port_only_towards_its_target(network, doppel, server):
    """Four ports: four sessions, each with a primary and a shadow.  The fifth finds none."""
    primary, copy = server(echo), server(sink)
    mirror = doppel(primary, "--source", "127.0.0.5", shadows=[copy])
    mirror.expect(identity="prefix")
    network.sysctl("net.ipv4.ip_local_port_range", "40000 40003")
    clients = [mirror.connect(source=f"127.0.1.{number}") for number in range(4)]
    for client in clients:
        client.exchange(b"has a port")
    eventually(lambda: len(copy.connections) == 4, "four shadows")

    assert mirror.connect(source="127.0.2.1").drain() == "rst"

    assert mirror.session(0)["reason"] == "no_port"
    for client in clients:
        assert client.exchange(b"undisturbed") == b"undisturbed"
