"""Reads one file in a process of its own (`alchat_core.sandbox`): `worker.py FILE RESULT ENDING
MOST`.

`MOST` are JSON, the limits on what a file may hold. It prints one JSON object:
`{"kind", "mediaType", "pages", "characters"}` or `{"error"}`, one of `Refusal`'s codes. The text
goes into RESULT, a SQLite file with the tables `pages` and `chunks`, each chunk with its words;
images have none.

Nothing of the service is imported here but the module that makes words.
"""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHUNK_CHARS = 1000
OVERLAP_CHARS = 150
MAX_PAGES = 10_000
MAX_MEMBERS = 5_000
MAX_XML_BYTES = 30_000_000
SAMPLE_BYTES = 256 * 1024

_IMAGES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
_DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_TEXTS = {
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".md": "text/markdown",
    ".json": "application/json",
}
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_CONTROLS = frozenset(range(32)) - {7, 8, 9, 10, 12, 13, 27}


class Refusal(Exception):
    """`code`: unsupported, broken, encrypted, packed, too-much-text, no-text, image-too-large,
    limits.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def read(path: Path, ending: str, limits: dict[str, int]) -> tuple[dict[str, Any], list[str]]:
    """What the file is, and its text by pages; what has no pages is one. Raises `Refusal`."""
    with path.open("rb") as file:
        head = file.read(1024)
    if head.startswith((b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8")) or (
        head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    ):
        return _image(path, limits), []
    if b"%PDF-" in head:
        pages = _pdf(path, limits)
        found = {"kind": "pdf", "mediaType": "application/pdf", "pages": len(pages)}
    elif head.startswith(b"PK\x03\x04"):
        pages = [_docx(path)]
        found = {"kind": "docx", "mediaType": _DOCX, "pages": None}
    else:
        pages = [_text(path.read_bytes())]
        kind = _TEXTS.get(ending.lower(), "text/plain")
        found = {"kind": "text", "mediaType": kind, "pages": None}
    pages = [_clean(page) for page in pages]
    characters = sum(map(len, pages))
    if not any(page.strip() for page in pages):
        raise Refusal("no-text")
    if characters > limits["characters"]:
        raise Refusal("too-much-text")
    return {**found, "characters": characters}, pages


def _image(path: Path, limits: dict[str, int]) -> dict[str, Any]:
    from PIL import Image

    if path.stat().st_size > limits["imageBytes"]:
        raise Refusal("image-too-large")
    # Its own limit only warns below twice as much; ours is looked at before anything is decoded.
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(path, formats=list(_IMAGES)) as image:
        if image.width * image.height > limits["pixels"]:
            raise Refusal("image-too-large")
        media_type = _IMAGES[image.format or ""]
        image.verify()
    return {"kind": "image", "mediaType": media_type, "pages": None, "characters": 0}


def _pdf(path: Path, limits: dict[str, int]) -> list[str]:
    import logging

    logging.disable(logging.CRITICAL)
    import pypdf
    from pypdf.errors import FileNotDecryptedError

    found: list[str] = []
    size = 0
    try:
        with pypdf.PdfReader(path) as reader:
            # Many are encrypted with an empty password, against changes alone.
            if reader.is_encrypted and not reader.decrypt(""):
                raise Refusal("encrypted")
            for page in reader.pages:
                if len(found) >= MAX_PAGES:
                    raise Refusal("too-much-text")
                text = page.extract_text()
                size += len(text)
                if size > limits["characters"]:
                    raise Refusal("too-much-text")
                found.append(text)
    except FileNotDecryptedError:
        raise Refusal("encrypted") from None
    return found


def _docx(path: Path) -> str:
    import mammoth

    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        names = {member.filename for member in members}
        if "[Content_Types].xml" not in names or "word/document.xml" not in names:
            raise Refusal("unsupported")
        # Python reads no more of a member than its header says.
        texts = [one for one in members if one.filename.lower().endswith((".xml", ".rels"))]
        if len(members) > MAX_MEMBERS or sum(one.file_size for one in texts) > MAX_XML_BYTES:
            raise Refusal("packed")
        for member in texts:
            if _declares_entities(archive.read(member)):
                raise Refusal("broken")
    with path.open("rb") as file:
        result = mammoth.extract_raw_text(file)
    text: str = result.value
    return text.replace("\n\n", "\n")


def _declares_entities(xml: bytes) -> bool:
    return any(
        mark in xml
        for word in ("<!DOCTYPE", "<!ENTITY")
        for mark in (word.encode(), word.encode("utf-16-le"), word.encode("utf-16-be"))
    )


def _text(data: bytes) -> str:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    sample = data[:SAMPLE_BYTES]
    nulls = sample.count(0)
    if nulls:
        # Without a mark, UTF-16 of most scripts shows by nulls at every other place.
        for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            if sample[start::2].count(0) == nulls and nulls > len(sample) / 5:
                return data.decode(encoding, "replace")
        raise Refusal("unsupported")
    if sum(sample.count(code) for code in _CONTROLS) > len(sample) / 200:
        raise Refusal("unsupported")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    from charset_normalizer import from_bytes

    best = from_bytes(sample).best()
    if best is None:
        raise Refusal("unsupported")
    return data.decode(best.encoding, "replace")


def _clean(text: str) -> str:
    """Without what no database takes: null characters and halves of surrogate pairs."""
    text = text.replace("\r\n", "\n").replace("\x00", "").rstrip()
    return text.encode("utf-8", "replace").decode("utf-8")


def chunks(text: str) -> Iterator[str]:
    """Pieces of about `CHUNK_CHARS` that end between words and overlap by `OVERLAP_CHARS`."""
    start = 0
    while start < len(text):
        end = start + CHUNK_CHARS
        if end < len(text):
            for sign in ("\n", " "):
                cut = text.rfind(sign, start + CHUNK_CHARS // 2, end)
                if cut >= 0:
                    end = cut + 1
                    break
        piece = text[start:end]
        if piece.strip():
            yield piece.strip()
        if end >= len(text):
            return
        start = end - OVERLAP_CHARS


def store(path: Path, pages: list[str], paged: bool) -> None:
    """The pages, counted from 1, or the whole as page 0, and their chunks with their words."""
    from alchat_core.conversations.words import words_of

    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
            "CREATE TABLE pages (number INTEGER PRIMARY KEY, text TEXT NOT NULL);"
            "CREATE TABLE chunks (id INTEGER PRIMARY KEY, page INTEGER NOT NULL,"
            " text TEXT NOT NULL, words TEXT NOT NULL);"
            "BEGIN"
        )
        for page, text in enumerate(pages, 1 if paged else 0):
            file.execute("INSERT INTO pages VALUES (?, ?)", (page, text))
            file.executemany(
                "INSERT INTO chunks (page, text, words) VALUES (?, ?, ?)",
                ((page, piece, " ".join(words_of(piece))) for piece in chunks(text)),
            )
        file.execute("COMMIT")


def main(arguments: list[str]) -> int:
    source, target, ending, given = arguments
    limits: dict[str, int] = json.loads(given)
    found: dict[str, Any]
    try:
        found, pages = read(Path(source), ending, limits)
        if pages:
            store(Path(target), pages, found["pages"] is not None)
    except Refusal as refusal:
        found = {"error": refusal.code}
    except MemoryError:
        found = {"error": "limits"}
    except Exception as error:  # noqa: BLE001 - a parser may raise anything for a damaged file
        found = {"error": "limits" if _was_memory(error) else "broken"}
    sys.stdout.write(json.dumps(found))
    return 0


def _was_memory(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


if __name__ == "__main__":
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, "utf-8")
    sys.exit(main(sys.argv[1:]))
