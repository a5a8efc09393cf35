"""
test_health.py — doppel --health asks another doppel whether it is ready: one word for who has no shell.
"""
import signal
import socket
import subprocess

import pytest

from support.peers import close_at_once, echo, hold, sink
from support.proxy import binary, clean_environment
from support.waiting import eventually, patient


def ask(address, *more, environment=None):
    """(exit status, what it said)"""
    ended = subprocess.run([binary(), "--health", address, *more], env=clean_environment(environment),
                           capture_output=True, text=True, timeout=patient(20), check=False)
    assert ended.stdout == ""
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("admin, asked", [
    ("127.0.0.1:{port}", "127.0.0.1:{port}"), ("127.0.0.1:{port}", "localhost:{port}"),
    ("[::1]:{port}", "[::1]:{port}"), (":{port}", ":{port}"), ("unix:{path}", "unix:{path}")])
def test_a_doppel_that_serves_is_healthy_and_one_that_drains_is_not(doppel, server, tmp_path, admin, asked):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        names = {"port": probe.getsockname()[1], "path": tmp_path / "admin"}
    asked = asked.format(**names)
    mirror = doppel(server(hold), "--admin", admin.format(**names), admin=False)
    mirror.expect(quiesce=False, descriptors=False, access_log=False, identity="none")
    client = mirror.connect()

    assert ask(asked) == (0, "")

    mirror.signal(signal.SIGTERM)
    eventually(lambda: ask(asked)[0] == 1, "it is not ready any more")
    status, said = ask(asked)
    assert status == 1
    address = asked.replace("localhost", "127.0.0.1")
    assert said == f"doppel: {address} is not ready: it answers 503\n"
    client.close()
    assert mirror.wait_exit() == 0


def test_nobody_there_is_not_healthy(server):
    status, said = ask(server(state="refusing").address)

    assert status == 1 and said.endswith(" does not answer: Connection refused\n")


@pytest.mark.parametrize("behaviour, why", [
    (hold, "does not answer: Connection timed out"), (close_at_once, "does not answer"),
    (echo, "does not answer as an admin endpoint would"), (sink, "does not answer: Connection timed out")],
    ids=["silent", "gone", "another", "deaf"])
def test_whoever_else_is_there_is_not_healthy_and_the_answer_does_not_take_long(server, behaviour, why):
    one = server(behaviour)

    status, said = ask(one.address)

    assert status == 1 and why in said and said.count("\n") == 1


def test_nothing_else_that_is_said_matters(doppel, server, tmp_path):
    """A container's variables are there for its check, too, and may be wrong for it."""
    path = tmp_path / "admin"
    doppel(server(echo), "--admin", f"unix:{path}", admin=False).expect(
        quiesce=False, descriptors=False, access_log=False)

    assert ask(f"unix:{path}", "--listen", "nonsense",
               environment={"DOPPEL_LISTEN": "8080", "DOPPEL_BUFFER": "wrong"}) == (0, "")


@pytest.mark.parametrize("address, why", [
    ("nowhere", '--health: "nowhere" has no port'), ("off", '"off" is no address'),
    ("tls://127.0.0.1:1", "no TLS")])
def test_an_address_that_cannot_be_asked_is_a_usage_error(address, why):
    status, said = ask(address)

    assert status == 2 and why in said and said.count("\n") == 1
