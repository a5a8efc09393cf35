"""
conftest.py — the fixtures of the end-to-end tests; support/__init__.py shows how to begin.

    doppel(primary, *flags, shadows=[...], workers=1, ...)   starts the proxy (support.proxy.Doppel)
    server(behaviour, ...)                                   starts a scripted peer (support.peers.Server)
    authority                                                certificates (support.secure.Authority)
    crowd                                                    thousands of peers in one thread (support.crowd)
    network                                                  a namespace of the test's own (support.network)
    program, place                           the program where every user can start it, and its directory
    programs                                                 real servers and clients (support.programs)
    faults("read:short=1;...")                               the shim's environment (support.faults)

At the end of a test that passed, all peers are ended in good order and support.checks must hold for
every doppel; one that failed shows the logs, /status and the seed.
"""
import os
import random
import resource
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from support import checks
from support.crowd import Crowd
from support.faults import Faults
from support.network import Network
from support.peers import Job, Server
from support.programs import Programs
from support.proxy import Doppel, io_mode, program_in
from support.secure import Authority


MOST_FILES = 20000


def pytest_configure():
    """
    Crowds need more descriptors than a login shell allows, and a plain user's PATH lacks nft: a test is
    the same for every user.
    """
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def pytest_generate_tests(metafunc):
    """Tests about the way of bytes take both: the fixture doppel hands the mode on."""
    if metafunc.definition.get_closest_marker("path") is not None and "doppel" in metafunc.fixturenames:
        metafunc.fixturenames.append("io")
        metafunc.parametrize("io", [io_mode()] if io_mode() else ["copy", "splice"])


def pytest_collection_modifyitems(items):
    """make test-quick leaves out what needs other projects' servers."""
    for item in items:
        if "programs" in item.fixturenames:
            item.add_marker("foreign")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    setattr(item, f"report_{report.when}", report)
    if report.failed:
        started = [mirror for mirror in getattr(item, "mirrors", []) if hasattr(mirror, "_log")]
        for number, mirror in enumerate(started):
            report.sections.append((f"doppel {number}", mirror.report()))
        if hasattr(item, "seed"):
            report.sections.append(("seed", str(item.seed)))


@pytest.fixture
def seed(request):
    """For whatever is random in a test: printed when it fails."""
    request.node.seed = random.SystemRandom().randrange(1 << 32)
    return request.node.seed


@pytest.fixture
def server():
    """Scripted peers; closed when doppel has ended."""
    servers = []

    def start(behaviour=None, **options):
        servers.append(Server(behaviour, **{"name": f"server {len(servers)}", **options}))
        return servers[-1]
    start.all = servers
    yield start
    for one in servers:
        one.wind_up()
        one.close()


@pytest.fixture
def doppel(request, server):
    mirrors = request.node.mirrors = []

    def start(*arguments, **options):
        if request.node.get_closest_marker("release"):
            options.setdefault("release", True)
        options.setdefault("io", getattr(request.node, "callspec", None)
                           and request.node.callspec.params.get("io"))
        mirror = Doppel.__new__(Doppel)
        mirrors.append(mirror)
        mirror.__init__(*arguments, **options)
        return mirror
    yield start

    started = [mirror for mirror in mirrors if hasattr(mirror, "_process")]
    try:
        called = getattr(request.node, "report_call", None)
        if called is not None and called.passed:
            found = finish(started, server.all)
            # The logs are taken while the processes' last words are still there.
            assert not found, "\n".join(["at the end of the test:", *found])
    finally:
        for mirror in started:
            mirror.kill()


def finish(mirrors, servers):
    """Ends all peers and all proxies in good order; answers what was wrong."""
    for one in servers:
        one.wind_up()
    for job in [Job(client.wind_up) for mirror in mirrors for client in mirror.clients
                if not client.closed]:
        job.result()
    found = []
    for mirror in mirrors:
        if mirror.is_running():
            found += checks.check_alive(mirror)
            mirror.stop()
        elif mirror.exit_status is None:
            mirror.wait_exit()
        found += checks.check_ended(mirror)
    for one in servers:
        for connection in one.connections:
            if one.behaviour is not None:
                connection.script_ended.wait(2)
    for mirror in mirrors:
        found += checks.check_identity(mirror)
    return found + checks.check_servers(servers)


@pytest.fixture
def place():
    """A directory that everybody may pass; pytest closes the way to its own with each new run."""
    with tempfile.TemporaryDirectory(prefix="doppel-place-") as path:
        os.chmod(path, 0o755)
        yield Path(path)


@pytest.fixture
def program(place):
    """The program, in its release build, where everybody can start it."""
    return program_in(place, release=True)


@pytest.fixture
def crowd():
    made = Crowd()
    yield made
    made.close()


@pytest.fixture
def programs():
    """Goes before doppel among the arguments: the programs outlive its closing checks."""
    started = Programs()
    yield started
    started.close()


@pytest.fixture
def authority(tmp_path):
    """Certificates for this test, and who believes in them."""
    return Authority(tmp_path)


@pytest.fixture
def network():
    """A network namespace of this test's own, for everything started after it; or a skip."""
    with ExitStack() as stack:
        why_not = Network.why_not()
        if why_not:
            pytest.skip(why_not)
        yield stack.enter_context(Network())


@pytest.fixture
def faults(tmp_path_factory):
    """faults("recv:errno=EINTR:p=.2") answers an armed fault shim (support.faults.Faults)."""
    made = []

    def make(spec, **options):
        made.append(Faults(spec, **options))
        return made[-1]
    yield make
    for one in made:
        one.close()
