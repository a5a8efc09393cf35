"""
test_image.py — the container image: what is in it, and that it runs as container engines run it, as
process 1, without root, without capabilities and on a root that cannot be written.

The image is built once for all tests (support/image.py), which takes a minute where nothing is stored.
"""
import fcntl
import os
import re
import signal
import stat
import subprocess
import threading
import time

import pytest

from support.dns import Name, NameServer
from support.image import CannotBuild, Image
from support.pattern import KIB, MIB, pattern
from support.peers import Ended, Job, echo, hold, sink
from support.proxy import ROOT, clean_environment
from support.waiting import eventually, patient

pytestmark = [pytest.mark.image, pytest.mark.timeout(600), pytest.mark.xdist_group("image")]

MORE_OR_LESS_MB = 1     # the libraries of another machine
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
LOADER = re.compile(r"\[Requesting program interpreter: (.*)\]")
NEEDED = re.compile(r"\(NEEDED\).*\[(.*)\]")


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    mine = tmp_path_factory.getbasetemp()
    of_all_workers = mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine
    try:
        return Image.of_this_run(of_all_workers / "image")
    except CannotBuild as reason:
        pytest.skip(f"the image cannot be built: {reason}")


@pytest.fixture
def contained(image, doppel):
    """As the fixture doppel, in a container; files={path inside: path outside} are put into it."""
    def start(*arguments, files=None, **options):
        prefix, program = image.container(files)
        return doppel(*arguments, prefix=prefix, program=program, **options)
    return start


@pytest.fixture
def write(tmp_path):
    """write("name", "text") answers the path of a file that everybody can read."""
    def one(name, text):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(0o444)
        return path
    return one


def status_of(pid):
    """/proc/PID/status as a dictionary."""
    with open(f"/proc/{pid}/status") as lines:
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


# What is in it.

def loaded_by(image, path, what):
    """What an ELF file of the image names: its libraries, or its loader."""
    said = subprocess.run(["readelf", "-W", "-d", "-l", image.root / path.lstrip("/")],
                          capture_output=True, text=True, check=True).stdout
    return set(what.findall(said))


def test_the_image_holds_the_program_what_it_loads_and_the_authorities_and_nothing_else(image):
    files = image.files()
    libraries = set(files) - {image.entrypoint, AUTHORITIES}
    needed = set().union(*(loaded_by(image, path, NEEDED) for path in libraries | {image.entrypoint}))
    loader, = loaded_by(image, image.entrypoint, LOADER)

    assert {image.entrypoint, AUTHORITIES, loader} <= set(files)
    assert {os.path.basename(path) for path in libraries} == needed | {os.path.basename(loader)}
    assert len(libraries) == len(needed | {os.path.basename(loader)}), sorted(libraries)


def test_the_files_of_the_image_are_plain_and_only_roots(image):
    for path, its in image.files().items():
        assert stat.S_ISREG(its.st_mode), path
        assert stat.S_IMODE(its.st_mode) in (0o644, 0o755), path
        assert (its.st_uid, its.st_gid) == (0, 0), path


def test_the_image_is_as_big_as_its_document_says(image):
    document = (ROOT / "docs/container.md").read_text()
    said = re.search(r"bundle of certificate authorities:\s(\d+) MB", document)
    size = sum(its.st_size for its in image.files().values()) / 1e6

    assert abs(size - int(said[1])) <= MORE_OR_LESS_MB, f"{size:.1f} MB in {len(image.files())} files"


def test_the_image_brings_the_certificate_authorities(image):
    variables = dict(pair.split("=", 1) for pair in image.config["Env"])

    assert variables["SSL_CERT_FILE"] == AUTHORITIES
    assert (image.root / AUTHORITIES.lstrip("/")).read_text().count("BEGIN CERTIFICATE") > 50


def test_the_image_says_how_it_is_run(image):
    assert image.config["User"] == "65532:65532"
    assert image.config["Entrypoint"] == ["/usr/bin/doppel"]
    assert image.config["StopSignal"] == "SIGTERM"
    assert not image.config.get("Cmd") and not image.config.get("ExposedPorts")
    assert all("PATH=" in pair or "SSL_CERT_FILE=" in pair for pair in image.config["Env"])


# Command line and variables.

def test_the_image_prints_its_versions(image):
    ran = image.run("-V")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.match(r"doppel \d+\.\d+\.\d+\n", ran.stdout)
    assert "libev" in ran.stdout and "c-ares" in ran.stdout


def test_a_mistake_ends_the_container_with_status_2_and_one_line(image):
    ran = image.run("-l", "8080", "-r", "nowhere")

    assert (ran.returncode, ran.stdout) == (2, "")
    assert len(ran.stderr.splitlines()) == 1


def test_the_image_without_arguments_says_how_to_go_on(image):
    ran = image.run()

    assert ran.returncode == 2
    assert "doppel --help" in ran.stderr


def test_the_image_mirrors_as_its_flags_say(contained, server):
    copies = [server(sink), server(sink)]
    mirror = contained(server(echo), shadows=copies, workers=2)
    clients = [mirror.connect() for _ in range(10)]

    for number, client in enumerate(clients):
        assert client.exchange(pattern(256 * KIB, number)) == pattern(256 * KIB, number)
        client.close()

    assert {line["reason"] for line in mirror.access_log(10)} == {"client_fin"}
    mirror.wait_metric("doppel_shadow_sessions_total", 20, result="mirrored")


def test_the_image_mirrors_as_its_variables_say(contained, server):
    primary, copy = server(echo), server(sink)
    mirror = contained(None, listens=(), env={
        "DOPPEL_LISTEN": "127.0.0.1:0", "DOPPEL_PRIMARY": primary.address,
        "DOPPEL_SHADOW": f"canary={copy.address}"})
    mirror.primaries.append(primary)
    client = mirror.connect()

    assert client.exchange(pattern(64 * KIB)) == pattern(64 * KIB)
    client.close()

    assert mirror.shadow(0, "canary")["result"] == "mirrored"


def test_the_image_takes_variables_from_secrets(contained, server, write):
    primary, copy = server(echo), server(sink)
    secrets = {"PRIMARY": primary.address, "SHADOW": f"canary={copy.address}"}
    mirror = contained(
        None, env={f"DOPPEL_{name}_FILE": f"/run/secrets/{name}" for name in secrets},
        files={f"/run/secrets/{name}": write(name, text + "\n") for name, text in secrets.items()})
    mirror.primaries.append(primary)
    client = mirror.connect()

    assert client.exchange(pattern(64 * KIB)) == pattern(64 * KIB)
    client.close()

    assert mirror.shadow(0, "canary")["result"] == "mirrored"


def test_the_image_takes_a_configuration_file(contained, server, write):
    primary, copy = server(echo), server(sink)
    text = f"primary = {primary.address}\n[shadow canary]\naddress = {copy.address}\n"
    mirror = contained(None, "-c", "/etc/doppel.conf",
                       files={"/etc/doppel.conf": write("doppel.conf", text)})
    mirror.primaries.append(primary)
    client = mirror.connect()

    assert client.exchange(pattern(64 * KIB)) == pattern(64 * KIB)
    client.close()

    assert mirror.shadow(0, "canary")["result"] == "mirrored"


# Names: the engine puts resolv.conf and hosts into the container.

@pytest.mark.netns
def test_names_are_asked_of_the_containers_resolver_and_hosts(network, contained, server, write):
    """In a network of its own, where the name server's port is free: resolv.conf names no port."""
    primary, copy = server(echo), server(sink)
    with NameServer(port=53) as dns:
        dns.table["primary.test"] = Name(a=["127.0.0.1"])
        mirror = contained(f"primary.test:{primary.port}", shadows=[f"canary=hosted.test:{copy.port}"],
                           files={"/etc/resolv.conf": write("resolv.conf", "nameserver 127.0.0.1\n"),
                                  "/etc/hosts": write("hosts", "127.0.0.1 hosted.test\n")})
        mirror.primaries.append(primary)
        client = mirror.connect()

        assert client.exchange(pattern(64 * KIB)) == pattern(64 * KIB)
        client.close()

        assert mirror.session(0)["primary"] == primary.address
        assert mirror.shadow(0, "canary")["result"] == "mirrored"
        assert dns.count("primary.test") > 0 and dns.count("hosted.test") == 0


def test_without_resolv_conf_and_hosts_numeric_addresses_work(contained, server):
    """An empty network namespace of an engine brings neither."""
    mirror = contained(server(echo))

    assert mirror.connect().exchange(b"hello") == b"hello"


# What it may do.

def test_nobody_in_the_container_is_root_or_can_become_it(contained, server):
    mirror = contained(server(echo), workers=2)

    assert len(mirror.pids()) == 3
    for number, pid in enumerate(mirror.pids()):
        its = status_of(pid)
        assert its["Uid"].split() == its["Gid"].split() == ["65532"] * 4
        assert its["Groups"] == ""
        assert {its[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
        assert its["NoNewPrivs"] == "1"
        assert (its["NSpid"].split()[-1] == "1") == (number == 0)


def test_the_root_of_the_container_cannot_be_written(contained, server):
    mirror = contained(server(echo))

    with open(f"/proc/{mirror.pid()}/mountinfo") as mounts:
        options = {fields[4]: fields[5].split(",") for fields in (line.split() for line in mounts)}
    assert "ro" in options["/"]
    assert mirror.connect().exchange(b"hello") == b"hello"


# Process 1.

def children_with_zombies(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return {int(child) for child in children.read().split()}


def test_L15_a_killed_worker_is_reaped_and_replaced(contained, server):
    mirror = contained(server(echo), workers=2)
    mirror.expect(problems=("worker_died",))
    killed = mirror.workers()[0]

    os.kill(killed, signal.SIGKILL)
    mirror.wait_metric("doppel_worker_restarts_total", 1)
    mirror.wait_metric("doppel_workers", 2)

    assert killed not in children_with_zombies(mirror.pid())
    assert mirror.connect().exchange(b"hello") == b"hello"


def test_L15_orphans_of_the_container_are_reaped_and_are_no_workers(contained, server):
    """What `docker exec` leaves behind becomes a child of process 1."""
    mirror = contained(server(echo))
    worker, = mirror.workers()
    orphan = subprocess.Popen(
        ["nsenter", "-t", str(mirror.pid()), "-p", "sh", "-c", "exec 3<&0; (read word <&3) &"],
        stdin=subprocess.PIPE)
    assert orphan.wait(patient()) == 0
    eventually(lambda: len(children_with_zombies(mirror.pid())) == 2, "the orphan is process 1's child")

    orphan.stdin.close()
    eventually(lambda: children_with_zombies(mirror.pid()) == {worker}, "the orphan is reaped")

    assert mirror.log("worker_died") == []
    assert mirror.metric("doppel_worker_restarts_total") == 0
    assert mirror.connect().exchange(b"hello") == b"hello"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT],
                         ids=lambda number: number.name)
def test_L15_process_1_obeys_the_signals_that_stop_it(contained, server, number):
    mirror = contained(server(echo), workers=2)
    client = mirror.connect()
    client.exchange(b"hello")
    client.close()

    assert mirror.stop(number) == 0


def talk_until_it_ends(mirror, number, talking):
    """Exchanges until doppel goes away; answers how much came back, byte for byte."""
    whole = 0
    while True:
        try:
            client = mirror.connect()
        except ConnectionRefusedError:
            return whole
        try:
            for _ in range(20):
                assert client.exchange(pattern(16 * KIB, number)) == pattern(16 * KIB, number)
                whole += 1
                talking.release()
        except Ended:
            return whole
        finally:
            client.close()


def test_stopping_under_load_takes_no_longer_than_the_drain_timeout(contained, server):
    primary, held, copy = server(echo), server(hold), server(sink)
    mirror = contained(primary, "--drain-timeout", "3s", shadows=[copy, held], workers=2)
    mirror.expect(identity="none")
    talking = threading.Semaphore(0)
    jobs = [Job(talk_until_it_ends, mirror, number, talking) for number in range(8)]
    stays = mirror.connect()
    stays.exchange(b"this one stays open")
    for _ in range(100):
        assert talking.acquire(timeout=patient())

    began = time.monotonic()
    assert mirror.stop(signal.SIGTERM) == 0
    took = time.monotonic() - began

    assert took < 3 + patient(2)
    assert sum(job.result() for job in jobs) >= 100
    assert stays.drain() in ("fin", "rst")
    assert len(mirror.log(" totals ", level="info")) == 1


def test_stopping_waits_for_what_is_still_answered(contained, server):
    primary = server(echo)
    mirror = contained(primary)
    client = mirror.connect()
    client.exchange(b"before")

    mirror.signal(signal.SIGTERM)
    eventually(lambda: mirror.get("/readyz")[0] == 503, "it drains")

    assert client.exchange(pattern(4 * MIB)) == pattern(4 * MIB)
    client.finish()
    assert client.recv() == b""
    assert mirror.wait_exit() == 0


# Logs.

def test_L16_logs_that_nobody_reads_hold_nothing_up(contained, server):
    """The pipes belong to root, so that they cannot even be opened again."""
    primary, copy = server(echo), server(sink)
    readers, writers = zip(os.pipe(), os.pipe())
    for writer in writers:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4 * KIB)    # soon full
    mirror = contained(primary, "-vv", shadows=[copy], stdout=writers[0], stderr=writers[1])
    mirror.expect(access_log=False)
    for writer in writers:
        os.close(writer)

    sessions = 0
    while mirror.metric("doppel_log_dropped_total") == 0:
        assert sessions < 10000, "all those lines went somewhere"
        for _ in range(50):
            client = mirror.connect()
            assert client.exchange(b"hello") == b"hello"
            client.close()
            sessions += 1

    client = mirror.connect()
    assert client.exchange(pattern(MIB)) == pattern(MIB)
    client.close()
    assert mirror.stop() == 0
    for reader in readers:
        os.close(reader)


def test_the_image_can_be_built_again_from_what_is_stored(image):
    """The base is made once: asking again changes nothing, and needs no mirror."""
    again = subprocess.run([os.path.join(os.path.dirname(__file__), "../../tools/base-image")],
                           env={**clean_environment(), "http_proxy": "http://127.0.0.1:1"},
                           capture_output=True, text=True, timeout=patient(30), check=False)

    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
