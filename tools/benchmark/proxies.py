"""
proxies.py — the contestants, and how each is started between a client, a primary and shadows.

haproxy and nginx do not mirror: they are what a proxy costs.  Whoever mirrors gets the addresses of
its shadows, and its figures count only when these have received every byte.  The client connects to
127.0.0.1 and the listener is the only thing a contestant may choose otherwise.
"""
import shlex
import subprocess
from dataclasses import dataclass, field
from typing import Callable

from benchmark.stage import ROOT, Trouble, find

PIPE_BYTES = 262144
TLS_FILE = "certificate.pem"
NGINX_MODULES = "/usr/lib/nginx/modules"


@dataclass
class Place:
    """Between whom a proxy stands: addresses as HOST:PORT."""
    stage: object
    listen: str
    primary: str
    shadows: list = field(default_factory=list)

    @property
    def port(self):
        return int(self.listen.rpartition(":")[2])


@dataclass
class Candidate:
    name: str
    command: Callable       # Place -> the words of a command line
    shadows: int = 0
    tls: bool = False       # it terminates TLS

    def start(self, place):
        return place.stage.start_proxy(self.command(place), place.port)


def certificate(stage):
    """Chain and key in one file, made once."""
    path = stage.directory / TLS_FILE
    if not path.exists():
        made = subprocess.run(
            [find("openssl"), *"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
             "-subj /CN=bench -keyout key.pem -out chain.pem".split()],
            cwd=stage.directory, capture_output=True, text=True)
        if made.returncode != 0:
            raise Trouble(f"openssl: {made.stderr.strip()}")
        stage.write(TLS_FILE, "".join((stage.directory / name).read_text()
                                      for name in ("chain.pem", "key.pem")))
    return str(path)


def haproxy(name="haproxy", buffer_bytes=0, splices=False, tls=False):
    def command(place):
        # Two sockets a session, and pipes for a part of them.
        sessions = (place.stage.descriptors - 200) // 3
        lines = ["global", " nbthread 1", f" maxconn {sessions}"]
        lines += [f" tune.bufsize {buffer_bytes}"] * bool(buffer_bytes)
        lines += [f" tune.pipesize {PIPE_BYTES}"] * splices
        lines += ["defaults", " mode tcp", " timeout connect 5s", " timeout client 1h", " timeout server 1h"]
        lines += [" option splice-request", " option splice-response"] * splices
        lines += ["listen bench", f" maxconn {sessions}",
                  f" bind {place.listen} backlog 4096" + f" ssl crt {certificate(place.stage)}" * tls,
                  f" server primary {place.primary}"]
        return [find("haproxy"), "-db", "-q", "-f", place.stage.write("haproxy.cfg", "\n".join(lines) + "\n")]

    return Candidate(name, command, tls=tls)


def nginx(name="nginx-stream"):
    def command(place):
        text = f"""
            load_module {NGINX_MODULES}/ngx_stream_module.so;
            daemon off;
            worker_processes 1;
            worker_rlimit_nofile {place.stage.descriptors};
            pid {place.stage.directory}/nginx.pid;
            error_log stderr crit;
            events {{ worker_connections {place.stage.descriptors - 100}; }}
            stream {{
                server {{
                    listen {place.listen} backlog=4096;
                    proxy_pass {place.primary};
                    proxy_timeout 1h;
                }}
            }}
        """
        return [find("nginx"), "-e", "stderr", "-p", str(place.stage.directory),
                "-c", place.stage.write("nginx.conf", text)]

    return Candidate(name, command)


class Doppel:
    """The program to be measured, and what it can do."""

    def __init__(self, program):
        self.program = str(program)

    def candidate(self, shadows, *flags, name="", tls=False):
        """Without an access log, as the others have none; one worker, unless the flags say more."""
        def command(place):
            secure = ["--tls-cert", certificate(place.stage)] * tls
            listen = f"tls://{place.listen}" if tls else place.listen
            words = [self.program, "-l", listen, "-r", place.primary, *secure,
                     *["-d", ",".join(place.shadows)] * bool(place.shadows)]
            defaults = {"--workers": "1", "--access-log": "off", "--log-level": "warning"}
            given = {flag.partition("=")[0] for flag in flags}
            return words + [f"{flag}={value}" for flag, value in defaults.items() if flag not in given] \
                + list(flags)

        return Candidate(name or f"doppel{shadows}", command, shadows, tls)

    def accepts(self, flag):
        """Whether this program knows a flag that another version may not know."""
        try:
            checked = subprocess.run([self.program, "-t", "-l", "127.0.0.1:0", "-r", "127.0.0.1:1",
                                      "-d", "127.0.0.1:2", flag], capture_output=True, timeout=10)
        except OSError as error:
            raise Trouble(f"{self.program}: {error.strerror}; make builds it") from error
        return checked.returncode == 0

    def version(self):
        said = subprocess.run([self.program, "-V"], capture_output=True, text=True, timeout=10)
        return said.stdout.splitlines()[0] if said.stdout else "unknown"


def other(text):
    """
    NAME=COMMAND with {L} for where to listen, {P} for the primary and {S} for the shadow, if it
    mirrors, all as HOST:PORT; {LPORT}, {PPORT} and {SPORT} are the ports alone.
    """
    name, equals, template = text.partition("=")
    if not equals or "{L" not in template or "{P" not in template:
        raise Trouble(f"--with wants NAME=COMMAND with {{L}} and {{P}} in it: {text}")

    def command(place):
        words = shlex.split(template)
        for letter, address in zip("LPS", [place.listen, place.primary, *place.shadows]):
            port = address.rpartition(":")[2]
            words = [word.replace(f"{{{letter}}}", address).replace(f"{{{letter}PORT}}", port)
                     for word in words]
        return words

    return Candidate(name, command, shadows=1 if "{S" in template else 0)


def default_program():
    return ROOT / "build/release/doppel"
