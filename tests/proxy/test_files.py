"""
test_files.py — the files that a configuration names: pipes take the place of files.
"""
import os
import signal
import subprocess
import threading

import pytest

from support import processes
from support.pattern import KIB, pattern
from support.peers import echo
from support.proxy import binary, clean_environment
from support.secure import secure
from support.waiting import eventually, patient


@pytest.fixture
def pipe(tmp_path):
    """pipe(text): a named pipe that says this once, to whoever opens it first."""
    def make(text, name="pipe"):
        path = tmp_path / name
        os.mkfifo(path)
        threading.Thread(target=path.write_text, args=[text], daemon=True).start()
        return path
    return make


def test_the_configuration_may_come_from_a_pipe(doppel, server, pipe):
    primary = server(echo)

    mirror = doppel(primary, config=pipe(f"listen = 127.0.0.1:0\nprimary = {primary.address}\n"))

    assert mirror.connect().exchange(pattern(KIB)) == pattern(KIB)


def test_a_variable_s_value_may_come_from_a_pipe(doppel, server, pipe):
    primary = server(echo)

    mirror = doppel([None], env={"DOPPEL_PRIMARY_FILE": str(pipe(primary.address))})
    mirror.primaries = [primary]

    assert mirror.connect().exchange(pattern(KIB)) == pattern(KIB)


def test_a_certificate_and_its_key_may_come_from_a_pipe(doppel, server, authority, pipe):
    with open(authority.certificate("localhost")) as pem:
        both = pipe(pem.read())

    mirror = doppel(server(echo), "--tls-cert", str(both), listens=["tls://127.0.0.1:0"])

    client = secure(mirror.connect(), authority.client_context(), "localhost")
    assert client.exchange(pattern(KIB)) == pattern(KIB)


def catches(pid, number):
    with open(f"/proc/{pid}/status") as status:
        caught = next(int(row.split()[1], 16) for row in status if row.startswith("SigCgt:"))
    return bool(caught >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_start_that_waits_for_a_pipe_can_be_ended(tmp_path, number):
    os.mkfifo(tmp_path / "pipe")
    started = subprocess.Popen([binary(), "-c", str(tmp_path / "pipe")], env=clean_environment())
    eventually(lambda: catches(started.pid, number) and processes.is_asleep(started.pid), "it waits")

    started.send_signal(number)

    assert started.wait(patient()) == 1
