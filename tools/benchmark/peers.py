"""
peers.py — the ends of a measurement: a server that counts, and clients that work when told to.

    primary = Sink(stage, request=128, answer=1024)
    load = Load(stage, address, connections=64, request=128, answer=1024)
    counts = load.run(seconds=2)        {"requests": ..., "sent": ..., "p99_us": ..., "errors": ...}
    primary.counts()["received"]
"""
import json
import select
import subprocess

from benchmark.stage import PROGRAMS, Trouble

GRACE_SECONDS = 20      # beyond what a run may take: opening, and answers that come late
PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}


class Driven:
    """A program that takes lines and answers each with one."""

    def __init__(self, stage, program, flags):
        self.process = stage.start([str(PROGRAMS / program), *map(str, flags)], stage.load_core, **PIPES)

    def tell(self, line):
        try:
            self.process.child.stdin.write(line + "\n")
            self.process.child.stdin.flush()
        except OSError:
            raise Trouble(f"{self.process.child.args[0]}: {self.process.last_words()}") from None

    def answer(self, seconds):
        has_answered = select.select([self.process.child.stdout], [], [], seconds)[0]
        line = self.process.child.stdout.readline() if has_answered else ""
        if not line:
            raise Trouble(f"{self.process.child.args[0]} does not answer: {self.process.last_words()}")
        return line.strip()


class Sink(Driven):
    """Server; manner is "", "--still", "--deaf" or "--pace=N"."""

    def __init__(self, stage, request=0, answer=0, manner=""):
        flags = ["--request", request, "--answer", answer, *manner.split(), "127.0.0.1:0"]
        super().__init__(stage, "sink", flags)
        self.address = self.answer(GRACE_SECONDS).split()[1]

    def counts(self):
        self.tell("counts")
        return json.loads(self.answer(GRACE_SECONDS))

    def kill(self):
        """As a machine that loses its process: the kernel resets its connections."""
        self.process.child.kill()


class Load(Driven):
    """Clients; they are open, and have exchanged one request each, when this returns."""

    def __init__(self, stage, address, connections=1, request=0, answer=1, each=False, tls=False):
        flags = ["--connections", connections, "--request", request, "--answer", answer,
                 *["--each"] * each, *["--tls"] * tls, address]
        super().__init__(stage, "load", flags)
        self.prepared = json.loads(self.answer(GRACE_SECONDS).removeprefix("ready "))

    def run(self, seconds, most_bytes=0):
        """Until the time is over, or so many bytes are sent (0: no such limit)."""
        self.tell(f"run {seconds} {most_bytes}")
        return json.loads(self.answer(seconds + GRACE_SECONDS))
