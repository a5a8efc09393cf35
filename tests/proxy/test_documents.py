"""
test_documents.py — what README, docs, manual page, sample and demo say is what the program does.
"""
import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from support.proxy import ROOT, binary, clean_environment
from support.waiting import eventually, patient

README = ROOT / "README.md"
MANUAL = ROOT / "man/doppel.1"
DEMO = ROOT / "tools/demo"
DEMO_SECONDS = 80

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
FLAG = re.compile(r"--[a-z][a-z0-9-]*")


def documents():
    return [README, *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
            *sorted((ROOT / "docs").glob("**/*.md"))]


def blocks(path, language):
    return [text for kind, text in FENCE.findall(path.read_text()) if kind == language]


def example_lines():
    """The command lines of the documents that start doppel."""
    lines = [line for path in documents() for block in blocks(path, "sh")
             for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("doppel ")]


def run(*arguments, **options):
    return subprocess.run([binary(release=True), *arguments], env=clean_environment(), timeout=10,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)


def assert_accepted(*arguments):
    checked = run("-t", *arguments)
    assert checked.returncode == 0 and checked.stderr == "", checked.stderr
    return checked.stdout


def flag_rows():
    """(flags, default, help) of each row of the tables that the program prints."""
    for row in re.findall(r"^\| `.*$", run("--help-markdown").stdout, re.MULTILINE):
        flag, _, default, text = [cell.strip(" `") for cell in re.split(r"(?<!\\)\|", row)[1:5]]
        yield FLAG.findall(flag), default, text


def test_the_readmes_table_of_flags_is_what_the_program_prints():
    checked = subprocess.run([ROOT / "tools/readme_table", "--check"], capture_output=True, text=True,
                             env={**os.environ, "DOPPEL_RELEASE": binary(release=True)})
    assert checked.returncode == 0, checked.stderr


@pytest.mark.netns
@pytest.mark.release
def test_the_readmes_quick_start_does_what_it_says(network):
    """As it is written, but for the build; its ports are free in a network of its own."""
    lines = next(block for block in blocks(README, "sh") if "tools/upstream" in block)
    script = lines.replace("make\n", "").replace("build/release/doppel", binary(release=True))
    ends = "kill %3; wait %3; kill %1 %2; wait"
    ran = subprocess.run(["bash", "-m", "-c", script + ends], cwd=ROOT, env=clean_environment(),
                         timeout=patient(20), capture_output=True, text=True)

    assert "primary: GET /hello" in ran.stdout, ran
    assert '"result":"mirrored"' in ran.stdout


def test_there_are_examples():
    assert len(example_lines()) >= 7


@pytest.mark.parametrize("line", example_lines())
def test_an_example_is_accepted(line):
    assert_accepted(*shlex.split(line)[1:])


def command_lines(path):
    """Whatever a reader may copy into a shell: of the blocks, of the text, of the manual page."""
    text = path.read_text().replace("\\\n", " ").replace("\\-", "-")
    lines = re.findall(r"^(?:sudo )?doppel -.*$", text, re.MULTILINE)
    lines += re.findall(r"`((?:doppel )?-\w [^`]+)`", text)
    return [line for line in lines if "?" in line]


def test_a_shell_takes_the_command_lines_of_the_documents_as_they_are():
    """An & would start doppel in the background, without what follows."""
    lines = [line for path in [*documents(), MANUAL] for line in command_lines(path)]
    assert len(lines) >= 9
    for line in lines:
        words = list(shlex.shlex(line, posix=True, punctuation_chars=True))
        assert not {"&", ";", "|"} & set(words), line


def test_the_example_of_a_file_is_accepted(tmp_path):
    examples = blocks(README, "ini")
    assert examples
    for text in examples:
        (tmp_path / "doppel.conf").write_text(text)
        assert "[shadow canary]" in assert_accepted("-c", str(tmp_path / "doppel.conf"))


def test_the_sample_file_is_accepted_and_says_the_defaults():
    sample = assert_accepted("-c", str(ROOT / "config/doppel.conf"))
    by_hand = assert_accepted("-l", "8080", "-r", "localhost:8081", "-d", "canary=localhost:8082")
    assert sample == by_hand


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_every_link_leads_somewhere(path):
    targets = [target for target in LINK.findall(path.read_text()) if "://" not in target]
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_manual_page_says_of_every_flag_what_the_help_says():
    text = re.sub(r"\\f[A-Z]", "", MANUAL.read_text()).replace("\\-", "-")
    for flags, default, said in flag_rows():
        # Its own paragraph: from the line that begins with it to the next one.
        paragraph = re.search(rf"^\.TP\n(?:-\w, )?{flags[0]}(?![\w-]).*?(?=^\.(?:TP|SS|SH))", text,
                              re.MULTILINE | re.DOTALL)
        assert paragraph, f"{flags[0]} has no paragraph"
        assert all(flag in paragraph[0] for flag in flags), flags
        assert said.casefold() in paragraph[0].casefold(), flags
        assert default == "" or f"Default: {default}." in paragraph[0], (flags[0], default)


def test_what_is_installed_names_the_place_where_it_is(tmp_path):
    subprocess.run(["make", "-s", "-C", ROOT, "-o", "build/release/doppel", "install", f"DESTDIR={tmp_path}",
                    "PREFIX=/opt/there"], env=clean_environment(), timeout=patient(20), check=True,
                   capture_output=True)
    there = tmp_path / "opt/there"

    assert (there / "bin/doppel").exists()
    assert "\nExecStart=/opt/there/bin/doppel -c " in (there / "share/doppel/doppel.service").read_text()
    manual = (there / "share/man/man1/doppel.1").read_text()
    assert "/opt/there/share/doppel/doppel.conf" in manual and "/usr/local" not in manual
    assert (there / "share/doppel/doppel.conf").exists()


def test_the_manual_page_renders_without_a_warning():
    rendered = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", str(MANUAL)],
                              capture_output=True, text=True,
                              env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert rendered.returncode == 0 and rendered.stderr == "", rendered.stderr


def members_of(session):
    """The processes of a session, by name, that are not just waiting to be reaped."""
    names = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, fields = path.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        state, _, _, its_session, *_ = fields.split()
        if int(its_session) == session and state not in "ZX":
            names.append(name)
    return names


def run_demo(program, directory):
    """Runs it to its end; answers status and output, and makes sure that nothing stays behind."""
    directory.mkdir()
    demo = subprocess.Popen([DEMO], env={**clean_environment(), "DOPPEL": program, "TMPDIR": str(directory)},
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            start_new_session=True)
    try:
        output, _ = demo.communicate(timeout=DEMO_SECONDS)
        eventually(lambda: not members_of(demo.pid), lambda: f"still there: {members_of(demo.pid)}")
        assert list(directory.iterdir()) == []
    finally:
        try:
            os.killpg(demo.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return demo.returncode, output


@pytest.fixture
def wrapped(tmp_path):
    """wrapped(python) answers a program that runs doppel with what the Python text makes of words."""
    def make(text):
        wrapper = tmp_path / "wrapped"
        wrapper.write_text(f"#!/usr/bin/python3\nimport os, sys\nwords = sys.argv[1:]\n{text}\n"
                           f"os.execv({binary(release=True)!r}, ['doppel', *words])\n")
        wrapper.chmod(0o755)
        return str(wrapper)
    return make


def test_the_demo_shows_only_what_is_true(tmp_path):
    status, output = run_demo(binary(release=True), tmp_path / "demo")
    assert status == 0, output
    assert output.count("  ok  ") >= 20 and "NOT TRUE" not in output
    assert "\033" not in output, "no colours where there is no terminal"
    # The line that it offers at its end is a good one.
    assert_accepted(*shlex.split(output.strip().splitlines()[-1])[1:])


def test_the_demo_fails_when_nothing_is_mirrored(tmp_path, wrapped):
    without_shadows = wrapped("at = words.index('-d'); del words[at:at + 2]")
    status, output = run_demo(without_shadows, tmp_path / "demo")
    assert status == 1 and "NOT TRUE: the shadow receives the request" in output, output


def test_the_demo_fails_when_the_shadow_answers_the_client(tmp_path, wrapped):
    swapped = wrapped("r, d = words.index('-r') + 1, words.index('-d') + 1\n"
                      "words[r], words[d] = words[d].split('=')[1].split('?')[0], 'canary=' + words[r]")
    status, output = run_demo(swapped, tmp_path / "demo")
    assert status == 1 and "NOT TRUE: each answer is the primary's" in output, output


def test_the_demo_fails_when_a_stalled_shadow_holds_up_the_client(tmp_path, wrapped):
    blocking = wrapped("words[words.index('-d') + 1] += '&overflow=block&stall-timeout=1h'")
    status, output = run_demo(blocking, tmp_path / "demo")
    assert status == 1 and "NOT TRUE: the client gets its answer" in output, output
