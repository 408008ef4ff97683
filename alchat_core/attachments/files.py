"""The files themselves: one for each SHA-256, whoever uploaded it, and beside it what was read.

`<dir>/ab/abcd…` is the file, `<dir>/ab/abcd….text` the text that `worker.py` found in it. Whether a
user may have a file is decided by the rows of the database alone. All methods block.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

# Files that are younger may belong to an upload that goes on.
SAFE_AGE_SECONDS = 3600.0


class Files:
    """`root` is made at the first upload, for nobody else to read."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256

    def text(self, sha256: str) -> Path:
        return self._root / sha256[:2] / f"{sha256}.text"

    def incoming(self) -> tuple[Path, Path]:
        """Places for a new file and its text, until `keep` or `discard`."""
        folder = self._root / "incoming"
        _make(self._root)
        _make(folder)
        place = folder / secrets.token_hex(16)
        return place, place.with_suffix(".text")

    @staticmethod
    def create(place: Path) -> BinaryIO:
        """A new file that only this user of the machine can read."""
        return os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def keep(self, place: Path, text: Path, sha256: str) -> None:
        """Moves both to where they stay, durable. What is there already is the same."""
        folder = self.path(sha256).parent
        _make(folder)
        for source, target in ((text, self.text(sha256)), (place, self.path(sha256))):
            if source.exists():
                source.chmod(0o600)
                _sync(source)
                source.replace(target)
        _sync(folder)

    @staticmethod
    def discard(*places: Path) -> None:
        for place in places:
            with contextlib.suppress(FileNotFoundError):
                place.unlink()

    def remove(self, sha256s: list[str]) -> None:
        for sha256 in sha256s:
            self.discard(self.path(sha256), self.text(sha256))

    def sweep(self, is_known: Callable[[list[str]], set[str]]) -> int:
        """Removes what a crash left: uploads that never ended, and files without a row.

        `is_known` says which of some hashes have one. Returns how many files went.
        """
        oldest = time.time() - SAFE_AGE_SECONDS
        gone = 0
        for folder, stale in self._stale(oldest):
            names = sorted({path.stem for path in stale})
            known = is_known(names) if folder.name != "incoming" else set()
            for path in stale:
                if path.stem not in known:
                    self.discard(path)
                    gone += 1
        return gone

    def _stale(self, oldest: float) -> Iterator[tuple[Path, list[Path]]]:
        if not self._root.is_dir():
            return
        for folder in sorted(self._root.iterdir()):
            if folder.is_dir():
                found = [path for path in folder.iterdir() if path.stat().st_mtime < oldest]
                if found:
                    yield folder, found


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
