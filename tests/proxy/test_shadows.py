"""
test_shadows.py — whatever a shadow does, the client and the primary do not notice; and what a
shadow gets is an exact beginning of what the client sent.

The closing checks (support.checks) compare every stream and balance the books after each test.
"""
import pytest

from support.checks import assert_prefix, assert_same
from support.pattern import KIB, MIB, pattern
from support.peers import (Ended, close_at_once, echo, finish_early, flood, hold, keep_open,
                           read_slowly, reset_after, sink)
from support.proxy import shadow
from support.waiting import eventually, let_pass

pytestmark = pytest.mark.path

# A receiver this small takes a few kilobytes; the rest waits in doppel.
TINY = 4096
ROUND = pattern(16 * KIB, seed=5)


# S1, S2: slow and stalled.

def test_S01_a_slow_shadow_is_cut_and_nobody_else_notices(doppel, server):
    primary, slow = server(echo), server(read_slowly(KIB, 0.05), rcvbuf=TINY)
    mirror = doppel(primary, shadows=[shadow(slow, buffer="64k")])

    for number in range(2):
        client = mirror.connect()
        assert client.exchange(pattern(4 * MIB, number)) == pattern(4 * MIB, number)
        slow.connection(number).wait_reset()
        client.close()

    for number in range(2):
        entry = mirror.shadow(number, "shadow0")
        assert (entry["result"], entry["reason"]) == ("detached", "lag")
        assert entry["lost_bytes"] > 0
    slow.release()
    assert slow.connection(0).wait_end() == "rst"
    mirror.assert_log_count("reason=lag", 1, 1, level="warning")


def test_S01_a_shadow_that_is_cut_has_seen_a_beginning_and_no_end(doppel, server):
    primary, slow = server(echo), server(hold, rcvbuf=TINY)
    mirror = doppel(primary, shadows=[shadow(slow, buffer="64k")])
    client = mirror.connect()
    client.exchange(pattern(2 * MIB))

    seen = slow.connection()
    seen.wait_reset()
    slow.release()

    assert seen.wait_end() == "rst"
    assert 0 < seen.received.count < 2 * MIB
    assert_prefix(seen.received, client.sent)
    client.close()
    entry = mirror.shadow(0, "shadow0")
    assert entry["sent_bytes"] >= seen.received.count >= entry["sent_bytes"] - entry["unacked_bytes"]


def test_S02_a_shadow_that_never_reads_is_cut_for_its_lag(doppel, server):
    primary, stalled = server(echo), server(hold, rcvbuf=TINY)
    mirror = doppel(primary, shadows=[shadow(stalled, buffer="64k")])
    client = mirror.connect()

    client.exchange(pattern(2 * MIB))

    eventually(lambda: mirror.shadow_closed("lag") == 1, "the shadow is cut")
    eventually(lambda: mirror.metric("doppel_buffered_bytes") == 0, "its bytes are forgotten at once")
    mirror.assert_not_spinning()
    client.exchange(ROUND)


def test_S02_a_shadow_that_never_reads_is_cut_when_it_stalls(doppel, server):
    primary, stalled = server(echo), server(hold, rcvbuf=TINY)
    mirror = doppel(primary, "--sndbuf", "64k", shadows=[shadow(stalled, stall_timeout="200ms")])
    client = mirror.connect()

    client.exchange(pattern(2 * MIB))       # far below 16m

    stalled.connection().wait_reset()
    client.exchange(ROUND)
    client.close()
    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["reason"]) == ("detached", "stall")
    assert entry["lost_bytes"] > 0


def test_S02_a_slow_shadow_that_makes_progress_does_not_stall(doppel, server):
    primary, slow = server(echo), server(read_slowly(4 * KIB, 0.02), rcvbuf=TINY)
    mirror = doppel(primary, "--sndbuf", "16k", shadows=[shadow(slow, stall_timeout="300ms")])
    client = mirror.connect()

    client.exchange(pattern(256 * KIB))
    slow.connection().wait_received(128 * KIB)
    slow.release()
    client.close()

    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"


# S3, S4: no connection.

def test_S03_a_refused_shadow_costs_one_warning_and_no_client_anything(doppel, server):
    primary, refusing = server(echo), server(state="refusing")
    mirror = doppel(primary, shadows=[shadow(refusing, breaker="off")])

    for number in range(20):
        client = mirror.connect()
        assert client.exchange(pattern(4 * KIB, number)) == pattern(4 * KIB, number)
        client.close()

    mirror.access_log(20)
    for number in range(20):
        entry = mirror.shadow(number, "shadow0")
        assert (entry["result"], entry["reason"]) == ("detached", "refused")
        assert (entry["sent_bytes"], entry["lost_bytes"]) == (0, 4 * KIB)
    assert mirror.shadow_closed("refused") == 20      # once per session: never dialled again
    mirror.assert_log_count("reason=refused", 1, 1, level="warning")


def test_S04_a_black_holed_shadow_times_out_and_nobody_waits_for_it(doppel, server):
    primary, silent = server(echo), server(sink, state="black hole")
    mirror = doppel(primary, shadows=[shadow(silent, connect_timeout="200ms")])
    client = mirror.connect()

    client.exchange(pattern(MIB))
    eventually(lambda: mirror.shadow_closed("connect_timeout") == 1, "the connect timer")
    client.exchange(ROUND)
    client.close()

    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["reason"]) == ("detached", "connect_timeout")
    assert (entry["sent_bytes"], entry["lost_bytes"]) == (0, MIB + len(ROUND))


def test_S04_what_a_black_holed_shadow_misses_is_kept_meanwhile(doppel, server):
    primary, silent = server(echo), server(sink, state="black hole")
    mirror = doppel(primary, shadows=[shadow(silent, connect_timeout="20s", linger="200ms")])
    client = mirror.connect()

    client.exchange(pattern(MIB))

    eventually(lambda: mirror.metric("doppel_buffered_bytes") >= MIB, "the bytes are kept")
    mirror.assert_not_spinning()
    client.close()
    entry = mirror.shadow(0, "shadow0")     # it has not stalled: it was never connected
    assert (entry["reason"], entry["lost_bytes"]) == ("connect_timeout", MIB)


# S5, S6, S7: the shadow ends early.

def test_S05_a_shadow_that_resets_is_detached_and_nobody_else_notices(doppel, server):
    primary, resetting = server(echo), server(reset_after(10 * KIB))
    mirror = doppel(primary, shadows=[resetting])
    workers = mirror.workers()
    client = mirror.connect()

    assert client.exchange(pattern(MIB)) == pattern(MIB)
    client.exchange_until(lambda: mirror.shadow_closed("rst") == 1, "the reset is noticed")
    client.exchange(ROUND)
    client.close()

    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["reason"]) == ("detached", "rst")
    assert entry["sent_bytes"] >= 10 * KIB
    assert mirror.workers() == workers


def test_S05_a_reset_while_the_client_is_silent_is_known_at_its_next_byte(doppel, server):
    primary, resetting = server(echo), server(reset_after(5))
    mirror = doppel(primary, shadows=[resetting])
    client = mirror.connect()

    client.exchange(b"hello")
    eventually(lambda: resetting.connection().closed, "it resets")
    assert mirror.shadow_closed("rst") == 0     # it has had everything so far

    client.exchange_until(lambda: mirror.shadow_closed("rst") == 1, "the reset is noticed")


def test_S06_a_shadow_that_finishes_early_and_reads_on_gets_everything(doppel, server):
    primary, half = server(echo), server(finish_early)
    mirror = doppel(primary, shadows=[half])
    client = mirror.connect()

    client.exchange(pattern(64 * KIB))
    half.connection().wait_received(64 * KIB)
    mirror.assert_not_spinning()                # its end-of-file stays readable for ever
    client.exchange(pattern(64 * KIB, offset=64 * KIB))
    client.close()

    assert half.connection().wait_end() == "fin"
    assert_same(half.connection().received, client.sent)
    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["reason"]) == ("mirrored", "fin")


def test_S06_a_shadow_that_finishes_early_and_then_resets_is_detached(doppel, server):
    def finish_then_reset(connection):
        connection.finish()
        connection.recv_exact(10 * KIB)
        connection.reset()

    primary, half = server(echo), server(finish_then_reset)
    mirror = doppel(primary, shadows=[half])
    client = mirror.connect()

    client.exchange(pattern(256 * KIB))
    client.exchange_until(lambda: mirror.shadow_closed("rst") == 1, "the reset is noticed")
    client.close()

    assert mirror.shadow(0, "shadow0")["reason"] == "rst"


def test_S07_a_shadow_that_closes_at_once_is_detached_on_a_later_byte(doppel, server):
    primary, closing = server(echo), server(close_at_once)
    mirror = doppel(primary, shadows=[closing])
    client = mirror.connect()

    client.exchange(b"first")
    closing.connection()
    client.exchange_until(lambda: mirror.shadow_closed("rst") == 1, "the shadow is detached")
    client.exchange(ROUND)
    client.close()

    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["reason"]) == ("detached", "rst")


# S8, S9: the shadow's answers.

def test_S08_a_huge_answer_is_discarded_while_other_sessions_go_on(doppel, server):
    size = 192 * MIB
    primary, flooding = server(echo), server(flood(size))
    mirror = doppel(primary, shadows=[flooding])
    flooded, other = mirror.connect(), mirror.connect()
    flooded.exchange(b"begin")
    flooding.connection()

    for _ in range(50):
        flooded.exchange(b"ping")
        other.exchange(b"pong")
    assert mirror.metric("doppel_buffered_bytes") < MIB
    flooding.connection().wait_received(5)      # it reads only after it has sent all
    flooded.close()

    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["response_bytes"]) == ("mirrored", size)


def test_S09_a_shadow_that_answers_before_it_reads_is_not_blocked(doppel, server):
    primary, talking = server(echo), server(flood(10 * MIB))
    mirror = doppel(primary, shadows=[talking])
    client = mirror.connect()

    client.exchange(pattern(MIB))
    client.close()

    assert talking.connection().wait_end() == "fin"
    assert_same(talking.connection().received, client.sent)
    assert talking.connection().sent.count == 10 * MIB
    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"


def test_S09_answers_are_discarded_while_bytes_go_on(doppel, server):
    primary, answering = server(echo), server(echo)
    mirror = doppel(primary, shadows=[answering])
    client = mirror.connect()

    client.exchange(pattern(8 * MIB))
    client.close()

    entry = mirror.shadow(0, "shadow0")
    assert entry["response_bytes"] == entry["sent_bytes"] == 8 * MIB
    assert mirror.metric("doppel_shadow_response_bytes_total", shadow="shadow0") == 8 * MIB


def test_small_answers_are_counted_while_the_session_lasts_and_when_it_is_cut(doppel, server):
    """They are too small to wake anybody, one by one."""
    primary, talking = server(echo), server(echo)
    mirror = doppel(primary, shadows=[shadow(talking)])
    client = mirror.connect()

    def exchange(first, last):
        for number in range(first, last):
            client.exchange(pattern(100, number))
            talking.connection().wait_received(100 * (number + 1))
        eventually(lambda: talking.connection().sent.count == 100 * last, "the shadow has answered")

    exchange(0, 200)
    mirror.wait_metric("doppel_shadow_response_bytes_total", 20000, shadow="shadow0")
    exchange(200, 250)
    client.reset()

    entry = mirror.shadow(0, "shadow0")
    assert entry["response_bytes"] == 25000
    # The client may have reset before its kernel acknowledged the last answer.
    assert entry["reason"] in ("session_aborted", "fin")
    assert mirror.metric("doppel_shadow_response_bytes_total", shadow="shadow0") == 25000


# S10, S11: the end of the session.

def test_S10_a_shadow_that_never_closes_counts_as_complete_when_it_took_all(doppel, server):
    primary, open_ended = server(echo), server(keep_open)
    mirror = doppel(primary, shadows=[shadow(open_ended, linger="200ms")])
    client = mirror.connect()

    client.exchange(pattern(64 * KIB))
    client.close()

    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["reason"]) == ("mirrored", "fin")
    assert open_ended.connection().wait_end() == "fin"      # it saw our end before the reset
    open_ended.connection().wait_reset()


def test_S10_a_shadow_that_has_not_acknowledged_all_by_then_has_stalled(doppel, server):
    primary, stalled = server(echo), server(hold, rcvbuf=TINY)
    mirror = doppel(primary, shadows=[shadow(stalled, buffer="512k", linger="200ms")])
    client = mirror.connect()

    client.exchange(pattern(64 * KIB))
    client.close()

    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["reason"]) == ("detached", "stall")
    assert entry["unacked_bytes"] > 0
    assert mirror.metric("doppel_shadow_bytes_total", fate="unacked") == entry["unacked_bytes"]
    stalled.connection().wait_reset()


def test_S11_a_shadow_finishes_alone_after_client_and_primary_have_closed(doppel, server):
    primary, slow = server(echo), server(hold, rcvbuf=TINY)
    mirror = doppel(primary, "--sndbuf", "64k", shadows=[shadow(slow, linger="20s")])
    client = mirror.connect()
    client.exchange(pattern(2 * MIB))

    client.finish()
    assert client.drain() == "fin"
    assert primary.connection().wait_end() == "fin"
    assert mirror.metric("doppel_sessions_active") == 1
    assert mirror.metric("doppel_shadow_active", shadow="shadow0") == 1
    eventually(lambda: mirror.metric("doppel_shadow_buffered_bytes", shadow="shadow0") > 0,
               "its memory is counted")
    assert mirror.metric("doppel_buffered_bytes") > 0
    slow.release()

    assert slow.connection().wait_end() == "fin"
    assert_same(slow.connection().received, client.sent)
    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"


def test_S11_a_shadow_that_does_not_finish_in_its_linger_time_is_cut(doppel, server):
    primary, stalled = server(echo), server(hold, rcvbuf=TINY)
    mirror = doppel(primary, "--sndbuf", "64k", shadows=[shadow(stalled, linger="200ms")])
    client = mirror.connect()

    client.exchange(pattern(2 * MIB))
    client.finish()
    assert client.drain() == "fin"
    assert primary.connection().wait_end() == "fin"

    stalled.connection().wait_reset()
    session = mirror.session(0)
    assert session["reason"] == "client_fin"
    assert mirror.shadow(0, "shadow0")["reason"] == "stall"
    assert mirror.shadow(0, "shadow0")["lost_bytes"] > 0


# S12, S13, S14: who waits for whom.

def test_S12_the_client_waits_for_the_primary_and_never_for_the_shadow(doppel, server):
    primary, slow = server(hold, rcvbuf=TINY), server(hold, rcvbuf=TINY)
    mirror = doppel(primary, "--sndbuf", "64k", "--rcvbuf", "64k", "--buffer", "64k", shadows=[slow])
    client = mirror.connect(sndbuf=16 * KIB)
    whole = pattern(4 * MIB)

    went = client.send_until_blocked(whole)
    assert went < MIB
    slow.release()
    slow.connection().wait_received(1)
    assert client.send_until_blocked(whole[went:]) < 64 * KIB   # a reading shadow makes no room
    mirror.assert_not_spinning()

    primary.release()
    client.send(whole[client.sent.count:])
    client.finish()
    assert client.drain() == "fin"
    assert_same(primary.connection().received, client.sent)
    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"


@pytest.mark.parametrize("stalled", [0, 1, 2])
def test_S13_one_stalled_shadow_of_three_does_not_disturb_the_others(doppel, server, stalled):
    primary = server(echo)
    servers = [server(hold, rcvbuf=TINY) if number == stalled else server(sink) for number in range(3)]
    mirror = doppel(primary, shadows=[
        shadow(one, buffer="64k") if number == stalled else shadow(one)
        for number, one in enumerate(servers)])
    client = mirror.connect()

    assert client.exchange(pattern(4 * MIB)) == pattern(4 * MIB)
    client.close()

    for number, one in enumerate(servers):
        entry = mirror.shadow(0, f"shadow{number}")
        if number == stalled:
            assert (entry["result"], entry["reason"]) == ("detached", "lag")
        else:
            assert (entry["result"], entry["reason"]) == ("mirrored", "fin")
            assert_same(one.connection().received, client.sent)


def test_S14_a_shadow_that_connects_after_its_limit_gets_nothing(doppel, server):
    primary, late = server(echo), server(sink, state="black hole")
    mirror = doppel(primary, shadows=[shadow(late, buffer="64k", connect_timeout="20s")])
    client = mirror.connect()

    client.exchange(pattern(MIB))
    eventually(lambda: mirror.shadow_closed("lag") == 1, "the shadow is cut")
    late.open()
    client.exchange(ROUND)
    client.close()

    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["reason"], entry["sent_bytes"]) == ("detached", "lag", 0)
    assert entry["max_lag_bytes"] > 64 * KIB
    assert sum(connection.received.count for connection in late.connections) == 0


def test_S14_a_shadow_that_connects_late_gets_everything_from_the_first_byte(doppel, server):
    primary, late = server(echo), server(sink, state="black hole")
    mirror = doppel(primary, shadows=[shadow(late, connect_timeout="20s")])
    client = mirror.connect()

    client.exchange(pattern(64 * KIB))
    late.open()
    client.exchange(pattern(64 * KIB, offset=64 * KIB))
    late.connection().wait_received(128 * KIB)
    client.close()

    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"
    assert_same(late.connection().received, client.sent)


def test_a_small_shadow_buffer_is_not_outrun_before_the_primary_is_open(doppel, server):
    """No byte can leave for the primary yet, so nobody notices that the client waits."""
    primary, copy = server(sink, state="black hole"), server(sink)
    mirror = doppel(primary, "--connect-timeout", "30s", shadows=[shadow(copy, buffer="64k")])
    mirror.expect(identity="prefix")
    client = mirror.connect()
    upload = client.start(client.send, pattern(2 * MIB))

    least = 1 if mirror.io == "splice" else 64 * KIB   # nothing enters behind what is in a pipe
    mirror.wait_metric("doppel_buffered_bytes", least)

    assert least <= mirror.metric("doppel_bytes_total", direction="request") <= 64 * KIB
    assert mirror.shadow_closed("lag") == 0
    primary.open()
    upload.result()
    client.finish()
    assert client.drain() == "fin"


# Many shadows, and what each of them is told.

def test_sixteen_shadows_all_get_the_exact_stream(doppel, server):
    primary, servers = server(echo), [server(sink) for _ in range(16)]
    mirror = doppel(primary, shadows=servers)

    for number in range(3):
        client = mirror.connect()
        client.exchange(pattern(512 * KIB, number))
        client.close()
        mirror.access_log(number + 1)
        for one in servers:
            assert_same(one.connection(number).received, client.sent)

    assert mirror.metric("doppel_shadow_sessions_total", result="mirrored") == 48


def test_a_shadow_over_a_unix_socket_gets_the_exact_stream(doppel, server, tmp_path):
    primary, one = server(echo), server(flood(2 * MIB), unix=str(tmp_path / "shadow"))
    mirror = doppel(primary, shadows=[one])
    client = mirror.connect()

    client.exchange(pattern(MIB))
    client.close()

    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["response_bytes"]) == ("mirrored", 2 * MIB)
    assert_same(one.connection().received, client.sent)


def test_a_stalled_shadow_over_a_unix_socket_is_cut(doppel, server, tmp_path):
    primary, stalled = server(echo), server(hold, unix=str(tmp_path / "shadow"))
    mirror = doppel(primary, shadows=[shadow(stalled, buffer="64k")])
    client = mirror.connect()

    client.exchange(pattern(4 * MIB))
    client.close()

    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["reason"]) == ("detached", "lag")


def test_a_shadow_over_ipv6_gets_the_exact_stream(doppel, server):
    primary, one = server(echo), server(sink, host="::1")
    mirror = doppel(primary, shadows=[one])
    client = mirror.connect()

    client.exchange(pattern(MIB))
    client.close()

    assert mirror.shadow(0, "shadow0")["result"] == "mirrored"


def test_no_byte_reaches_a_shadow_before_the_primary_is_connected(doppel, server):
    primary, one = server(echo, state="black hole"), server(sink)
    mirror = doppel(primary, "--connect-timeout", "20s", shadows=[shadow(one, connect_on="start")])
    client = mirror.connect()

    client.send(ROUND)
    let_pass(0.3)
    assert not one.connections
    primary.open()

    assert client.recv_exact(len(ROUND)) == ROUND
    one.connection().wait_received(len(ROUND))


def test_a_shadow_sees_nothing_of_a_session_whose_primary_is_refused(doppel, server):
    primary, one = server(state="refusing"), server(sink)
    mirror = doppel(primary, shadows=[one])
    mirror.expect(identity="prefix")
    client = mirror.connect()

    with pytest.raises(Ended):
        client.send(ROUND)
        client.recv_exact(1)

    assert mirror.session(0)["reason"] == "primary_refused"
    assert not one.connections


def test_a_client_that_resets_ends_its_shadow_with_a_reset(doppel, server):
    primary, one = server(sink), server(sink)
    mirror = doppel(primary, shadows=[one])
    mirror.expect(identity="prefix")
    client = mirror.connect()
    client.send(ROUND)
    one.connection().wait_received(len(ROUND))

    client.reset()

    assert one.connection().wait_end() == "rst"
    assert one.connection().received.count == len(ROUND)
    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["reason"]) == ("detached", "session_aborted")
    assert mirror.log(" shadow_detached ") == []        # nothing is wrong with the shadow


# Memory.

def test_the_memory_of_all_shadows_is_bounded_and_the_most_lagging_goes_first(doppel, server):
    primary, stalled, fine = server(echo), server(hold, rcvbuf=TINY), server(sink)
    mirror = doppel(primary, "--shadow-memory", "1m", "--sndbuf", "64k", shadows=[stalled, fine])
    client = mirror.connect()

    for offset in range(0, 4 * MIB, 64 * KIB):
        client.exchange(pattern(64 * KIB, offset=offset))
        fine.connection().wait_received(client.sent.count)
    stalled.connection().wait_reset()
    client.close()

    entry = mirror.shadow(0, "shadow0")
    assert (entry["result"], entry["reason"]) == ("detached", "memory")
    assert entry["max_lag_bytes"] <= MIB + 64 * KIB
    assert mirror.shadow(0, "shadow1")["result"] == "mirrored"


def test_of_two_sessions_the_one_whose_shadow_lags_most_pays_for_the_memory(doppel, server):
    primary, stalled = server(echo), server(hold, rcvbuf=TINY)
    mirror = doppel(primary, "--shadow-memory", "2m", "--sndbuf", "64k",
                    shadows=[shadow(stalled, linger="20s")])
    little, much = mirror.connect(), mirror.connect()

    little.exchange(pattern(512 * KIB, 1))
    stalled.connection(0)
    much.exchange(pattern(4 * MIB, 2))
    stalled.connection(1).wait_reset()

    assert not stalled.connection(0).is_reset()
    stalled.release()
    for client in (little, much):
        client.close()
    results = {line["request_bytes"]: line["shadows"][0]["result"] for line in mirror.access_log(2)}
    assert results == {512 * KIB: "mirrored", 4 * MIB: "detached"}
