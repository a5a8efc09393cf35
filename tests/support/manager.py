"""
manager.py — what a service manager does for doppel, as systemd would: it opens listening sockets and
passes them on (sd_listen_fds(3)), and hears how the service is (sd_notify(3)).

    manager = Manager(tmp_path)
    manager.listen("127.0.0.1", name="web")             answers the address as -l takes it
    mirror = doppel(server(echo), listens=manager.addresses, **manager.start())
    manager.wait_said("READY=1")                        a datagram with that line, as {name: value}
    manager.close()

The sockets stay open here: what waits in their queues is there for the next doppel.
"""
import os
import socket
import sys
from pathlib import Path

from support.waiting import eventually

PASS_ON = Path(__file__).with_name("pass_on.py")


class Manager:
    def __init__(self, directory, abstract=False):
        self._listening = []                # (socket, name)
        self.addresses = []
        self.heard = []                     # a {name: value} for each datagram
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.path = f"{directory}/notify" if not abstract else f"@doppel-{os.getpid()}-{id(self)}"
        self._ear.bind(self.path.replace("@", "\0", 1))
        self._ear.setblocking(False)

    def listen(self, host="127.0.0.1", port=0, name=""):
        """Opens one on that address, or on a unix path; answers how -l says it."""
        if host.startswith("/"):
            opened = socket.socket(socket.AF_UNIX)
            opened.bind(host)
            text = f"unix:{host}"
        else:
            opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            opened.bind((host, port))
            text = "[{}]:{}" if ":" in host else "{}:{}"
            text = text.format(*opened.getsockname()[:2])
        opened.listen(1024)
        return self.add(opened, name, text)

    def add(self, opened, name, text=None):
        """Passes on any socket, whatever it is."""
        self._listening.append((opened, name))
        if text is not None:
            self.addresses.append(text)
        return text

    def start(self, for_this_process=True):
        """Options of doppel() for a start with all sockets and the address for what it says."""
        numbers = [opened.fileno() for opened, _ in self._listening]
        words = [",".join(map(str, numbers)), ":".join(name for _, name in self._listening),
                 "self" if for_this_process else "1"]
        return {"prefix": [sys.executable, "-S", str(PASS_ON), *words], "pass_fds": numbers,
                "env": {"NOTIFY_SOCKET": self.path}}

    def said(self, line):
        """Those datagrams so far that have this line."""
        while True:
            try:
                text = self._ear.recv(4096).decode()
            except BlockingIOError:
                break
            self.heard.append(dict(row.split("=", 1) for row in text.splitlines()))
        key, _, value = line.partition("=")
        return [message for message in self.heard if message.get(key) == value]

    def wait_said(self, line, count=1):
        eventually(lambda: len(self.said(line)) >= count, lambda: f"{line} {count} times: {self.heard}")
        return self.said(line)[count - 1]

    def close(self):
        self._ear.close()
        for opened, _ in self._listening:
            opened.close()
