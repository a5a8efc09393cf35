"""
pattern.py — bytes that show where they belong, and tallies of what went by.

pattern(n) does not repeat below a mebibyte and its period is a prime, so a hole, a repetition or
a swap anywhere changes the hash of what follows.
"""
import functools
import hashlib
import random

KIB = 1024
MIB = 1024 * 1024
PERIOD = 1048573    # a prime: no power-of-two slip maps the pattern onto itself


@functools.lru_cache(maxsize=64)
def _period(seed):
    return random.Random(seed).randbytes(PERIOD)


def pattern(size, seed=0, offset=0):
    """size bytes of the endless stream number seed, from offset on."""
    start = offset % PERIOD
    repeats = (start + size) // PERIOD + 1
    return (_period(seed) * repeats)[start:start + size] if repeats > 1 else _period(seed)[start:start + size]


class Received:
    """What came in: its count and running SHA-256, and on wish the bytes."""

    def __init__(self, keep=False):
        self.count = 0
        self._hash = hashlib.sha256()
        self._kept = bytearray() if keep else None

    def add(self, data):
        self.count += len(data)
        self._hash.update(data)
        if self._kept is not None:
            self._kept += data

    @property
    def digest(self):
        return self._hash.copy().hexdigest()

    @property
    def bytes(self):
        assert self._kept is not None, "this peer was not asked to keep its bytes (keep=True)"
        return bytes(self._kept)


class Sent:
    """What went out: count, SHA-256, and the pieces, so that any prefix can be hashed later."""

    def __init__(self):
        self.count = 0
        self._hash = hashlib.sha256()
        self._pieces = []

    def add(self, piece):
        self.count += len(piece)
        self._hash.update(piece)
        self._pieces.append(piece)

    @property
    def digest(self):
        return self._hash.copy().hexdigest()

    def prefix_digest(self, size):
        """The SHA-256 of the first size bytes, or None when fewer were sent."""
        if size > self.count:
            return None
        if size == self.count:
            return self.digest
        prefix = hashlib.sha256()
        for piece in self._pieces:
            if size <= len(piece):
                prefix.update(memoryview(piece)[:size])
                break
            prefix.update(piece)
            size -= len(piece)
        return prefix.hexdigest()


def is_prefix(received, sent):
    """True when what was received is how what was sent begins (all of it included)."""
    return sent.prefix_digest(received.count) == received.digest


def is_same(received, sent):
    return received.count == sent.count and received.digest == sent.digest
