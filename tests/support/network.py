"""
network.py — a network namespace of the test's own, with loopback up and nftables rules.

    @pytest.mark.netns
    def test_...(network, doppel, server):      # network first: what is made after it lives inside
        shadow = server(sink)
        network.drop(shadow.port)               # SYNs to it vanish, and what is sent vanishes too
        ...
        network.lift()

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
        self._outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _checked(_libc.unshare(CLONE_NEWNET), "unshare")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        self.nft("add table inet faults")
        self.nft("add chain inet faults input { type filter hook input priority 0; }")
        return self

    def __exit__(self, *_):
        _checked(_libc.setns(self._outside, CLONE_NEWNET), "setns")
        os.close(self._outside)

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


def _checked(status, what):
    if status != 0:
        raise OSError(ctypes.get_errno(), what)
