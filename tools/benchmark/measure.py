"""
measure.py — one measurement each: what is started, driven, checked and read off.

    shadows, primary ──▶ proxy ──▶ load: opens, then runs ──▶ every byte there? ──▶ CPU / units

A run whose primary or shadow lacks a byte says so and does not count: a shadow that was cut off, or a
client that got an error, makes a proxy look cheap.
"""
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from benchmark.peers import Load, Sink
from benchmark.proxies import Place
from benchmark.results import Run
from benchmark.stage import Trouble

QUIET_SECONDS = 2       # without one more byte, what is missing does not come any more
POLL_SECONDS = 0.005
IDLE_SECONDS = 4        # until sessions count as idle: what opening them needed has been given back
MIB = 1024 * 1024

REQUEST = 128           # bytes, and of the answer
ANSWER = 1024


@dataclass
class Traffic:
    """What clients do, and in what it is counted."""
    load: dict              # the arguments of a Load
    counted: str            # requests, sent or received
    scale: float            # units of the table in one of these and one second of CPU time

    def ends(self):
        """The arguments of a Sink that answers this."""
        return {"request": self.load.get("request", 0), "answer": self.load.get("answer", 0)
                if self.load.get("request", 0) else 0}


def upload(connections):
    return Traffic({"connections": connections, "request": 0}, "sent", 1e9)


def download(connections, answer=16 * MIB):
    return Traffic({"connections": connections, "request": REQUEST, "answer": answer}, "received", 1e9)


def exchanges(connections):
    return Traffic({"connections": connections, "request": REQUEST, "answer": ANSWER}, "requests", 1e6)


def connects(connections=16):
    return Traffic({"connections": connections, "request": REQUEST, "answer": ANSWER, "each": True},
                   "requests", 1e6)


@dataclass
class Scene:
    """A proxy between its ends; everything ends with the stage's clear()."""
    stage: object
    traffic: Traffic
    tls: bool = False
    primary: Sink = None
    shadows: list = field(default_factory=list)
    proxy: object = None
    place: Place = None
    loads: list = field(default_factory=list)
    told: Counter = field(default_factory=Counter)      # what the clients have counted, in all

    def open_load(self):
        load = Load(self.stage, self.place.listen, tls=self.tls, **self.traffic.load)
        self.loads.append(load)
        self.note(load.prepared)
        return load

    def note(self, counts):
        self.told.update({key: counts[key] for key in ("sent", "received", "errors")})
        return counts

    def run(self, seconds, most_bytes=0):
        return self.note(self.loads[-1].run(seconds, most_bytes))

    def missing(self):
        """
        Waits until the primary and the shadows have all that the clients have sent; a sentence, or "".
        """
        wanted = self.told["sent"]
        before, since = None, time.monotonic()
        while True:
            received = [sink.counts()["received"] for sink in [self.primary, *self.shadows]]
            if all(bytes_ == wanted for bytes_ in received):
                return ""
            if received != before:
                before, since = received, time.monotonic()
            if time.monotonic() > since + QUIET_SECONDS:
                break
            time.sleep(POLL_SECONDS)
        names = ["primary", *(f"shadow {number}" for number in range(len(self.shadows)))]
        return "; ".join(f"{name}: {bytes_} of {wanted} bytes" for name, bytes_ in zip(names, received)
                         if bytes_ != wanted)

    def wrong(self, counts):
        """What keeps a run from counting, or ""."""
        if self.told["errors"]:
            return f"{self.told['errors']} errors: {counts['error'] or self.loads[0].prepared['error']}"
        missing = self.missing()
        if missing:
            return missing
        answered = self.primary.counts()["sent"]
        if answered != self.told["received"]:
            return f"client: {self.told['received']} of {answered} bytes"
        return "" if counts[self.traffic.counted] else "nothing was done"


def set_scene(stage, candidate, traffic, shadows=None):
    """Starts everything but the clients.  shadows: addresses instead of healthy ones."""
    scene = Scene(stage, traffic, candidate.tls)
    scene.primary = Sink(stage, **traffic.ends())
    if shadows is None:
        scene.shadows = [Sink(stage, **traffic.ends()) for _ in range(candidate.shadows)]
        shadows = [shadow.address for shadow in scene.shadows]
    scene.place = Place(stage, f"127.0.0.1:{stage.free_port()}", scene.primary.address, shadows)
    scene.proxy = candidate.start(scene.place)
    return scene


def run_of(scene, counts, cpu_seconds):
    """What a run of the clients was worth, before anybody has looked whether it counts."""
    units = counts[scene.traffic.counted]
    return Run(value=cpu_seconds / units * scene.traffic.scale if units else 0.0, errors=scene.told["errors"],
               per_second=units / counts["seconds"] if counts["seconds"] else 0.0,
               p50_us=counts["p50_us"], p99_us=counts["p99_us"], pss_bytes=scene.proxy.pss_bytes())


def cpu(stage, candidate, traffic, seconds):
    """The proxy's CPU time for a unit of work."""
    scene = set_scene(stage, candidate, traffic)
    scene.open_load()
    before = scene.proxy.cpu_seconds()
    counts = scene.run(seconds)
    wrong = scene.wrong(counts)
    run = run_of(scene, counts, scene.proxy.cpu_seconds() - before)
    run.wrong = wrong
    return run


def idle_memory(stage, candidate, sessions):
    """User memory of a session that is open and quiet, in KiB."""
    scene = set_scene(stage, candidate, exchanges(sessions))
    before = scene.proxy.pss_bytes()
    counts = scene.open_load().prepared
    wrong = scene.wrong(counts)
    time.sleep(IDLE_SECONDS)
    after = scene.proxy.pss_bytes()
    return Run(value=(after - before) / 1024 / sessions, wrong=wrong, errors=counts["errors"],
               pss_bytes=after)


def stalled_upload(stage, candidate, most_bytes, seconds):
    """
    How far memory rises above idle at the most, in MiB, while a shadow takes nothing.  The kernel knows
    the most; samples would miss it, since a fast client fills any buffer within milliseconds.
    """
    scene = set_scene(stage, candidate, upload(1), [Sink(stage, manner="--still").address])
    scene.open_load()
    idle = scene.proxy.rss_bytes()
    scene.proxy.forget_most_rss()
    counts = scene.run(seconds, most_bytes)
    run = Run(value=(scene.proxy.most_rss_bytes() - idle) / MIB, wrong=scene.wrong(counts),
              errors=scene.told["errors"], per_second=counts["sent"] / counts["seconds"],
              pss_bytes=scene.proxy.pss_bytes())
    if not run.wrong and counts["sent"] < most_bytes:
        run.wrong = f"{counts['sent']} of {most_bytes} bytes in {seconds} s"
    return run


def worker_split(stage, candidate, log, seconds):
    """The share of sessions, in percent, that the busier of two workers had, by the access log."""
    scene = set_scene(stage, candidate, connects())
    scene.open_load()
    counts = scene.run(seconds)
    wrong = scene.wrong(counts)
    deadline = time.monotonic() + QUIET_SECONDS
    while (sessions := _sessions_by_worker(log)).total() < counts["requests"] \
            and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    if not wrong and sessions.total() < counts["requests"]:
        wrong = f"{sessions.total()} lines for {counts['requests']} sessions"
    share = max(sessions.values(), default=0) / max(sessions.total(), 1) * 100
    return Run(value=share, wrong=wrong, errors=scene.told["errors"], pss_bytes=scene.proxy.pss_bytes(),
               per_second=counts["requests"] / counts["seconds"])


def _sessions_by_worker(log):
    """A session's id is start-worker-count; a line may not be whole yet."""
    with open(log) as lines:
        return Counter(json.loads(line)["session"].split("-")[1] for line in lines if line.endswith("}\n"))


def under_scrape(stage, candidate, traffic, seconds, scrape):
    """Requests a second, while scrape(stop) runs beside, in a thread."""
    scene = set_scene(stage, candidate, traffic)
    scene.open_load()
    stop = threading.Event()
    failures = []

    def beside():
        try:
            scrape(stop)
        except (OSError, Trouble) as error:
            failures.append(f"scraper: {error}")

    thread = threading.Thread(target=beside)
    before = scene.proxy.cpu_seconds()
    thread.start()
    try:
        counts = scene.run(seconds)
    finally:
        stop.set()
        thread.join()
    run = run_of(scene, counts, scene.proxy.cpu_seconds() - before)
    run.wrong = scene.wrong(counts) or "".join(failures[:1])
    run.value = run.per_second
    return run
