"""
network.py — a network namespace of the test's own, with loopback up and nftables rules.

    @pytest.mark.netns
    def test_...(network, doppel, server):      # network first: what is made after it lives inside
        shadow = server(sink)
        network.drop(shadow.port)               # SYNs to it vanish, and what is sent vanishes too
        ...
        network.lift()

    clients = network.host("clients", 1)        # another namespace, at the end of a cable
    with clients:                               # sockets made in here are that machine's
        client = Client(("10.2.0.2", 80))

Machine number n has 10.n.0.2 and fd00:n::2, this end of its cable 10.n.0.1 and fd00:n::1, which is
its router.

The test's own thread moves into the namespace, so that its sockets, the threads it starts and its
child processes are all inside; the end of the fixture moves it back.
"""
import ctypes
import functools
import os
import shutil
import subprocess

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Network:
    """Use it through the fixture."""

    def __enter__(self):
        self._hosts = []
        self._outside = _own_namespace()
        _checked(_libc.unshare(CLONE_NEWNET), "unshare")
        ip("link set lo up")
        self.nft("add table inet faults")
        self.nft("add chain inet faults input { type filter hook input priority 0; }")
        return self

    def __exit__(self, *_):
        _checked(_libc.setns(self._outside, CLONE_NEWNET), "setns")
        os.close(self._outside)
        for host in self._hosts:
            host.close()

    def host(self, name, number):
        """Another machine; its namespace goes with the test."""
        self._hosts.append(Host(name, number))
        return self._hosts[-1]

    @staticmethod
    @functools.lru_cache(maxsize=None)
    def why_not():
        """A reason to skip, or None."""
        for tool in ("ip", "nft", "unshare"):
            if shutil.which(tool) is None:
                return f"{tool} is not installed"
        tried = subprocess.run(["unshare", "-n", "nft", "list", "ruleset"], capture_output=True, text=True)
        return None if tried.returncode == 0 else f"no network namespace here: {tried.stderr.strip()}"

    def nft(self, *commands):
        subprocess.run(["nft", *commands], check=True)

    def drop(self, port, match="dport"):
        """Packets to the port (match="sport": from it) vanish on arrival."""
        self.nft(f"add rule inet faults input tcp {match} {port} drop")

    def reject(self, port, how="tcp reset"):
        """how as nft's reject takes it: "tcp reset", "icmpx type host-unreachable" ..."""
        self.nft(f"add rule inet faults input tcp dport {port} reject with {how}")

    def lift(self):
        """All rules go; what waits is sent again."""
        self.nft("flush chain inet faults input")

    def sysctl(self, name, value):
        """sysctl("net.ipv4.ip_local_port_range", "40000 40003"), in this namespace only."""
        with open("/proc/sys/" + name.replace(".", "/"), "w") as setting:
            setting.write(value)


class Host:
    """A namespace that the test's thread visits in a with block; what it starts there stays there."""

    def __init__(self, name, number):
        self._outside = None
        router = _own_namespace()
        _checked(_libc.unshare(CLONE_NEWNET), "unshare")
        self._inside = _own_namespace()
        _checked(_libc.setns(router, CLONE_NEWNET), "setns")
        os.close(router)
        ip(f"link add {name} type veth peer name router netns /proc/{os.getpid()}/fd/{self._inside}")
        _set_up(name, number, 1)
        with self:
            ip("link set lo up")
            _set_up("router", number, 2)
            ip(f"route add default via 10.{number}.0.1")
            ip(f"-6 route add default via fd00:{number}::1")

    def __enter__(self):
        self._outside = _own_namespace()
        _checked(_libc.setns(self._inside, CLONE_NEWNET), "setns")
        return self

    def __exit__(self, *_):
        _checked(_libc.setns(self._outside, CLONE_NEWNET), "setns")
        os.close(self._outside)

    def close(self):
        os.close(self._inside)


def ip(command):
    subprocess.run(["ip", *command.split()], check=True)


def _set_up(link, number, place):
    ip(f"address add 10.{number}.0.{place}/24 dev {link}")
    ip(f"address add fd00:{number}::{place}/64 dev {link} nodad")
    # Neighbours are asked for from this one; the kernel's own choice would be tried out for seconds.
    ip(f"address add fe80::{place}/64 dev {link} nodad")
    ip(f"link set {link} addrgenmode none up")


def _own_namespace():
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _checked(status, what):
    if status != 0:
        raise OSError(ctypes.get_errno(), what)
