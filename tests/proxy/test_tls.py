"""
test_tls.py — clients speak TLS to us: handshakes, certificates, endings, and what shadows see of it.
"""
import os
import re
import signal
import ssl
import subprocess
from contextlib import suppress

import pytest

from support.checks import assert_same
from support.headers import introduce, v1, v2
from support.pattern import KIB, MIB, pattern
from support.peers import ANSWER, Ended, answer, echo, finish_early, greet, hold, sink
from support.programs import run
from support.processes import is_stopped
from support.proxy import SMALL, binary, clean_environment, shadow
from support.secure import Authority, Handwritten, TlsSocket, secure
from support.waiting import eventually, let_pass, patient

ANY = "tls://127.0.0.1:0"
HANDSHAKES = "doppel_tls_handshakes_total"


@pytest.fixture
def terminating(doppel, authority):
    """terminating(primary, *flags, ...): doppel with a tls:// listener and a certificate."""
    def start(primary, *flags, certificates=None, **options):
        files = certificates or [authority.certificate("localhost", "127.0.0.1")]
        words = [word for file in files for word in ("--tls-cert", file)]
        return doppel(primary, *words, *flags, listens=(ANY,), **options)
    return start


def client_of(mirror, authority, name="localhost", session=None, keep=False, **options):
    return secure(mirror.connect(keep=keep), authority.client_context(**options), name, session)


def test_T01_a_handshake_that_never_ends_is_cut_and_the_primary_never_dialled(terminating, server):
    primary, copy = server(echo), server(sink)
    mirror = terminating(primary, "--handshake-timeout", "200ms", shadows=[copy])
    silent, half = mirror.connect(), mirror.connect()
    half.send(b"\x16\x03\x01\x02\x00\x01")

    assert silent.drain() in ("fin", "rst") and half.drain() in ("fin", "rst")
    assert [line["reason"] for line in mirror.access_log(2)] == ["tls_client"] * 2
    assert mirror.metric(HANDSHAKES, side="client", result="timeout") == 2
    assert primary.connections == [] and copy.connections == []
    mirror.expect(identity="none", books=False)


def test_T02_a_client_hello_that_comes_byte_by_byte_is_answered(terminating, server, authority):
    mirror = terminating(server(echo))
    client = mirror.connect()
    raw = client.socket

    class Trickle:
        """Sends each byte on its own."""
        def __getattr__(self, name):
            return getattr(raw, name)

        def sendall(self, data):
            for byte in data:
                raw.sendall(bytes([byte]))
    client.socket = TlsSocket(Trickle(), authority.client_context(), name="localhost")
    client.socket.handshake()
    assert client.exchange(b"hello") == b"hello"


def test_T03_renegotiation_is_refused(programs, terminating, server, authority):
    mirror = terminating(server(echo))
    mirror.expect(identity="none", books=False)
    client = programs.openssl_client(mirror.addresses[0], authority, flags=("-tls1_2",))

    client.type("R")
    client.wait()

    assert "RENEGOTIATING" in client.log()
    assert "no renegotiation" in client.log()


def test_T08_what_lies_decrypted_is_delivered_although_the_socket_is_silent(terminating, server, authority):
    """A buffer of 4 KiB takes a record of 16 in several turns, and no event comes for the rest."""
    mirror = terminating(server(echo), *SMALL)
    client = client_of(mirror, authority)
    assert client.exchange(pattern(16 * KIB)) == pattern(16 * KIB)
    mirror.assert_not_spinning()


def test_T09_close_notify_is_a_half_close(terminating, server, authority):
    primary = server(answer(64 * KIB, after=5))
    mirror = terminating(primary)
    client = client_of(mirror, authority)
    client.send(b"hello")
    client.socket.notify()
    assert client.recv_exact(64 * KIB) == pattern(64 * KIB, ANSWER)
    assert client.drain() == "fin" and not client.socket.truncated
    assert primary.connection(0).wait_end() == "fin"
    client.close()
    assert mirror.session(0)["reason"] == "client_fin"
    assert mirror.metric("doppel_tls_eof_total") == 0


def test_T09_a_primary_that_ends_first_becomes_close_notify(terminating, server, authority):
    primary = server(finish_early)
    mirror = terminating(primary)
    client = client_of(mirror, authority)
    assert client.drain() == "fin" and not client.socket.truncated
    client.send(b"still there")
    client.finish()
    primary.connection(0).wait_received(len(b"still there"))
    assert mirror.session(0)["reason"] == "primary_fin"


def test_T10_an_end_without_close_notify_is_like_a_fin_and_counted(terminating, server, authority):
    primary, copy = server(answer(1 * KIB, after=5)), server(sink)
    mirror = terminating(primary, shadows=[copy])
    client = client_of(mirror, authority)
    client.send(b"hello")
    client.socket.raw.shutdown(1)
    assert client.recv_exact(1 * KIB) == pattern(1 * KIB, ANSWER)
    assert client.drain() == "fin" and not client.socket.truncated
    client.close()
    assert mirror.session(0)["reason"] == "client_fin"
    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"
    assert mirror.metric("doppel_tls_eof_total") == 1


def test_T10_with_strict_eof_it_is_like_a_reset(terminating, server, authority):
    primary, copy = server(sink), server(sink)
    mirror = terminating(primary, "--tls-strict-eof", shadows=[copy])
    client = client_of(mirror, authority)
    client.send(b"hello")
    primary.connection(0).wait_received(5)
    client.socket.raw.shutdown(1)
    assert primary.connection(0).wait_end() == "rst"
    assert mirror.session(0)["reason"] == "tls_eof"
    assert mirror.shadow(0, "shadow0")["reason"] == "session_aborted"


def test_T14_the_name_that_a_client_asks_for_chooses_the_certificate(terminating, server, authority):
    files = [authority.certificate("default.example"), authority.certificate("*.shop.example"),
             authority.certificate("www.shop.example")]
    mirror = terminating(server(echo), certificates=files)
    context = authority.client_context()
    context.check_hostname = False
    for asked, shown in [("www.shop.example", "www.shop.example"), ("api.shop.example", "*.shop.example"),
                         ("WWW.Shop.Example", "www.shop.example"), ("a.b.shop.example", "default.example"),
                         ("other.example", "default.example"), (None, "default.example")]:
        client = secure(mirror.connect(), context, asked)
        assert client.socket.getpeercert()["subjectAltName"] == (("DNS", shown),), asked
        client.finish()
        client.drain()
        client.close()
    said = [line.get("sni") for line in mirror.access_log(6)]
    assert said.count(None) == 1 and "api.shop.example" in said


def shown(mirror, kind, name=None):
    """The names in the certificate that a client is shown which knows only this kind of key; None: it
    is refused."""
    host, port = mirror.addresses[0]
    words = {"rsa": "RSA-PSS+SHA256:RSA+SHA256", "ecdsa": "ECDSA+SHA256"}[kind]
    seen = set()
    for version in ("-tls1_2", "-tls1_3"):
        asked = ["-servername", name] if name else ["-noservername"]
        ended = subprocess.run(["openssl", "s_client", "-connect", f"{host}:{port}", version, "-sigalgs",
                                words, *asked], stdin=subprocess.DEVNULL, capture_output=True,
                               timeout=patient(20))
        found = re.search(b"-----BEGIN.*?-----END CERTIFICATE-----", ended.stdout, re.DOTALL)
        names = None
        if found:
            said = run("openssl x509 -noout -ext subjectAltName", stdin=found[0]).decode()
            names = " ".join(re.findall(r"DNS:(\S+?),?(?=\s|$)", said))
        seen.add(names)
    assert len(seen) == 1, f"both versions agree: {seen}"
    return seen.pop()


@pytest.mark.parametrize("turned", [False, True])
def test_T14_of_two_kinds_of_keys_each_client_is_shown_one_that_it_can_verify(
        terminating, server, authority, turned):
    files = [authority.self_signed("ecdsa", "old.example"), authority.self_signed("rsa", "old.example"),
             authority.self_signed("rsa", "*.shop.example"), authority.self_signed("ecdsa", "*.shop.example"),
             authority.self_signed("ecdsa", "www.shop.example", "only.example")]
    if turned:
        files = [files[1], files[0], files[3], files[2], files[4]]
    mirror = terminating(server(echo), certificates=files)
    mirror.expect(identity="none", books=False)
    for name, rsa, ecdsa in [("old.example", "old.example", "old.example"),
                             ("OLD.example", "old.example", "old.example"),
                             (None, "old.example", "old.example"),
                             ("unknown.example", "old.example", "old.example"),
                             ("api.shop.example", "*.shop.example", "*.shop.example"),
                             ("only.example", None, "www.shop.example only.example"),
                             ("www.shop.example", None, "www.shop.example only.example")]:
        assert shown(mirror, "rsa", name) == rsa, name
        assert shown(mirror, "ecdsa", name) == ecdsa, name
    assert not mirror.log("certificate_unused")


def test_T14_a_certificate_that_no_client_is_shown_is_a_warning(doppel, server, authority):
    names = [("a.example", "b.example"), ("a.example", "c.example"), ("*.example",)]
    needed = [*(authority.self_signed("ecdsa", *some) for some in names),
              authority.self_signed("rsa", "a.example")]
    first, same = needed[0], authority.self_signed("ecdsa", "b.example", "a.example")
    address = authority.self_signed("ecdsa", "127.0.0.1")
    flags = [word for file in [*needed, same, address] for word in ("--tls-cert", file)]

    mirror = doppel(server(echo), *flags, listens=(ANY,))
    said = {line.fields["file"]: line.fields["why"] for line in mirror.log("certificate_unused", "warning")}
    assert said.keys() == {same, address}
    assert first in said[same] and "IP addresses" in said[address]

    checked = subprocess.run([binary(), "-t", "-l", ANY, "-r", "127.0.0.1:1", *flags], text=True,
                             env=clean_environment(), capture_output=True, timeout=patient(20))
    assert checked.returncode == 0
    assert re.findall("warning: (.*?): no client", checked.stderr) == [same, address]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_T15_a_protocol_is_chosen_by_our_order(terminating, server, authority, version):
    mirror = terminating(server(echo), "--tls-alpn", "h2,http/1.1")
    client = client_of(mirror, authority, alpn=["http/1.1", "h2"], most=version)
    assert client.socket.selected_alpn_protocol() == "h2"
    assert client.exchange(b"hello") == b"hello"


def test_T15_a_client_without_a_common_protocol_is_told_so(terminating, server, authority):
    mirror = terminating(server(echo), "--tls-alpn", "http/1.1")
    with pytest.raises(ssl.SSLError, match="NO_APPLICATION_PROTOCOL|no application protocol"):
        client_of(mirror, authority, alpn=["h2"])
    assert mirror.session(0)["reason"] == "tls_client"
    mirror.expect(identity="none", books=False)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_T16_sessions_are_resumed_by_every_worker(terminating, server, authority, version):
    mirror = terminating(server(echo), workers=2)
    context = authority.client_context(most=version)
    session = None
    for _ in range(12):
        client = secure(mirror.connect(), context, "localhost", session)
        assert client.exchange(b"hello") == b"hello"
        client.finish()
        client.drain()
        assert session is None or client.socket.session_reused
        session = client.socket.session
        client.close()
    assert mirror.wait_metric(HANDSHAKES, 11, side="client", result="resumed") == 11


def test_T18_a_client_that_only_writes_and_closes_loses_nothing(terminating, server, authority):
    primary, copy = server(sink), server(sink)
    mirror = terminating(primary, shadows=[copy])
    for _ in range(20):
        client = client_of(mirror, authority)
        client.send(pattern(8 * KIB))
        client.socket.notify()
        client.close()
    assert {line["reason"] for line in mirror.access_log(20)} == {"client_fin"}
    assert {connection.received.count for connection in copy.connections} == {8 * KIB}


def hello_of(context):
    """The record with which a client begins."""
    outgoing = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def refused(*words):
    """Checking and running end at once with the same line; answers it."""
    said = [subprocess.run([binary(), *check, *words], env=clean_environment(), text=True,
                           stdin=subprocess.DEVNULL, capture_output=True, timeout=patient(20))
            for check in ([], ["-t"])]
    assert [ended.returncode for ended in said] == [2, 2], said
    assert said[0].stderr == said[1].stderr and said[0].stderr.count("\n") == 1
    return said[0].stderr


def test_T19_a_certificate_that_cannot_be_used_is_refused_at_start(authority, tmp_path):
    good, key = authority.pair("localhost")
    other = authority.pair("localhost")[1]
    rsa = str(tmp_path / "rsa.pem")
    run(f"openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out {rsa}")
    (tmp_path / "half.pem").write_bytes(open(good, "rb").read()[:300])
    base = ["-l", ANY, "-r", "127.0.0.1:1"]
    for words, said in [
            (["--tls-cert", good, "--tls-key", other], f"--tls-key {other}: it does not belong to"),
            (["--tls-cert", good, "--tls-key", rsa], f"--tls-key {rsa}: it does not belong to"),
            (["--tls-cert", good, "--tls-key", good], "it holds no private key in PEM format"),
            (["--tls-cert", good], f"--tls-cert {good}: it holds no private key; say --tls-key FILE"),
            (["--tls-cert", str(tmp_path / "none.pem")], "--tls-cert"),
            (["--tls-cert", str(tmp_path / "none.pem")], "No such file"),
            (["--tls-cert", str(tmp_path / "half.pem"), "--tls-key", key], "half.pem"),
            (["--tls-cert", good, "--tls-key", key, "--tls-key", key], "2 --tls-key for 1 --tls-cert"),
            (["--tls-cert", good, "--tls-key", key, "--tls-ciphers", "NONSENSE"], "no cipher match"),
            (["--tls-cert", good, "--tls-key", key, "--tls-client-ca", key], key),
            ([], "needs a certificate; say --tls-cert FILE")]:
        assert said in refused(*base, *words)


def test_T19_an_encrypted_key_needs_its_passphrase(doppel, server, authority, tmp_path):
    certificate, key = authority.pair("localhost")
    locked, word = tmp_path / "locked.pem", tmp_path / "word"
    run(f"openssl pkcs8 -topk8 -in {key} -out {locked} -passout pass:secret")
    flags = ["--tls-cert", certificate, "--tls-key", str(locked)]
    base = ["-l", ANY, "-r", "127.0.0.1:1"]
    assert "there is no --tls-key-passphrase-file" in refused(*base, *flags)
    for content, said in [(None, "No such file"), ("", "it is empty")]:
        if content is not None:
            word.write_text(content)
        assert said in refused(*base, *flags, "--tls-key-passphrase-file", str(word))
    word.write_text("wrong\n")
    assert "the passphrase does not open it" in refused(*base, *flags, "--tls-key-passphrase-file", str(word))

    word.write_text("secret\n")
    mirror = doppel(server(echo), *flags, "--tls-key-passphrase-file", str(word), listens=(ANY,))
    assert client_of(mirror, authority).exchange(b"hello") == b"hello"


def test_T19_a_key_that_everybody_may_read_is_a_warning(doppel, server, authority):
    certificate, key = authority.pair("localhost")
    run(f"chmod 644 {key}")
    mirror = doppel(server(echo), "--tls-cert", certificate, "--tls-key", key, listens=(ANY,))
    assert mirror.log("key_is_public", level="warning")[0].fields["file"] == key


def test_T17_a_hundred_key_updates_change_nothing(programs, terminating, server, authority):
    mirror = terminating(server(echo))
    mirror.expect(identity="none", books=False)
    client = programs.openssl_client(mirror.addresses[0], authority)

    for number in range(100):
        client.type("K")    # alone in one read: the client forgets what comes with a command
        eventually(lambda: client.log().count("KEYUPDATE") > number, "the client has new keys")
    client.type("hello")
    client.wait_received(b"hello")
    client.finish()

    assert mirror.session(0)["request_bytes"] == len(b"hello\n")


def test_T21_a_record_that_comes_byte_by_byte_is_waited_for_at_rest(terminating, server, authority):
    primary, copy = server(echo), server(sink)
    mirror = terminating(primary, shadows=[copy])
    client = mirror.connect()
    writer = Handwritten(client, authority)
    record = writer.record(pattern(16 * KIB))

    for byte in record[:-1]:
        writer.raw.sendall(bytes([byte]))
    mirror.assert_not_spinning(0.5)
    assert primary.connection(0).received.count == 0
    writer.raw.sendall(record[-1:])

    assert client.recv_exact(16 * KIB) == pattern(16 * KIB)
    writer.finish()
    assert client.drain() == "fin" and not client.socket.truncated
    assert mirror.shadow(0, "shadow0")["sent_bytes"] == 16 * KIB


def test_T21_records_of_one_byte_and_of_none_change_nothing(terminating, server, authority):
    primary, copy = server(echo), server(sink)
    mirror = terminating(primary, shadows=[copy])
    client = mirror.connect()
    writer = Handwritten(client, authority)
    said = pattern(3000)

    reading = client.start(client.recv_exact, len(said))
    for number, byte in enumerate(said):
        empty = b"".join(writer.record(b"") for _ in range(number % 30 if number < 300 else 0))
        writer.raw.sendall(empty + writer.record(bytes([byte])))
    assert reading.result() == said
    writer.finish()

    assert client.drain() == "fin" and not client.socket.truncated
    assert mirror.session(0)["request_bytes"] == len(said)
    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"
    assert_same(copy.connection(0).received, client.sent)


def test_T21_who_sends_nothing_but_empty_records_is_refused(terminating, server, authority):
    """Each costs work and moves nothing."""
    primary = server(echo)
    mirror = terminating(primary)
    client = mirror.connect()
    writer = Handwritten(client, authority)

    with suppress(OSError):
        for _ in range(1000):
            writer.raw.sendall(writer.record(b""))
    with suppress(OSError, ssl.SSLError):
        client.drain()

    assert mirror.session(0)["reason"] == "tls_client"
    assert mirror.wait_log("client_failed")[0].fields["why"] == "record too small"
    mirror.expect(identity="none")


def test_T27_both_sides_may_send_at_once_without_reading(terminating, server, authority):
    size = 8 * MIB
    primary = server(None)
    mirror = terminating(primary, *SMALL)
    client = client_of(mirror, authority)
    there = primary.connection(0)
    sending = [client.start(client.send, pattern(size)), there.start(there.send, pattern(size, ANSWER))]
    let_pass(0.5)                               # all buffers fill, each way
    reading = there.start(there.recv_exact, size)   # the primary reads on; the client still does not
    assert reading.result() == pattern(size)
    sending[0].result()
    assert client.recv_exact(size) == pattern(size, ANSWER)
    sending[1].result()


def test_P08_a_primary_that_speaks_first_is_heard_after_the_handshake(terminating, server, authority):
    mirror = terminating(server(greet(b"220 hello\r\n")))
    client = client_of(mirror, authority)
    assert client.recv_exact(11) == b"220 hello\r\n"


@pytest.mark.parametrize("words", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n",
                                   bytes(range(256)) * 8], ids=["http", "ssh", "noise"])
def test_C09_C10_who_does_not_speak_tls_is_refused(terminating, server, words):
    primary, copy = server(echo), server(sink)
    mirror = terminating(primary, shadows=[copy])
    client = mirror.connect()
    client.send(words)
    client.drain()
    assert mirror.session(0)["reason"] == "tls_client"
    assert mirror.wait_log("client_failed", level="info")[0].fields["why"] in ("http request",
                                                                               "wrong version number")
    assert primary.connections == [] and copy.connections == []
    assert mirror.metric(HANDSHAKES, side="client", result="failed") == 1
    mirror.expect(identity="none", books=False)


def test_clients_must_show_a_certificate_of_our_authority(terminating, server, authority, tmp_path):
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").certificate("eve")
    mirror = terminating(server(echo), "--tls-client-ca", authority.file)
    for context in (authority.client_context(), authority.client_context(certificate=stranger)):
        client = mirror.connect()
        with pytest.raises((ssl.SSLError, Ended)):
            secure(client, context, "localhost")
            client.exchange(b"hello")           # with TLS 1.3 the client believes it is done
    good = client_of(mirror, authority, certificate=authority.certificate("alice"))
    assert good.exchange(b"hello") == b"hello"
    assert [line["reason"] for line in mirror.access_log(2)] == ["tls_client"] * 2
    assert mirror.log("client_failed")
    mirror.expect(identity="none", books=False)


def test_clients_may_do_without_a_certificate_when_it_is_optional(terminating, server, authority):
    mirror = terminating(server(echo), "--tls-client-ca", authority.file, "--tls-client-auth", "optional")
    assert client_of(mirror, authority).exchange(b"hello") == b"hello"
    shown = authority.client_context(certificate=authority.certificate("alice"))
    assert secure(mirror.connect(), shown, "localhost").exchange(b"hello") == b"hello"


def test_an_older_version_than_tls_min_is_refused(terminating, server, authority):
    mirror = terminating(server(echo), "--tls-min", "1.3")
    with pytest.raises(ssl.SSLError):
        client_of(mirror, authority, most=ssl.TLSVersion.TLSv1_2)
    assert client_of(mirror, authority).exchange(b"hello") == b"hello"
    mirror.expect(identity="none", books=False)


def test_the_ciphers_are_those_that_were_asked_for(terminating, server, authority):
    mirror = terminating(server(echo), "--tls-ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384:"
                         "ECDHE-RSA-AES256-GCM-SHA384:TLS_CHACHA20_POLY1305_SHA256")
    old = client_of(mirror, authority, most=ssl.TLSVersion.TLSv1_2)
    assert old.socket.cipher()[0].endswith("AES256-GCM-SHA384")
    assert client_of(mirror, authority).socket.cipher()[0] == "TLS_CHACHA20_POLY1305_SHA256"


@pytest.mark.parametrize("listen", [ANY, f"{ANY}?accept-proxy=on"], ids=["tls", "behind a header"])
def test_T25_handshakes_in_progress_have_a_limit_and_plain_listeners_go_on(doppel, server, authority, listen):
    mirror = doppel(server(echo), "--tls-cert", authority.certificate("localhost"), "--max-handshakes", "1",
                    "--handshake-timeout", "700ms", "--proxy-trust", "127.0.0.1",
                    listens=(listen, "127.0.0.1:0"))
    mirror.expect(identity="none", books=False)
    header = v1(("10.0.0.9", 51312), ("10.0.1.5", 443)) if "proxy" in listen else b""

    def arrives():
        client = mirror.connect()
        introduce(client, header)
        return client
    silent = arrives()
    mirror.wait_metric("doppel_sessions_active", 1)
    waiting = arrives()
    waiting.start(secure, waiting, authority.client_context(), "localhost")
    mirror.wait_metric("doppel_sessions_active", 2)
    assert mirror.connect(listener=1).exchange(b"plain") == b"plain"
    assert mirror.metric(HANDSHAKES, side="client") == 0, "the second one waits for the first"

    silent.drain()
    mirror.wait_metric(HANDSHAKES, 1, side="client", result="ok")
    assert waiting.exchange(b"hello") == b"hello"


def silent_clients(mirror, count, header=b"", **options):
    """They never say a word of TLS."""
    clients = [mirror.connect(**options) for _ in range(count)]
    for client in clients:
        introduce(client, header)
    mirror.wait_metric("doppel_sessions_total", count)
    return clients


@pytest.mark.parametrize("workers", [1, 2])
def test_T25_a_source_with_silent_connections_keeps_no_other_one_waiting(terminating, server, authority,
                                                                         workers):
    mirror = terminating(server(echo), "--max-handshakes", "16", "--handshake-timeout", "1h", workers=workers)
    mirror.expect(identity="none", books=False)
    silent = silent_clients(mirror, 50, source="127.0.0.1")

    for _ in range(10):
        client = secure(mirror.connect(source="127.0.0.2"), authority.client_context(), "localhost")
        assert client.exchange(b"another source") == b"another source"
        client.close()

    assert mirror.metric("doppel_sessions_active") >= 50
    for client in silent:
        client.reset()


def test_T25_behind_headers_a_source_is_who_they_name(doppel, server, authority):
    mirror = doppel(server(echo), "--tls-cert", authority.certificate("localhost"), "--max-handshakes", "8",
                    "--handshake-timeout", "1h", "--proxy-trust", "127.0.0.1",
                    listens=(f"{ANY}?accept-proxy=on",))
    mirror.expect(identity="none", books=False)
    for number in range(20):
        silent_clients(mirror, 1, v2(("2001:db8:0:1::%x" % number, 1), ("2001:db8::1", 443)))

    for address in ("2001:db8:0:2::1", "10.0.0.1"):
        client = mirror.connect()
        introduce(client, v2((address, 1), ("2001:db8::1" if ":" in address else "10.0.0.2", 443)))
        assert secure(client, authority.client_context(), "localhost").exchange(b"hello") == b"hello"


def test_T25_a_source_with_silent_connections_leaves_half_of_the_handshakes_to_others(terminating, server,
                                                                                      authority):
    """Its own clients that do speak wait for its silent ones; with fewer of those they do not."""
    mirror = terminating(server(echo), "--max-handshakes", "8", "--handshake-timeout", "1h")
    mirror.expect(identity="none", books=False)
    silent = silent_clients(mirror, 3)
    assert client_of(mirror, authority).exchange(b"the fourth") == b"the fourth"
    silent += silent_clients(mirror, 1)
    waiting = mirror.connect()
    shaking = waiting.start(secure, waiting, authority.client_context(), "localhost")
    mirror.wait_metric("doppel_sessions_total", 6)
    assert mirror.metric(HANDSHAKES, side="client") == 1

    silent[0].close()

    shaking.result()
    assert waiting.exchange(b"its turn") == b"its turn"


@pytest.mark.parametrize("workers", [1, 2])
def test_T25_who_waits_for_a_handshake_keeps_nobody_from_a_place(terminating, server, authority, workers):
    """At --max-sessions the one that waits longest of the source with the most leaves."""
    mirror = terminating(server(echo), "--max-sessions", "8", "--handshake-timeout", "1h", workers=workers)
    mirror.expect(identity="none", books=False)
    for _ in range(40):
        mirror.connect(source="127.0.0.1")
    mirror.wait_metric("doppel_sessions_active", 8)

    clients = [secure(mirror.connect(source=f"127.0.0.{host}"), authority.client_context(), "localhost")
               for host in (2, 3)]

    for client in clients:
        assert client.exchange(b"another source") == b"another source"
    assert mirror.metric("doppel_sessions_closed_total", reason="tls_client") >= 2


def test_R23_a_handshake_that_was_finished_while_the_process_stood_still_is_good(terminating, server,
                                                                                 authority):
    mirror = terminating(server(echo), "--handshake-timeout", "3s")
    worker, = mirror.workers()
    client = mirror.connect()
    raw = client.socket

    class Stopping:
        """The client's last words find a worker that has stopped."""
        flights = 0

        def __getattr__(self, name):
            return getattr(raw, name)

        def sendall(self, data):
            self.flights += 1
            if self.flights == 2:
                os.kill(worker, signal.SIGSTOP)
                eventually(lambda: is_stopped(worker), "the worker stands still")
            raw.sendall(data)

    client.socket = TlsSocket(Stopping(), authority.client_context(), name="localhost")
    client.socket.handshake()
    let_pass(3.2)       # longer than the timeout
    os.kill(worker, signal.SIGCONT)

    assert client.exchange(b"hello") == b"hello"
    assert mirror.metric(HANDSHAKES, side="client", result="ok") == 1


def test_T25_who_waits_for_another_handshake_is_served_by_a_drain_too(terminating, server, authority):
    mirror = terminating(server(echo), "--max-handshakes", "1", "--drain-timeout", "1h")
    mirror.expect(identity="none")
    silent = mirror.connect()
    mirror.wait_metric("doppel_sessions_active", 1)
    waiting = mirror.connect()
    shaking = waiting.start(secure, waiting, authority.client_context(), "localhost")

    mirror.signal(signal.SIGTERM)
    mirror.wait_log(" draining ")
    silent.close()

    shaking.result()
    assert waiting.exchange(b"hello") == b"hello"
    waiting.finish()
    assert waiting.drain() == "fin"
    assert mirror.wait_exit() == 0


def test_a_stalled_shadow_costs_a_tls_client_nothing(terminating, server, authority):
    mirror = terminating(server(echo), *SMALL, shadows=[shadow(server(hold), "slow", buffer="64k")])
    client = client_of(mirror, authority)
    assert client.exchange(pattern(2 * MIB)) == pattern(2 * MIB)
    client.finish()
    assert client.drain() == "fin"
    client.close()
    assert mirror.shadow(0, "slow")["reason"] == "lag"


def test_a_client_that_resets_in_tls_resets_the_primary(terminating, server, authority):
    primary, copy = server(sink), server(sink)
    mirror = terminating(primary, shadows=[copy])
    client = client_of(mirror, authority)
    client.send(pattern(64 * KIB))
    primary.connection(0).wait_received(64 * KIB)
    client.reset()
    assert primary.connection(0).wait_end() == "rst"
    assert mirror.session(0)["reason"] == "client_rst"


def test_C08_tls_that_passes_through_a_listener_with_shadows_is_warned_of_once(doppel, server, authority):
    primary = server(echo, tls=authority.server_context("localhost"))
    plain = primary.address.removeprefix("tls://")
    listens = ["127.0.0.1:0", "127.0.0.2:0"]
    mirror = doppel(plain, shadows=[server(sink)], workers=2, listens=listens)
    for number in range(8):
        client = mirror.connect(listener=number % 2)
        client_hello = secure(client, authority.client_context(), "localhost")
        assert client_hello.exchange(b"hello") == b"hello"
    said = mirror.wait_log("tls_passes_through", 2, level="warning")
    assert sorted(line.fields["listener"] for line in said) == listens
    mirror.expect(identity="none", books=False)


# What a client says before TLS, and whether the hello waits for an answer.
ASKING_FOR_TLS = {
    "postgres": (b"\0\0\0\x08\x04\xd2\x16\x2f", True),
    "gss, then tls": (b"\0\0\0\x08\x04\xd2\x16\x30", True),
    "smtp": (b"EHLO here\r\n" + b"NOOP\r\n" * 600 + b"STARTTLS\r\n", True),
    "mysql": (b"\x20\0\0\x01\x05\xae\xff\x19" + bytes(28), True),
    "mysql at once": (b"\x20\0\0\x01\x05\xae\xff\x19" + bytes(28), False)}


@pytest.mark.parametrize("io", ["copy", "splice"])
@pytest.mark.parametrize("protocol", ASKING_FOR_TLS)
def test_C08_tls_that_a_client_asks_for_first_is_warned_of_once(doppel, server, authority, protocol, io):
    asking, waits = ASKING_FOR_TLS[protocol]
    mirror = doppel(server(echo), shadows=[server(sink)], io=io)
    hello = hello_of(authority.client_context())
    for _ in range(2):
        client = mirror.connect()
        if waits:
            assert client.exchange(asking) == asking
            assert client.exchange(hello) == hello
        else:
            assert client.exchange(asking + hello) == asking + hello
        client.close()
    said = mirror.wait_log("tls_passes_through", level="warning")
    assert len(said) == 1 and "STARTTLS" in said[0].fields["why"]
    mirror.access_log(2)
    assert len(mirror.log("tls_passes_through")) == 1


@pytest.mark.parametrize("before", [b"\x17\x03\x03\0\x20", b"x" * 4096])
def test_C08_what_only_resembles_tls_or_comes_late_is_no_reason_for_a_warning(doppel, server, authority,
                                                                              before):
    mirror = doppel(server(echo), shadows=[server(sink)])
    hello = hello_of(authority.client_context())
    client = mirror.connect()
    for words in (before, hello if len(before) > 1000 else hello[:5] + b"\x02" + hello[6:]):
        assert client.exchange(words) == words
    client.close()
    mirror.access_log(1)
    assert not mirror.log("tls_passes_through")


def test_version_names_openssl():
    assert b"\nOpenSSL 3." in run(f"{binary()} -V")


def bounds_of_memory():
    """For an idle session and for one of a burst, in bytes, as docs/operating.md says.

    From 3.2 on OpenSSL needs 7 KiB more for its records, and from 3.5 on another 7 for the client's
    share in a key exchange with ML-KEM, which it keeps as long as the session.
    """
    version = re.search(rb"^OpenSSL (\d+)\.(\d+)", run(f"{binary(release=True)} -V"), re.MULTILINE)
    return (20 * KIB, 26 * KIB) if tuple(map(int, version.groups())) < (3, 2) else (34 * KIB, 44 * KIB)


@pytest.mark.release
def test_T22_an_idle_client_in_tls_costs_little_memory(terminating, server, authority):
    mirror = terminating(server(echo))
    context = authority.client_context()

    def idle(count):
        for _ in range(count):
            assert secure(mirror.connect(), context, "localhost").exchange(b"hello") == b"hello"
        return mirror.rss_bytes()
    before = idle(50)
    grown = (idle(250) - before) / 250
    assert grown < bounds_of_memory()[0], f"{grown:.0f} bytes for each session"


@pytest.mark.release
def test_T22_a_burst_of_handshakes_leaves_no_memory_behind(terminating, server, authority):
    mirror = terminating(server(echo))
    context = authority.client_context()
    assert secure(mirror.connect(), context, "localhost").exchange(b"hello") == b"hello"
    before, count = mirror.rss_bytes(), 300

    clients = [mirror.connect() for _ in range(count)]
    for client in clients:
        client.socket = TlsSocket(client.socket, context, name="localhost")
        client.socket.hello()
    for client in clients:
        client.socket.handshake()

    most = bounds_of_memory()[1]
    eventually(lambda: mirror.rss_bytes() - before < count * most,
               lambda: f"{(mirror.rss_bytes() - before) / count:.0f} bytes for each session")
    assert all(client.exchange(b"hello") == b"hello" for client in clients)
