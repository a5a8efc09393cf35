"""
test_bench.py — tools/bench measures what it says, and does not count what it must not count.

Tiny amounts of everything: figures mean nothing here and are not looked at.
"""
import json
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from support.proxy import ROOT, binary
from support.waiting import patient

TINY = ["--seconds", "0.05", "--rounds", "1", "--sessions", "40", "--upload-mib", "32"]
FOREIGN = {"haproxy": "haproxy", "haproxy-tls": "haproxy", "nginx-stream": "nginx"}

# work: who takes part here
WORKS = {
    "up1": ["haproxy", "doppel0", "doppel1"],
    "up16": ["haproxy", "doppel0", "doppel1"],
    "down1": ["haproxy", "doppel0", "doppel1"],
    "rr1": ["haproxy", "nginx-stream", "doppel0", "doppel1"],
    "rr64": ["haproxy", "nginx-stream", "doppel0", "doppel1", "doppel1-2workers"],
    "rr1000": ["haproxy", "nginx-stream", "doppel0", "doppel1"],
    "conn": ["haproxy", "nginx-stream", "doppel0", "doppel1", "doppel1-log"],
    "idle": ["haproxy", "doppel0", "doppel1", "haproxy-tls", "doppel1-tls"],
    "isolation": ["none", "slow", "stalled", "refusing", "black-holed", "killed"],
    "detached": ["none", "refusing", "killed"],
    "stalled": ["doppel1"],
    "tls-up1": ["haproxy-tls", "doppel1-tls"],
    "tls-rr64": ["haproxy-tls", "doppel1-tls"],
    "tls-conn": ["haproxy-tls", "doppel1-tls"],
    "split": ["doppel1-2workers"],
    "admin": ["left alone", "scraped"],
}

# A mirror in a few lines; a lossy one keeps the first byte of each connection from the shadow.
MIRROR = """
import socket, sys, threading

def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)

listen, primary, shadow = map(address, sys.argv[2:])
is_lossy = sys.argv[1] == "lossy"

def copy(source, targets, skip):
    while piece := source.recv(65536):
        targets[0].sendall(piece)
        for copied in targets[1:]:
            copied.sendall(piece[skip:])
        skip = 0
    for target in targets:
        target.shutdown(socket.SHUT_WR)

def forget(source):
    while source.recv(65536):
        pass

def start(target, *arguments):
    threading.Thread(target=target, args=arguments, daemon=True).start()

listener = socket.create_server(listen)
while True:
    client, _ = listener.accept()
    ends = [socket.create_connection(one) for one in (primary, shadow)]
    start(copy, client, ends, int(is_lossy))
    start(copy, ends[0], [client], 0)
    start(forget, ends[1])
"""


def bench(directory, *flags):
    command = [ROOT / "tools/bench", "--program", binary(release=True), "--out", directory, *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=patient(80),
                          stdin=subprocess.DEVNULL)


def measured(directory, *flags):
    """{work: {candidate: what the report says of it}}, and the Markdown."""
    ended = bench(directory, *TINY, *flags)
    assert ended.returncode == 0, ended.stderr
    report = json.loads((directory / "report.json").read_text())
    assert ended.stdout.strip() == (directory / "report.md").read_text().strip()
    works = {work["key"]: {one["name"]: one for one in work["candidates"]} for work in report["works"]}
    return works, ended.stdout, report


@pytest.fixture
def mirror_script(tmp_path):
    """The words for --with: a mirror in Python, faithful or lossy."""
    (tmp_path / "mirror.py").write_text(MIRROR)

    def script(manner):
        return f"{manner}={sys.executable} {tmp_path}/mirror.py {manner} {{L}} {{P}} {{S}}"
    return script


def test_the_table_of_works_is_complete(tmp_path):
    listed = bench(tmp_path, "--list").stdout.splitlines()
    assert {line.partition(":")[0] for line in listed} - {"down16", "breaker"} == set(WORKS)


# Several tests, so that pytest's processes share them; and uploads by themselves, for their rule.
@pytest.mark.parametrize("keys", [
    ("down1", "rr1", "rr64", "rr1000", "conn"), ("idle", "stalled", "split", "admin"),
    ("isolation", "detached"), ("tls-up1", "tls-rr64", "tls-conn"),
], ids="+".join)
def test_each_work_is_measured_and_every_byte_arrives(tmp_path, keys):
    wanted = {key: [name for name in WORKS[key] if is_there(name)] for key in keys}
    names = sorted({name for names in wanted.values() for name in names})
    works, text, report = measured(tmp_path, "--only", ",".join(keys), "--candidates", ",".join(names))

    assert set(works) == set(keys)
    assert report["left_out"] == []
    for key, names in wanted.items():
        for name in names:
            assert works[key][name]["wrong"] == [], (key, name)
            assert works[key][name]["counting"] == works[key][name]["of"] == 1
            assert works[key][name]["median"] > 0 or key == "idle"
            assert f"| {name} |" in text
    assert all(goal["verdict"] in ("met", "missed", "not measured", "") for goal in report["goals"])


def is_there(name):
    path = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"
    return name not in FOREIGN or shutil.which(FOREIGN[name], path=path) is not None


def test_an_upload_counts_if_and_only_if_the_shadow_got_every_byte(tmp_path):
    works, _, report = measured(tmp_path, "--only", "up1,up16", "--candidates", "doppel0,doppel1")

    # On a busy machine a shadow may lag so far that it is cut off: then the run must not count.
    for rows in works.values():
        assert rows["doppel0"]["counting"] == 1, rows["doppel0"]
        mirrored = rows["doppel1"]
        assert mirrored["counting"] == 1 or mirrored["wrong"][0].startswith("shadow 0: "), mirrored
    counting = sum(rows["doppel1"]["counting"] for rows in works.values())
    every_byte = next(goal for goal in report["goals"] if "every byte" in goal["text"])
    assert every_byte["measured"] == counting / 2


def test_a_mirror_that_loses_a_byte_does_not_count_and_a_faithful_one_does(tmp_path, mirror_script):
    works, text, _ = measured(tmp_path, "--only", "rr1,up1", "--candidates", "lossy,faithful",
                              "--with", mirror_script("lossy"), "--with", mirror_script("faithful"))

    for key in ("rr1", "up1"):
        faithful, lossy = works[key]["faithful"], works[key]["lossy"]
        assert (faithful["counting"], faithful["wrong"]) == (1, []), key
        assert faithful["median"] > 0
        assert (lossy["counting"], lossy["median"], lossy["ratio"]) == (0, None, None), key
        assert lossy["wrong"][0].startswith("shadow 0: "), key
    assert text.count("lossy does not count: shadow 0: ") == 2


def test_a_contestant_that_does_not_start_does_not_count(tmp_path):
    works, text, _ = measured(tmp_path, "--only", "rr1", "--candidates", "broken",
                              "--with", "broken=/bin/sh -c 'echo no such thing' {L} {P}")
    assert works["rr1"]["broken"]["counting"] == 0
    assert "broken does not count: sh does not listen: no such thing" in text


def test_what_the_time_does_not_suffice_for_is_left_out_and_said(tmp_path):
    works, text, report = measured(tmp_path, "--only", "rr1", "--candidates", "doppel0,doppel1",
                                   "--minutes", "0")
    assert works == {"rr1": {}}
    assert report["left_out"] == ["rr1 doppel0", "rr1 doppel1"]
    assert "Left out, since the time was over: rr1 doppel0, rr1 doppel1" in text


@pytest.mark.foreign
def test_a_report_becomes_the_documents_picture_and_tables(tmp_path):
    measured(tmp_path, "--only", "rr1", "--candidates", "doppel0,haproxy")
    (tmp_path / "performance.md").write_text((ROOT / "docs/performance.md").read_text())

    def drawn():
        command = [ROOT / "tools/bench_plot", tmp_path / "report.json", tmp_path]
        subprocess.run(command, check=True, timeout=patient(30))
        return [(tmp_path / f"performance.{ending}").read_text() for ending in ("svg", "md")]

    picture, document = drawn()
    words = [text.text for text in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert "Requests, 1 connection" in words and "Upload, 1 connection" not in words
    assert "### Requests, 1 connection (`rr1`)" in document and "(`up1`)" not in document
    assert document.startswith("# Performance\n")
    assert drawn() == [picture, document]


@pytest.mark.parametrize("flags, sentence", [
    (("--only", "rr2"), "nobody has the name rr2"),
    (("--candidates", "doppel4"), "nobody has the name doppel4"),
    (("--with", "peer"), "--with wants NAME=COMMAND"),
    (("--program", "/nowhere/doppel"), "/nowhere/doppel: No such file or directory"),
])
def test_a_mistake_is_one_sentence(tmp_path, flags, sentence):
    ended = bench(tmp_path, *flags)
    assert ended.returncode == 1
    assert sentence in ended.stderr and len(ended.stderr.splitlines()) == 1
