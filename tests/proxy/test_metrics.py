"""
test_metrics.py — /metrics is a page that Prometheus reads: valid, complete, bounded, and true.
"""
import threading

import pytest

from support import crowd as crowds
from support.pattern import KIB, pattern
from support.peers import echo, sink
from support.prometheus import Page, page_of
from support.proxy import shadow
from support.secure import secure


def test_the_reader_finds_what_is_wrong():
    head = "# HELP a_total x\n# TYPE a_total counter\n"
    other = "# HELP b x\n# TYPE b gauge\n"
    times = "# HELP t x\n# TYPE t histogram\n"
    Page(head + 'a_total{l="\\"\\\\\\n"} 1\n' + other + "b 2.5\n")
    Page(times + 't_bucket{le="1"} 1\nt_bucket{le="+Inf"} 2\nt_sum 3\nt_count 2\n')
    for wrong in ("a_total 1\n", head + "a_total 1", head + "a_total 1\na_total 1\n", head + head,
                  head + 'a_total{l="1",l="2"} 1\n', head + 'a_total{l="""} 1\n', head + "a_total x\n",
                  head + "a_total -1\n", head + 'a_total{l="1"} 1\n' + other + 'a_total{l="2"} 1\n',
                  times + 't_bucket{le="1"} 2\nt_bucket{le="+Inf"} 1\nt_sum 3\nt_count 1\n',
                  times + 't_bucket{le="1"} 1\nt_bucket{le="+Inf"} 2\nt_sum 3\nt_count 3\n',
                  times + 't_bucket{le="1"} 1\nt_sum 3\nt_count 1\n',
                  times + 't_bucket{le="+Inf"} 1\nt_bucket{le="1"} 1\nt_sum 3\nt_count 1\n',
                  "# TYPE a_total counter\na_total 1\n", "# HELP b x\n# TYPE b sort\nb 1\n"):
        with pytest.raises(AssertionError):
            Page(wrong)


def test_L22_the_metrics_page_is_valid_before_during_and_after_traffic(doppel, server):
    primary, copy, refusing = server(echo), server(sink), server(state="refusing")
    mirror = doppel(primary, shadows=[copy, shadow(refusing, "gone"), shadow(copy.address, "a.b-c_d")],
                    workers=2)
    before = page_of(mirror)
    client = mirror.connect()
    client.exchange(pattern(64 * KIB))
    during = page_of(mirror)
    client.close()
    mirror.wait_metric("doppel_sessions_closed_total", 1)
    after = page_of(mirror)

    # No label appears later.
    assert set(before.samples) == set(during.samples) == set(after.samples)
    for name, kind in after.type.items():
        if kind == "counter":
            for key in (key for key in after.samples if key[0] == name):
                assert before.samples[key] <= during.samples[key] <= after.samples[key], key
    assert during.samples["doppel_sessions_active", ()] == 1
    assert after.samples["doppel_sessions_total", ()] == 1
    assert after.samples["doppel_workers", (("generation", "1"),)] == 2
    assert after.samples["process_open_fds", ()] > 0


def test_L22_every_page_under_load_is_whole_and_no_longer_than_before(doppel, crowd, tmp_path):
    mirror = doppel(crowd.serve(crowds.obey), "--access-log", str(tmp_path / "access"), workers=2,
                    shadows=[crowd.serve(crowds.swallow) for _ in range(8)])
    before = page_of(mirror)
    is_over, pages = threading.Event(), []

    def scrape():
        while not is_over.is_set():
            pages.append(set(page_of(mirror).samples))
    scraper = threading.Thread(target=scrape)
    scraper.start()
    try:
        crowd.run(mirror.addresses[0], (crowds.exchange(b"e" + pattern(200, i)) for i in range(1000)))
    finally:
        is_over.set()
        scraper.join()

    assert len(pages) > 1 and all(page == set(before.samples) for page in pages)


def test_the_metrics_page_has_every_name_of_the_contract(doppel, server):
    mirror = doppel(server(echo), shadows=[server(sink)])

    names = {name for name, _ in page_of(mirror).samples}

    assert {"doppel_sessions_total", "doppel_sessions_active", "doppel_sessions_closed_total",
            "doppel_bytes_total", "doppel_shadow_sessions_total", "doppel_shadow_closed_total",
            "doppel_shadow_active", "doppel_shadow_buffered_bytes", "doppel_shadow_bytes_total",
            "doppel_shadow_response_bytes_total", "doppel_connect_seconds_bucket",
            "doppel_connect_seconds_sum", "doppel_connect_seconds_count",
            "doppel_first_byte_seconds_bucket", "doppel_first_byte_seconds_sum",
            "doppel_first_byte_seconds_count", "doppel_shadow_connect_seconds_bucket",
            "doppel_shadow_first_byte_seconds_bucket", "doppel_dns_lookups_total",
            "doppel_accept_errors_total", "doppel_accept_paused", "doppel_log_dropped_total",
            "doppel_breaker_state", "doppel_dns_stale", "doppel_tls_handshakes_total",
            "doppel_loop_stalls_total", "doppel_reloads_total",
            "doppel_worker_restarts_total", "doppel_workers", "doppel_buffered_bytes",
            "doppel_splice_fallback_total", "doppel_ktls_total", "doppel_tls_eof_total",
            "doppel_build_info", "process_cpu_seconds_total", "process_resident_memory_bytes",
            "process_open_fds", "process_start_time_seconds"} <= names


def test_L22_the_number_of_samples_does_not_grow_with_the_clients(doppel, server):
    mirror = doppel(server(echo), shadows=[server(sink)])
    before = len(page_of(mirror).samples)

    for number in range(30):
        client = mirror.connect(source=f"127.0.0.{number + 2}")
        client.exchange(b"hello")
        client.close()

    assert len(page_of(mirror).samples) == before


def test_a_plain_proxy_has_a_valid_page_too(doppel, server):
    mirror = doppel(server(echo))

    page = page_of(mirror)

    assert all(len(key[1]) == 0 or dict(key[1]).get("shadow") is None for key in page.samples)


# How long things took.

def counted(mirror, timing, leg):
    return mirror.metric(f"doppel_{timing}_seconds_count", leg=leg)


def test_every_connection_is_timed_once_on_its_leg(doppel, server):
    primary, copy, gone = server(echo), server(sink), server(state="refusing")
    mirror = doppel(primary, shadows=[copy, shadow(gone, "gone")])
    for _ in range(3):
        client = mirror.connect()
        client.exchange(pattern(KIB))
        client.close()
    mirror.connect().close()                # says nothing: no answer, and no shadow is dialled
    mirror.wait_metric("doppel_sessions_closed_total", 4)

    assert counted(mirror, "connect", "client") == 0, "a plain client has nothing to wait for"
    assert counted(mirror, "first_byte", "client") == 3
    assert counted(mirror, "connect", "primary") >= 3
    assert counted(mirror, "first_byte", "primary") == 3
    assert counted(mirror, "connect", "shadow") == 3, "a refused connect is no connect"
    assert counted(mirror, "first_byte", "shadow") == 0, "a sink does not answer"


def test_each_shadow_has_times_of_its_own(doppel, server):
    """A slow one must not hide behind the others."""
    names = ("talking", "silent", "gone")
    mirror = doppel(server(echo), shadows=[shadow(server(echo), "talking"), shadow(server(sink), "silent"),
                                           shadow(server(state="refusing"), "gone")])
    for _ in range(3):
        client = mirror.connect()
        client.exchange(pattern(KIB))
        client.close()
    mirror.wait_metric("doppel_shadow_first_byte_seconds_count", 3, shadow="talking")
    mirror.wait_metric("doppel_sessions_closed_total", 3)

    page = page_of(mirror)
    counts = {timing: [page.samples[f"doppel_shadow_{timing}_seconds_count", (("shadow", name),)]
                       for name in names] for timing in ("connect", "first_byte")}
    assert counts == {"connect": [3, 3, 0], "first_byte": [3, 0, 0]}
    for timing, of_shadows in counts.items():
        assert sum(of_shadows) == counted(mirror, timing, "shadow")


def test_the_times_are_those_of_the_access_log(doppel, server):
    mirror = doppel(server(echo), shadows=[server(echo)])
    client = mirror.connect()
    client.exchange(pattern(KIB))
    client.close()

    line = mirror.session()

    for timing in ("connect", "first_byte"):
        for leg, entry in (("primary", line), ("shadow", line["shadows"][0])):
            said = mirror.metric(f"doppel_{timing}_seconds_sum", leg=leg)
            assert abs(said * 1000 - entry[f"{timing}_ms"]) <= 0.06, f"{timing} of {leg}"


def test_a_clients_handshake_is_timed(doppel, server, authority):
    mirror = doppel(server(echo), "--tls-cert", authority.certificate("localhost"),
                    listens=["tls://127.0.0.1:0"])
    client = secure(mirror.connect(), authority.client_context(), "localhost")
    client.exchange(b"hello")
    client.close()

    assert counted(mirror, "connect", "client") == 1
    assert mirror.metric("doppel_connect_seconds_sum", leg="client") > 0
