"""
faults.py — system calls that fail on purpose: the LD_PRELOAD shim, and strace's injection.

    fault = faults("recv,readv:short=1;accept4:errno=EMFILE:n=3..8")      (the fixture)
    mirror = doppel(primary, env=fault.env, release=True)
    ...
    assert fault.struck() > 0           or nothing was tested
    fault.off(); fault.on()             at any time, for running processes too; n= counts anew
    fault.strike_call(7)                on, and n=told is the seventh call from now

The grammar stands in fault_shim.c.  The release build is the usual victim: in a sanitized one the
runtime's interceptors stand before the shim, which works, but is slower.

strace counts the calls of each process, and strikes the supervisor too (whose admin endpoint also
accepts): take it for calls that only the workers make.

    mirror = doppel(primary, prefix=strace_inject("readv:error=EINTR:when=2+3"), env=NO_LEAK_CHECK)
"""
import functools
import mmap
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

from support.proxy import ROOT, SANITIZERS, binary

SOURCE = Path(__file__).with_name("fault_shim.c")
RULES = 16
# LeakSanitizer cannot work in a process that is traced.
NO_LEAK_CHECK = {"ASAN_OPTIONS": SANITIZERS["ASAN_OPTIONS"].replace("detect_leaks=1", "detect_leaks=0")}


@functools.lru_cache(maxsize=None)
def shim():
    """The compiled shim; built when the source is newer."""
    library = ROOT / "build" / "tests" / "fault_shim.so"
    if library.exists() and library.stat().st_mtime >= SOURCE.stat().st_mtime:
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=library.parent, suffix=".so", delete=False) as fresh:
        pass
    subprocess.run(["gcc", "-O1", "-g", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", fresh.name,
                    str(SOURCE), "-ldl"], check=True)
    os.replace(fresh.name, library)
    return library


def preload(program):
    """What LD_PRELOAD must say: a sanitizer's runtime insists on coming first."""
    needed = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    runtimes = [row.split()[2] for row in needed.splitlines() if "libasan" in row]
    return ":".join([*runtimes, str(shim())])


class Faults:
    """One specification, armed at once unless on=False; shared with the processes that run it."""

    def __init__(self, spec, on=True, seed=1, release=True):
        self._file = tempfile.NamedTemporaryFile(prefix="faults-")
        self._file.truncate(4096)
        self._page = mmap.mmap(self._file.fileno(), 4096)
        self.env = {
            "LD_PRELOAD": preload(binary(release)),
            "FAULT_SHIM_SPEC": spec,
            "FAULT_SHIM_SEED": str(seed),
            "FAULT_SHIM_CONTROL": self._file.name,
        }
        self._round = 0
        self._switch(on)

    def on(self):
        self._switch(True)

    def off(self):
        self._switch(False)

    def strike_call(self, number):
        struct.pack_into("Q", self._page, 8, number)
        self._switch(True)

    def struck(self, rule=None):
        """How often a rule struck, or all of them."""
        counts = struct.unpack_from(f"{RULES}Q", self._page, 16)
        return sum(counts) if rule is None else counts[rule]

    def close(self):
        self._page.close()
        self._file.close()

    def _switch(self, on):
        self._round += 1
        struct.pack_into("II", self._page, 0, int(on), self._round)


def strace_inject(*injections):
    """A prefix command: strace_inject("accept4:error=EMFILE:when=3..8"); see strace(1), inject."""
    calls = ",".join(injection.split(":")[0] for injection in injections)
    words = [word for injection in injections for word in ("-e", f"inject={injection}")]
    return ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", *words]


@functools.lru_cache(maxsize=None)
def why_no_strace():
    """A reason to skip, or None."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"strace may not trace here: {tried.stderr.strip()}"
