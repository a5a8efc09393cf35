"""
goals.py — the figures to reach, and whether this run has reached them.

Everything is a ratio within one run, or memory, which no neighbour on the machine disturbs.
"""
from dataclasses import dataclass
from typing import Callable

from benchmark.isolation import NO_SHADOW

SHADOW_BUFFER_MIB = 16      # the default, and 1 MiB for everything else
SESSIONS_FOR_A_GIB = 100000


@dataclass
class Goal:
    text: str
    measured: Callable      # Results -> a number, or None
    most: float = None      # None with least None: only told
    least: float = None

    def bound(self):
        if self.most is None and self.least is None:
            return ""
        return f"≤ {self.most:g}" if self.least is None else f"≥ {self.least:g}"

    def verdict(self, value):
        if value is None:
            return "not measured"
        if not self.bound():
            return ""
        is_met = value <= self.most if self.least is None else value >= self.least
        return "met" if is_met else "missed"


def ratio(key, name, reference, of="value"):
    return lambda results: results.ratio(key, name, reference, of)


def median(key, name, factor=1.0):
    def measured(results):
        value = results.median(key, name)
        return None if value is None else value * factor
    return measured


def another_shadow(key, count):
    """What shadow number COUNT adds, as a multiple of what the first one does."""
    def measured(results):
        values = [results.median(key, f"doppel{number}") for number in (0, 1, count - 1, count)]
        if None in values or values[1] <= values[0]:
            return None
        return (values[3] - values[2]) / (values[1] - values[0])
    return measured


def share_with_every_byte(results):
    runs = [run for key in ("up1", "up16") if key in results
            for name in ("doppel1", "doppel2", "doppel3") if name in results[key].rows
            for run in results[key].rows[name].runs]
    return sum(run.counts for run in runs) / len(runs) if runs else None


def errors_in_isolation(results):
    runs = [run for key in ("isolation", "detached", "breaker") if key in results
            for row in results[key].rows.values() for run in row.runs]
    return sum(run.errors for run in runs) if runs else None


def worst(key, of="value"):
    """The highest ratio to no shadow among all kinds of trouble."""
    def measured(results):
        if key not in results:
            return None
        ratios = [results[key].ratio(name, NO_SHADOW, of) for name in results[key].rows]
        return max((one for one in ratios if one is not None), default=None) if len(ratios) > 1 else None
    return measured


def goals():
    both = (("up1", "1 connection"), ("up16", "16 connections"))
    rows = []
    for key, where in both:
        rows += [Goal(f"upload, {where}: doppel1 / haproxy64k", ratio(key, "doppel1", "haproxy64k"), 0.70),
                 Goal(f"upload, {where}: doppel1 / haproxy", ratio(key, "doppel1", "haproxy"), 0.45),
                 Goal(f"upload, {where}: doppel1 / haproxy-fsplice", ratio(key, "doppel1", "haproxy-fsplice"),
                      2.0 if key == "up1" else 1.25),
                 Goal(f"upload, {where}: doppel0 / haproxy-fsplice", ratio(key, "doppel0", "haproxy-fsplice"),
                      1.03)]
    rows += [Goal("uploads in which healthy shadows got every byte", share_with_every_byte, least=1),
             Goal("download, 1 connection: doppel1 / haproxy64k",
                  ratio("down1", "doppel1", "haproxy64k"), 0.70)]
    for key, most in (("rr64", 1.30), ("rr1000", 1.38)):
        rows += [Goal(f"{key}: doppel1 / haproxy", ratio(key, "doppel1", "haproxy"), most),
                 Goal(f"{key}: doppel0 / haproxy", ratio(key, "doppel0", "haproxy"), 0.95)]
    rows += [Goal("conn: doppel1 / haproxy", ratio("conn", "doppel1", "haproxy"), 1.45),
             Goal("conn: doppel0 / haproxy", ratio("conn", "doppel0", "haproxy"), 1.00),
             Goal("conn: the access log's price, doppel1-log / doppel1",
                  ratio("conn", "doppel1-log", "doppel1"))]
    for key in ("up1", "rr64", "conn"):
        rows += [Goal(f"{key}: shadow {count} adds, as a multiple of the first",
                      another_shadow(key, count), 1.0) for count in (2, 3)]
    rows += [Goal("idle: doppel1, KiB a session", median("idle", "doppel1"), 1.5),
             Goal("idle: doppel0-tls, KiB a session", median("idle", "doppel0-tls"), 20),
             Goal("idle: 100,000 mirrored sessions, GiB (computed)",
                  median("idle", "doppel1", SESSIONS_FOR_A_GIB / 1024 ** 2), 1.0),
             Goal("shadow in trouble: errors that clients saw", errors_in_isolation, 0)]
    for key in ("detached", "breaker"):
        rows += [Goal(f"shadow {key}: CPU a request / no shadow, the worst", worst(key), 1.05),
                 Goal(f"shadow {key}: p99 / no shadow, the worst", worst(key, "p99_us"), 1.25)]
    rows += [Goal("upload past a stalled shadow, MiB above idle", median("stalled", "doppel1"),
                  SHADOW_BUFFER_MIB + 1),
             Goal("rr64: two workers / one", ratio("rr64", "doppel1-2workers", "doppel1"), 1.05),
             Goal("share of the busier of two workers, %", median("split", "doppel1-2workers"), 55)]
    rows += [Goal(f"{key}: doppel1-tls / haproxy-tls", ratio(key, "doppel1-tls", "haproxy-tls"), 1.10)
             for key in ("tls-up1", "tls-rr64")]
    rows += [Goal("tls-conn: doppel1-tls / haproxy-tls", ratio("tls-conn", "doppel1-tls", "haproxy-tls")),
             Goal("requests/s while the admin endpoint is busy / left alone",
                  ratio("admin", "scraped", "left alone"), least=0.97)]
    return rows


def judged(results):
    """[{text, bound, measured, verdict}], for the report."""
    found = []
    for goal in goals():
        value = goal.measured(results)
        found.append({"text": goal.text, "bound": goal.bound(), "measured": value,
                      "verdict": goal.verdict(value)})
    return found
