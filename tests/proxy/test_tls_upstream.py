"""
test_tls_upstream.py — we speak TLS to primaries and shadows: trust, names, certificates, resumption.
"""
import datetime
import ssl
import subprocess
from contextlib import suppress

import pytest

from support.checks import assert_same
from support.headers import introduced, v1, v2
from support.pattern import KIB, MIB, pattern
from support.peers import Ended, answer, echo, hold, keep_open, sink
from support.programs import run
from support.proxy import SMALL, binary, clean_environment, shadow
from support.secure import Authority, secure, secured
from support.waiting import eventually, patient

ANY = "tls://127.0.0.1:0"
HANDSHAKES = "doppel_tls_handshakes_total"


@pytest.fixture
def stranger(tmp_path):
    """An authority that nobody trusts."""
    (tmp_path / "stranger").mkdir()
    return Authority(tmp_path / "stranger")


def talk(mirror, words=b"hello"):
    client = mirror.connect()
    answered = client.exchange(words)
    client.finish()
    client.drain()
    client.close()
    return answered


YESTERDAY = datetime.datetime.now() - datetime.timedelta(days=1)


@pytest.mark.parametrize("fault, why", [
    ("stranger", "unable to get local issuer certificate"),
    ("other name", "IP address mismatch"),
    ("expired", "certificate has expired")])
def test_T12_a_primary_that_cannot_be_verified_resets_the_client(doppel, server, authority, stranger,
                                                                 fault, why):
    context = {"stranger": lambda: stranger.server_context("127.0.0.1"),
               "other name": lambda: authority.server_context("127.0.0.2"),
               "expired": lambda: authority.server_context("127.0.0.1", not_after=YESTERDAY)}[fault]()
    primary, copy = server(echo, tls=context, query=f"?ca={authority.file}"), server(sink)
    mirror = doppel(primary, shadows=[copy])
    client = mirror.connect()
    with suppress(Ended):
        client.send(b"secret")
    assert client.drain() == "rst"
    assert mirror.session(0)["reason"] == "tls_primary"
    assert why in mirror.wait_log("primary_failed", level="warning")[0].fields["why"]
    assert primary.connection(0).received.count == 0 and copy.connections == []
    assert mirror.metric(HANDSHAKES, side="primary", result="failed") == 1
    mirror.expect(identity="none", books=False)


@pytest.mark.parametrize("fault", ["stranger", "other name", "silence", "plain"])
def test_S16_T12_a_shadow_whose_handshake_fails_is_only_detached(doppel, server, authority, stranger, fault):
    trust = f"?ca={authority.file}&connect-timeout=300ms"
    if fault == "silence":
        copy = server(hold, tls=authority.server_context("127.0.0.1"), query=trust)
        copy.behaviour = hold
    elif fault == "plain":
        copy = server(echo, tls=authority.server_context("127.0.0.1"), query=trust)
        copy.behaviour = echo
    else:
        issuer, name = (stranger, "127.0.0.1") if fault == "stranger" else (authority, "127.0.0.2")
        copy = server(sink, tls=issuer.server_context(name), query=trust)
    good = server(sink, tls=authority.server_context("127.0.0.1"), query=f"?ca={authority.file}")
    mirror = doppel(server(echo), shadows=[shadow(copy, "bad"), shadow(good, "good")])
    client = mirror.connect()
    assert client.exchange(pattern(64 * KIB)) == pattern(64 * KIB)
    eventually(lambda: mirror.shadow_closed("tls", "bad") == 1, "it is detached")
    assert client.exchange(pattern(64 * KIB)) == pattern(64 * KIB)
    client.close()
    assert mirror.shadow(0, "bad")["reason"] == "tls"
    assert mirror.shadow(0, "bad")["sent_bytes"] == 0
    assert mirror.shadow(0, "good")["reason"] == "fin"
    assert_same(good.connection(0).received, client.sent)
    if fault in ("silence", "plain"):
        mirror.expect(identity="none")          # it saw a ClientHello, and nothing of the client's


def test_verify_off_takes_any_certificate(doppel, server, stranger):
    primary = server(echo, tls=stranger.server_context("elsewhere"), query="?verify=off")
    assert talk(doppel(primary)) == b"hello"


def test_T13_an_address_is_verified_and_not_sent_as_a_name(doppel, server, authority):
    context = authority.server_context("127.0.0.1")
    mirror = doppel(server(echo, tls=context, query=f"?ca={authority.file}"))
    assert talk(mirror) == b"hello"
    assert context.asked == [None]


def test_the_targets_host_is_asked_for_and_verified(doppel, server, authority):
    context = authority.server_context("localhost")
    primary = server(echo, tls=context)
    mirror = doppel(f"tls://localhost:{primary.port}?ca={authority.file}")
    assert talk(mirror) == b"hello"
    assert context.asked == ["localhost"]


@pytest.mark.parametrize("target, options", [
    ("localhost.", ""), ("LocalHost.", ""), ("127.0.0.1", "&sni=localhost.")])
def test_N21_the_final_dot_of_a_name_is_neither_asked_for_nor_verified(
        doppel, server, authority, target, options):
    """SNI has none (RFC 6066, 3), and neither have the names in certificates."""
    context = authority.server_context("localhost")
    primary = server(echo, tls=context)
    mirror = doppel(f"tls://{target}:{primary.port}?ca={authority.file}{options}")
    assert talk(mirror) == b"hello"
    assert [name.lower() for name in context.asked] == ["localhost"]


def test_N21_the_final_dot_that_a_client_asks_for_is_not_handed_on(doppel, server, authority):
    inside = authority.server_context("127.0.0.1")
    mirror = doppel(server(echo, tls=inside, query=f"?ca={authority.file}"),
                    "--tls-cert", authority.certificate("default.example"),
                    "--tls-cert", authority.certificate("shop.example"), listens=(ANY,))
    context = authority.client_context()
    context.check_hostname = False
    client = secure(mirror.connect(), context, "shop.example.")
    assert client.exchange(b"hello") == b"hello"
    assert client.socket.getpeercert()["subjectAltName"] == (("DNS", "shop.example"),)
    client.close()
    assert mirror.session(0)["sni"] == "shop.example"
    assert inside.asked == ["shop.example"]


def test_sni_is_asked_for_and_verified_instead_of_the_host(doppel, server, authority):
    context = authority.server_context("shop.example")
    query = f"?ca={authority.file}&sni=shop.example"
    mirror = doppel(server(echo, tls=context, query=query), shadows=[server(sink, tls=context, query=query)])
    assert talk(mirror) == b"hello"
    assert mirror.shadow(0, "shadow0")["reason"] == "fin"
    assert context.asked == ["shop.example"] * 2


def test_name_and_protocol_of_the_client_are_handed_on(doppel, server, authority):
    inside = authority.server_context("127.0.0.1", alpn=["h2", "http/1.1"])
    query = f"?ca={authority.file}"
    primary, copy = server(echo, tls=inside, query=query), server(sink, tls=inside, query=query)
    mirror = doppel(primary, "--tls-cert", authority.certificate("shop.example"), "--tls-alpn", "h2,http/1.1",
                    shadows=[copy], listens=(ANY,))
    client = secure(mirror.connect(), authority.client_context(alpn=["http/1.1"]), "shop.example")
    assert client.exchange(b"hello") == b"hello"
    client.finish()
    client.drain()
    client.close()
    assert mirror.session(0)["sni"] == "shop.example"
    assert inside.asked == ["shop.example"] * 2
    for peer in (primary, copy):
        assert peer.connection(0).socket.selected_alpn_protocol() == "http/1.1"


def promise(doppel, server, authority, offered, *, primary, copy, options=""):
    """Sessions of a client that offers these protocols, and targets that know those; answers what the log
    says of promises: whose, what, and what was agreed instead."""
    targets = [server(behaviour, tls=authority.server_context("127.0.0.1", alpn=alpn),
                      query=f"?ca={authority.file}{options}")
               for behaviour, alpn in ((echo, primary), (sink, copy))]
    mirror = doppel(targets[0], "--tls-cert", authority.certificate("localhost"), "--tls-alpn",
                    "h2,http/1.1,mqtt", shadows=[targets[1]], listens=(ANY,))
    for number in range(2):
        client = secure(mirror.connect(), authority.client_context(alpn=offered), "localhost")
        assert client.exchange(b"hello") == b"hello"
        client.finish()
        client.drain()
        client.close()
        mirror.session(number)
    names = {target.address.split("?")[0]: name for target, name in zip(targets, ("primary", "copy"))}
    return [(names[line.fields["target"]], line.fields["promised"], line.fields["agreed"])
            for line in mirror.log("protocol_not_agreed", level="warning")]


@pytest.mark.parametrize("alpn, agreed", [((), "none"), (["h2"], "h2")])
@pytest.mark.parametrize("side", ["primary", "copy"])
def test_T15_a_target_that_does_not_agree_to_what_the_client_was_promised_is_warned_of_once(
        doppel, server, authority, side, alpn, agreed):
    protocols = {"primary": ["mqtt", "h2"], "copy": ["mqtt", "h2"], side: alpn}
    said = promise(doppel, server, authority, ["mqtt"], options="&alpn=mqtt+h2", **protocols)
    assert said == [(side, "mqtt", agreed)]


@pytest.mark.parametrize("offered, alpn", [
    (["h2", "http/1.1"], ["h2"]), (["http/1.1"], ["http/1.1"]), (["http/1.1"], ()), ((), ())])
def test_T15_a_promise_that_is_kept_is_no_reason_for_a_warning(doppel, server, authority, offered, alpn):
    assert promise(doppel, server, authority, offered, primary=alpn, copy=alpn) == []


def test_alpn_of_a_target_is_what_is_offered(doppel, server, authority):
    context = authority.server_context("127.0.0.1", alpn=["http/1.1", "h2"])
    primary = server(echo, tls=context, query=f"?ca={authority.file}&alpn=h2+spdy/3")
    assert talk(doppel(primary)) == b"hello"
    assert primary.connection(0).socket.selected_alpn_protocol() == "h2"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_our_own_certificate_is_shown_to_the_target_that_asks_for_it(doppel, server, authority, version):
    context = authority.server_context("127.0.0.1", client_ca=authority.file, most=version)
    certificate, key = authority.pair("doppel")
    trust = f"?ca={authority.file}"
    primary = server(echo, tls=context, query=f"{trust}&cert={certificate}&key={key}")
    mirror = doppel(primary, shadows=[server(sink, tls=context, query=trust)])
    client = mirror.connect()
    assert client.exchange(b"hello") == b"hello"
    # With TLS 1.3 a client hears only after its handshake that its certificate is missing.
    eventually(lambda: mirror.shadow_closed("tls") == 1, "the shadow without one is detached")
    assert client.exchange(b"hello") == b"hello"
    mirror.expect(identity="prefix")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_T16_sessions_towards_upstreams_are_resumed(doppel, server, authority, version):
    context = authority.server_context("127.0.0.1", most=version)
    query = f"?ca={authority.file}"
    mirror = doppel(server(echo, tls=context, query=query), shadows=[server(sink, tls=context, query=query)])
    for number in range(5):
        assert talk(mirror) == b"hello"
        mirror.session(number)
    assert mirror.metric(HANDSHAKES, side="primary", result="resumed") == 4
    assert mirror.metric(HANDSHAKES, side="shadow", result="resumed") == 4


def test_T01_a_primary_that_never_shakes_hands_is_given_up(doppel, server, authority):
    primary = server(hold, tls=authority.server_context("127.0.0.1"), query=f"?ca={authority.file}")
    primary.behaviour = hold
    mirror = doppel(primary, "--connect-timeout", "300ms")
    client = mirror.connect()
    assert client.drain() == "rst"
    assert mirror.session(0)["reason"] == "tls_primary"
    assert mirror.metric(HANDSHAKES, side="primary", result="timeout") == 1
    mirror.expect(identity="none")


def test_T11_the_end_is_said_with_close_notify_and_fin(doppel, server, authority):
    context = authority.server_context("127.0.0.1")
    query = f"?ca={authority.file}"
    primary = server(answer(64 * KIB, after=5), tls=context, query=query)
    copy = server(sink, tls=context, query=query)
    mirror = doppel(primary, shadows=[copy])
    client = mirror.connect()
    client.send(b"hello")
    client.finish()
    assert len(client.recv_all()) == 64 * KIB
    for peer in (primary, copy):
        connection = peer.connection(0)
        assert connection.wait_end() == "fin" and not connection.socket.truncated
    client.close()
    assert mirror.session(0)["reason"] == "client_fin"


def test_T11_a_shadow_that_is_cut_gets_no_close_notify(doppel, server, authority):
    gate = server(hold, tls=authority.server_context("127.0.0.1"), query=f"?ca={authority.file}&buffer=64k")
    mirror = doppel(server(echo), *SMALL, shadows=[shadow(gate, "slow")])
    client = mirror.connect()
    assert client.exchange(b"hello") == b"hello"
    mirror.wait_metric(HANDSHAKES, 1, side="shadow", result="ok")
    assert client.exchange(pattern(2 * MIB)) == pattern(2 * MIB)
    eventually(lambda: mirror.shadow_closed("lag", "slow") == 1, "it is cut")
    gate.release()
    connection = gate.connection(0)
    assert connection.wait_end() == "rst" or connection.socket.truncated
    mirror.expect(identity="prefix")


def test_T10_a_primary_that_ends_without_close_notify(doppel, server, authority):
    def rude(connection):
        connection.recv_exact(5)
        connection.send(b"bye")
        connection.socket.raw.shutdown(1)
        with suppress(ssl.SSLError):        # the alert that says so
            connection.drain()
    context = authority.server_context("127.0.0.1")
    for flags, how, reason in [((), "fin", "primary_fin"), (("--tls-strict-eof",), "rst", "tls_eof")]:
        mirror = doppel(server(rude, tls=context, query=f"?ca={authority.file}"), *flags)
        client = mirror.connect()
        client.send(b"hello")
        assert client.recv_exact(3) == b"bye"
        assert client.drain() == how
        client.close()
        assert mirror.session(0)["reason"] == reason
        if how == "rst":
            mirror.expect(identity="prefix")


def test_a_shadow_in_tls_that_does_not_close_is_complete_after_its_linger(doppel, server, authority):
    copy = server(keep_open, tls=authority.server_context("127.0.0.1"),
                  query=f"?ca={authority.file}&linger=300ms")
    mirror = doppel(server(echo), shadows=[copy])
    assert talk(mirror) == b"hello"
    assert mirror.shadow(0, "shadow0")["reason"] == "fin"


def test_T23_a_key_that_is_too_weak_is_named_with_the_security_level(doppel, server, authority, tmp_path):
    weak = tmp_path / "weak.pem"
    run(f"openssl req -x509 -newkey rsa:1024 -nodes -keyout {weak}.key -out {weak} -days 2 -subj /CN=weak "
        "-addext subjectAltName=IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.load_cert_chain(weak, f"{weak}.key")
    mirror = doppel(server(echo, tls=context, query=f"?ca={weak}"))
    client = mirror.connect()
    assert client.drain() == "rst"
    assert "security level 2" in mirror.wait_log("primary_failed")[0].fields["why"]
    mirror.expect(identity="none")


@pytest.mark.parametrize("words, said", [
    (["-r", "tls://127.0.0.1:1?ca=/none"], "--primary tls://127.0.0.1:1: ca=/none: No such file"),
    (["-r", "tls://127.0.0.1:1?cert=/none"], "--primary tls://127.0.0.1:1: cert=/none: No such file"),
    (["-r", "127.0.0.1:1", "-d", "tls://127.0.0.1:2?cert=/none"],
     "--shadow tls://127.0.0.1:2: cert=/none: No such file"),
    (["-r", "tls://127.0.0.1:1?key=/none"], "without its cert"),
    (["-r", "127.0.0.1:1?verify=off"], "for tls:// targets only"),
    (["-r", "127.0.0.1:1", "-d", "127.0.0.1:2?sni=a"], "for tls:// targets only"),
    (["-r", "tls://127.0.0.1:1?verify=off&sni=.example"], '".example" is not a host'),
    (["-r", "127.0.0.1:1", "-d", "tls://127.0.0.1:2?verify=perhaps"], "neither on nor off")])
def test_what_a_target_cannot_be_is_refused_at_start(words, said):
    ended = subprocess.run([binary(), "-l", "127.0.0.1:0", *words], env=clean_environment(), text=True,
                           stdin=subprocess.DEVNULL, capture_output=True, timeout=patient(20))
    assert ended.returncode == 2 and said in ended.stderr and ended.stderr.count("\n") == 1, ended


def test_without_authorities_verification_is_refused_at_start(tmp_path):
    nowhere = {"SSL_CERT_FILE": str(tmp_path / "none"), "SSL_CERT_DIR": str(tmp_path / "none")}
    line = [binary(), "-t", "-l", "127.0.0.1:0", "-r", "tls://primary.example:1"]
    options = {"env": clean_environment(nowhere), "text": True, "capture_output": True,
               "timeout": patient(20)}
    ended = subprocess.run(line, **options)
    assert ended.returncode == 2 and "no CA certificates" in ended.stderr and "verify=off" in ended.stderr
    assert subprocess.run([*line[:-1], "tls://primary.example:1?verify=off"], **options).returncode == 0


def test_the_configuration_that_is_printed_reads_back(authority, tmp_path):
    certificate, key = authority.pair("doppel")
    options = f"ca={authority.file}&sni=a.example&alpn=h2+http/1.1&cert={certificate}&key={key}"
    line = [binary(), "-t", "-l", "tls://127.0.0.1:8443", "--tls-cert", authority.certificate("localhost"),
            "-r", f"main=tls://h.example:1?{options}", "-d", f"canary=tls://[::1]:2?verify=off&{options}"]
    said = subprocess.run(line, env=clean_environment(), text=True, capture_output=True, timeout=patient(20))
    assert said.returncode == 0, said.stderr
    (tmp_path / "said.conf").write_text(said.stdout)
    again = subprocess.run([binary(), "-t", "-c", str(tmp_path / "said.conf")], env=clean_environment(),
                           text=True, capture_output=True, timeout=patient(20))
    assert again.stdout == said.stdout and "alpn=h2+http/1.1" in said.stdout, again.stderr


def test_R11_R12_single_bytes_in_every_system_call_change_nothing(doppel, server, authority, faults):
    fault = faults("read,recv,recvmsg,readv:short=1;write,send,sendmsg,writev:short=1")
    context = authority.server_context("127.0.0.1")
    query = f"?ca={authority.file}"
    mirror = doppel(server(echo, tls=context, query=query), "--tls-cert", authority.certificate("localhost"),
                    shadows=[server(sink, tls=context, query=query)], listens=(ANY,), env=fault.env,
                    release=True)
    client = secure(mirror.connect(), authority.client_context(), "localhost")
    assert client.exchange(pattern(20 * KIB)) == pattern(20 * KIB)
    client.finish()
    client.drain()
    client.close()
    assert mirror.shadow(0, "shadow0")["reason"] == "fin"
    fault.off()


@pytest.fixture
def faulty(doppel, server, authority, faults):
    """faulty(spec) answers doppel with TLS on all legs, and the fault, which is off."""
    def start(spec, **options):
        fault = faults(spec, on=False, **options)
        context = authority.server_context("127.0.0.1")
        query = f"?ca={authority.file}"
        mirror = doppel(server(echo, tls=context, query=query), "--tls-cert",
                        authority.certificate("localhost"), listens=(ANY,), env=fault.env, release=True,
                        shadows=[server(sink, tls=context, query=query)])
        mirror.expect(identity="none", access_log=False)
        return mirror, fault
    return start


def answers(mirror, authority, words):
    """Whether one session went well; however it ends, it ends."""
    client = mirror.connect()
    try:
        secure(client, authority.client_context(), "localhost")
        answered = client.exchange(words)
        client.finish()
        return answered == words and client.drain() == "fin"
    except (Ended, OSError):
        return False
    finally:
        client.close()


def test_R08_each_allocation_of_a_session_in_tls_may_fail(faulty, authority):
    mirror, fault = faulty("malloc,calloc,realloc,strdup:n=told")
    failed = 0
    for call in [*range(1, 150), *range(150, 3000, 37)]:
        struck = fault.struck()
        fault.strike_call(call)
        failed += not answers(mirror, authority, b"hello")
        eventually(lambda: mirror.metric("doppel_sessions_active") == 0, "the session ends")
        if fault.struck() == struck:
            break
    fault.off()
    assert failed > 2
    assert answers(mirror, authority, b"hello")
    assert mirror.metric("doppel_worker_restarts_total") == 0


@pytest.mark.parametrize("error", ["EINTR", "EAGAIN", "ENOBUFS", "ENOMEM"])
def test_R07_R10_R13_calls_that_have_to_be_repeated_change_nothing(faulty, authority, seed, error):
    calls = "read,recv,recvmsg,readv,write,send,sendmsg,writev"
    mirror, fault = faulty(f"{calls}:errno={error}:p=.2", seed=seed)
    fault.on()
    assert all([answers(mirror, authority, pattern(200 * KIB, number)) for number in range(5)])
    fault.off()
    assert fault.struck() > 5
    assert [mirror.shadow(number, "shadow0")["reason"] for number in range(5)] == ["fin"] * 5


@pytest.mark.parametrize("when", ["handshake", "bytes", "end"])
def test_R07_a_kernel_without_memory_only_delays_tls(faulty, authority, when):
    """A socket that takes nothing, and is ready all the time: no event says when it is over."""
    mirror, fault = faulty("write,writev,send,sendmsg:errno=ENOBUFS")
    client = mirror.connect()
    if when == "handshake":
        fault.on()
    shaking = client.start(secure, client, authority.client_context(), "localhost")
    if when != "handshake":
        shaking.result()
        assert client.exchange(b"before") == b"before"
        fault.on()
    if when == "bytes":
        client.send(b"hello")
    if when == "end":
        client.finish()
    eventually(lambda: fault.struck() > 2, "it is tried again and again")

    mirror.assert_not_spinning(0.5)
    fault.off()

    shaking.result()
    if when == "bytes":
        assert client.recv_exact(5) == b"hello"
    if when == "handshake":
        assert client.exchange(b"hello") == b"hello"
    client.finish()
    assert client.drain() == "fin" and not client.socket.truncated
    client.close()
    eventually(lambda: mirror.shadow_closed("fin") == 1, "the shadow is complete")


@pytest.mark.parametrize("spec", ["read,recv,recvmsg,readv:errno=ECONNRESET:p=.05",
                                  "write,send,sendmsg,writev:errno=EPIPE:p=.05"], ids=["read", "write"])
def test_R09_a_peer_that_vanishes_in_tls_costs_its_session_only(faulty, authority, seed, spec):
    mirror, fault = faulty(spec, seed=seed)
    fault.on()
    went_well = [answers(mirror, authority, pattern(4 * KIB, number)) for number in range(60)]
    fault.off()
    assert not all(went_well)
    assert answers(mirror, authority, b"hello")
    assert mirror.metric("doppel_worker_restarts_total") == 0


@pytest.mark.release
@pytest.mark.parametrize("version", ["http1.1", "http2"])
def test_curl_and_nginx_speak_tls_through_the_middle(doppel, programs, authority, version):
    """HTTP/1.1 and HTTP/2 by ALPN, TLS on both sides, a shadow that is nginx as well."""
    pem = authority.certificate("localhost", "127.0.0.1")
    options = f"ssl http2; ssl_certificate {pem}; ssl_certificate_key {pem}"
    primary, copy = (programs.nginx(listen_options=options) for _ in range(2))
    target = f"?ca={authority.file}"
    mirror = doppel(f"tls://{primary.address}{target}", "--tls-cert", pem, "--tls-alpn", "h2,http/1.1",
                    shadows=[f"tls://{copy.address}{target}"], listens=(ANY,))
    port = mirror.addresses[0][1]
    said = run(f"curl -sS --{version} --cacert {authority.file} -w '\\n%{{http_version}}' "
               f"https://localhost:{port}/ https://localhost:{port}/")
    assert said.endswith(b"2" if version == "http2" else b"1.1")
    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"
    mirror.expect(identity="none")


def nginx_with(programs, pem, version):
    """One that speaks HTTP up to this version in TLS."""
    http2 = " http2" if version == "2" else ""
    return programs.nginx(listen_options=f"ssl{http2}; ssl_certificate {pem}; ssl_certificate_key {pem}")


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_T15_without_a_promise_curl_is_served_whatever_the_primary_speaks(
        doppel, programs, authority, version):
    """As in the README's example: a curl that knows HTTP/2 and a primary that may not."""
    pem = authority.certificate("localhost", "127.0.0.1")
    primary = nginx_with(programs, pem, version)
    mirror = doppel(f"tls://{primary.address}?ca={authority.file}", "--tls-cert", pem, listens=(ANY,))
    port = mirror.addresses[0][1]
    said = run(f"curl -sS --cacert {authority.file} -w '\\n%{{http_code}}' https://localhost:{port}/none")
    assert said.endswith(b"404")
    mirror.expect(identity="none")


def test_T15_a_primary_that_refuses_the_promised_protocol_is_told_with_what_to_do(
        doppel, programs, authority):
    pem = authority.certificate("localhost", "127.0.0.1")
    primary = nginx_with(programs, pem, "1.1")
    mirror = doppel(f"tls://{primary.address}?ca={authority.file}", "--tls-cert", pem, "--tls-alpn",
                    "h2,http/1.1", listens=(ANY,))
    client = secure(mirror.connect(), authority.client_context(alpn=["h2", "http/1.1"]), "localhost")
    with suppress(Ended, OSError):
        client.drain()
    assert mirror.session(0)["reason"] == "tls_primary"
    why = mirror.wait_log("primary_failed")[0].fields["why"]
    assert "ALPN: h2" in why and "--tls-alpn" in why
    mirror.expect(identity="none")


def test_openssl_s_client_talks_to_s_server_through_plain_middle(programs, doppel, server, authority):
    """TLS that we end on one side only: s_client on tls://, a plain primary."""
    primary, copy = server(echo), server(sink)
    certificate = authority.certificate("localhost")
    mirror = doppel(primary, "--tls-cert", certificate, shadows=[copy], listens=(ANY,))
    mirror.expect(identity="none")
    client = programs.openssl_client(mirror.addresses[0], authority)

    client.type("hello")
    client.wait_received(b"hello")
    client.finish()

    assert copy.connection(0).wait_end() == "fin"
    assert copy.connection(0).received.count == len(b"hello\n")


def test_openssl_s_server_is_a_primary_and_a_shadow(programs, doppel, authority):
    """Both verified; both directions at once; the end, told by us and by the primary."""
    pem = authority.certificate("127.0.0.1")
    primary = programs.openssl_server(certificate=pem)
    copy = programs.openssl_server(certificate=pem, behaviour="-quiet")
    mirror = doppel(f"tls://{primary.address}?ca={authority.file}",
                    shadows=[f"tls://{copy.address}?ca={authority.file}"])
    mirror.expect(identity="none")
    lines = [f"{number:06} {'x' * (number % 900)}" for number in range(4000)]
    said = "".join(line + "\n" for line in lines).encode()
    answer = "".join(line[::-1] + "\n" for line in lines).encode()

    for number, last in enumerate((b"", b"CLOSE\n")):
        client = mirror.connect()
        assert client.exchange(said, len(answer)) == answer
        if last:
            client.send(last)
            assert client.drain() == "fin"
        client.finish()
        assert client.drain() == "fin"
        client.close()
        session = mirror.session(number)
        assert session["reason"] == ("primary_fin" if last else "client_fin")
        assert session["shadows"][0]["reason"] == "fin"
    eventually(lambda: copy.received() == said + said + b"CLOSE\n", "the shadow has every byte")
    assert mirror.metric("doppel_tls_eof_total") == 0
    assert mirror.metric(HANDSHAKES, side="primary", result="failed") == 0


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_Y9_a_proxy_header_stands_before_tls_in_and_out(doppel, server, authority, version):
    """In the clear, as everybody has it: header, handshake, and inside it the client's bytes."""
    context = authority.server_context("127.0.0.1")
    query = f"?ca={authority.file}&proxy={version}"
    primary, copy = (server(introduced(secured(context, then))) for then in (echo, sink))
    mirror = doppel(f"tls://{primary.address}{query}", "--proxy-trust", "127.0.0.1", "--tls-cert",
                    authority.certificate("localhost"), listens=("tls://127.0.0.1:0?accept-proxy=on",),
                    shadows=[f"tls://{copy.address}{query}"])
    client = mirror.connect()
    header = {"v1": v1, "v2": v2}[version](("10.0.0.9", 51312), ("10.0.1.5", 443))
    client.socket.sendall(header)
    secure(client, authority.client_context(), "localhost")
    assert client.exchange(pattern(64 * KIB)) == pattern(64 * KIB)
    client.finish()
    assert client.drain() == "fin"
    client.close()

    session = mirror.session(0)
    assert session["client"] == "10.0.0.9:51312" and session["tls"] == "TLSv1.3"
    assert mirror.shadow(0, "shadow0")["reason"] == "fin"
    for peer in (primary, copy):
        assert peer.connection(0).header.source == ("10.0.0.9", 51312)
        assert_same(peer.connection(0).received, client.sent)


def test_Y9_tls_without_the_header_that_must_come_first_is_refused(doppel, server, authority):
    mirror = doppel(server(echo), "--proxy-trust", "127.0.0.1", "--tls-cert",
                    authority.certificate("localhost"), listens=("tls://127.0.0.1:0?accept-proxy=on",))
    client = mirror.connect()
    with pytest.raises((Ended, OSError)):
        secure(client, authority.client_context(), "localhost")
    assert mirror.session(0)["reason"] == "proxy_header"
    mirror.expect(identity="none")
