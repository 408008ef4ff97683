"""Takes an uploaded file in: the worker reads it, this writes what comes out of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson
from sqlalchemy import bindparam, select
from sqlalchemy.engine import Connection

from alchat_core.db.engine import Database
from alchat_core.db.tables import conversations, import_origins
from alchat_core.errors import ImportRunning, NothingImported
from alchat_core.imports.own import SOURCE
from alchat_core.imports.reading import Limits
from alchat_core.imports.writing import Writing
from alchat_core.sandbox import process as sandbox
from alchat_core.settings import Settings

log = logging.getLogger(__name__)

WORKER = Path(__file__).with_name("worker.py")
WORKER_MEMORY_BYTES = 1 << 30
WORKERS = 2
PIECE = 1 << 20
MAX_IDS = 100

LEFT_OUT = {
    "attachments": "Attached files, which no export holds.",
    "files": "Other files of the archive: only conversations are imported.",
    "hidden": "Messages that were hidden from the user.",
    "images": "Images. [image] stands where they were.",
    "instructions": "Instructions to the model that were part of no message.",
    "parameters": "Parameters that AL-Chat does not know.",
    "prompts": "System prompts that are longer than AL-Chat takes.",
    "recordings": "Sound and video.",
    "tools": "Calls of tools and what they answered.",
    "unknown": "Content of a kind that AL-Chat does not know.",
}

_THERE = (
    select(conversations.c.id)
    .join(import_origins, import_origins.c.conversation_id == conversations.c.id)
    .where(
        conversations.c.owner == bindparam("who"),
        conversations.c.deleted_at.is_(None),
        import_origins.c.owner == bindparam("who"),
        import_origins.c.source == bindparam("source"),
        import_origins.c.external_id == bindparam("external"),
    )
    .limit(1)
)
_ITSELF = (
    select(conversations.c.id)
    .where(
        conversations.c.id == bindparam("external"),
        conversations.c.owner == bindparam("who"),
        conversations.c.deleted_at.is_(None),
    )
    .limit(1)
)


@dataclass(slots=True)
class Report:
    """What became of a file. `stopped` says why the rest of it was not read."""

    imported: int = 0
    messages: int = 0
    already_there: int = 0
    not_taken_count: int = 0
    not_taken: list[dict[str, str | None]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    conversation_ids: list[str] = field(default_factory=list)
    stopped: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "imported": self.imported,
            "messages": self.messages,
            "alreadyThere": self.already_there,
            "notTakenCount": self.not_taken_count,
            "notTaken": self.not_taken,
            "leftOut": [
                {"what": LEFT_OUT[kind], "count": count}
                for kind, count in sorted(self.left_out.items())
                if count
            ],
            "conversationIds": self.conversation_ids,
            "stopped": self.stopped,
        }


class ImportService:
    """Built once per process. `known_parameters` gives what AL-Chat can use of parameters, None if
    they are wrong.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        known_parameters: Callable[[dict[str, Any]], dict[str, Any] | None],
    ) -> None:
        self._settings = settings
        self._database = database
        self._known_parameters = known_parameters
        self._owners: set[str] = set()
        self._turn = asyncio.Semaphore(WORKERS)

    async def take(self, owner: str, body: AsyncIterator[bytes]) -> Report:
        """Reads the body to its end, then imports. Raises `ImportRunning`, `NothingImported`."""
        with self._only_one(owner), _temporary(self._settings.papita_data_dir) as file:
            waiting = bytearray()
            async for piece in body:
                waiting += piece
                if len(waiting) >= PIECE:
                    await asyncio.to_thread(file.write, bytes(waiting))
                    waiting.clear()
            await asyncio.to_thread(file.write, bytes(waiting))
            file.flush()
            file.seek(0)
            async with self._turn:
                report = await self._import(owner, file)
        if not report.imported:
            raise NothingImported(report.as_json())
        return report

    @contextlib.contextmanager
    def _only_one(self, owner: str) -> Iterator[None]:
        if owner in self._owners:
            raise ImportRunning
        self._owners.add(owner)
        try:
            yield
        finally:
            self._owners.discard(owner)

    async def _import(self, owner: str, file: IO[bytes]) -> Report:
        report = Report()
        writing = Writing(self._database, owner)
        seconds = self._settings.alchat_import_seconds
        used = sandbox.Limits(WORKER_MEMORY_BYTES, round(seconds) + 1)
        task = orjson.dumps(self._task(owner)).decode()
        async with sandbox.sandboxed(WORKER, task, limits=used, stdin=file) as worker:
            try:
                async with asyncio.timeout(seconds):
                    await self._follow(worker, owner, writing, report)
                    await writing.flush()
            except TimeoutError:
                report.stopped = (
                    f"It took longer than the {seconds:g} seconds that an import may take, so the"
                    " rest was not read. Import it once more to go on: what is here is not taken"
                    " twice."
                )
        report.imported = len(writing.written)
        report.messages = writing.message_count
        report.conversation_ids = writing.written[:MAX_IDS]
        log.info("import ended", extra={"imported": report.imported})
        return report

    def _task(self, owner: str) -> dict[str, Any]:
        settings = self._settings
        limits = Limits(
            members=settings.alchat_import_max_files,
            bytes=settings.alchat_import_max_unpacked_bytes,
            conversations=settings.alchat_import_max_conversations,
            depth=settings.alchat_import_max_depth,
            chars=settings.alchat_max_answer_chars,
        )
        return {"owner": owner, "limits": asdict(limits)}

    async def _follow(
        self, worker: asyncio.subprocess.Process, owner: str, writing: Writing, report: Report
    ) -> None:
        """Writes what the worker finds until its last frame."""
        taking = False
        seen: set[tuple[str, str]] = set()
        try:
            while True:
                frame = await _frame(worker)
                kind = frame["k"]
                if kind == "begin":
                    about = frame["about"]
                    origin = about["source"], about["external_id"]
                    taking = origin not in seen and not await self._is_there(owner, *origin)
                    seen.add(origin)
                    if taking:
                        self._check(about, report)
                        await writing.begin(about, about["words"], origin)
                    else:
                        report.already_there += 1
                elif kind == "messages" and taking:
                    await writing.messages(frame["rows"])
                elif kind == "done" and taking:
                    await writing.done(frame["active"])
                elif kind == "skipped":
                    report.not_taken.append({"name": frame["name"], "reason": frame["reason"]})
                    report.not_taken_count = len(report.not_taken)
                elif kind == "end":
                    report.left_out.update(frame["leftOut"])
                    report.not_taken_count = frame["skipped"]
                    report.stopped = frame["stopped"]
                    return
                # On SQLite nothing above lets others have their turn.
                await asyncio.sleep(0)
        except asyncio.IncompleteReadError:
            report.stopped = (
                "It needs more memory or time than an import may use, so the rest was not read."
                " Split the file and import the parts."
            )

    def _check(self, about: dict[str, Any], report: Report) -> None:
        prompt = about["system_prompt"]
        if prompt and len(prompt) > self._settings.alchat_max_prompt_chars:
            about["system_prompt"] = None
            report.left_out["prompts"] += 1
        if about["parameters"] is not None:
            known = self._known_parameters(about["parameters"])
            report.left_out["parameters"] += known is None
            about["parameters"] = known

    async def _is_there(self, owner: str, source: str, external_id: str) -> bool:
        given = {"who": owner, "source": source, "external": external_id}

        def unit(connection: Connection) -> bool:
            if connection.scalar(_THERE, given) is not None:
                return True
            return source == SOURCE and connection.scalar(_ITSELF, given) is not None

        return await self._database.read(unit)


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[IO[bytes]]:
    """A file without a name, gone when it is closed or the process ends."""
    with tempfile.TemporaryFile(dir=folder if folder.is_dir() else None) as file:
        yield file


async def _frame(worker: asyncio.subprocess.Process) -> dict[str, Any]:
    assert worker.stdout is not None  # noqa: S101 - it was asked for
    (length,) = struct.unpack(">I", await worker.stdout.readexactly(4))
    found: dict[str, Any] = orjson.loads(await worker.stdout.readexactly(length))
    return found
