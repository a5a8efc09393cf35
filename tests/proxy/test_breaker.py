"""
test_breaker.py — a shadow that fails again and again is left alone for a while.
"""
import os
import signal

import pytest

from support import crowd as crowds
from support.pattern import KIB, pattern
from support.peers import echo, greet, reset_after, sink
from support.proxy import shadow
from support.waiting import eventually

CLOSED, OPEN, HALF_OPEN = 0, 1, 2
LONG = "1h"         # nobody waits for it
SHORT = "50ms"


def visit(mirror, payload=b"ten bytes."):
    """One whole session; answers what became of its shadow."""
    number = len(mirror.clients)
    client = mirror.connect()
    assert client.exchange(payload) == payload
    client.finish()
    assert client.drain() == "fin"
    return mirror.access_log(number + 1)[-1]["shadows"][0]


def visit_until(mirror, result, most=500):
    """Sessions until one has this result; answers those before it."""
    before = []
    while (entry := visit(mirror))["result"] != result:
        before.append(entry)
        assert len(before) < most, before[-1]
    return before


def state(mirror, name="shadow0"):
    return mirror.metric("doppel_breaker_state", shadow=name)


def test_S03_failures_in_a_row_open_the_breaker_and_nothing_is_dialled_any_more(doppel, server):
    mirror = doppel(server(echo), shadows=[shadow(server(state="refusing"), breaker=f"3/{LONG}")])

    entries = [visit(mirror) for _ in range(10)]

    assert [(entry["result"], entry.get("reason")) for entry in entries] == (
        3 * [("detached", "refused")] + 7 * [("breaker", None)])
    assert state(mirror) == OPEN
    assert mirror.metric("doppel_shadow_bytes_total", fate="skipped") == 70
    assert mirror.metric("doppel_shadow_bytes_total", fate="lost") == 30
    assert mirror.metric("doppel_shadow_sessions_total", result="breaker") == 7
    said, = mirror.log(" breaker_opened ", level="warning")
    assert (said.fields["shadow"], said.fields["failures"], said.fields["reason"]) == (
        "shadow0", "3", "refused")


def test_the_probe_that_succeeds_closes_the_breaker(doppel, server):
    one = server(sink)
    one.refuse()
    mirror = doppel(server(echo), shadows=[shadow(one, breaker=f"2/{SHORT}")])
    visit_until(mirror, "breaker")

    one.listen()
    missed = visit_until(mirror, "mirrored")

    assert all(entry["result"] == "breaker" for entry in missed)
    assert state(mirror) == CLOSED
    assert visit(mirror)["result"] == "mirrored"
    mirror.assert_log_count(" breaker_opened ", 1, 1, level="warning")
    mirror.assert_log_count(" breaker_closed ", 1, 1, level="info")


def test_a_probe_that_fails_opens_it_for_longer(doppel, server):
    gone = server(state="refusing")
    mirror = doppel(server(echo), shadows=[shadow(gone, breaker="1/10ms")])

    for _ in range(4):      # 10, 20, 40, 80 ms: each time one more session is dialled
        visit_until(mirror, "detached")

    assert state(mirror) == OPEN
    mirror.assert_log_count(" breaker_opened ", 1, 1, level="warning")


def test_failures_between_successes_open_nothing(doppel, server):
    one = server(sink)
    mirror = doppel(server(echo), shadows=[shadow(one, breaker=f"2/{LONG}")])

    for _ in range(4):
        assert visit(mirror)["result"] == "mirrored"
        one.refuse()
        assert visit(mirror)["reason"] == "refused"
        one.listen()

    assert state(mirror) == CLOSED


def test_what_happens_after_its_first_byte_is_no_failure_of_that_kind(doppel, server):
    mirror = doppel(server(echo), shadows=[shadow(server(reset_after(1)), breaker=f"1/{LONG}")])
    mirror.expect(identity="prefix")

    for _ in range(4):
        visit(mirror)

    assert state(mirror) == CLOSED
    assert mirror.metric("doppel_shadow_sessions_total", result="breaker") == 0


@pytest.mark.parametrize("end", ["tls", "silent"])
def test_S16_a_shadow_that_cannot_be_opened_counts_however_it_fails(doppel, server, authority, end):
    """A certificate that nobody vouches for; a black hole."""
    one = (server(sink, tls=authority.server_context("127.0.0.1")) if end == "tls" else
           server(state="black hole"))
    mirror = doppel(server(echo), shadows=[shadow(one, breaker=f"2/{LONG}", connect_timeout="50ms")])

    entries = [visit(mirror) for _ in range(3)]

    assert [entry["result"] for entry in entries] == ["detached", "detached", "breaker"]
    assert entries[0]["reason"] == ("tls" if end == "tls" else "connect_timeout")


def test_a_shadow_that_is_down_counts_also_when_no_byte_waited_for_it(doppel, server):
    mirror = doppel(server(greet(b"welcome")), shadows=[
        shadow(server(state="refusing"), breaker=f"3/{LONG}", connect_on="start")])
    for _ in range(4):
        client = mirror.connect()
        assert client.recv_exact(7) == b"welcome"
        client.finish()
        assert client.drain() == "fin"
        mirror.access_log(len(mirror.clients))

    results = [mirror.shadow(number, "shadow0")["result"] for number in range(4)]
    assert results == 3 * ["detached"] + ["breaker"]
    assert state(mirror) == OPEN


def test_exactly_one_session_is_the_probe_however_many_come(doppel, server):
    one = server(sink, state="refusing")
    mirror = doppel(server(echo), workers=2, shadows=[
        shadow(one, breaker="1/10ms", connect_timeout="20s", linger="20s")])
    visit(mirror)
    one.fall_silent()

    eventually(lambda: talk(mirror) and state(mirror) == HALF_OPEN, "a probe is under way")
    for _ in range(20):
        talk(mirror)
    assert mirror.metric("doppel_shadow_active") == 1
    assert state(mirror) == HALF_OPEN

    one.open()
    eventually(lambda: state(mirror) == CLOSED, "the probe is through")


def test_a_killed_worker_does_not_take_the_probe_with_it(doppel, server):
    hole = server(sink, state="black hole")
    mirror = doppel(server(echo), shadows=[
        shadow(hole, breaker="1/10ms", connect_timeout="400ms", linger="1s")])
    mirror.expect(identity="none", descriptors=False, access_log=False,
                  problems=(" worker_died ",))
    visit_until(mirror, "breaker")
    eventually(lambda: half_open(mirror), "a probe is under way")

    os.kill(mirror.workers()[0], signal.SIGKILL)
    mirror.wait_metric("doppel_worker_restarts_total", 1)
    hole.open()
    eventually(lambda: talk(mirror) and state(mirror) == CLOSED, "another probe takes its place")


def half_open(mirror):
    """A client whose session is the probe, or None."""
    client = mirror.connect()
    client.exchange(b"maybe")
    if state(mirror) == HALF_OPEN:
        return client
    client.close()
    return None


def talk(mirror):
    client = mirror.connect()
    client.exchange(b"again")
    client.close()
    return True


def test_a_probe_whose_client_breaks_off_makes_room_for_the_next(doppel, server):
    hole = server(sink, state="black hole")
    mirror = doppel(server(echo), shadows=[
        shadow(hole, breaker="1/10ms", connect_timeout="300ms", linger="1s")])
    mirror.expect(identity="prefix")
    visit_until(mirror, "breaker")
    probe = eventually(lambda: half_open(mirror), "a probe is under way")
    probe.reset()
    hole.open()

    eventually(lambda: talk(mirror) and state(mirror) == CLOSED, "the next one closes it")


def test_a_probe_that_is_cut_before_it_learns_anything_makes_room_for_the_next(doppel, server):
    """At once, and not only when it would have timed out."""
    one = server(sink, state="refusing")
    mirror = doppel(server(echo), shadows=[
        shadow(one, breaker="1/10ms", connect_timeout="1h", buffer="64k")])
    visit_until(mirror, "breaker")
    one.fall_silent()
    probe = eventually(lambda: half_open(mirror), "a probe is under way")
    probe.exchange(pattern(512 * KIB))
    mirror.wait_metric("doppel_shadow_closed_total", 1, reason="lag")
    one.open()

    eventually(lambda: talk(mirror) and state(mirror) == CLOSED, "the next one closes it")


def test_all_workers_share_one_breaker(doppel, server):
    gone = server(state="refusing")
    mirror = doppel(server(echo), workers=4, shadows=[shadow(gone, breaker=f"8/{LONG}")])

    results = [visit(mirror)["result"] for _ in range(40)]

    assert results == 8 * ["detached"] + 32 * ["breaker"]


def test_with_breaker_off_every_session_is_dialled(doppel, server):
    mirror = doppel(server(echo), shadows=[shadow(server(state="refusing"), breaker="off")])

    assert all(visit(mirror)["reason"] == "refused" for _ in range(12))
    assert state(mirror) == CLOSED


def test_a_blocking_shadow_has_no_breaker(doppel, server):
    """Every session matters there, and each failure is an error in the log."""
    gone = server(state="refusing")
    mirror = doppel(server(echo), shadows=[shadow(gone, breaker=f"1/{LONG}", overflow="block")])
    mirror.expect(problems=("shadow_detached",))

    assert all(visit(mirror)["reason"] == "refused" for _ in range(4))
    assert state(mirror) == CLOSED


def test_each_shadow_has_its_own(doppel, server):
    well = server(sink)
    mirror = doppel(server(echo), shadows=[
        shadow(server(state="refusing"), "gone", breaker=f"1/{LONG}"), shadow(well, "well")])

    for _ in range(4):
        visit(mirror, pattern(KIB))

    assert state(mirror, "gone") == OPEN and state(mirror, "well") == CLOSED
    assert mirror.metric("doppel_shadow_sessions_total", shadow="well", result="mirrored") == 4


def test_S15_a_thousand_connections_cost_shadows_that_are_down_a_handful(doppel, server, crowd):
    """No storm of connects, no flood of lines, and rest when it is over."""
    gone = [server(state="refusing"), server(state="refusing")]
    mirror = doppel(crowd.serve(crowds.obey), workers=2, shadows=[
        shadow(one, breaker=f"5/{LONG}") for one in gone])

    crowd.run(mirror.addresses[0], (crowds.exchange(b"x" * 100, half_close=True) for _ in range(1000)),
              at_once=20)
    crowd.settle(lambda: mirror.metric("doppel_sessions_active") == 0, "all sessions end")

    for name in ("shadow0", "shadow1"):
        # Those that were under way when it opened are dialled, too.
        assert 5 <= mirror.shadow_closed("refused", name) <= 5 + 20
        results = {result: mirror.metric("doppel_shadow_sessions_total", shadow=name, result=result)
                   for result in ("detached", "breaker")}
        assert sum(results.values()) == 1000
    mirror.assert_log_count(" breaker_opened ", 2, 2, level="warning")
    mirror.assert_log_count(" shadow_detached ", 2, 8, level="warning")
    mirror.assert_not_spinning(1)


def test_S20_a_shadow_that_flaps_is_mirrored_to_again_within_the_longest_time(doppel, server):
    one = server(sink)
    mirror = doppel(server(echo), shadows=[shadow(one, breaker=f"2/{SHORT}")])

    for _ in range(4):
        visit_until(mirror, "mirrored")
        one.refuse()
        visit_until(mirror, "breaker")
        one.listen()
    visit_until(mirror, "mirrored")

    assert state(mirror) == CLOSED
