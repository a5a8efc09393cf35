"""
test_loops.py — a shadow that leads back to us is refused, found or bounded.
"""
import socket

import pytest

from support.pattern import KIB, pattern
from support.peers import echo

ROUND = pattern(16 * KIB, seed=5)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_S18_a_shadow_that_is_our_own_listener_is_refused_at_start(doppel, server, host):
    port = free_port()
    mirror = doppel(server(echo), listens=[f"127.0.0.1:{port}"], shadows=[f"{host}:{port}"], wait=False)
    mirror.expect(exit_status=2, totals=False)

    assert mirror.wait_exit() == 2
    assert len(mirror.log_lines) == 1
    assert "loop" in mirror.log_lines[0]


def test_S18_a_name_that_leads_back_to_us_is_found_when_it_is_dialled(doppel, server, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 looping.example\n")
    port = free_port()
    mirror = doppel(server(echo), "--hosts", str(hosts), listens=[f"127.0.0.1:{port}"],
                    shadows=[f"looping.example:{port}"])
    client = mirror.connect()

    client.exchange(ROUND)
    client.close()

    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["reason"], entry["sent_bytes"]) == ("detached", "loop", 0)
    assert mirror.metric("doppel_sessions_total") == 1


def test_S18_a_loop_that_was_allowed_is_bounded_by_max_sessions(doppel, server):
    port = free_port()
    mirror = doppel(f"127.0.0.1:{port}", "--allow-loop", "--max-sessions", "8", "--drain-timeout", "200ms",
                    listens=[f"127.0.0.1:{port}"])
    mirror.expect(identity="none")
    mirror.connect()

    mirror.wait_metric("doppel_sessions_total", 8)
    mirror.assert_not_spinning(0.5)
    assert mirror.metric("doppel_sessions_total") == 8
    assert mirror.metric("doppel_accept_paused") == 1
    assert mirror.stop() == 0


@pytest.mark.netns
def test_S19_a_connection_to_itself_counts_as_refused(network, doppel, server, tmp_path):
    primary = server(echo, unix=str(tmp_path / "primary"))
    mirror = doppel(primary, listens=[f"unix:{tmp_path}/listen"], shadows=["127.0.0.1:40000"])
    network.sysctl("net.ipv4.ip_local_port_range", "40000 40000")   # source and target are the same

    for number in range(3):
        client = mirror.connect()
        client.exchange(ROUND)
        client.close()
        entry = mirror.shadow(number, "shadow0")
        assert (entry["result"], entry["sent_bytes"]) == ("detached", 0)
        # Later ones may find the only port in TIME_WAIT.
        assert entry["reason"] in (("refused",) if number == 0 else ("refused", "no_port"))


@pytest.mark.netns
def test_S19_after_a_connection_to_itself_the_next_primary_is_tried(network, doppel, server, tmp_path):
    spare = server(echo, unix=str(tmp_path / "spare"))
    mirror = doppel(["127.0.0.1:40000", spare], listens=[f"unix:{tmp_path}/listen"])
    network.sysctl("net.ipv4.ip_local_port_range", "40000 40000")   # source and target are the same

    client = mirror.connect()
    client.exchange(ROUND)
    client.close()

    assert mirror.session(0)["reason"] == "client_fin"
    assert mirror.session(0)["primary"] == spare.address
