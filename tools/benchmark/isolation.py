"""
isolation.py — what clients notice of a shadow that is in trouble: nothing, it should be.

Requests and answers on open connections, three times over:

    at once     the trouble is there, or comes in the middle, while clients are measured
    settled     the shadow has been detached from every session before they are measured
    open        so many sessions could not reach it that the breaker keeps new ones from trying
"""
import http.client
import re
import socket
import threading
import time

from benchmark.measure import connects, exchanges, run_of, set_scene
from benchmark.peers import Load, Sink
from benchmark.results import Run
from benchmark.stage import Trouble

SETTLE_SECONDS = 12
WARM_SECONDS = 0.3
SCRAPE_SECONDS = 0.1
# How a shadow may be: the manner of its sink, or None where nobody listens.
KINDS = {"healthy": "", "slow": "--pace=16", "stalled": "--still", "refusing": None, "black-holed": "--deaf",
         "killed": ""}
NO_SHADOW = "none"
# Those that cannot be reached: a breaker opens for no other trouble.
UNREACHABLE = ["refusing", "black-holed", "killed"]
# So that a shadow in trouble is detached within seconds, and not within minutes.
IMPATIENT = ["--shadow-buffer=64k", "--shadow-stall-timeout=1s", "--shadow-connect-timeout=1s"]
BREAKER = ["--shadow-breaker=5/60s"]


def _shadow(stage, kind, traffic):
    """(address, its sink or None)"""
    if KINDS[kind] is None:
        return f"127.0.0.1:{stage.free_port()}", None
    sink = Sink(stage, manner=KINDS[kind], **traffic.ends())
    return sink.address, sink


def _scene(stage, candidate, kind, connections):
    traffic = exchanges(connections)
    if kind == NO_SHADOW:
        return set_scene(stage, candidate, traffic, []), None
    address, sink = _shadow(stage, kind, traffic)
    scene = set_scene(stage, candidate, traffic, [address])
    # A healthy one has to have every byte; nobody can ask that of the others.
    scene.shadows = [sink] if kind == "healthy" else []
    return scene, sink


def _measured(scene, seconds):
    before = scene.proxy.cpu_seconds()
    counts = scene.run(seconds)
    run = run_of(scene, counts, scene.proxy.cpu_seconds() - before)
    run.wrong = scene.wrong(counts)
    return run


def at_once(stage, candidate, kind, connections, seconds):
    scene, sink = _scene(stage, candidate, kind, connections)
    scene.open_load()
    if kind == "killed":
        threading.Timer(seconds / 2, sink.kill).start()
    return _measured(scene, seconds)


def metric(address, name):
    """The sum of a metric over its labels, as the admin endpoint has it."""
    connection = http.client.HTTPConnection(address, timeout=1)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise Trouble(f"admin: {error}") from error
    finally:
        connection.close()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


def _warm_until(scene, condition):
    """Keeps the clients busy meanwhile: what nobody asks for does not become late."""
    until = time.monotonic() + SETTLE_SECONDS
    while not condition():
        if time.monotonic() > until:
            return False
        scene.run(WARM_SECONDS)
    return True


def settled(stage, candidate_of, kind, connections, seconds, opens_breaker=False):
    """candidate_of(*flags) makes the candidate, for the flags that settling needs."""
    admin = f"127.0.0.1:{stage.free_port()}"
    flags = [*IMPATIENT, f"--admin={admin}", *BREAKER * opens_breaker]
    scene, sink = _scene(stage, candidate_of(*flags), kind, connections)
    scene.open_load()
    if kind == "killed":
        sink.kill()
    if kind != NO_SHADOW and not _warm_until(scene, lambda: not metric(admin, "doppel_shadow_active")):
        return Run(wrong=f"the shadow is still there after {SETTLE_SECONDS} s")
    if kind != NO_SHADOW and opens_breaker:
        if not _knock_until_open(scene, admin):
            return Run(wrong="the breaker did not open")
        scene.open_load()
        if metric(admin, "doppel_shadow_active"):
            return Run(wrong="a shadow was dialled with the breaker open")
    return _measured(scene, seconds)


def _knock_until_open(scene, admin):
    """New sessions instead of the old ones, until the breaker is open and none dials any more."""
    scene.loads[-1].process.end()
    scene.loads.append(Load(scene.stage, scene.place.listen, **connects(4).load))
    is_open = _warm_until(scene, lambda: metric(admin, "doppel_breaker_state")
                          and not metric(admin, "doppel_shadow_active"))
    scene.loads[-1].process.end()
    return is_open


def scraper(admin, connections, seconds):
    """
    For a thread beside a run: reads /metrics in a loop, and in between holds silent connections, so
    many in all.  Once the endpoint's places are taken a scrape waits; but some must be answered.
    """
    def scrape(stop):
        answered = 0
        each_time = max(1, int(connections * SCRAPE_SECONDS / seconds))
        while not stop.is_set():
            try:
                metric(admin, "doppel_sessions_total")
                answered += 1
            except Trouble:
                pass
            held = [_silent_connection(admin) for _ in range(each_time)]
            stop.wait(SCRAPE_SECONDS)
            for one in held:
                one.close()
        if not answered:
            raise Trouble("no scrape was answered")
    return scrape


def _silent_connection(address):
    host, _, port = address.partition(":")
    one = socket.socket()
    one.setblocking(False)
    one.connect_ex((host, int(port)))
    return one
