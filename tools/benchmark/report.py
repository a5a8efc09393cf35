"""
report.py — Markdown of what was measured: the machine, the goals, a table for each work.

It is written from the same dictionary that goes to report.json, so a report can be printed again.
"""
import statistics

WORDS = {
    "haproxy": "does not mirror; one thread, 16 KiB buffers as by default",
    "haproxy64k": "does not mirror; buffers of 64 KiB",
    "haproxy-fsplice": "does not mirror; splicing forced, pipes of 256 KiB",
    "nginx-stream": "does not mirror; one worker",
    "doppel0": "a plain proxy; one worker, no access log, as in all rows that do not say otherwise",
    "doppel1": "one shadow; doppel2 and doppel3: two and three",
    "doppel1-2workers": "one shadow, two workers on the same core",
    "doppel1-log": "one shadow, and the access log goes to a file",
    "doppel1-copy": "one shadow, --io=copy",
    "doppel1-splice": "one shadow, --io=splice",
}
NOTHING = "–"


def figure(value):
    """Three digits that count."""
    if value is None:
        return NOTHING
    size = abs(value)
    digits = 0 if size >= 99.95 or size == 0 else 1 if size >= 9.995 else 2 if size >= 0.9995 else 3
    return f"{value:,.{digits}f}"


def ratio(value):
    return NOTHING if value is None else f"{value:.2f}"


def table(titles, rows):
    lines = [titles, ["---"] + ["---:"] * (len(titles) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def of_runs(candidate, key, scale=1):
    """The median over the runs that count; None where nothing was measured."""
    values = [run[key] for run in candidate["runs"] if not run["wrong"]]
    return statistics.median(values) / scale if any(values) else None


def columns(work):
    """(title, a function of a candidate that answers text)"""
    by_volume = work["unit"] == "CPU s/GB" or work["key"] == "stalled"
    return [
        (work["unit"], lambda one: figure(one["median"])),
        ("least – most", lambda one: NOTHING if one["median"] is None
            else f"{figure(one['least'])} – {figure(one['most'])}"),
        (f"× {work['reference']}", lambda one: ratio(one["ratio"])),
        ("GB/s" if by_volume else "a second",
         lambda one: figure(of_runs(one, "per_second", 1e9 if by_volume else 1))),
        ("p50 µs", lambda one: figure(of_runs(one, "p50_us"))),
        ("p99 µs", lambda one: figure(of_runs(one, "p99_us"))),
        ("PSS MiB", lambda one: figure(of_runs(one, "pss_bytes", 1024 ** 2))),
        ("client errors", lambda one: str(sum(run["errors"] for run in one["runs"]))),
        ("runs that count", lambda one: f"{one['counting']} of {one['of']}"),
    ]


def work_section(work):
    candidates = work["candidates"]
    titles, rows = [""], [[one["name"]] for one in candidates]
    for title, text_of in columns(work):
        texts = [text_of(one) for one in candidates]
        if set(texts) == {NOTHING} and title != work["unit"]:
            continue
        titles.append(title)
        for row, text in zip(rows, texts):
            row.append(text)
    wrong = [f"* {one['name']} does not count: {why}" for one in candidates for why in one["wrong"]]
    return "\n".join([f"## {work['title']} (`{work['key']}`)", "", table(titles, rows), *[""] * bool(wrong),
                      *wrong]) + "\n"


def goals_section(goals):
    rows = [[goal["text"], goal["bound"] or NOTHING, figure(goal["measured"]), goal["verdict"]]
            for goal in goals if goal["verdict"] != "not measured"]
    return "## Goals\n\n" + table(["", "goal", "measured", ""], rows) + "\n" if rows else ""


def machine_section(report):
    names = {one["name"] for work in report["works"] for one in work["candidates"]}
    lines = [f"* {key}: {value}" for key, value in report["machine"].items()]
    words = [f"* {name}: {what}" for name, what in WORDS.items() if name in names]
    return "## How it was measured\n\n" + "\n".join([*lines, *[""] * bool(words), *words]) + "\n"


def markdown(report):
    parts = ["# doppel: what it costs\n", machine_section(report), goals_section(report["goals"]),
             *map(work_section, report["works"])]
    if report["left_out"]:
        parts.append("Left out, since the time was over: " + ", ".join(report["left_out"]) + "\n")
    return "\n".join(filter(None, parts))
