"""
test_access_log.py — one line a session, with the names that dashboards and scripts hold on to: a
field whose value is unknown is absent.
"""
import json
import re
import signal

import pytest

from support.headers import v1
from support.pattern import KIB, MIB, pattern
from support.peers import answer, close_at_once, echo, hold, reset_after, sink
from support.proxy import shadow
from support.secure import secure
from support.waiting import eventually, let_pass

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
NAME = re.compile(r"[0-9a-f]+-[0-9]+-[0-9a-f]+")     # start, worker, count
LONGEST_LINE = 4096

ALWAYS = ["time", "session", "listener", "client", "primary", "seconds", "connect_ms", "first_byte_ms",
          "request_bytes", "response_bytes", "reason"]
OF_A_SHADOW = ["name", "address", "result", "reason", "connect_ms", "first_byte_ms", "offered_bytes",
               "sent_bytes", "lost_bytes", "skipped_bytes", "unacked_bytes", "max_lag_bytes",
               "response_bytes"]


def assert_connect_time_of_log_and_metric_are_one(mirror):
    """One session has been: both say the same, up to the tenth of a millisecond that the log rounds to."""
    seconds = mirror.metric("doppel_connect_seconds_sum", leg="primary")
    assert mirror.metric("doppel_connect_seconds_count", leg="primary") == 1
    assert abs(mirror.session(0)["connect_ms"] - seconds * 1000) <= 0.06


def test_what_a_client_takes_for_its_handshake_is_not_blamed_on_the_primary(doppel, server, authority):
    mirror = doppel(server(echo), "--tls-cert", authority.certificate("localhost"),
                    listens=("tls://127.0.0.1:0",))
    client = mirror.connect()
    let_pass(0.5)
    secure(client, authority.client_context(), "localhost")
    assert client.exchange(b"hello") == b"hello"
    client.close()

    assert mirror.session(0)["seconds"] >= 0.5
    assert_connect_time_of_log_and_metric_are_one(mirror)


def test_what_a_proxy_takes_for_its_header_is_not_blamed_on_the_primary(doppel, server):
    mirror = doppel(server(echo), "--proxy-trust", "127.0.0.1", listens=("127.0.0.1:0?accept-proxy=on",))
    client = mirror.connect()
    let_pass(0.5)
    client.socket.sendall(v1(("10.0.0.9", 51312), ("10.0.1.5", 443)))
    assert client.exchange(b"hello") == b"hello"
    client.close()

    assert mirror.session(0)["seconds"] >= 0.5
    assert_connect_time_of_log_and_metric_are_one(mirror)


def talk(mirror, size=4 * KIB):
    """One session to its end; answers its client."""
    client = mirror.connect()
    client.exchange(pattern(size))
    client.finish()
    assert client.drain() == "fin"
    client.close()
    return client


# The fields.

def test_a_line_has_all_its_fields_in_their_order(doppel, server):
    primary, mirrored = server(echo), server(echo)
    mirror = doppel(primary, shadows=[shadow(mirrored, "canary")])
    client = talk(mirror)

    session = mirror.session(0)

    assert list(session) == ALWAYS + ["shadows"]
    assert TIME.fullmatch(session["time"]) and NAME.fullmatch(session["session"])
    assert session["listener"] == "127.0.0.1:0"
    assert session["client"] == "{}:{}".format(*client.local)
    assert session["primary"] == primary.address
    assert (session["request_bytes"], session["response_bytes"]) == (4 * KIB, 4 * KIB)
    assert session["reason"] == "client_fin"
    assert 0 <= session["connect_ms"] <= 1000 * session["seconds"] + 1
    assert 0 <= session["first_byte_ms"] <= 1000 * session["seconds"] + 1

    entry = mirror.shadow(0, "canary")
    assert list(entry) == OF_A_SHADOW
    assert entry["address"] == mirrored.address
    assert (entry["result"], entry["reason"]) == ("mirrored", "fin")
    assert entry["offered_bytes"] == entry["sent_bytes"] == entry["response_bytes"] == 4 * KIB
    assert entry["lost_bytes"] == entry["skipped_bytes"] == entry["unacked_bytes"] == 0
    assert 0 < entry["max_lag_bytes"] <= 4 * KIB


def test_without_shadows_there_is_no_list(doppel, server):
    mirror = doppel(server(echo))
    talk(mirror)

    assert list(mirror.session(0)) == ALWAYS


def test_a_shadow_that_was_not_mirrored_says_why_and_no_more(doppel, server):
    mirrored = server(sink)
    mirror = doppel(server(echo), shadows=[shadow(mirrored, "never", sample=0),
                                           shadow(mirrored, "others", from_="10.0.0.0/8")])
    talk(mirror)

    for name, result in (("never", "sampled_out"), ("others", "filtered")):
        entry = mirror.shadow(0, name)
        assert entry["result"] == result
        assert (entry["offered_bytes"], entry["sent_bytes"], entry["lost_bytes"]) == (4 * KIB, 0, 0)
        assert not {"reason", "address", "connect_ms", "first_byte_ms", "max_lag_bytes"} & set(entry)


def test_a_shadow_that_says_nothing_has_no_first_byte(doppel, server):
    mirror = doppel(server(echo), shadows=[server(sink)])
    talk(mirror)

    entry = mirror.shadow(0, "shadow0")
    assert "first_byte_ms" not in entry and entry["response_bytes"] == 0


def test_a_primary_that_says_nothing_has_no_first_byte(doppel, server):
    mirror = doppel(server(sink))
    client = mirror.connect()
    client.send(b"hello")
    client.finish()
    assert client.drain() == "fin"

    session = mirror.session(0)
    assert "first_byte_ms" not in session and session["connect_ms"] >= 0


def test_a_session_name_stands_in_the_log_too(doppel, server):
    mirror = doppel(server(echo), shadows=[server(state="refusing")])
    talk(mirror)

    warning = mirror.wait_log("shadow_detached", level="warning")[0]

    assert warning.fields["session"] == mirror.session(0)["session"]


def test_a_session_name_is_unique_across_workers_and_restarts(doppel, server):
    primary = server(echo)
    names = []

    for _ in range(5):                      # several within one second
        mirror = doppel(primary, workers=2)
        mirror.expect(identity="none")      # the primary serves them all
        for _ in range(4):
            talk(mirror)
        names += [session["session"] for session in mirror.access_log(4)]
        assert mirror.stop() == 0

    assert len(set(names)) == len(names) == 20


def test_the_first_byte_counts_from_the_first_byte_of_the_client(doppel, server):
    primary = server()
    mirror = doppel(primary)
    client = mirror.connect()
    connection = primary.connection()
    mirror.assert_not_spinning(0.5)         # half a second of silence that does not count

    client.send(b"?")
    connection.recv_exact(1)
    connection.send(b"!")
    client.recv_exact(1)
    client.close()
    connection.close()

    session = mirror.session(0)
    assert session["first_byte_ms"] < 1000 * session["seconds"] - 400


# The forms.

TEXT = re.compile(r"(\S{24}) (\S+) +(\S+) +([a-z_]+) +([\d.]+)s +(\d+) +(\d+)((?: \S+)*)")


def test_the_text_form_is_short_and_its_columns_stand_below_each_other(doppel, server):
    mirror = doppel(server(echo), "--access-format", "text", shadows=[
        shadow(server(echo), "canary"), shadow(server(state="refusing"), "dead"),
        shadow(server(echo), "never", sample=0)])
    mirror.expect(access_log=False)     # the checks read JSON
    clients = [talk(mirror, size) for size in (1, 4 * KIB, 100 * KIB)]
    eventually(lambda: len(mirror.access_lines) == 3, "the lines")

    lines = [TEXT.fullmatch(line) for line in mirror.access_lines]
    for found, client, size in zip(lines, clients, (1, 4 * KIB, 100 * KIB)):
        time, name, address, reason, _, sent, received, shadows = found.groups()
        assert TIME.fullmatch(time) and NAME.fullmatch(name)
        assert address == "{}:{}".format(*client.local) and reason == "client_fin"
        assert int(sent) == int(received) == size
        assert shadows == f" canary=mirrored dead=refused(-{size}) never=sampled_out"
        assert found.start(8) < 120
    for column in (1, 2, 3, 4):
        assert len({found.start(column) for found in lines}) == 1, "to the left"
    for column in (5, 6, 7):
        assert len({found.end(column) for found in lines}) == 1, "to the right"


def test_each_line_adds_up(doppel, server):
    """offered = sent + lost + skipped, whatever became of the shadow."""
    mirror = doppel(server(echo), shadows=[
        shadow(server(echo), "whole"), shadow(server(state="refusing"), "dead"),
        shadow(server(echo), "never", sample=0), shadow(server(echo), "first", max_bytes=KIB),
        shadow(server(close_at_once), "closing"), shadow(server(echo), "filtered", from_="10.0.0.0/8")])
    mirror.expect(identity="prefix")
    for _ in range(3):
        talk(mirror)
    mirror.connect().close()

    for session in mirror.access_log(4):
        for entry in session["shadows"]:
            fates = [entry[f"{fate}_bytes"] for fate in ("sent", "lost", "skipped")]
            assert sum(fates) == entry["offered_bytes"] == session["request_bytes"], entry
    whole = [session for session in mirror.access_log(4) if session["request_bytes"] > 0]
    skipped = [{entry["name"]: entry["skipped_bytes"] for entry in session["shadows"]} for session in whole]
    assert [row["first"] for row in skipped] == [3 * KIB] * 3
    assert [row["never"] for row in skipped] == [4 * KIB] * 3


def test_off_is_off(doppel, server):
    mirror = doppel(server(echo), "--access-log", "off")
    talk(mirror)

    eventually(lambda: mirror.metric("doppel_sessions_closed_total", reason="client_fin") == 1, "its end")
    assert mirror.stop() == 0
    assert mirror.access_lines == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_gets_every_line_whole(doppel, server, tmp_path, workers):
    path = tmp_path / "access.log"
    path.write_text('{"kept":true}\n')
    mirror = doppel(server(echo), "--access-log", str(path), shadows=[server(sink)], workers=workers)
    clients = [mirror.connect() for _ in range(50)]
    for number, client in enumerate(clients):
        client.exchange(pattern(KIB, number))
        client.close()

    eventually(lambda: len(path.read_text().splitlines()) == 51, "51 lines")
    kept, *sessions = [json.loads(line) for line in path.read_text().splitlines()]

    assert kept == {"kept": True}           # a file is continued
    assert {session["client"] for session in sessions} == {"{}:{}".format(*one.local) for one in clients}
    assert mirror.access_lines == []


def test_the_lines_of_two_workers_never_mix(doppel, server):
    refusing = server(state="refusing")
    mirror = doppel(server(echo), workers=2, shadows=[shadow(refusing, f"shadow-{n}") for n in range(8)])
    clients = [mirror.connect() for _ in range(60)]

    jobs = [client.start(client.exchange, pattern(KIB, number)) for number, client in enumerate(clients)]
    for client, job in zip(clients, jobs):
        job.result()
        client.close()

    for session in mirror.access_log(60):
        assert len(session["shadows"]) == 8


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_line_that_would_be_too_long_counts_the_shadows_it_omits(doppel, server, form):
    refusing = server(state="refusing")
    names = [f"a-shadow-with-a-long-name-{number:03}" for number in range(120)]
    mirror = doppel(server(echo), "--access-format", form, shadows=[shadow(refusing, name) for name in names])
    mirror.expect(access_log=False)
    talk(mirror)

    eventually(lambda: mirror.access_lines, "the line")
    line = mirror.access_lines[0]

    assert len(line.encode()) < LONGEST_LINE
    if form == "json":
        fields = json.loads(line)
        told, omitted = [entry["name"] for entry in fields["shadows"]], fields["shadows_omitted"]
    else:
        told = re.findall(r" ([\w-]+)=refused", line)
        omitted = int(re.search(r" shadows_omitted=(\d+)$", line)[1])
    assert told == names[:len(told)]
    assert omitted == len(names) - len(told) > 0
    assert "client_fin" in line


# The reasons.

def end_by_client(server, client):
    client.finish()
    server.connection().drain()
    server.connection().close()


def end_by_client_reset(server, client):
    server.connection().recv_exact(5)
    client.reset()


def end_by_primary(server, client):
    server.connection().recv_exact(5)
    server.connection().finish()
    client.recv()
    client.finish()


def end_by_primary_reset(server, client):
    server.connection().recv_exact(5)
    server.connection().reset()


ENDS = {
    "client_fin": end_by_client,
    "client_rst": end_by_client_reset,
    "primary_fin": end_by_primary,
    "primary_rst": end_by_primary_reset,
}


@pytest.mark.parametrize("reason", list(ENDS))
def test_each_end_has_its_reason(doppel, server, reason):
    primary = server()
    mirror = doppel(primary, shadows=[server(sink)])
    mirror.expect(identity="prefix")
    client = mirror.connect()
    client.send(b"hello")

    ENDS[reason](primary, client)

    assert mirror.session(0)["reason"] == reason
    assert mirror.metric("doppel_sessions_closed_total", reason=reason) == 1
    assert mirror.metric("doppel_sessions_closed_total") == 1


def test_a_failure_counts_more_than_the_good_end_before_it(doppel, server):
    def read_all_and_reset(connection):
        connection.drain()
        connection.reset()

    mirror = doppel(server(read_all_and_reset))
    client = mirror.connect()
    client.send(b"hello")
    client.finish()

    assert client.drain() == "rst"
    assert mirror.session(0)["reason"] == "primary_rst"


def test_a_session_that_the_drain_cuts_says_so(doppel, server):
    mirror = doppel(server(hold), "--drain-timeout", "200ms")
    client = mirror.connect()
    client.send(b"hello")
    mirror.wait_metric("doppel_sessions_active", 1)

    assert mirror.stop(signal.SIGTERM) == 0

    assert mirror.session(0)["reason"] == "drain"


def test_bytes_are_counted_as_they_were_moved(doppel, server):
    def half_an_answer(connection):
        answer(MIB, after=10)(connection)

    resetting = server(reset_after(5))
    mirror = doppel(server(half_an_answer), shadows=[shadow(resetting, "broken")])
    client = mirror.connect()
    client.send(b"0123456789")
    client.recv_exact(MIB)
    eventually(lambda: resetting.connection().closed, "the shadow resets")
    client.send(b"more")
    client.close()

    session = mirror.session(0)
    assert (session["request_bytes"], session["response_bytes"]) == (14, MIB)
    entry = mirror.shadow(0, "broken")
    assert (entry["offered_bytes"], entry["sent_bytes"], entry["lost_bytes"]) == (14, 10, 4)
