"""
test_real_software.py — programs that the world uses, on both ends: a shadow of the same kind ends up
as the primary did, and the client gets what it would get without doppel.

Where a shadow must miss nothing it is one that blocks.  The clients are no peers of this harness, so
the closing checks compare the books, and each test compares what the programs know.
"""
import json
import re
from collections import Counter

import pytest

from support.pattern import KIB, MIB, pattern
from support.peers import Job, sink
from support.programs import run
from support.proxy import shadow
from support.waiting import eventually


def mirrored(doppel, primary, copy, **options):
    """doppel between a primary and a shadow; .port is where clients go."""
    options = {"overflow": "block", "linger": "30s", **options}
    mirror = doppel(primary.address, workers=2, shadows=[shadow(copy.address, **options)])
    mirror.expect(identity="none")
    mirror.port = mirror.addresses[0][1]
    return mirror


def wait_at_rest(mirror):
    """All sessions are over, those with the shadow as well."""
    gauges = ("doppel_sessions_active", "doppel_shadow_active")
    eventually(lambda: not any(mirror.metric(gauge) for gauge in gauges), mirror.report, timeout=40)


def assert_all_mirrored(mirror):
    """The shadow got every byte of every session, and ended each in good order."""
    wait_at_rest(mirror)
    sessions = mirror.metric("doppel_sessions_total")
    assert sessions > 0
    assert mirror.metric("doppel_shadow_sessions_total", result="mirrored") == sessions, mirror.report()
    assert mirror.shadow_closed("fin") == sessions, mirror.report()
    assert mirror.metric("doppel_shadow_bytes_total", fate="sent") \
        == mirror.metric("doppel_bytes_total", direction="request")


# Redis.

def test_redis_benchmark_leaves_two_redises_with_the_same_data(programs, doppel):
    primary, copy = programs.redis(), programs.redis()
    mirror = mirrored(doppel, primary, copy)

    # The end does not depend on the order in which the clients' commands arrive.
    run(f"redis-benchmark -p {mirror.port} -t set,incr,hset,mset -n 10000 -r 3000 -d 100 -c 20 -P 8 -q")

    assert_all_mirrored(mirror)
    assert int(primary.ask("dbsize")) > 3000
    assert copy.digest() == primary.digest() != "0" * 40


# HTTP.

BIG = 8 * MIB
SMALL = 100


@pytest.fixture
def two_nginx(programs):
    """A primary with files to serve, and a shadow whose files are others: nobody may ever see them."""
    primary, copy = programs.nginx(), programs.nginx()
    for number, server in enumerate((primary, copy)):
        (server.www / "big").write_bytes(pattern(BIG, seed=number))
        (server.www / "small").write_bytes(pattern(SMALL, seed=number))
    return primary, copy


def assert_same_requests(primary, copy, least):
    """Both logs have the same lines, whatever their order; answers how many."""
    eventually(lambda: len(copy.requests()) >= len(primary.requests()) >= least,
               lambda: f"requests: {len(primary.requests())} and {len(copy.requests())}, at least {least}")
    assert Counter(copy.requests()) == Counter(primary.requests())
    return len(primary.requests())


def test_curl_gets_the_primarys_bodies_and_both_servers_get_its_uploads(programs, two_nginx, doppel):
    primary, copy = two_nginx
    mirror = mirrored(doppel, primary, copy)
    url = f"http://127.0.0.1:{mirror.port}"
    upload = programs.path("upload")
    upload.write_bytes(pattern(BIG, seed=2))

    for number in range(3):
        run(f"curl -sSf -T {upload} {url}/uploaded{number}")
    assert run(f"curl -sSf {url}/big") == pattern(BIG)

    assert_all_mirrored(mirror)
    assert_same_requests(primary, copy, 4)
    for server in two_nginx:
        for number in range(3):
            assert (server.www / f"uploaded{number}").read_bytes() == pattern(BIG, seed=2)


def test_curl_keeps_one_connection_for_many_requests(two_nginx, doppel):
    primary, copy = two_nginx
    mirror = mirrored(doppel, primary, copy)

    said = run(f"curl -sSf http://127.0.0.1:{mirror.port}/small?[1-100]")

    assert said == pattern(SMALL) * 100
    assert_all_mirrored(mirror)
    assert mirror.metric("doppel_sessions_total") == 1
    assert assert_same_requests(primary, copy, 100) == 100


def test_nc_pipelines_requests_closes_its_half_and_gets_all_answers(two_nginx, doppel):
    primary, copy = two_nginx
    mirror = mirrored(doppel, primary, copy)
    requests = b"".join(b"GET /small?%d HTTP/1.1\r\nHost: here\r\n\r\n" % number for number in range(100))

    answers = run(f"nc -N 127.0.0.1 {mirror.port}", stdin=requests)

    assert answers.count(b"HTTP/1.1 200 OK") == answers.count(pattern(SMALL)) == 100
    assert_all_mirrored(mirror)
    assert assert_same_requests(primary, copy, 100) == 100


def test_curl_gets_a_big_body_by_http2(programs, doppel):
    primary, copy = (programs.nginx(listen_options="http2") for _ in range(2))
    (primary.www / "big").write_bytes(pattern(BIG))
    (copy.www / "big").write_bytes(pattern(BIG, seed=1))
    mirror = mirrored(doppel, primary, copy)
    curl = f"curl -sSf --http2-prior-knowledge http://127.0.0.1:{mirror.port}/big"

    jobs = [Job(run, curl) for _ in range(4)]

    assert all(job.result() == pattern(BIG) for job in jobs)
    assert_all_mirrored(mirror)
    assert assert_same_requests(primary, copy, 4) == 4


def test_an_nginx_in_front_reuses_its_connections_through_doppel(programs, two_nginx, doppel):
    primary, copy = two_nginx
    mirror = mirrored(doppel, primary, copy)
    front = programs.nginx(
        upstream=f"upstream behind {{ server 127.0.0.1:{mirror.port}; keepalive 8; }}",
        location="proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection '';")

    jobs = [Job(run, f"curl -sSf {front.address}/small?{job}-[1-50]") for job in range(4)]

    assert [job.result() for job in jobs] == [pattern(SMALL) * 50] * 4
    front.close()
    assert_all_mirrored(mirror)
    assert mirror.metric("doppel_sessions_total") < 50
    assert assert_same_requests(primary, copy, 200) == 200


def answered(said):
    """How many answers wrk counted; nothing may have failed."""
    said = said.decode()
    assert "Socket errors" not in said and "Non-2xx" not in said, said
    return int(re.search(r"(\d+) requests in", said)[1])


# When its time is over wrk resets its connections, and what a server then has not read is lost.  So
# each thread stops after an answer, before the next question, and its connection ends in good order.
STOP_IN_TIME = """
local answers = 0
function response()
    answers = answers + 1
    if answers == 500 then wrk.thread:stop() end
end
"""


def test_wrk_makes_as_many_requests_to_both_servers(programs, two_nginx, doppel):
    primary, copy = two_nginx
    mirror = mirrored(doppel, primary, copy)
    script = programs.path("stop.lua")
    script.write_text(STOP_IN_TIME)

    said = run(f"wrk -t 8 -c 8 -d 3s -s {script} http://127.0.0.1:{mirror.port}/small")

    assert answered(said) == 8 * 500
    wait_at_rest(mirror)
    assert assert_same_requests(primary, copy, 8 * 500) == 8 * 500


def test_wrk_does_not_notice_a_shadow_that_freezes_and_dies(two_nginx, doppel):
    primary, copy = two_nginx
    mirror = mirrored(doppel, primary, copy, overflow="detach", linger="300ms")
    wrk = Job(run, f"wrk -t 1 -c 8 -d 4s http://127.0.0.1:{mirror.port}/small")

    eventually(lambda: len(copy.requests()) > 100, "the shadow serves requests")
    copy.freeze()
    mirror.wait_metric("doppel_sessions_total", mirror.metric("doppel_sessions_total") + 32)
    copy.kill()
    mirror.wait_metric("doppel_shadow_closed_total", 1, reason="refused")

    answers = answered(wrk.result())
    wait_at_rest(mirror)
    assert len(primary.requests()) >= answers > 100


def test_curl_gets_every_body_while_its_shadow_freezes_and_dies(programs, two_nginx, doppel):
    primary, copy = two_nginx
    mirror = mirrored(doppel, primary, copy, overflow="detach", buffer="64k", linger="300ms")
    url = f"http://127.0.0.1:{mirror.port}"
    upload = programs.path("upload")
    upload.write_bytes(pattern(BIG, seed=2))

    copy.freeze()
    run(f"curl -sSf -T {upload} {url}/frozen")
    assert run(f"curl -sSf {url}/big") == pattern(BIG)
    assert mirror.shadow_closed("lag") == 1
    copy.kill()
    run(f"curl -sSf -T {upload} {url}/dead")
    assert run(f"curl -sSf {url}/big") == pattern(BIG)

    wait_at_rest(mirror)
    assert mirror.shadow_closed("refused") == 2
    eventually(lambda: len(primary.requests()) == 4, primary.requests)
    for name in ("frozen", "dead"):
        assert (primary.www / name).read_bytes() == pattern(BIG, seed=2)


# PostgreSQL.

TABLES = {"pgbench_accounts": "*", "pgbench_branches": "*", "pgbench_tellers": "*",
          "pgbench_history": "tid, bid, aid, delta, filler"}     # mtime is each server's own clock


def contents(postgres):
    """(rows, digest) of each table, rows in a fixed order."""
    return {table: postgres.ask(f"select count(*), md5(string_agg(one::text, ';' order by one::text)) "
                                f"from (select {columns} from {table}) as one")
            for table, columns in TABLES.items()}


def test_pgbench_leaves_two_postgres_servers_with_the_same_tables(programs, doppel):
    primary, copy = programs.postgres(), programs.postgres()
    mirror = mirrored(doppel, primary, copy)
    pgbench = "pgbench 'host=127.0.0.1 port={} user=postgres dbname=postgres sslmode=disable " \
              "gssencmode=disable' ".format(mirror.port)

    # Sessions of a client follow each other; at the shadow they do only if it keeps pace.  Without -n
    # a run would truncate in one session what the next one inserts.
    for arguments in ("-i -q -s 1", "-n -c 1 -t 300", "-n -c 1 -t 200 -M prepared"):
        run(pgbench + arguments)
        wait_at_rest(mirror)

    assert_all_mirrored(mirror)
    assert contents(copy) == contents(primary)
    assert contents(primary)["pgbench_history"].startswith("500|")
    assert contents(primary)["pgbench_accounts"].startswith("100000|")


def test_psql_that_prefers_tls_is_served_and_a_warning_says_that_the_shadow_sees_noise(
        programs, authority, doppel):
    primary, copy = programs.postgres(certificate=authority.certificate("localhost")), programs.postgres()
    mirror = mirrored(doppel, primary, copy, overflow="detach")
    psql = f"psql -X -At 'host=127.0.0.1 port={mirror.port} user=postgres sslmode=prefer' -c "
    query = "'select count(*) from pg_stat_ssl where ssl and pid = pg_backend_pid()'"

    for _ in range(3):
        assert run(psql + query) == b"1\n"

    wait_at_rest(mirror)
    assert len(mirror.access_log(3)) == 3
    said = mirror.log("tls_passes_through", level="warning")
    assert len(said) == 1 and "sslmode=disable" in said[0].fields["why"]
    assert not mirror.log("primary_failed")


# MQTT.

def test_mosquitto_publishers_reach_the_subscribers_of_both_brokers(programs, doppel):
    primary, copy = programs.mosquitto(), programs.mosquitto()
    mirror = mirrored(doppel, primary, copy)
    subscribers = [Job(run, f"mosquitto_sub -h 127.0.0.1 -p {broker.port} -t room/# -q 2 -C 600 -W 40 -v")
                   for broker in (primary, copy)]
    for broker in (primary, copy):
        broker.wait_subscribed()

    lines = b"".join(b"message %d\n" % number for number in range(200))
    publishers = [Job(run, f"mosquitto_pub -h 127.0.0.1 -p {mirror.port} -t room/{level} -q {level} -l",
                      lines) for level in range(3)]
    for publisher in publishers:
        publisher.result()

    heard = [subscriber.result(60).splitlines() for subscriber in subscribers]
    for level in range(3):
        sent = [b"room/%d %s" % (level, line) for line in lines.splitlines()]
        for subscriber in heard:
            assert [line for line in subscriber if line.startswith(b"room/%d " % level)] == sent
    assert_all_mirrored(mirror)


# nc and iperf3.

def test_nc_closes_its_half_and_gets_the_whole_answer(programs, doppel, server):
    def answer_after_the_end(connection):
        connection.drain()
        connection.send(pattern(MIB, seed=1))

    copy = programs.netcat()
    mirror = mirrored(doppel, server(answer_after_the_end), copy)

    assert run(f"nc -N 127.0.0.1 {mirror.port}", stdin=pattern(MIB)) == pattern(MIB, seed=1)

    copy.wait()
    assert copy.received() == pattern(MIB)
    assert_all_mirrored(mirror)


@pytest.mark.parametrize("way, direction", [("", "request"), ("-R", "response")])
def test_iperf3_measures_both_ways(programs, doppel, server, way, direction):
    primary, copy = programs.iperf3(), server(sink)
    mirror = mirrored(doppel, primary, copy)

    said = json.loads(run(f"iperf3 -c 127.0.0.1 -p {mirror.port} -n 64M -P 2 -J {way}"))

    assert "error" not in said
    wait_at_rest(mirror)
    # At its end it leaves bytes unread; a few more go through its control connection.
    sent, received = (said["end"][f"sum_{which}"]["bytes"] for which in ("sent", "received"))
    assert 0 < received <= mirror.metric("doppel_bytes_total", direction=direction) <= sent + 16 * KIB
