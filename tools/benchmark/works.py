"""
works.py — which measurements there are, and who takes part in each.

Rows that are there to be compared with one another are in one work, and its candidates take turns.
"""
from dataclasses import dataclass, field
from functools import partial

from benchmark import isolation, measure
from benchmark.isolation import KINDS, NO_SHADOW, UNREACHABLE
from benchmark.measure import connects, download, exchanges, upload
from benchmark.proxies import haproxy, nginx

GIB = 1024 ** 3
MIB = 1024 ** 2
UPLOAD_SECONDS = 60     # for an upload of a certain size; one that takes longer has stopped


@dataclass
class Plan:
    """How much of everything."""
    seconds: float = 2
    rounds: int = 3
    budget_seconds: float = 840
    sessions: int = 5000            # idle ones
    tls_sessions: int = 1000
    upload_bytes: int = 2 * GIB     # past a stalled shadow
    admin_connections: int = 1000
    many: int = 1000                # connections, where it is about many


FULL = Plan()
QUICK = Plan(seconds=0.3, rounds=1, budget_seconds=105, sessions=1000, tls_sessions=300,
             upload_bytes=256 * MIB)


@dataclass
class Work:
    key: str
    title: str
    unit: str
    reference: str
    candidates: dict = field(default_factory=dict)      # {name: a function that answers a Run}


class Programme:
    """All works, for one stage, one doppel and one plan."""

    def __init__(self, stage, doppel, plan, others=()):
        self.stage, self.doppel, self.plan, self.others = stage, doppel, plan, list(others)

    def works(self):
        return [*self.bulk(), *self.requests(), self.connections(), self.idle(), *self.isolation(),
                self.stalled(), *self.secure(), self.split(), self.admin()]

    def of_traffic(self, key, title, unit, traffic, candidates, reference="haproxy"):
        return Work(key, title, unit, reference, {
            one.name: partial(measure.cpu, self.stage, one, traffic, self.plan.seconds)
            for one in candidates})

    def shadows(self, most):
        return [self.doppel.candidate(count) for count in range(most + 1)]

    def ways_to_move(self):
        """doppel with one shadow and each way to move bytes that this version knows."""
        return [self.doppel.candidate(1, f"--io={way}", name=f"doppel1-{way}")
                for way in ("copy", "splice") if self.doppel.accepts(f"--io={way}")]

    def bulk(self):
        plain = [haproxy(), haproxy("haproxy64k", 65536), haproxy("haproxy-fsplice", splices=True), nginx()]
        up = [*plain, *self.shadows(3), *self.ways_to_move(), *self.others]
        down = [*plain, *self.shadows(1), *self.ways_to_move(), *self.others]

        def work(key, title, traffic, candidates):
            return self.of_traffic(key, title, "CPU s/GB", traffic, candidates)

        return [work("up1", "Upload, 1 connection", upload(1), up),
                work("up16", "Upload, 16 connections", upload(16), up),
                work("down1", "Download, 1 connection", download(1), down),
                work("down16", "Download, 16 connections", download(16, 4 * MIB), down)]

    def requests(self):
        two = self.doppel.candidate(1, "--workers=2", name="doppel1-2workers")
        few = [haproxy(), nginx(), *self.shadows(1), *self.others]
        all_ = [haproxy(), nginx(), *self.shadows(3), two, *self.others]
        many = self.plan.many
        return [self.of_traffic("rr1", "Requests, 1 connection", "CPU µs/request", exchanges(1), few),
                self.of_traffic("rr64", "Requests, 64 connections", "CPU µs/request", exchanges(64), all_),
                self.of_traffic("rr1000", f"Requests, {many} connections", "CPU µs/request",
                                exchanges(many), few)]

    def connections(self):
        logging = self.doppel.candidate(1, f"--access-log={self.stage.directory}/access.log",
                                        name="doppel1-log")
        return self.of_traffic("conn", "Connect, one request, one answer, close", "CPU µs/connection",
                               connects(), [haproxy(), nginx(), *self.shadows(3), logging, *self.others])

    def idle(self):
        plan = self.plan
        plain = [haproxy(), *self.shadows(1), *self.others]
        secure = [haproxy("haproxy-tls", tls=True), self.doppel.candidate(0, name="doppel0-tls", tls=True),
                  self.doppel.candidate(1, name="doppel1-tls", tls=True)]
        counts = [(one, plan.sessions) for one in plain] + [(one, plan.tls_sessions) for one in secure]
        return Work("idle", f"{plan.sessions} idle sessions ({plan.tls_sessions} with TLS), user memory",
                    "KiB/session", "haproxy",
                    {one.name: partial(measure.idle_memory, self.stage, one, self.affordable(one, sessions))
                     for one, sessions in counts})

    def affordable(self, candidate, sessions):
        """As many as the limit of descriptors allows one process that holds both or all three ends."""
        return min(sessions, (self.stage.descriptors - 200) // (2 + candidate.shadows))

    def isolation(self):
        plan, doppel = self.plan, self.doppel
        kinds = [NO_SHADOW, *KINDS]
        broken = [NO_SHADOW, *(kind for kind in KINDS if kind != "healthy")]

        def candidate_of(kind):
            return lambda *flags: doppel.candidate(0 if kind == NO_SHADOW else 1, *flags)

        def settled(kind, opens_breaker):
            return partial(isolation.settled, self.stage, candidate_of(kind), kind, 64, plan.seconds,
                           opens_breaker)

        def at_once(kind):
            return partial(isolation.at_once, self.stage, candidate_of(kind)(), kind, 64, plan.seconds)

        def work(key, title, candidates):
            return Work(key, title, "CPU µs/request", NO_SHADOW, candidates)

        works = [work("isolation", "Requests, 64 connections, while the shadow is in trouble",
                      {kind: at_once(kind) for kind in kinds}),
                 work("detached", "The same, when the shadow has been detached",
                      {kind: settled(kind, False) for kind in broken})]
        if doppel.accepts(isolation.BREAKER[0]):
            works.append(work("breaker", "The same on new connections, with the breaker open",
                              {kind: settled(kind, True) for kind in [NO_SHADOW, *UNREACHABLE]}))
        return works

    def stalled(self):
        plan = self.plan
        title = f"Upload of {plan.upload_bytes // MIB} MiB past a shadow that takes nothing, memory"
        mirroring = [self.doppel.candidate(1), *(one for one in self.others if one.shadows)]
        return Work("stalled", title, "MiB above idle", "doppel1",
                    {one.name: partial(measure.stalled_upload, self.stage, one, plan.upload_bytes,
                                       UPLOAD_SECONDS) for one in mirroring})

    def secure(self):
        candidates = [haproxy("haproxy-tls", tls=True),
                      *(self.doppel.candidate(count, name=f"doppel{count}-tls", tls=True)
                        for count in (0, 1))]

        def work(key, title, unit, traffic):
            return self.of_traffic(key, title, unit, traffic, candidates, "haproxy-tls")

        return [work("tls-up1", "TLS ended, upload, 1 connection", "CPU s/GB", upload(1)),
                work("tls-rr64", "TLS ended, requests, 64 connections", "CPU µs/request", exchanges(64)),
                work("tls-conn", "TLS ended, handshake, one request, one answer, close", "CPU µs/handshake",
                     connects())]

    def split(self):
        log = self.stage.directory / "split.log"
        two = self.doppel.candidate(1, "--workers=2", f"--access-log={log}", "--access-format=json",
                                    name="doppel1-2workers")
        return Work("split", "Sessions of the busier of two workers", "% of all", two.name,
                    {two.name: partial(measure.worker_split, self.stage, two, log, self.plan.seconds)})

    def admin(self):
        plan = self.plan
        address = f"127.0.0.1:{self.stage.free_port()}"
        one = self.doppel.candidate(1, f"--admin={address}")
        beside = {"left alone": lambda stop: None,
                  "scraped": isolation.scraper(address, plan.admin_connections, plan.seconds)}
        title = "Requests, 64 connections, while /metrics is read ten times a second and " \
            f"{plan.admin_connections} connections to the admin endpoint are tried"
        return Work("admin", title, "requests/s", "left alone", {
            name: partial(measure.under_scrape, self.stage, one, exchanges(64), plan.seconds, scrape)
            for name, scrape in beside.items()})
