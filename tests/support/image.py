"""
image.py — the container image: built as Dockerfile says, unpacked, and run as a container engine would.

    tools/base-image ──▶ debian:bookworm-slim ──▶ doppel-packages ──▶ image ──▶ root/, config
    └────── stay in buildah's storage from run to run ───────┘        (removed once it is unpacked)

    image = Image.of_this_run(directory)        built once, however many processes ask at once
    image.root                                  what the image holds
    image.config["User"]                        what it says about running it
    prefix, program = image.container(files={"/etc/resolv.conf": path})
                                                for Doppel: support/enter_image.py does the rest
"""
import fcntl
import json
import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.proxy import ROOT

BASE_IMAGE = ROOT / "tools" / "base-image"
PACKAGES = "localhost/doppel-packages"
ENTER = Path(__file__).with_name("enter_image.py")
PROGRAMS = ("buildah", "debootstrap", "unshare", "nsenter", "curl")

# Runs of the tests at the same time share the storage, and would remove what another builds from.
STORAGE_LOCK = Path("/var/lib/containers/doppel-test.lock")
# A namespace of mounts and one of processes are what building and running here both need.
CONTAIN = ("unshare", "--mount", "--pid", "--fork", "--kill-child")


def _limit(name, which, most):
    """Buildah has limits of its own, and would raise ours to them, which not every root may do."""
    _, hard = resource.getrlimit(which)
    limit = most if hard == resource.RLIM_INFINITY else min(hard, most)
    return f"--ulimit={name}={limit}:{limit}"


BUILD = ("buildah", "bud", "--isolation", "chroot", "--network", "host",
         _limit("nofile", resource.RLIMIT_NOFILE, 20000), _limit("nproc", resource.RLIMIT_NPROC, 32768))


@contextmanager
def only_one(path):
    """One process at a time; the others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class CannotBuild(Exception):
    """Here no image can be built; the text is the reason to skip."""


@dataclass
class Image:
    root: Path
    config: dict
    stage: Path     # an empty directory for enter_image.py to mount on

    @staticmethod
    def of_this_run(directory):
        """Builds it in this directory unless another process has; others wait meanwhile."""
        directory.mkdir(exist_ok=True)
        outcome = directory / "outcome.json"
        with only_one(directory / "lock"):
            if not outcome.exists():
                outcome.write_text(json.dumps(_outcome_of_building(directory)))
        said = json.loads(outcome.read_text())
        if "skip" in said:
            raise CannotBuild(said["skip"])
        assert "failed" not in said, said["failed"]
        return Image(directory / "root", said["config"], directory / "stage")

    @property
    def entrypoint(self):
        return self.config["Entrypoint"][0]

    def files(self):
        """{path in the image: its lstat}, directories left out."""
        found = {}
        for directory, _, names in os.walk(self.root):
            for name in names:
                path = Path(directory) / name
                found["/" + str(path.relative_to(self.root))] = path.lstat()
        return found

    def container(self, files=None):
        """
        (prefix, program) for Doppel: process 1 of namespaces of its own, the image's user, no
        capability, the image as a root that cannot be written.  files are put over it, as a
        container engine does with /etc/resolv.conf and secrets: {path inside: path outside}.
        """
        mounts = [f"{outside}={inside}" for inside, outside in (files or {}).items()]
        environment = [f"--env={pair}" for pair in self.config["Env"]]
        prefix = [*CONTAIN, sys.executable, "-I", str(ENTER), str(self.root), str(self.stage),
                  self.config["User"], *environment, *mounts, "--"]
        return prefix, self.entrypoint

    def run(self, *arguments):
        """Runs it to its end, without a mirror around it."""
        prefix, program = self.container()
        return subprocess.run([*prefix, program, *arguments], env={"PATH": os.environ["PATH"]},
                              capture_output=True, text=True, timeout=30, check=False)


def _outcome_of_building(directory):
    reason = _why_not()
    if reason:
        return {"skip": reason}
    try:
        with only_one(STORAGE_LOCK):
            return {"config": _build(directory)}
    except subprocess.CalledProcessError as error:
        said = (error.stdout + error.stderr)[-4000:]
        return {"failed": f"{' '.join(map(str, error.cmd))}: {said}"}


def _why_not():
    """A reason to skip, or None."""
    if os.geteuid() != 0:
        return "only root can build the image here"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"not installed: {' '.join(missing)} (tools/deps test installs them)"
    tried = subprocess.run([*CONTAIN, "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        return f"no namespace of mounts and processes here: {tried.stderr.strip()}"
    tried = subprocess.run(["buildah", "info"], capture_output=True, text=True)
    if tried.returncode != 0:
        return f"buildah has no storage here: {tried.stderr.strip()}"
    mirror = _run(BASE_IMAGE, "mirror").strip()
    asked = f"{mirror.rstrip('/')}/dists/bookworm/Release"
    tried = subprocess.run(["curl", "-sSfIL", "--max-time", "10", asked], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"no package mirror: {tried.stderr.strip()} ({asked})"


def _build(directory):
    """Leaves root/ and stage/ in the directory; answers the image's configuration."""
    _run(BASE_IMAGE)
    _build_packages()
    # Without --layers nothing is kept of what the sources become.
    identity = directory / "identity"
    _run(*BUILD, "--build-context", f"packages=container-image://{PACKAGES}", "--iidfile", identity, ROOT)
    image = identity.read_text().strip()
    try:
        _unpack(image, directory / "root")
        config = json.loads(_run("buildah", "inspect", "--type", "image", image))["OCIv1"]["config"]
    finally:
        _run("buildah", "rmi", image)
    (directory / "stage").mkdir()
    return config


def _build_packages():
    """Keeps what tools/deps installed for the next run, and drops what it replaces."""
    before = _identities(PACKAGES)
    _run(*BUILD, "--layers", "--target", "packages", "--tag", PACKAGES, ROOT)
    for replaced in before - _identities(PACKAGES):
        # Somebody else may have built upon it: then it stays.
        subprocess.run(["buildah", "rmi", replaced], capture_output=True)


def _identities(name):
    asked = ("buildah", "images", "--quiet", "--no-trunc", name)
    return set(subprocess.run(asked, capture_output=True, text=True).stdout.split())


def _unpack(image, root):
    container = _run("buildah", "from", "--pull-never", image).strip()
    try:
        _run("cp", "--archive", _run("buildah", "mount", container).strip(), root)
    finally:
        _run("buildah", "rm", container)


def _run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout
