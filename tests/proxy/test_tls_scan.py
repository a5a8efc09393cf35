"""
test_tls_scan.py — what a scanner finds at a tls:// listener with the settings it has by default.
"""
import xml.etree.ElementTree as xml

import pytest

from support.peers import echo
from support.programs import run

pytestmark = pytest.mark.foreign

WEAK = ("RC4", "3DES", "DES-", "NULL", "EXP", "ADH", "AECDH", "anon", "MD5", "CBC", "SEED", "IDEA")


def scan(host, port):
    """What sslscan says, without a name: it would ask for localhost's IPv6 address."""
    report = xml.fromstring(run(f"sslscan --no-colour --xml=- {host}:{port}", timeout=120))
    return report.find("ssltest")


@pytest.fixture(params=["ec", "rsa"])
def certificate(request, authority, tmp_path):
    if request.param == "ec":
        return authority.certificate("localhost")
    path = tmp_path / "rsa.pem"
    run(f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout {path}.key "
        f"-out {path}")
    path.write_text(path.read_text() + (tmp_path / "rsa.pem.key").read_text())
    return str(path)


def test_a_scanner_finds_nothing_weak(doppel, server, certificate):
    mirror = doppel(server(echo), "--tls-cert", certificate, listens=("tls://127.0.0.1:0",))
    mirror.expect(identity="none")

    found = scan(*mirror.addresses[0])

    enabled = {f"{row.get('type')} {row.get('version')}": row.get("enabled") == "1"
               for row in found.iter("protocol")}
    assert enabled == {"ssl 2": False, "ssl 3": False, "tls 1.0": False, "tls 1.1": False,
                       "tls 1.2": True, "tls 1.3": True}
    ciphers = [(row.get("sslversion"), row.get("cipher"), int(row.get("bits")))
               for row in found.iter("cipher")]
    assert {version for version, _, _ in ciphers} == {"TLSv1.2", "TLSv1.3"}
    for version, cipher, bits in ciphers:
        assert bits >= 128 and not any(word in cipher for word in WEAK), cipher
        assert version == "TLSv1.3" or cipher.startswith("ECDHE-"), cipher
        assert any(mode in cipher for mode in ("GCM", "CHACHA20")), cipher
    assert found.find("renegotiation").get("supported") == "0"
    assert [row.get("vulnerable") for row in found.iter("heartbleed")] == ["0", "0"]
    assert all(row.get("supported") == "0" for row in found.iter("compression"))
    assert all(int(row.get("bits")) >= 112 for row in found.iter("group"))


def test_a_scan_is_no_problem_of_ours(doppel, server, authority):
    """Hundreds of broken handshakes: each a session of its own, none a line that alarms anybody."""
    primary = server(echo)
    mirror = doppel(primary, "--tls-cert", authority.certificate("localhost"), listens=("tls://127.0.0.1:0",))
    mirror.expect(identity="none")

    scan(*mirror.addresses[0])

    assert mirror.wait_metric("doppel_tls_handshakes_total", 5, side="client", result="failed") >= 5
    alarming = [line.raw for line in mirror.log() if line.level in ("error", "warning")]
    ours = ("key_is_public", "loop_stalled")    # the test's file; a busy machine
    assert all(any(event in line for event in ours) for line in alarming), alarming
