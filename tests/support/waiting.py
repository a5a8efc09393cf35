"""
waiting.py — waiting for a condition, with a deadline; nothing else in the tests sleeps.

Deadlines are far above what is expected, so that only what never happens fails.  A slow machine
stretches all of them: DOPPEL_TEST_PATIENCE=3.
"""
import os
import time

PATIENCE = float(os.environ.get("DOPPEL_TEST_PATIENCE", "1"))


def patient(seconds=10):
    """A deadline in seconds for something that should take far less."""
    return seconds * PATIENCE


def eventually(condition, what, timeout=10):
    """
    Waits until condition() is true and answers its value.  what says in words what was waited
    for; it may be a function, called when the deadline passes.
    """
    deadline = time.monotonic() + patient(timeout)
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            said = what() if callable(what) else what
            raise AssertionError(f"not within {patient(timeout)} s: {said}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def let_pass(seconds):
    """Lets a condition stand for a while: for checks that nothing happens meanwhile."""
    end = time.monotonic() + seconds
    eventually(lambda: time.monotonic() >= end, "time passes", timeout=seconds + 10)
