"""
dead_mount.py — a file system whose server is gone: whoever opens a file there waits, and cannot even be
killed, as with a network file system that does not answer.

    with DeadMount(tmp_path / "mnt") as folder:         everything below folder hangs
        ...

It is a FUSE file system that takes every request and answers none but the first, by which it is
mounted.  The end of the with block lets everybody go on with an error.
"""
import ctypes
import functools
import os
import select
import struct
import threading

LIBC = ctypes.CDLL(None, use_errno=True)
MNT_FORCE, MNT_DETACH = 1, 2
INIT = 26
IN_HEADER = struct.Struct("<IIQQIIII")      # length, opcode, unique, ...
INIT_IN = struct.Struct("<IIII")            # major, minor, read-ahead, flags
LONGEST = 1 << 20


class DeadMount:
    def __init__(self, folder):
        self._folder = os.fspath(folder)
        self._over = threading.Event()

    def __enter__(self):
        os.makedirs(self._folder, exist_ok=True)
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0,allow_other"
        if LIBC.mount(b"dead", self._folder.encode(), b"fuse", 0, options.encode()) != 0:
            error = ctypes.get_errno()
            os.close(self._device)
            raise OSError(error, os.strerror(error))
        self._server = threading.Thread(target=self._serve, daemon=True)
        self._server.start()
        return self._folder

    def __exit__(self, *_):
        LIBC.umount2(self._folder.encode(), MNT_FORCE | MNT_DETACH)
        self._over.set()
        self._server.join()
        os.close(self._device)

    def _serve(self):
        while not self._over.is_set():
            if not select.select([self._device], [], [], 0.05)[0]:
                continue
            try:
                request = os.read(self._device, LONGEST)
            except OSError:                 # nothing after all, or it is unmounted
                continue
            _, opcode, unique, *_ = IN_HEADER.unpack_from(request)
            if opcode == INIT:
                self._begin(request, unique)

    def _begin(self, request, unique):
        major, minor, ahead, _ = INIT_IN.unpack_from(request, IN_HEADER.size)
        body = struct.pack("<IIIIHHIIHHI28x", major, minor, ahead, 0, 12, 9, 4096, 1, 0, 0, 0)
        os.write(self._device, struct.pack("<IiQ", 16 + len(body), 0, unique) + body)


@functools.lru_cache(maxsize=None)
def why_no_dead_mount():
    """A reason to skip, or None."""
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        try:
            with DeadMount(folder):
                return None
        except OSError as error:
            return f"no FUSE file system can be mounted here: {error}"
