"""
prometheus.py — a strict reader of Prometheus' text format, version 0.0.4.
"""
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"'
COMMENT = re.compile(rf"# (HELP|TYPE) ({NAME}) (.+)")
LABELS = rf"\{{({LABEL}(?:,{LABEL})*)\}}"
VALUE = r"[-+]?(?:\d+(?:\.\d+)?(?:e[-+]?\d+)?|Inf|NaN)"
SAMPLE = re.compile(rf"({NAME})(?:{LABELS})? ({VALUE})")
TYPES = ("counter", "gauge", "histogram", "summary", "untyped")


class Page:
    """
    The page's samples, after every rule of the format held: HELP and TYPE once per metric and before
    its samples, the lines of a metric together, labels escaped and each once, no sample twice, and
    histograms whose buckets rise to their count.
    """

    def __init__(self, text):
        self.help, self.type, self.samples = {}, {}, {}
        self._finished = set()
        self._current = None
        assert text.endswith("\n") and not text.endswith("\n\n")
        for line in text[:-1].split("\n"):
            self._read(line)
        for name in (name for name, kind in self.type.items() if kind == "histogram"):
            self._check_histogram(name)

    def _read(self, line):
        comment = COMMENT.fullmatch(line)
        sample = SAMPLE.fullmatch(line)
        assert comment or sample, f"neither comment nor sample: {line!r}"
        if comment:
            self._read_comment(*comment.groups())
        else:
            self._read_sample(line, *sample.groups())

    def _read_comment(self, kind, name, words):
        self._enter(name)
        table = self.help if kind == "HELP" else self.type
        assert name not in table, f"{kind} of {name} twice"
        assert kind == "HELP" or words in TYPES, f"{name} is of type {words}"
        seen = any(sample == name for sample, _ in self.samples)
        assert not seen, f"{kind} of {name} after a sample"
        table[name] = words

    def _read_sample(self, line, name, labels, value):
        metric = self._metric_of(name)
        self._enter(metric)
        assert metric in self.help and metric in self.type, f"no HELP or TYPE before {line!r}"
        names = re.findall(r"(?:^|,)([a-zA-Z_]\w*)=", labels or "")
        assert len(set(names)) == len(names), f"a label twice: {line!r}"
        key = name, tuple(sorted(re.findall(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"', labels or "")))
        assert key not in self.samples, f"twice: {line!r}"
        self.samples[key] = float(value)
        if self.type[metric] == "counter":
            assert name.endswith("_total") and self.samples[key] >= 0, line

    def _check_histogram(self, name):
        buckets = {}
        for (sample, labels), value in self.samples.items():
            if sample == f"{name}_bucket":
                rest = tuple(label for label in labels if label[0] != "le")
                buckets.setdefault(rest, []).append((float(dict(labels)["le"]), value))
        for rest, counted in buckets.items():
            bounds, counts = zip(*counted)
            assert list(bounds) == sorted(bounds) and bounds[-1] == float("inf"), f"{name}: {bounds}"
            assert list(counts) == sorted(counts), f"{name}: {counts} falls"
            assert counts[-1] == self.samples[f"{name}_count", rest], f"{name}: not all are counted"
            assert self.samples[f"{name}_sum", rest] >= 0

    def _metric_of(self, name):
        """The metric of a sample; a histogram's samples have endings of their own."""
        stem = re.sub(r"_(bucket|sum|count)$", "", name)
        return stem if self.type.get(stem) in ("histogram", "summary") else name

    def _enter(self, name):
        if name == self._current:
            return
        assert name not in self._finished, f"the lines of {name} are not together"
        if self._current is not None:
            self._finished.add(self._current)
        self._current = name


def page_of(mirror):
    status, text = mirror.get("/metrics")
    assert status == 200
    return Page(text)
