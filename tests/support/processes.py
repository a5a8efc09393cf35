"""
processes.py — descriptors, CPU ticks and sockets of processes, as /proc shows them.
"""
import ctypes
import os
import socket
from collections import Counter

import pytest

SYN_SENT, CLOSE_WAIT = "02", "08"
SYS_PIDFD_GETFD = 438   # the same on every architecture


def _stat(pid):
    """The fields of /proc/PID/stat from the state on; [] when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()
    except OSError:
        return []


def is_running(pid):
    fields = _stat(pid)
    return bool(fields) and fields[0] not in "ZX"


def is_asleep(pid):
    """It waits for something: for a process with one loop, for its next event."""
    fields = _stat(pid)
    return bool(fields) and fields[0] == "S"


def is_stopped(pid):
    """By SIGSTOP; the signal may be on its way for a moment."""
    fields = _stat(pid)
    return bool(fields) and fields[0] == "T"


def children(pid):
    """Living children, oldest first."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = _stat(entry)
            if fields and int(fields[1]) == pid and fields[0] not in "ZX":
                found.append(int(entry))
    return sorted(found)


def cpu_ticks(pid):
    """utime + stime; 0 when the process is gone."""
    fields = _stat(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0


def scheduled_seconds(pid):
    """How long it has been on a CPU, and how long it has waited for one; 0 when the process is gone."""
    try:
        with open(f"/proc/{pid}/schedstat") as schedstat:
            ran, waited, _ = schedstat.read().split()
    except OSError:
        return 0, 0
    return int(ran) / 1e9, int(waited) / 1e9


def rss_bytes(pid):
    fields = _stat(pid)
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE") if fields else 0


def descriptors(pid):
    """{number: what it is}, as the links in /proc/PID/fd say."""
    links = {}
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            try:
                links[int(number)] = os.readlink(f"/proc/{pid}/fd/{number}")
            except OSError:
                continue    # closed meanwhile
    except OSError:
        pass                # the process is gone
    return links


def descriptor_kinds(pid):
    """How many sockets, pipes, files and anonymous inodes of each kind a process holds."""
    return Counter(_kind(link) for link in descriptors(pid).values())


def _kind(link):
    if link.startswith(("socket:", "pipe:")):
        return link.split(":")[0]
    return link if link.startswith("anon_inode:") else "file"


def close_waiting(pids):
    """Sockets whose peer has finished and which the processes still hold, as text."""
    held = {link for pid in pids for link in descriptors(pid).values() if link.startswith("socket:")}
    found = []
    for table in ("tcp", "tcp6"):
        try:
            with open(f"/proc/{pids[0]}/net/{table}") as rows:
                for row in list(rows)[1:]:
                    fields = row.split()
                    if fields[3] == CLOSE_WAIT and f"socket:[{fields[9]}]" in held:
                        found.append(f"{fields[1]}->{fields[2]}")
        except OSError:
            continue
    return found


def is_dialling(port):
    """Whether a SYN to that port waits for its answer, in this thread's network namespace."""
    wanted = f":{port:04X}"
    with open("/proc/thread-self/net/tcp") as rows:
        fields = [row.split() for row in rows]
    return any(row[2].endswith(wanted) and row[3] == SYN_SENT for row in fields[1:])


def borrow_sockets(pid):
    """Duplicates of all of a process's sockets, by the name of their other end."""
    libc = ctypes.CDLL(None, use_errno=True)
    watched = os.pidfd_open(pid)
    found = {}
    try:
        for number, link in descriptors(pid).items():
            copy = libc.syscall(SYS_PIDFD_GETFD, watched, number, 0) if "socket:" in link else -1
            if "socket:" in link and copy < 0:
                pytest.skip(f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
            if copy >= 0:
                one = socket.socket(fileno=copy)
                try:
                    found[one.getpeername()] = one
                except OSError:
                    one.close()     # it listens
    finally:
        os.close(watched)
    return found
