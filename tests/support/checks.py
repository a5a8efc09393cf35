"""
checks.py — what must hold at the end of every end-to-end test, for every doppel it started.

    1. no crash, no sanitizer output, no error in the log that the test does not expect
    2. client and primary saw identical streams, both ways
    3. each shadow saw a prefix of a client's bytes; all of them when it counts as mirrored
    4. nothing is left: no session, no buffered byte, no descriptor more than at the start
    5. the books balance, and the access log agrees with them
    6. the processes do not spin
    7. (log rates: Doppel.assert_log_count, in the tests that expect lines)
    8. no socket in CLOSE-WAIT
    9. TERM ends it with status 0 and a line of totals

Each check answers a list of sentences; an empty list is a pass.
"""
import re
from collections import Counter

from support import processes
from support.pattern import is_prefix, is_same
from support.proxy import LogLine, metric_of
from support.waiting import eventually

PROBLEM = re.compile(r"runtime error|AddressSanitizer|LeakSanitizer|UndefinedBehavior|Assertion|\(libev\)")


def check_alive(mirror):
    """The checks on a proxy that still runs and whose peers have all ended."""
    wanted = mirror.expectation
    found = []
    if wanted.quiesce:
        found += check_quiesced(mirror)
    if wanted.descriptors and not found:
        found += check_descriptors(mirror)
    if wanted.quiesce and wanted.books and not found:
        found += check_books(mirror)
    if wanted.spinning:
        found += _sentences(lambda: mirror.assert_not_spinning(0.3))
    waiting = processes.close_waiting(mirror.pids())
    return found + [f"in CLOSE-WAIT: {waiting}"] * bool(waiting)


def check_ended(mirror):
    """The checks on a proxy that has exited."""
    wanted = mirror.expectation
    found = []
    if mirror.exit_status != wanted.exit_status:
        found.append(f"exit status {mirror.exit_status} instead of {wanted.exit_status}")
    if wanted.totals and mirror.log_lines and not mirror.log(r"\btotals\b") and not quiet(mirror):
        found.append("no line of totals at exit")
    return found + check_problems(mirror)


def check_problems(mirror):
    lines = [line for line in mirror.log_lines
             if (PROBLEM.search(line) or LogLine.parse(line).level == "error")
             and not any(re.search(allowed, line) for allowed in mirror.expectation.problems)]
    return [f"problem in the log: {line}" for line in lines[:5]]


def quiet(mirror):
    return "-q" in mirror.command or "--log-level" in mirror.command


def check_quiesced(mirror):
    gauges = ("doppel_sessions_active", "doppel_buffered_bytes", "doppel_shadow_active",
              "doppel_shadow_buffered_bytes")

    def busy():
        samples = mirror.metrics()
        return {name: metric_of(samples, name) for name in gauges if metric_of(samples, name) != 0}
    return _sentences(lambda: eventually(lambda: not busy(), lambda: f"still busy: {busy()}"))


def check_descriptors(mirror):
    def now():
        return [processes.descriptor_kinds(pid) for pid in mirror.pids()]
    at_start = list(mirror.descriptors_at_start.values())

    def is_at_rest():
        """A question of the start may have been open: what it needed is gone."""
        return len(now()) == len(at_start) and all(is_now <= was for is_now, was in zip(now(), at_start))

    def difference():
        return f"descriptors at start {at_start}, now {now()}: " + str(
            [processes.descriptors(pid) for pid in mirror.pids()])
    return _sentences(lambda: eventually(is_at_rest, difference, timeout=5))


def check_books(mirror):
    """interface.md, "The books": for each shadow every byte has one fate and every session one result."""
    samples = mirror.metrics()
    total = metric_of(samples, "doppel_sessions_total")
    closed = metric_of(samples, "doppel_sessions_closed_total")
    request = metric_of(samples, "doppel_bytes_total", direction="request")
    found = _differs("sessions closed", closed, "sessions accepted", total)
    for target in mirror.shadows:
        found += _check_shadow_books(samples, target.name, total, request)
    if mirror.expectation.access_log and mirror.access_lines:
        found += _check_access_log(mirror, samples, total)
    return found + _check_bytes(mirror, samples, total)


def _check_shadow_books(samples, name, sessions, request):
    fate = {fate: metric_of(samples, "doppel_shadow_bytes_total", shadow=name, fate=fate)
            for fate in ("offered", "sent", "lost", "skipped")}
    results = metric_of(samples, "doppel_shadow_sessions_total", shadow=name)
    dialled = sum(metric_of(samples, "doppel_shadow_sessions_total", shadow=name, result=result)
                  for result in ("mirrored", "detached"))
    ends = metric_of(samples, "doppel_shadow_closed_total", shadow=name)
    spent = fate["sent"] + fate["lost"] + fate["skipped"]
    return (_differs(f"{name}: sent + lost + skipped", spent, "offered", fate["offered"], fate)
            + _differs(f"{name}: offered", fate["offered"], "the clients' bytes", request)
            + _differs(f"{name}: results", results, "sessions", sessions)
            + _differs(f"{name}: closed", ends, "mirrored + detached", dialled))


def _check_access_log(mirror, samples, sessions):
    dropped = metric_of(samples, "doppel_log_dropped_total")    # a test that reads too slowly
    found = _sentences(lambda: mirror.access_log(int(sessions - dropped)))
    if found or dropped:
        return found
    lines = mirror.access_log(int(sessions))
    found = _differs("access-log lines", len(lines), "sessions", sessions)
    if "--max-sessions" not in mirror.command and not any("shadows_omitted" in line for line in lines):
        for target in mirror.shadows:
            found += _check_access_shadow(lines, samples, target.name)
    return found


def _check_access_shadow(lines, samples, name):
    entries = [entry for line in lines for entry in line.get("shadows", []) if entry["name"] == name]
    found = []
    for fate in ("sent", "lost"):
        logged = sum(entry.get(f"{fate}_bytes", 0) for entry in entries)
        counted = metric_of(samples, "doppel_shadow_bytes_total", shadow=name, fate=fate)
        found += _differs(f"{name}: {fate} in the access log", logged, "counted", counted)
    return found


def _check_bytes(mirror, samples, sessions):
    """The relayed bytes are the clients' own counts, when all sessions were ours and whole."""
    if mirror.expectation.identity != "exact" or sessions != len(mirror.clients) or not mirror.primaries:
        return []
    sent = sum(client.sent.count for client in mirror.clients)
    received = sum(client.received.count for client in mirror.clients)
    return (_differs("request bytes", metric_of(samples, "doppel_bytes_total", direction="request"),
                     "sent by the clients", sent)
            + _differs("response bytes", metric_of(samples, "doppel_bytes_total", direction="response"),
                       "received by the clients", received))


def check_identity(mirror):
    """Pairs every client with a primary's connection by what they saw."""
    if mirror.expectation.identity == "none":
        return []
    found = check_shadow_streams(mirror)
    if not mirror.primaries:
        return found
    clients = list(mirror.clients)
    connections = [connection for primary in mirror.primaries for connection in primary.connections]
    clients, connections = _without_equal_pairs(clients, connections)
    if mirror.expectation.identity == "exact":
        found += [f"no primary connection saw what this client did: {_seen(client)}"
                  for client in clients]
        found += [f"no client saw what this primary connection did: {_seen(connection)}"
                  for connection in connections]
        return found
    return found + _unmatched_prefixes(clients, connections)


def _without_equal_pairs(clients, connections):
    """Leaves those that have no partner with the same bytes both ways."""
    there = Counter(_print(peer.received, peer.sent) for peer in connections)
    here = Counter(_print(peer.sent, peer.received) for peer in clients)
    common = here & there
    return (_leave(clients, common.copy(), lambda peer: _print(peer.sent, peer.received)),
            _leave(connections, common.copy(), lambda peer: _print(peer.received, peer.sent)))


def _leave(peers, matched, key):
    rest = []
    for peer in peers:
        if matched[key(peer)] > 0:
            matched[key(peer)] -= 1
        else:
            rest.append(peer)
    return rest


def _unmatched_prefixes(clients, connections):
    found = []
    clients = list(clients)
    for connection in connections:
        partner = next((client for client in clients if is_prefix(connection.received, client.sent)
                        and is_prefix(client.received, connection.sent)), None)
        if partner is None:
            found.append(f"this primary connection is no client's prefix: {_seen(connection)}")
        else:
            clients.remove(partner)
    found += [f"this client got bytes from nowhere: {_seen(client)}"
              for client in clients if client.received.count > 0]
    return found


def check_shadow_streams(mirror):
    """Each shadow connection is a prefix; as many as count as mirrored are whole."""
    whole = {(client.sent.count, client.sent.digest) for client in mirror.clients}
    found = []
    for target in mirror.shadows:
        if target.server is None:
            continue
        complete = 0
        for connection in target.server.connections:
            if (connection.received.count, connection.received.digest) in whole:
                complete += 1
            elif not any(is_prefix(connection.received, client.sent) for client in mirror.clients):
                found.append(f"{target.name}: not a prefix of any client's bytes: {_seen(connection)}")
        mirrored = metric_of(mirror.last_metrics, "doppel_shadow_sessions_total",
                             shadow=target.name, result="mirrored")
        if mirror.expectation.identity == "exact" and complete < mirrored:
            found.append(f"{target.name}: {mirrored} count as mirrored, {complete} got all bytes")
    return found


def check_servers(servers):
    return [f"the script of a peer failed: {error}" for server in servers for error in server.errors]


def assert_same(one, other):
    """Two peers' received and sent, as tallies."""
    assert is_same(one, other), f"{one.count} bytes {one.digest} and {other.count} bytes {other.digest}"


def assert_prefix(received, sent):
    assert is_prefix(received, sent), f"{received.count} of {sent.count} bytes are not its beginning"


def _print(outward, inward):
    return outward.count, outward.digest, inward.count, inward.digest


def _seen(peer):
    return f"received {peer.received.count}, sent {peer.sent.count}, end {peer.end}"


def _differs(one, its, other, others, detail=""):
    return [] if its == others else [f"{one} ({its}) is not {other} ({others}) {detail}"]


def _sentences(check):
    try:
        check()
    except AssertionError as error:
        return [str(error)]
    return []
