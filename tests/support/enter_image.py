"""
enter_image.py — makes the process it runs in a container, and becomes the program of an image.

    unshare --mount --pid --fork python3 -I enter_image.py ROOT STAGE USER:GROUP
        [--env=NAME=VALUE ...] [OUTSIDE=INSIDE ...] -- PROGRAM [ARGUMENT ...]

Does what container engines do with --read-only --cap-drop all --security-opt no-new-privileges:
mount points are made in a layer that is thrown away, /proc and a few devices are mounted, files of
the host are put over the image's, the root becomes read-only, and the program gets no capability and
only the image's variables besides DOPPEL_*.  Everything goes with the namespaces.

The directory of `--admin unix:PATH` is mounted too, as a volume that belongs to the program, so that
the test can talk to it from outside.
"""
import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

MNT_DETACH = 2
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
DEVICES = ("null", "zero", "full", "random", "urandom")
_libc = ctypes.CDLL(None, use_errno=True)


def main(arguments):
    separator = arguments.index("--")
    root, stage, user, *rest = arguments[:separator]
    command = arguments[separator + 1:]
    numbers = tuple(int(number) for number in user.split(":"))
    given = [text.removeprefix("--env=") for text in rest if text.startswith("--env=")]
    mounts = [text.split("=", 1) for text in rest if not text.startswith("--env=")]

    merged = mount_throw_away_layer(Path(root), Path(stage))
    mount_surroundings(merged)
    for outside, inside in mounts:
        bind(outside, merged / inside.lstrip("/"))
    mount_admin_volume(merged, command, numbers)
    change_root(merged)
    give_up_privileges(*numbers)
    os.execve(command[0], command, environment(given))


def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)


def mount_throw_away_layer(root, stage):
    mount("-t", "tmpfs", "tmpfs", stage)
    upper, work, merged = stage / "upper", stage / "work", stage / "merged"
    for directory in (upper, work, merged):
        directory.mkdir()
    mount("-t", "overlay", "overlay", "-o", f"lowerdir={root},upperdir={upper},workdir={work}", merged)
    return merged


def bind(outside, inside):
    """Mounts a file or directory over one that is made for it."""
    if Path(outside).is_dir():
        inside.mkdir(parents=True, exist_ok=True)
    else:
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.touch()
    mount("--bind", outside, inside)


def mount_surroundings(merged):
    for directory in ("proc", "dev"):
        (merged / directory).mkdir()
    mount("-t", "proc", "proc", merged / "proc")
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", merged / "dev")
    for name in DEVICES:
        bind(f"/dev/{name}", merged / "dev" / name)


def mount_admin_volume(merged, command, owner):
    if "--admin" in command:
        directory = os.path.dirname(command[command.index("--admin") + 1].removeprefix("unix:"))
        os.chown(directory, *owner)
        bind(directory, merged / directory.lstrip("/"))


def change_root(merged):
    """The old root is mounted over the new one, which lets go of it."""
    mount("-o", "remount,ro,bind", merged)
    os.chdir(merged)
    checked(_libc.pivot_root(b".", b"."), "pivot_root")
    checked(_libc.umount2(b".", MNT_DETACH), "umount2")
    os.chdir("/")


def give_up_privileges(user, group):
    with open("/proc/sys/kernel/cap_last_cap") as last:
        for capability in range(int(last.read()) + 1):
            checked(_libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), "PR_CAPBSET_DROP")
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    checked(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    # Python ignores it, and a program would inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def environment(given):
    own = {name: value for name, value in os.environ.items() if name.startswith("DOPPEL_")}
    return {**dict(pair.split("=", 1) for pair in given), **own}


def checked(status, what):
    if status != 0:
        raise OSError(ctypes.get_errno(), what)


main(sys.argv[1:])
