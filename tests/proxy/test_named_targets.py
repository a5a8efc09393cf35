"""
test_named_targets.py — a primary or a shadow may be a name; while it is asked for, everything else goes on.
"""
import pytest

from support.checks import assert_same
from support.dns import NX, SERVFAIL, SILENT, Name, NameServer
from support.pattern import KIB, pattern
from support.peers import echo, sink
from support.proxy import shadow


@pytest.fixture
def dns():
    with NameServer() as serving:
        yield serving


@pytest.fixture
def resolver(dns, tmp_path):
    """The flags that make doppel ask our name server, and no other file."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 hosted.test\n::1 hosted6.test\n")
    return ("--resolv-conf", str(dns.resolv_conf(tmp_path)), "--hosts", str(hosts))


def serves(mirror, primary):
    """The primary is behind a name: tells the closing checks whose bytes to compare."""
    mirror.primaries.append(primary)


def closed(mirror, reason):
    return mirror.metric("doppel_sessions_closed_total", reason=reason)


@pytest.mark.parametrize("host, name", [("127.0.0.1", Name(a=["127.0.0.1"])), ("::1", Name(aaaa=["::1"]))],
                         ids=["A", "AAAA"])
def test_a_primary_by_name_is_found(dns, resolver, doppel, server, host, name):
    dns.table["primary.test"] = name
    primary = server(echo, host=host)
    mirror = doppel(f"primary.test:{primary.port}", *resolver)
    serves(mirror, primary)
    client = mirror.connect()

    assert client.exchange(pattern(64 * KIB)) == pattern(64 * KIB)
    client.close()

    assert mirror.session(0)["primary"] == primary.address
    assert mirror.metric("doppel_dns_lookups_total", result="ok") == 1


@pytest.mark.parametrize("host, name", [("127.0.0.1", "hosted.test"), ("::1", "hosted6.test")])
def test_a_name_of_the_hosts_file_needs_no_server(dns, resolver, doppel, server, host, name):
    primary = server(echo, host=host)
    mirror = doppel(f"{name}:{primary.port}", *resolver)
    serves(mirror, primary)
    client = mirror.connect()

    assert client.exchange(b"hello") == b"hello"
    client.close()

    assert mirror.session(0)["primary"] == primary.address
    assert dns.questions == []


def test_localhost_and_numbers_are_never_asked_for(dns, resolver, doppel, server):
    primary, numeric, named = server(echo), server(sink), server(sink, host="::1")
    mirror = doppel(f"localhost:{primary.port}", *resolver,
                    shadows=[shadow(numeric), shadow(f"localhost:{named.port}", "named")])
    serves(mirror, primary)
    client = mirror.connect()

    assert client.exchange(b"hello") == b"hello"
    client.close()

    assert mirror.session(0)["primary"] == primary.address
    assert mirror.shadow(0, "named")["address"] == named.address
    assert dns.questions == []


def test_a_name_is_taken_as_complete(dns, doppel, server, tmp_path):
    dns.table["primary.test"] = Name(a=["127.0.0.1"])
    dns.table["primary.search.test"] = dns.table["primary"] = Name(a=["127.0.0.1"])
    primary = server(echo)
    conf = dns.resolv_conf(tmp_path, "search search.test", "options ndots:5")
    mirror = doppel(f"primary.test:{primary.port}", "--resolv-conf", str(conf))
    serves(mirror, primary)

    assert mirror.connect().exchange(b"hello") == b"hello"

    assert {question.name for question in dns.questions} == {"primary.test"}


def test_a_name_of_both_families_falls_back_to_the_one_that_connects(dns, resolver, doppel, server):
    dns.table["primary.test"] = Name(a=["127.0.0.1"], aaaa=["::1"])
    primary = server(echo)      # nobody listens at ::1
    mirror = doppel(f"primary.test:{primary.port}", *resolver)
    serves(mirror, primary)
    client = mirror.connect()

    assert client.exchange(b"hello") == b"hello"
    client.close()

    assert mirror.session(0)["primary"] == primary.address


@pytest.mark.parametrize("answer", [NX, SERVFAIL, Name()],
                         ids=["no such name", "server failure", "no address"])
def test_a_name_that_does_not_resolve_resets_the_client(dns, resolver, doppel, server, answer):
    dns.table["primary.test"] = answer
    mirrored = server(sink)
    mirror = doppel("primary.test:80", *resolver, shadows=[mirrored])
    client = mirror.connect()

    assert client.drain() == "rst"

    session = mirror.session(0)
    assert session["reason"] == "primary_dns"
    assert "primary" not in session and "connect_ms" not in session
    assert closed(mirror, "primary_dns") == 1
    assert mirror.metric("doppel_dns_lookups_total") == 1
    assert mirror.metric("doppel_dns_lookups_total", result="ok") == 0
    assert mirrored.connections == []
    mirror.assert_log_count("reason=primary_dns", 1, 1, level="warning")


@pytest.fixture
def known_then_unknown(dns, resolver, doppel, server):
    """A session through a known name goes on; whoever comes next depends on a name nobody knows yet."""
    dns.table["known.test"] = Name(a=["127.0.0.1"])
    primary = server(echo)
    mirror = doppel([f"known.test:{primary.port}", "unknown.test:80"], *resolver,
                    "--connect-timeout", "800ms")
    mirror.expect(identity="prefix")
    serves(mirror, primary)
    first = mirror.connect()
    assert first.exchange(b"hello") == b"hello"
    primary.refuse()
    return mirror, first


def test_a_name_server_that_is_gone_fails_the_session_and_not_the_proxy(dns, known_then_unknown):
    mirror, first = known_then_unknown

    dns.close()

    assert mirror.connect().drain() == "rst"
    assert mirror.session(0)["reason"] == "primary_dns"
    assert first.exchange(b"still here") == b"still here"


def test_a_silent_name_server_is_bounded_and_other_sessions_go_on(dns, known_then_unknown):
    mirror, first = known_then_unknown

    dns.table["unknown.test"] = SILENT
    waiting = mirror.connect()
    dns.wait_for("unknown.test")
    for _ in range(20):
        assert first.exchange(b"meanwhile") == b"meanwhile"
    assert waiting.end is None

    assert waiting.drain() == "rst"
    assert mirror.session(0)["reason"] == "primary_dns"
    assert first.exchange(b"still here") == b"still here"
    dns.table["unknown.test"] = NX      # for the question that is still asked


def test_a_client_that_leaves_while_its_primary_is_looked_up_ends_the_session(dns, resolver, doppel):
    dns.table["primary.test"] = SILENT
    mirror = doppel("primary.test:80", *resolver)
    client = mirror.connect()
    dns.wait_for("primary.test")

    client.reset()

    assert mirror.session(0)["reason"] == "client_rst"
    dns.table["primary.test"] = NX      # for the question that is still asked


def test_many_lookups_at_once_all_get_their_answer(dns, resolver, doppel, server):
    dns.table["primary.test"] = Name(a=["127.0.0.1"], delay=0.2)
    primary = server(echo)
    mirror = doppel(f"primary.test:{primary.port}", *resolver)
    serves(mirror, primary)
    clients = [mirror.connect() for _ in range(30)]

    jobs = [client.start(client.exchange, pattern(KIB, number)) for number, client in enumerate(clients)]

    for number, job in enumerate(jobs):
        assert job.result() == pattern(KIB, number)


def test_of_several_primaries_one_that_does_not_resolve_is_passed_over(dns, resolver, doppel, server):
    primary = server(echo)
    mirror = doppel(["nobody.test:80", primary], *resolver)
    client = mirror.connect()

    assert client.exchange(b"hello") == b"hello"
    client.close()

    assert mirror.session(0)["primary"] == primary.address


def test_a_shadow_by_name_gets_the_exact_stream(dns, resolver, doppel, server):
    dns.table["shadow.test"] = Name(a=["127.0.0.1"], delay=0.2)
    primary, mirrored = server(echo), server(sink)
    mirror = doppel(primary, *resolver, shadows=[shadow(f"shadow.test:{mirrored.port}")])
    client = mirror.connect()

    client.exchange(pattern(256 * KIB))
    client.close()

    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["address"]) == ("mirrored", mirrored.address)
    assert_same(mirrored.connection().received, client.sent)


@pytest.mark.parametrize("answer", [NX, SILENT], ids=["no such name", "silence"])
def test_a_shadow_whose_name_does_not_resolve_costs_nobody_anything(dns, resolver, doppel, server, answer):
    dns.table["shadow.test"] = answer
    mirror = doppel(server(echo), *resolver, shadows=[shadow("shadow.test:80", connect_timeout="300ms")])
    client = mirror.connect()

    client.exchange_until(lambda: mirror.shadow_closed("dns", "shadow0") == 1, "the lookup fails")
    client.close()

    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["reason"]) == ("detached", "dns")
    assert "address" not in entry and "connect_ms" not in entry
    dns.table["shadow.test"] = NX       # for the question that is still asked
