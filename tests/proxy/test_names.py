"""
test_names.py — a primary or a shadow may be a name; while it is asked for, everything else goes on,
and what name servers do wrong does not take a good address away.
"""
import os
import signal

import pytest

from support.checks import assert_same
from support.dns import NX, SERVFAIL, SILENT, WRONG, Name, NameServer
from support.network import ip
from support.pattern import KIB, pattern
from support.peers import Ended, echo, sink
from support.proxy import shadow
from support.waiting import eventually, let_pass

REFUSED = Name(rcode="REFUSED")
NOTHING = Name()

# An answer is old at once, and is asked for again on each use.
SHORT_TTL = ("--dns-ttl-min", "50ms", "--dns-ttl-max", "50ms")
QUICK = ("--dns-timeout", "300ms")


@pytest.fixture
def dns():
    with NameServer() as serving:
        yield serving


@pytest.fixture
def second_dns():
    with NameServer() as serving:
        yield serving


@pytest.fixture
def resolver(dns, tmp_path):
    """The flags that make doppel ask our name server, and no other file."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 hosted.test dotted.test.\n::1 hosted6.test\n")
    return ("--resolv-conf", str(dns.resolv_conf(tmp_path)), "--hosts", str(hosts))


def serves(mirror, *primaries):
    """These are behind the primary's name: tells the closing checks whose bytes to compare."""
    mirror.primaries += primaries


def ask(mirror):
    """One session; answers the address of the primary that served it."""
    ended = len(mirror.access_lines)
    client = mirror.connect()
    assert client.exchange(b"hello") == b"hello"
    client.close()
    return mirror.access_log(ended + 1)[ended]["primary"]


def fails(mirror):
    """One session whose primary has no address."""
    ended = len(mirror.access_lines)
    assert mirror.connect().drain() == "rst"
    assert mirror.access_log(ended + 1)[ended]["reason"] == "primary_dns"


def is_served(mirror):
    """One session, which may fail."""
    client = mirror.connect()
    try:
        return client.exchange(b"hello") == b"hello"
    except Ended:
        return False


def beside(server, primary, host="127.0.0.2", **options):
    """A second primary: the same port at another address."""
    return server(echo, host=host, port=primary.port, **options)


def lookups_end(mirror, dns):
    """The name that was asked for at the start does not exist, and the next session asks again."""
    dns.wait_for("primary.test")
    mirror.wait_log(" name_unresolved ")
    let_pass(0.6)


def lookups(mirror, **labels):
    return mirror.metric("doppel_dns_lookups_total", **labels)


# Names, files and families.

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
    assert lookups(mirror, result="ok") == 1


@pytest.mark.parametrize("host, name", [("127.0.0.1", "hosted.test"), ("::1", "hosted6.test"),
                                        ("127.0.0.1", "Hosted.Test."), ("127.0.0.1", "dotted.test")])
def test_N17_a_name_of_the_hosts_file_needs_no_server(dns, resolver, doppel, server, host, name):
    primary = server(echo, host=host)
    mirror = doppel(f"{name}:{primary.port}", *resolver)
    serves(mirror, primary)

    assert ask(mirror) == primary.address
    assert dns.questions == []


def test_N17_localhost_and_numbers_are_never_asked_for(dns, resolver, doppel, server):
    primary, numeric, literal = server(echo), server(sink), server(sink, host="::1")
    named, below = server(sink, host="::1"), server(sink)
    mirror = doppel(f"localhost:{primary.port}", *resolver,
                    shadows=[shadow(numeric), shadow(literal, "literal"),
                             shadow(f"LocalHost:{named.port}", "named"),
                             shadow(f"its.localhost.:{below.port}", "below")])
    serves(mirror, primary)

    assert ask(mirror) == primary.address
    assert mirror.shadow(0, "named")["address"] == named.address
    assert mirror.shadow(0, "below")["address"] == below.address
    assert mirror.shadow(0, "literal")["address"] == literal.address
    assert dns.questions == []


def test_N17_odd_names_cost_only_those_who_have_them(dns, resolver, doppel, server):
    primary = server(echo)
    odd = ["foo.onion", "complete.test.", ".".join(["y" * 49] * 5), "under_score.test", "-.test"]
    targets = [shadow(f"{name}:80", f"odd{number}") for number, name in enumerate(odd)]
    mirror = doppel(primary, *resolver, shadows=targets)

    assert ask(mirror) == primary.address
    for number in range(len(odd)):
        assert mirror.shadow(0, f"odd{number}")["reason"] == "dns"


@pytest.mark.parametrize("name", ["a..b", ".", "x" * 64 + ".test", "y" * 49 + (".y" * 104)])
def test_N17_names_that_cannot_exist_are_refused_at_the_start(doppel, name):
    mirror = doppel(f"{name}:80", wait=False)
    mirror.expect(exit_status=2, totals=False)

    assert mirror.wait_exit() == 2


# As in a container of Kubernetes.
SEARCH = ("search shop.svc.test svc.test", "options ndots:5")


def asked(dns):
    return list(dict.fromkeys(question.name for question in dns.questions))


@pytest.mark.parametrize("host, names", [
    ("primary", ["primary.shop.svc.test", "primary.svc.test"]),
    ("primary.svc.test", ["primary.svc.test.shop.svc.test", "primary.svc.test.svc.test", "primary.svc.test"]),
    ("primary.svc.test.", ["primary.svc.test"])])
def test_N21_a_name_is_completed_as_the_c_library_does_it(dns, doppel, server, tmp_path, host, names):
    dns.table["primary.svc.test"] = Name(a=["127.0.0.1"])
    primary = server(echo)
    mirror = doppel(f"{host}:{primary.port}", "--resolv-conf", str(dns.resolv_conf(tmp_path, *SEARCH)))
    serves(mirror, primary)

    assert ask(mirror) == primary.address

    assert asked(dns) == names
    said = [line.fields["complete"] for line in mirror.log(" name_completed ")]
    assert said == (["primary.svc.test"] if host == "primary" else [])
    assert lookups(mirror, result="ok") == 1 and lookups(mirror, result="not_found") == 0


def test_N21_a_name_that_no_domain_completes_is_said_to_be_so(dns, doppel, tmp_path):
    mirror = doppel("primary:80", "--resolv-conf", str(dns.resolv_conf(tmp_path, *SEARCH)))

    fails(mirror)

    assert asked(dns) == ["primary.shop.svc.test", "primary.svc.test", "primary"]
    said, = mirror.wait_log(" name_unresolved ")
    assert said.fields["why"] == "no such name, nor with the search list of resolv.conf"


def test_N21_who_names_the_servers_writes_complete_names(dns, doppel, tmp_path):
    mirror = doppel("primary:80", "--resolver", dns.address,
                    "--resolv-conf", str(dns.resolv_conf(tmp_path, *SEARCH)))

    fails(mirror)

    assert asked(dns) == ["primary"]


@pytest.mark.parametrize("over", ["udp", "tcp"])
@pytest.mark.parametrize("said", ["by the file", "by flag"])
def test_N06_a_link_local_server_is_asked_at_its_interface(network, doppel, server, tmp_path, over, said):
    ip("address add fe80::53/64 dev lo nodad")
    with NameServer(host="fe80::53%lo") as dns:
        dns.table["primary.test"] = Name(a=["127.0.0.1"] + ["127.0.0.9"] * (60 if over == "tcp" else 0))
        primary = server(echo)
        asking = ("--resolver", dns.address) if said == "by flag" else (
            "--resolv-conf", str(dns.resolv_conf(tmp_path, "nameserver fe80::54%lo")))
        mirror = doppel(f"primary.test:{primary.port}", *asking)
        serves(mirror, primary)

        assert ask(mirror) == primary.address

        assert dns.count("primary.test", over=over) > 0


def test_N16_a_changed_search_list_is_followed(dns, doppel, server, tmp_path):
    dns.table["primary.old.test"] = Name(a=["127.0.0.1"])
    dns.table["primary.new.test"] = Name(a=["127.0.0.2"])
    primary = server(echo)
    other = beside(server, primary)
    conf = dns.resolv_conf(tmp_path, "search old.test")
    mirror = doppel(f"primary:{primary.port}", "--resolv-conf", str(conf))
    serves(mirror, primary, other)
    assert ask(mirror) == primary.address

    dns.resolv_conf(tmp_path, "search new.test")

    eventually(lambda: ask(mirror) == other.address, "the other list counts")


@pytest.mark.parametrize("flags, host, types", [
    ((), "127.0.0.1", {"A", "AAAA"}),
    (("-4",), "127.0.0.1", {"A"}),
    (("-6",), "::1", {"AAAA"}),
    (("--dns-family", "ipv6"), "::1", {"AAAA"}),
])
def test_ipv4_comes_first_unless_a_family_is_chosen(dns, resolver, doppel, server, flags, host, types):
    dns.table["primary.test"] = Name(a=["127.0.0.1"], aaaa=["::1"])
    first = server(echo)
    both = {"127.0.0.1": first, "::1": beside(server, first, "::1")}
    mirror = doppel(f"primary.test:{first.port}", *resolver, *flags)
    serves(mirror, *both.values())

    assert ask(mirror) == both[host].address
    assert {question.type for question in dns.questions} == types


def test_localhost_has_only_the_chosen_family(resolver, doppel, server):
    first = server(echo)
    sixth = beside(server, first, "::1")
    mirror = doppel(f"localhost:{first.port}", *resolver, "-6")
    serves(mirror, first, sixth)

    assert ask(mirror) == sixth.address


def test_a_name_of_both_families_falls_back_to_the_one_that_connects(dns, resolver, doppel, server):
    dns.table["primary.test"] = Name(a=["127.0.0.1"], aaaa=["::1"])
    primary = server(echo, host="::1")      # nobody listens at 127.0.0.1
    mirror = doppel(f"primary.test:{primary.port}", *resolver)
    serves(mirror, primary)

    assert ask(mirror) == primary.address


@pytest.mark.netns
def test_N11_an_address_that_cannot_be_reached_is_passed_over_at_once(network, dns, resolver, doppel, server):
    dns.table["primary.test"] = Name(aaaa=["2001:db8::9", "::1"])
    primary = server(echo, host="::1")
    mirror = doppel(f"primary.test:{primary.port}", *resolver)
    serves(mirror, primary)

    assert ask(mirror) == primary.address


@pytest.mark.netns
def test_N11_without_ipv6_the_name_is_served_by_its_ipv4_address(network, dns, resolver, doppel, server):
    network.sysctl("net/ipv6/conf/all/disable_ipv6".replace("/", "."), "1")
    dns.table["primary.test"] = Name(a=["127.0.0.1"], aaaa=["::1"])
    primary = server(echo)
    mirror = doppel(f"primary.test:{primary.port}", *resolver)
    serves(mirror, primary)

    assert ask(mirror) == primary.address


@pytest.mark.netns
@pytest.mark.parametrize("target", ["localhost", "primary.test", "[::1]"])
def test_N11_without_ipv6_a_dead_primary_is_no_lack_of_ports(network, dns, resolver, doppel, server, target):
    """A lack of ports is no address's fault, and makes doppel pause."""
    network.sysctl("net.ipv6.conf.all.disable_ipv6", "1")
    dns.table["primary.test"] = Name(a=["127.0.0.1"], aaaa=["::1"])
    down = server(state="refusing")
    mirror = doppel(f"{target}:{down.port}", *resolver)

    assert mirror.connect().drain() == "rst"

    assert mirror.session(0)["reason"] == ("primary_unreachable" if target == "[::1]" else "primary_refused")
    why = "this machine has no address to reach it from" if target == "[::1]" else "Connection refused"
    assert mirror.wait_log("primary_failed")[0].fields["why"] == why


# Names that do not resolve.

@pytest.mark.parametrize("answer, result", [(NX, "not_found"), (SERVFAIL, "failed"), (NOTHING, "not_found"),
                                            (REFUSED, "failed")],
                         ids=["no such name", "server failure", "no address", "refused"])
def test_a_name_that_does_not_resolve_resets_the_client(dns, resolver, doppel, server, answer, result):
    dns.table["primary.test"] = answer
    mirrored = server(sink)
    mirror = doppel("primary.test:80", *resolver, shadows=[mirrored])

    fails(mirror)

    session = mirror.session(0)
    assert "primary" not in session and "connect_ms" not in session
    mirror.wait_metric("doppel_sessions_closed_total", 1, reason="primary_dns")
    assert lookups(mirror, result=result) == 1
    assert mirrored.connections == []
    mirror.assert_log_count("reason=primary_dns", 1, 1, level="warning")
    mirror.assert_log_count("names name_unresolved name=primary.test", 1, 1, level="warning")


def test_N01_a_name_that_is_made_later_is_found_then(dns, resolver, doppel, server):
    primary = server(echo)
    mirror = doppel(f"primary.test:{primary.port}", *resolver)
    mirror.expect(identity="prefix")
    serves(mirror, primary)

    for _ in range(20):
        fails(mirror)
    assert dns.count("primary.test", "A") < 5

    dns.table["primary.test"] = Name(a=["127.0.0.1"])
    eventually(lambda: is_served(mirror), "the name is found")
    mirror.wait_log("names name_resolves name=primary.test", level="info")


def test_N01_a_shadow_that_is_made_later_is_mirrored_to_then(dns, resolver, doppel, server):
    primary, mirrored = server(echo), server(sink)
    mirror = doppel(primary, *resolver,
                    shadows=[shadow(f"shadow.test:{mirrored.port}", breaker="off")])

    assert ask(mirror) == primary.address
    assert mirror.shadow(0, "shadow0")["reason"] == "dns"

    dns.table["shadow.test"] = Name(a=["127.0.0.1"])
    eventually(lambda: ask(mirror) and mirrored.connections, "the shadow is found")
    mirrored.connection().wait_received(len(b"hello"))


def test_N04_a_silent_server_costs_a_bounded_time_and_few_questions(dns, resolver, doppel):
    dns.table["primary.test"] = SILENT
    mirror = doppel("primary.test:80", *resolver, *QUICK)

    clients = [mirror.connect() for _ in range(30)]

    assert [client.drain() for client in clients] == ["rst"] * 30
    mirror.wait_metric("doppel_sessions_closed_total", 30, reason="primary_dns")
    assert lookups(mirror, result="timeout") == 1
    assert dns.count("primary.test", "A") <= 2      # the tries of one question


def test_N04_other_sessions_go_on_meanwhile(dns, resolver, doppel, server):
    dns.table["shadow.test"] = SILENT
    primary = server(echo)
    mirror = doppel(primary, *resolver, *QUICK, shadows=[shadow("shadow.test:80")])
    client = mirror.connect()
    client.exchange(b"hello")
    dns.wait_for("shadow.test")

    client.exchange_until(lambda: mirror.shadow_closed("dns") == 1, "the lookup ends")
    client.close()

    assert lookups(mirror, result="timeout") == 1


def test_N05_a_server_that_is_down_is_not_stormed(dns, resolver, doppel, server):
    primary = server(echo)
    mirror = doppel(f"primary.test:{primary.port}", *resolver)
    dns.close()

    for _ in range(50):
        fails(mirror)

    assert 1 <= lookups(mirror) <= 5
    mirror.assert_log_count("names name_unresolved", 1, 1)


def test_N06_the_second_server_answers_when_the_first_does_not(dns, second_dns, doppel, server):
    second_dns.table["primary.test"] = SILENT
    dns.table["primary.test"] = Name(a=["127.0.0.1"])
    primary = server(echo)
    mirror = doppel(f"primary.test:{primary.port}", "--resolver", f"{second_dns.address},{dns.address}",
                    "--dns-timeout", "1200ms")
    serves(mirror, primary)

    assert ask(mirror) == primary.address
    assert second_dns.count("primary.test") > 0


@pytest.mark.parametrize("silent, host", [("AAAA", "127.0.0.1"), ("A", "::1")])
def test_N07_a_silent_family_does_not_hold_up_the_other(dns, resolver, doppel, server, silent, host):
    dns.table["primary.test"] = Name(a=["127.0.0.1"], aaaa=["::1"], silent=(silent,))
    primary = server(echo, host=host)
    mirror = doppel(f"primary.test:{primary.port}", *resolver, "--dns-timeout", "5s")
    serves(mirror, primary)

    assert ask(mirror) == primary.address
    assert lookups(mirror) == 0     # it is still asking
    dns.table["primary.test"] = Name(a=["127.0.0.1"], aaaa=["::1"])     # for the second try


# Time.

def test_N08_a_changed_address_is_used_after_the_ttl_and_old_sessions_stay(dns, resolver, doppel, server):
    dns.table["primary.test"] = Name(a=["127.0.0.1"])
    old = server(echo)
    new = beside(server, old)
    mirror = doppel(f"primary.test:{old.port}", *resolver, *SHORT_TTL)
    serves(mirror, old, new)
    first = mirror.connect()
    assert first.exchange(b"hello") == b"hello"

    dns.table["primary.test"] = Name(a=["127.0.0.2"])
    eventually(lambda: ask(mirror) == new.address, "the new address")

    assert first.exchange(b"still here") == b"still here"


def test_N08_a_ttl_of_nothing_is_not_hammered(dns, resolver, doppel, server):
    dns.table["primary.test"] = Name(a=["127.0.0.1"], ttl=0)
    primary = server(echo)
    mirror = doppel(f"primary.test:{primary.port}", *resolver, "--dns-ttl-min", "1m")
    serves(mirror, primary)

    for _ in range(20):
        ask(mirror)

    assert dns.count("primary.test") == 2


def test_N08_asking_again_delays_nobody_who_has_an_address(dns, resolver, doppel, server):
    dns.table["primary.test"] = Name(a=["127.0.0.1"])
    primary = server(echo)
    mirror = doppel(f"primary.test:{primary.port}", *resolver, *SHORT_TTL, "--dns-timeout", "5s")
    serves(mirror, primary)
    ask(mirror)
    dns.table["primary.test"] = SILENT

    eventually(lambda: ask(mirror) and dns.count("primary.test", "A") == 2, "it is asked for again")
    for _ in range(10):
        assert ask(mirror) == primary.address

    assert lookups(mirror) == 1     # the second has no answer yet
    dns.table["primary.test"] = Name(a=["127.0.0.1"])


def test_N09_the_session_that_finds_its_address_gone_gets_the_new_one(dns, resolver, doppel, server):
    dns.table["primary.test"] = Name(a=["127.0.0.1"])
    old = server(echo)
    new = beside(server, old)
    mirror = doppel(f"primary.test:{old.port}", *resolver, *SHORT_TTL)
    serves(mirror, old, new)
    assert ask(mirror) == old.address

    dns.table["primary.test"] = Name(a=["127.0.0.2"], delay=0.2)
    old.refuse()
    let_pass(0.1)       # the TTL

    assert ask(mirror) == new.address
    assert ask(mirror) == new.address


def test_N09_an_attempt_goes_on_when_its_address_is_removed_meanwhile(dns, resolver, doppel, server):
    dns.table["primary.test"] = Name(a=["127.0.0.1"])
    slow = server(echo, state="black hole")
    new = beside(server, slow)
    mirror = doppel(f"primary.test:{slow.port}", *resolver, *SHORT_TTL, "--connect-timeout", "20s")
    serves(mirror, slow, new)
    waiting = mirror.connect()
    job = waiting.start(waiting.exchange, b"hello")
    mirror.wait_metric("doppel_dns_lookups_total", 1)

    dns.table["primary.test"] = Name(a=["127.0.0.2"])
    let_pass(0.1)       # the TTL
    others = [mirror.connect()]     # the old address serves it, too, and it is asked for again
    dns.wait_for("primary.test", 4)
    eventually(lambda: lookups(mirror) == 2, "the answer")
    assert ask(mirror) == new.address
    slow.open()

    assert job.result() == b"hello"
    assert [client.exchange(b"hello") for client in others] == [b"hello"]
    assert slow.connection(1) is not None


# Failures after success.

@pytest.mark.parametrize("answer", [SERVFAIL, REFUSED, NX, NOTHING, SILENT, Name(broken=("A",))],
                         ids=["server failure", "refused", "no such name", "no address", "silence", "half"])
def test_N02_N03_the_old_address_serves_whatever_goes_wrong(dns, resolver, doppel, server, answer):
    dns.table["primary.test"] = Name(a=["127.0.0.1"])
    primary = server(echo)
    mirror = doppel(f"primary.test:{primary.port}", *resolver, *SHORT_TTL, *QUICK)
    serves(mirror, primary)
    ask(mirror)

    dns.table["primary.test"] = answer
    eventually(lambda: ask(mirror) and mirror.metric("doppel_dns_stale") == 1, "the old answer serves")
    for _ in range(10):
        assert ask(mirror) == primary.address
    mirror.assert_log_count("names name_stale name=primary.test", 1, 1, level="warning")

    dns.table["primary.test"] = Name(a=["127.0.0.1"])
    eventually(lambda: ask(mirror) and mirror.metric("doppel_dns_stale") == 0, "the new answer serves")
    mirror.assert_log_count("names name_resolves name=primary.test", 1, 1, level="info")


def test_N02_the_old_address_serves_no_longer_than_it_may(dns, resolver, doppel, server):
    dns.table["primary.test"] = Name(a=["127.0.0.1"])
    primary = server(echo)
    mirror = doppel(f"primary.test:{primary.port}", *resolver, *SHORT_TTL, "--dns-stale", "off")
    mirror.expect(identity="prefix")
    serves(mirror, primary)
    ask(mirror)

    dns.table["primary.test"] = SERVFAIL
    let_pass(0.1)       # the TTL

    fails(mirror)
    assert mirror.metric("doppel_dns_stale") == 0


def test_N02_N05_a_server_that_is_gone_leaves_what_is_known(dns, resolver, doppel, server):
    dns.table["primary.test"] = Name(a=["127.0.0.1"])
    primary = server(echo)
    mirror = doppel(f"primary.test:{primary.port}", *resolver, *SHORT_TTL)
    serves(mirror, primary)
    ask(mirror)

    dns.close()

    eventually(lambda: ask(mirror) and mirror.metric("doppel_dns_stale") == 1, "the old answer serves")
    assert ask(mirror) == primary.address


# Several addresses.

def test_P02_P15_N10_a_silent_address_is_left_for_the_next_and_remembered(dns, resolver, doppel, server):
    dns.table["primary.test"] = Name(a=["127.0.0.2", "127.0.0.1"])
    live = server(echo)
    dead = beside(server, live, state="black hole")
    mirror = doppel(f"primary.test:{live.port}", *resolver, "--connect-timeout", "200ms")
    serves(mirror, live, dead)
    assert ask(mirror) == live.address

    dead.open()
    for _ in range(5):
        assert ask(mirror) == live.address      # though the other would answer now

    live.refuse()
    assert ask(mirror) == dead.address          # what failed is still better than nothing


def test_P02_P15_when_all_addresses_are_silent_the_time_is_bounded(dns, resolver, doppel, server):
    dns.table["primary.test"] = Name(a=["127.0.0.1", "127.0.0.2"])
    one = server(echo, state="black hole")
    beside(server, one, state="black hole")
    mirror = doppel(f"primary.test:{one.port}", *resolver, "--connect-timeout", "200ms")

    assert mirror.connect().drain() == "rst"

    assert mirror.session(0)["reason"] == "primary_timeout"


def test_N10_a_refused_address_is_remembered(dns, resolver, doppel, server):
    dns.table["primary.test"] = Name(a=["127.0.0.2", "127.0.0.1"])
    live = server(echo)
    refused = beside(server, live, state="refusing")
    mirror = doppel(f"primary.test:{live.port}", *resolver)
    serves(mirror, live, refused)
    assert ask(mirror) == live.address

    refused.listen()

    assert ask(mirror) == live.address
    assert refused.connections == []


def test_N10_an_unreachable_address_is_remembered(dns, resolver, doppel, server, faults):
    dns.table["primary.test"] = Name(a=["127.0.0.2", "127.0.0.1"])
    fault = faults("connect:errno=ENETUNREACH:n=1", on=False)
    live = server(echo)
    unreachable = beside(server, live)
    mirror = doppel(f"primary.test:{live.port}", *resolver, env=fault.env, release=True)
    serves(mirror, live, unreachable)
    assert ask(mirror) == unreachable.address

    fault.on()
    assert ask(mirror) == live.address
    fault.off()

    assert ask(mirror) == live.address
    assert fault.struck() == 1


def test_N10_an_address_that_serves_again_is_as_good_as_ever(dns, resolver, doppel, server):
    dns.table["primary.test"] = Name(a=["127.0.0.2", "127.0.0.1"])
    live = server(echo)
    second = beside(server, live, state="refusing")
    mirror = doppel(f"primary.test:{live.port}", *resolver, *SHORT_TTL)
    serves(mirror, live, second)
    assert ask(mirror) == live.address

    second.listen()
    dns.table["primary.test"] = Name(a=["127.0.0.2"])
    eventually(lambda: ask(mirror) == second.address, "there is no other")
    dns.table["primary.test"] = Name(a=["127.0.0.2", "127.0.0.1"])
    for _ in range(5):
        let_pass(0.1)       # the TTL
        assert ask(mirror) == second.address


def test_of_several_primaries_one_that_does_not_resolve_is_passed_over(dns, resolver, doppel, server):
    primary = server(echo)
    mirror = doppel(["nobody.test:80", primary], *resolver)

    assert ask(mirror) == primary.address


# Odd answers.

def test_N12_a_huge_answer_comes_over_tcp(dns, resolver, doppel, server):
    dns.table["primary.test"] = Name(a=["127.0.0.1", *(f"10.9.{n // 100}.{n % 100}" for n in range(199))])
    primary = server(echo)
    mirror = doppel(f"primary.test:{primary.port}", *resolver)
    serves(mirror, primary)

    assert ask(mirror) == primary.address
    assert dns.count("primary.test", "A", "tcp") == 1


def test_N12_no_more_than_32_addresses_are_tried(dns, resolver, doppel, server):
    primary = server(echo)
    refusing = [f"127.1.0.{n}" for n in range(1, 33)]
    dns.table["near.test"] = Name(a=[*refusing[:31], "127.0.0.1"])
    dns.table["far.test"] = Name(a=[*refusing, "127.0.0.1"])
    mirror = doppel([f"far.test:{primary.port}", f"near.test:{primary.port}"], *resolver)
    serves(mirror, primary)

    assert ask(mirror) == primary.address       # by the second name
    assert dns.count("near.test") > 0 and lookups(mirror, result="ok") == 2


def test_N13_a_truncated_answer_that_tcp_does_not_complete_changes_nothing(dns, resolver, doppel, server):
    dns.table["primary.test"] = Name(a=["127.0.0.1"])
    primary = server(echo)
    mirror = doppel(f"primary.test:{primary.port}", *resolver, *SHORT_TTL, *QUICK)
    serves(mirror, primary)
    ask(mirror)

    dns.table["primary.test"] = Name(a=[f"127.0.1.{n}" for n in range(100)], tcp=False)
    eventually(lambda: ask(mirror) and mirror.metric("doppel_dns_stale") == 1, "the old answer serves")

    assert ask(mirror) == primary.address
    assert dns.count("primary.test", "A", "tcp") > 0


@pytest.mark.parametrize("lies", [("garbage",), ("short",), ("empty",), ("garbage", "short", "empty") * 20,
                                  ("id", "garbage", "source", "short", "question", "empty") * 5],
                         ids=["garbage", "short", "empty", "a lot", "among forgeries"])
def test_N14_garbage_is_ignored(dns, resolver, doppel, server, lies):
    dns.table["primary.test"] = Name(a=["127.0.0.1"], lies=lies)
    primary = server(echo)
    mirror = doppel(f"primary.test:{primary.port}", *resolver)
    serves(mirror, primary)

    assert ask(mirror) == primary.address


@pytest.mark.parametrize("lie", ["id", "question", "source"])
def test_N15_a_forged_answer_is_ignored(dns, resolver, doppel, server, lie):
    dns.table["primary.test"] = Name(a=["127.0.0.1"], lies=(lie,) * 10)
    primary = server(echo)
    forged = beside(server, primary, WRONG)
    mirror = doppel(f"primary.test:{primary.port}", *resolver)
    serves(mirror, primary, forged)

    assert ask(mirror) == primary.address
    assert forged.connections == []


# Changes, ends and shortages.

def test_N16_a_changed_resolv_conf_is_followed_whatever_the_ttl(dns, second_dns, resolver, doppel, server):
    dns.table["primary.test"] = Name(a=["127.0.0.1"], ttl=3600)
    second_dns.table["primary.test"] = Name(a=["127.0.0.2"], ttl=3600)
    old = server(echo)
    new = beside(server, old)
    mirror = doppel(f"primary.test:{old.port}", *resolver)
    serves(mirror, old, new)
    assert ask(mirror) == old.address

    with open(resolver[1], "r+") as conf:       # in place, as containers get theirs
        conf.write(f"nameserver {second_dns.address}\n")
        conf.truncate()

    eventually(lambda: ask(mirror) == new.address, "the new servers are asked")
    mirror.assert_log_count(f"names servers_changed servers={second_dns.address}", 1, 1, level="info")


@pytest.mark.parametrize("flag", ["--resolv-conf", "--hosts"])
def test_N16_a_file_that_becomes_a_pipe_stops_nobody(dns, resolver, doppel, server, tmp_path, flag):
    dns.table["primary.test"] = Name(a=["127.0.0.1"])
    primary = server(echo)
    mirror = doppel(f"primary.test:{primary.port}", *resolver, *SHORT_TTL)
    serves(mirror, primary)
    ask(mirror)

    os.mkfifo(tmp_path / "pipe")
    os.replace(tmp_path / "pipe", resolver[resolver.index(flag) + 1])
    for _ in range(8):          # for longer than a second: resolv.conf is looked at once in each
        let_pass(0.2)
        assert ask(mirror) == primary.address

    assert mirror.metric("doppel_dns_lookups_total", result="ok") > 1


def test_N16_a_lookup_ends_with_the_servers_it_began_with(dns, second_dns, resolver, doppel, server):
    dns.table["primary.test"] = second_dns.table["primary.test"] = Name(a=["127.0.0.1"])
    dns.table["shadow.test"] = Name(a=["127.0.0.1"], delay=1.5)
    primary, mirrored = server(echo), server(sink)
    mirror = doppel(f"primary.test:{primary.port}", *resolver, "--dns-timeout", "10s",
                    shadows=[shadow(f"shadow.test:{mirrored.port}")])
    serves(mirror, primary)
    client = mirror.connect()
    assert client.exchange(b"hello") == b"hello"
    dns.wait_for("shadow.test")

    with open(resolver[1], "r+") as conf:
        conf.write(f"nameserver {second_dns.address}\n")
        conf.truncate()
    eventually(lambda: ask(mirror) and mirror.log("servers_changed"), "the change is noticed")

    mirrored.connection().wait_received(len(b"hello"))      # the new servers do not know its name


def test_N18_a_client_that_leaves_while_its_primary_is_looked_up_ends_the_session(dns, resolver, doppel):
    dns.table["primary.test"] = SILENT
    mirror = doppel("primary.test:80", *resolver, *QUICK)
    client = mirror.connect()
    dns.wait_for("primary.test")

    client.reset()

    assert mirror.session(0)["reason"] == "client_rst"


def test_N18_questions_that_are_open_at_the_end_hold_nothing_up(dns, resolver, doppel):
    dns.table["primary.test"] = SILENT
    mirror = doppel("primary.test:80", *resolver, "--dns-timeout", "30s", "--drain-timeout", "100ms")
    mirror.expect(identity="prefix")
    clients = [mirror.connect() for _ in range(3)]
    dns.wait_for("primary.test")

    assert mirror.stop() == 0

    assert [client.drain() for client in clients] == ["fin"] * 3
    assert {session["reason"] for session in mirror.access_log(3)} == {"drain"}


def test_N19_R06_without_a_descriptor_the_name_is_asked_for_later(dns, resolver, doppel, server, faults):
    fault = faults("socket:errno=EMFILE", on=False)
    primary = server(echo)
    mirror = doppel(f"primary.test:{primary.port}", *resolver, env=fault.env, release=True)
    serves(mirror, primary)
    mirror.expect(identity="prefix")

    lookups_end(mirror, dns)
    fault.on()
    fails(mirror)
    assert fault.struck() > 0
    assert lookups(mirror, result="failed") == 1

    dns.table["primary.test"] = Name(a=["127.0.0.1"])
    fault.off()
    eventually(lambda: is_served(mirror), "the name is found")


@pytest.mark.release
def test_R07_an_answer_is_heard_though_its_socket_could_not_be_watched(dns, resolver, doppel, server, faults):
    """Before c-ares loses patience, which it does after a third of the time for all tries."""
    primary = server(echo)
    fault = faults("epoll_ctl:errno=ENOMEM:n=told", on=False)
    mirror = doppel(f"primary.test:{primary.port}", *resolver, "--dns-timeout", "1m", "--dns-family", "ipv4",
                    env=fault.env)
    serves(mirror, primary)

    lookups_end(mirror, dns)
    dns.table["primary.test"] = Name(a=["127.0.0.1"])
    fault.strike_call(1)    # the client is read without a wait
    assert ask(mirror) == primary.address

    assert fault.struck() == 1
    mirror.wait_log(" not_watched what=\"a name server's socket\" ", level="error")


@pytest.mark.parametrize("share", [.02, .2])
def test_R08_a_lookup_without_memory_costs_only_its_sessions(dns, resolver, doppel, server, faults,
                                                             seed, share):
    dns.table["primary.test"] = Name(a=["127.0.0.1"], aaaa=["::1"])
    fault = faults(f"malloc,calloc,realloc,strdup:p={share}", on=False, seed=seed)
    primary = server(echo)
    mirror = doppel(f"primary.test:{primary.port}", *resolver, *SHORT_TTL, *QUICK, env=fault.env,
                    release=True)
    serves(mirror, primary)
    mirror.expect(identity="prefix", access_log=False)

    fault.on()
    for _ in range(60):
        is_served(mirror)
        let_pass(0.01)      # so that the address is old now and then
    fault.off()

    assert fault.struck() > 0
    eventually(lambda: is_served(mirror), "a session with memory")
    assert mirror.metric("doppel_worker_restarts_total") == 0


def test_N20_sessions_that_come_together_ask_once(dns, resolver, doppel, server):
    dns.table["primary.test"] = Name(a=["127.0.0.1"], delay=0.5)
    primary = server(echo)
    mirror = doppel(f"primary.test:{primary.port}", *resolver, "--dns-timeout", "5s")
    serves(mirror, primary)
    clients = []
    for number in range(1000):
        clients.append(mirror.connect())
        clients[-1].send(pattern(20, number))

    for number, client in enumerate(clients):
        assert client.recv_exact(20) == pattern(20, number)
        client.close()
    assert dns.count("primary.test") == 2


# Shadows.

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
def test_a_shadow_without_an_address_costs_nobody_else_anything(dns, resolver, doppel, server, answer):
    dns.table["shadow.test"] = answer
    mirror = doppel(server(echo), *resolver, *QUICK, shadows=[shadow("shadow.test:80")])
    client = mirror.connect()

    client.exchange_until(lambda: mirror.shadow_closed("dns", "shadow0") == 1, "the lookup fails")
    client.close()

    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["reason"]) == ("detached", "dns")
    assert "address" not in entry and "connect_ms" not in entry


def test_R23_an_answer_that_came_while_the_process_stood_still_counts(doppel, server, dns, resolver):
    primary = server(echo)
    dns.table["primary.test"] = Name(a=["127.0.0.1"], delay=0.5)
    mirror = doppel(f"primary.test:{primary.port}", *resolver, "-4")
    serves(mirror, primary)
    worker, = mirror.workers()

    client = mirror.connect()
    dns.wait_for("primary.test")
    os.kill(worker, signal.SIGSTOP)
    let_pass(2.5)           # longer than --dns-timeout
    os.kill(worker, signal.SIGCONT)

    assert client.exchange(b"hello") == b"hello"
