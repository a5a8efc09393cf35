"""
programs.py — real servers and real clients, for the tests that mirror what the world really speaks.

    programs = Programs()                            (the fixture of test_real_software.py)
    primary, copy = programs.redis(), programs.redis()
    run(f"redis-benchmark -p {port} -n 1000 -q")     what it printed; it must end with status 0
    programs.nginx(listen_options="http2").address   127.0.0.1:20412, as doppel takes it
    copy.freeze()                                    it stands still, as a machine that hangs
    programs.close()

Nothing of the system's own services is used: each server has a free port of the loopback interface,
a directory of its own and its own configuration, and goes when the test ends.  Postgres refuses to
run as root and then runs as the user postgres.  A program that is not installed skips the test.
"""
import glob
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from support.waiting import eventually, patient

# Where Debian puts programs that are not on everybody's PATH.
ELSEWHERE = ["/usr/sbin", "/usr/local/sbin",
             *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)]
# Below the ports that the kernel gives to clients, of which the tests beside this one use thousands.
PORTS = range(15000, 30000)
LISTEN = "0A"


def find(program):
    """Its path; a skip that names it where it is missing."""
    path = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), *ELSEWHERE]))
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def run(command, stdin=b"", timeout=60):
    """Runs it to its end and answers the bytes it printed; any status but 0 is a failure."""
    program, *arguments = shlex.split(command)
    ended = subprocess.run([find(program), *arguments], input=stdin, capture_output=True,
                           timeout=patient(timeout))
    assert ended.returncode == 0, \
        f"{command}: status {ended.returncode}\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}"
    return ended.stdout


def free_port():
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def is_listening(port):
    """Asks the kernel: a connection would be the one that `nc -l` waits for."""
    with open("/proc/net/tcp") as rows:
        return any(fields[1].endswith(f":{port:04X}") and fields[3] == LISTEN
                   for fields in map(str.split, rows))


class Program:
    """A server that runs until close(); what it says is in the file log of its directory."""
    output = "log"      # the file that takes its standard output
    standard_input = subprocess.DEVNULL

    def __init__(self, directory, port):
        self.directory = Path(directory)
        self.port = port
        self._process = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self, **options):
        """Options are those of the program's command()."""
        command = self.command(**options)
        with open(self.directory / "log", "wb") as log, open(self.directory / self.output, "ab") as output:
            self._process = subprocess.Popen(command, stdin=self.standard_input, stdout=output, stderr=log,
                                             cwd=self.directory, start_new_session=True)

        def ready():
            assert self.is_running(), f"{self} ended at start:\n{self.log()}"
            return self.is_ready()
        eventually(ready, lambda: f"{self} is ready:\n{self.log()}", timeout=30)

    def command(self):
        """What starts it, its configuration written."""
        raise NotImplementedError

    def is_ready(self):
        return is_listening(self.port)

    def is_running(self):
        return self._process is not None and self._process.poll() is None

    def wait(self):
        """Until it has ended by itself."""
        return self._process.wait(patient())

    def read(self, name):
        """A file of its directory, as text; nothing when it does not exist (yet)."""
        path = self.directory / name
        return path.read_text(errors="replace") if path.exists() else ""

    def write(self, name, text):
        path = self.directory / name
        path.write_text(text)
        return str(path)

    def log(self):
        return self.read("log")

    # What befalls servers; all their processes together.

    def freeze(self):
        os.killpg(self._process.pid, signal.SIGSTOP)

    def kill(self):
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(patient())

    def close(self, number=signal.SIGTERM):
        if not self.is_running():
            return
        self._process.send_signal(number)
        os.killpg(self._process.pid, signal.SIGCONT)
        try:
            self._process.wait(patient())
        except subprocess.TimeoutExpired:
            self.kill()

    def __str__(self):
        return f"{type(self).__name__} on {self.address}"


class Redis(Program):
    """Keeps everything in memory, and tells the digest of it."""

    def command(self):
        return [find("redis-server"), self.write("redis.conf", f"""
            bind 127.0.0.1
            port {self.port}
            save ""
            appendonly no
            enable-debug-command yes
        """)]

    def ask(self, command):
        return run(f"redis-cli -p {self.port} {command}").decode().strip()

    def digest(self):
        """The same for the same keys and values, however they came to be."""
        return self.ask("debug digest")


class Nginx(Program):
    """Serves the files in www, takes new ones by PUT, and logs one line per request."""

    def command(self, listen_options="", location="dav_methods PUT;", upstream="", client=None):
        (self.directory / "www").mkdir()
        # Files of its own in its directory, and without the user that it would become as root.
        user = "user root;" if os.geteuid() == 0 else ""
        places = " ".join(f"{kind}_temp_path {self.directory}/{kind};"
                          for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        configuration = self.write("nginx.conf", f"""
            {user}
            daemon off;
            worker_processes 1;
            pid {self.directory}/pid;
            events {{ worker_connections 512; }}
            http {{
                log_format short '{client + " " if client else ""}$request $status $request_length';
                access_log {self.directory}/access.log short;
                {places}
                client_max_body_size 64m;
                keepalive_requests 100;
                {upstream}
                server {{
                    listen 127.0.0.1:{self.port} {listen_options};
                    root {self.directory}/www;
                    location / {{ {location} }}
                }}
            }}
        """)
        return [find("nginx"), "-e", "stderr", "-p", str(self.directory), "-c", configuration]

    @property
    def www(self):
        return self.directory / "www"

    def requests(self):
        """One line each: request line, status, bytes of the request."""
        return self.read("access.log").splitlines()


class Postgres(Program):
    """Believes everybody, and does not mind losing everything.  certificate: a PEM with its key; clients
    may then ask for TLS."""

    def command(self, certificate=None):
        become = []
        if os.geteuid() == 0:
            become = f"{find('setpriv')} --reuid=postgres --regid=postgres --clear-groups".split()
            shutil.chown(self.directory, "postgres", "postgres")
        cluster = self.directory / "cluster"
        subprocess.run([*become, find("initdb"), "-D", str(cluster), "-U", "postgres", "-A", "trust",
                        *"-E UTF8 --locale=C --no-sync".split()],
                       check=True, capture_output=True, cwd=self.directory, timeout=patient(60))
        with open(cluster / "postgresql.conf", "a") as configuration:
            configuration.write(self._tls(certificate) if certificate else "")
            configuration.write(f"""
                listen_addresses = '127.0.0.1'
                port = {self.port}
                unix_socket_directories = ''
                fsync = off
                full_page_writes = off
                autovacuum = off
            """)
        return [*become, find("postgres"), "-D", str(cluster)]

    def is_ready(self):
        return is_listening(self.port) and "ready to accept connections" in self.log()

    def _tls(self, certificate):
        """The server's own copy, as it wants one that is its own."""
        copy = self.write("tls.pem", Path(certificate).read_text())
        os.chmod(copy, 0o600)
        if os.geteuid() == 0:
            shutil.chown(copy, "postgres", "postgres")
        return f"ssl = on\nssl_cert_file = '{copy}'\nssl_key_file = '{copy}'\n"

    def ask(self, query):
        return run(f"psql -X -At -h 127.0.0.1 -p {self.port} -U postgres -c {shlex.quote(query)}"
                   ).decode().strip()

    def close(self, number=signal.SIGINT):
        super().close(number)       # INT: without waiting for its clients


class Mosquitto(Program):
    """A broker that lets everybody in and drops nothing."""

    def command(self):
        user = "user root" if os.geteuid() == 0 else ""
        return [find("mosquitto"), "-c", self.write("mosquitto.conf", "\n".join([
            user, f"listener {self.port} 127.0.0.1", "allow_anonymous true", "persistence false",
            "max_queued_messages 0", "max_inflight_messages 0", "log_dest stderr", "log_type all", ""]))]

    def wait_subscribed(self):
        eventually(lambda: "Sending SUBACK" in self.log(), lambda: f"a subscriber:\n{self.log()}")


class Haproxy(Program):
    """Passes connections on to a server, and logs the address each came from."""
    output = "connections"

    def command(self, server, bind="", send=""):
        return [find("haproxy"), "-db", "-f", self.write("haproxy.cfg", f"""
global
    maxconn 100
    log stdout format raw local0
defaults
    mode tcp
    log global
    log-format "%ci"
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen all
    bind 127.0.0.1:{self.port} {bind}
    server one {server} {send}
""")]

    def clients(self):
        return self.read(self.output).split()


class Iperf3(Program):
    def command(self):
        return [find("iperf3"), "-s", "-B", "127.0.0.1", "-p", str(self.port)]


class Netcat(Program):
    """Takes one connection to its end."""
    output = "received"

    def command(self):
        return [find("nc"), "-l", "127.0.0.1", str(self.port)]

    def received(self):
        return (self.directory / self.output).read_bytes()


class OpensslServer(Program):
    """Sends each line back to front; or, quiet, writes what comes to a file."""
    output = "received"
    standard_input = subprocess.PIPE    # an end of it would be the server's, too

    def command(self, certificate, behaviour="-rev"):
        return [find("openssl"), "s_server", "-accept", f"127.0.0.1:{self.port}", "-cert", certificate,
                "-key", certificate, behaviour]

    def received(self):
        return (self.directory / self.output).read_bytes()


class OpensslClient(Program):
    """What is typed goes to the server, what comes from there to the file received."""
    output = "received"
    standard_input = subprocess.PIPE

    def command(self, to, authority, flags=()):
        return [find("openssl"), "s_client", "-connect", "{}:{}".format(*to), "-servername", "localhost",
                "-verify_return_error", "-CAfile", authority.file, *flags]

    def is_ready(self):
        """The handshake is over."""
        return b"Verify return code" in self.received()

    def received(self):
        return (self.directory / self.output).read_bytes()

    def type(self, line):
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def wait_received(self, words):
        eventually(lambda: words in self.received(), lambda: f"{words} comes back:\n{self.log()}")

    def finish(self):
        """No more will be typed, so it ends."""
        self._process.stdin.close()
        self.wait()


class Programs:
    """Those of one test: started by programs.redis(), programs.nginx(...), ..., ended by close()."""

    def __init__(self):
        self._directory = Path(tempfile.mkdtemp(prefix="doppel-programs-"))
        self._directory.chmod(0o755)    # the user postgres has to pass
        self._started = []

    def redis(self):
        return self._start(Redis)

    def nginx(self, **options):
        return self._start(Nginx, **options)

    def postgres(self, **options):
        return self._start(Postgres, **options)

    def mosquitto(self):
        return self._start(Mosquitto)

    def haproxy(self, **options):
        return self._start(Haproxy, **options)

    def iperf3(self):
        return self._start(Iperf3)

    def netcat(self):
        return self._start(Netcat)

    def openssl_server(self, **options):
        return self._start(OpensslServer, **options)

    def openssl_client(self, to, authority, **options):
        return self._start(OpensslClient, to=to, authority=authority, **options)

    def path(self, name):
        """A file of the test's own."""
        return self._directory / name

    def close(self):
        """Ends them all; what they said is shown when the test failed."""
        for program in self._started:
            program.close()
            print(f"{program}:", *program.log().splitlines()[-20:], sep="\n    ")
        shutil.rmtree(self._directory, ignore_errors=True)

    def _start(self, kind, **options):
        directory = self._directory / str(len(self._started))
        directory.mkdir()
        program = kind(directory, free_port())
        self._started.append(program)
        program.start(**options)
        return program
