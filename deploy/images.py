"""`python -m deploy.images`: builds both container images and runs each as it is meant to run.

Read-only root, no capabilities, uid 10001, until the image's own health check passes; then it looks
at what the image holds. Uses Docker where its engine answers, else podman; options that this
command does not know go to `build`. Exit code 1 where an image is not as it should be, 2 where no
engine is found.
"""

# ruff: noqa: T201 - a command talks to its user

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEALTHY_WITHIN = 90.0
UID = 10001


@dataclass(frozen=True)
class Image:
    """A target of the Dockerfile, and what must not be importable in it."""

    target: str
    tag: str
    absent: tuple[str, ...]
    present: tuple[str, ...]


IMAGES = (
    Image(
        "alchat",
        "papita-alchat",
        absent=("papita_core", "portal", "demo", "streamlit", "streamlit_authenticator", "pip"),
        present=("alchat_core", "sqlkit"),
    ),
    Image(
        "portal",
        "papita-portal",
        absent=("demo", "tests", "pytest", "playwright", "pip"),
        present=("papita_core", "portal", "alchat_core", "sqlkit", "streamlit"),
    ),
)

# Runs inside the image: what can be imported, who runs it, and what it could write to.
_LOOK = """
import importlib.util as u, json, os, sys
def has(name):
    return u.find_spec(name) is not None
def writable(path):
    try:
        open(os.path.join(path, ".probe"), "w").close()
    except OSError:
        return False
    os.unlink(os.path.join(path, ".probe"))
    return True
print(json.dumps({
    "uid": os.getuid(),
    "modules": [name for name in sys.argv[1:] if has(name)],
    "writable": [p for p in ("/", "/app", "/opt/venv", "/data", "/tmp") if writable(p)],
}))
"""


class ImageError(Exception):
    """An image that does not build, start or look as it should; the message says which and how."""


class Engine:
    """The command line of Docker or podman, which agree on what is used here."""

    def __init__(self, program: str) -> None:
        self.program = program

    @property
    def name(self) -> str:
        return Path(self.program).name

    def build(self, image: Image, options: Sequence[str]) -> None:
        # Without the docker format podman drops the health check.
        form = ("--format", "docker") if self.name == "podman" else ()
        command = [
            "build",
            *form,
            "--target",
            image.target,
            "--tag",
            image.tag,
            *options,
            str(ROOT),
        ]
        if subprocess.run([self.program, *command], check=False).returncode:
            raise ImageError(f"{image.tag}: the build failed")

    def call(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        done = subprocess.run(
            [self.program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **(env or {})},
        )
        if done.returncode:
            raise ImageError(f"{self.name} {arguments[0]}: {done.stderr.strip()[-400:]}")
        return done.stdout.strip()

    def size(self, image: Image) -> int:
        return int(self.call("image", "inspect", "--format", "{{.Size}}", image.tag))

    def healthy(self, container: str) -> bool:
        if self.name == "podman":  # it schedules no checks by itself where systemd does not run
            command = [self.program, "healthcheck", "run", container]
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        return self.call("inspect", "--format", "{{.State.Health.Status}}", container) == "healthy"

    def running(self, container: str) -> bool:
        return self.call("inspect", "--format", "{{.State.Running}}", container) == "true"


def find_engine() -> Engine | None:
    """Docker if its daemon answers, else podman, else None."""
    for name in ("docker", "podman"):
        program = shutil.which(name)
        if program is None:
            continue
        answer = subprocess.run([program, "info"], capture_output=True, check=False)
        if answer.returncode == 0:
            return Engine(program)
    return None


HARDENED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")


def look(engine: Engine, image: Image) -> None:
    """Checks what the image holds. Raises ImageError."""
    python = ("--entrypoint", "python", image.tag, "-c", _LOOK)
    text = engine.call("run", "--rm", *HARDENED, *python, *image.absent, *image.present)
    found = json.loads(text)
    wrong = sorted(set(found["modules"]) & set(image.absent))
    if wrong:
        raise ImageError(f"{image.tag} holds {', '.join(wrong)}")
    missing = sorted(set(image.present) - set(found["modules"]))
    if missing:
        raise ImageError(f"{image.tag} lacks {', '.join(missing)}")
    if found["uid"] != UID:
        raise ImageError(f"{image.tag} runs as uid {found['uid']}")
    if found["writable"] != ["/data", "/tmp"]:  # noqa: S108
        raise ImageError(f"{image.tag} can write to {', '.join(found['writable']) or 'nothing'}")


def wait_until_healthy(engine: Engine, image: Image) -> float:
    """Starts the image and returns the seconds until its health check passed."""
    name = f"{image.tag}-{secrets.token_hex(4)}"
    begin = time.monotonic()
    engine.call(
        "run",
        "--detach",
        "--name",
        name,
        *HARDENED,
        "--env",
        "ALCHAT_CLIENT_SECRET",
        image.tag,
        env={"ALCHAT_CLIENT_SECRET": secrets.token_urlsafe(32)},
    )
    try:
        while not engine.healthy(name):
            if not engine.running(name) or time.monotonic() - begin > HEALTHY_WITHIN:
                logs = subprocess.run(
                    [engine.program, "logs", "--tail", "20", name],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    check=False,
                ).stdout
                raise ImageError(f"{image.tag} did not become healthy:\n{logs}")
            time.sleep(0.2)
        return time.monotonic() - begin
    finally:
        engine.call("rm", "--force", "--volumes", name)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.images", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--only", choices=[image.target for image in IMAGES], help="build and check one image"
    )
    options, build_options = parser.parse_known_args(arguments)
    engine = find_engine()
    if engine is None:
        print(
            "deploy.images: no container engine answers. Install Docker or podman, and see that "
            "`docker info` or `podman info` works for this user.",
            file=sys.stderr,
        )
        return 2
    rows = []
    try:
        for image in IMAGES:
            if options.only in (None, image.target):
                engine.build(image, build_options)
                look(engine, image)
                seconds = wait_until_healthy(engine, image)
                rows.append((image.tag, f"{engine.size(image) / 1e6:.0f} MB", f"{seconds:.1f} s"))
    except ImageError as error:
        print(f"deploy.images: {error}", file=sys.stderr)
        return 1
    print(f"\nbuilt and run with {engine.name}, read-only, as uid {UID}, with no capabilities")
    print(f"{'image':<16}{'size':>10}{'healthy after':>16}")
    for tag, size, seconds_shown in rows:
        print(f"{tag:<16}{size:>10}{seconds_shown:>16}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
