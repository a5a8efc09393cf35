"""
results.py — what was measured: runs, which of them count, and what they say together.
"""
import statistics
from dataclasses import asdict, dataclass, field


@dataclass
class Run:
    """One measurement.  A value counts only when nothing is wrong."""
    value: float = 0.0
    wrong: str = ""         # why it does not count: a byte that did not arrive, an error, ...
    errors: int = 0         # that a client saw
    per_second: float = 0.0
    p50_us: int = 0
    p99_us: int = 0
    pss_bytes: int = 0      # of the proxy, at the end

    @property
    def counts(self):
        return not self.wrong


@dataclass
class Row:
    """All runs of one candidate at one work."""
    name: str
    runs: list = field(default_factory=list)

    def counting(self):
        return [run for run in self.runs if run.counts]

    def median(self, of="value"):
        values = [getattr(run, of) for run in self.counting()]
        return statistics.median(values) if values else None

    def least(self):
        return min((run.value for run in self.counting()), default=None)

    def most(self):
        return max((run.value for run in self.counting()), default=None)

    def wrong(self):
        """Why runs do not count: each reason once."""
        return list(dict.fromkeys(run.wrong for run in self.runs if run.wrong))


@dataclass
class Result:
    """One work: a row for each candidate, compared with that of the reference."""
    key: str
    title: str
    unit: str
    reference: str
    rows: dict = field(default_factory=dict)

    def add(self, name, run):
        self.rows.setdefault(name, Row(name)).runs.append(run)

    def median(self, name, of="value"):
        row = self.rows.get(name)
        return row.median(of) if row else None

    def ratio(self, name, reference=None, of="value"):
        """None when one of the two has no run that counts."""
        mine, theirs = self.median(name, of), self.median(reference or self.reference, of)
        return mine / theirs if mine is not None and theirs else None

    def as_json(self):
        return {"key": self.key, "title": self.title, "unit": self.unit, "reference": self.reference,
                "candidates": [{"name": row.name, "median": row.median(), "least": row.least(),
                                "most": row.most(), "ratio": self.ratio(row.name),
                                "counting": len(row.counting()), "of": len(row.runs),
                                "wrong": row.wrong(), "runs": [asdict(run) for run in row.runs]}
                               for row in self.rows.values()]}


class Results(dict):
    """{key: Result}; what was not measured answers None."""

    def median(self, key, name, of="value"):
        return self[key].median(name, of) if key in self else None

    def ratio(self, key, name, reference=None, of="value"):
        return self[key].ratio(name, reference, of) if key in self else None
