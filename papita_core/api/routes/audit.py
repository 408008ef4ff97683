"""`/api/audit`: the audit log, for whoever may read all of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from starlette.responses import JSONResponse, StreamingResponse

from papita_core.actors import Actor
from papita_core.api.deps import CallingActor, CallingParts
from papita_core.api.lending import NO_STORE
from papita_core.api.routes.credentials import PROBLEMS
from papita_core.api.schemas import AuditList
from papita_core.audit.export import MEDIA_TYPES, as_csv, as_dict, as_json_lines
from papita_core.audit.search import MAX_PAGE, moment
from papita_core.audit.service import AuditFilter
from papita_core.errors import InvalidInput

AT_ONCE = 500  # lines of an export that are sent in one piece

router = APIRouter(prefix="/audit", tags=["audit"], responses=PROBLEMS)


def auditor(caller: CallingActor) -> Actor:
    """Raises `Forbidden` for whoever may not read the log."""
    caller.require("audit:read")
    return caller


Auditor = Annotated[Actor, Depends(auditor)]
Word = Annotated[str | None, Query(max_length=64)]
Time = Annotated[str | None, Query(max_length=40, examples=["2030-01-31T12:00:00Z"])]


def wanted(
    caller: Auditor,
    shared: CallingParts,
    action: Word = None,
    user: Word = None,
    project: Word = None,
    subject: Word = None,
    outcome: Word = None,
    since: Time = None,
    until: Time = None,
) -> AuditFilter:
    return AuditFilter(
        action=action or None,
        user_id=shared.papita.audit.user_id(caller, user) if user else None,
        project_id=project or None,
        subject_id=subject or None,
        outcome=outcome or None,
        since=_time("since", since),
        until=_time("until", until),
    )


def _time(name: str, text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        return moment(text, end=name == "until")
    except ValueError:
        sentence = "This has to be a time, for example 2030-01-31 or 2030-01-31T12:00:00Z."
        raise InvalidInput({name: sentence}) from None


Wanted = Annotated[AuditFilter, Depends(wanted)]


@router.get("", response_model=AuditList, summary="A page of the audit log, newest first")
def page(
    caller: Auditor,
    shared: CallingParts,
    filtered: Wanted,
    cursor: Annotated[str | None, Query(max_length=128)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> JSONResponse:
    """`user` (a name) finds what the user did and what concerns the user; `outcome` is `ok`, an
    error code, or `failed` for all but ok. `since` and `until` are times; a date alone as `until`
    means the whole day.
    """
    found = shared.papita.audit.entries(caller, filtered, cursor=cursor, limit=limit)
    return JSONResponse(
        {"entries": [as_dict(entry) for entry in found.items], "nextCursor": found.next_cursor},
        headers=NO_STORE,
    )


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={200: {"content": {name: {} for name in MEDIA_TYPES.values()}}},
    summary="The audit log as a file, oldest first",
)
def export(
    caller: Auditor,
    shared: CallingParts,
    filtered: Wanted,
    kind: Annotated[Literal["csv", "jsonl"], Query(alias="format")] = "jsonl",
) -> StreamingResponse:
    """Takes the same filter as the pages, and has no end but that of the log."""
    entries = shared.papita.audit.export(caller, filtered)
    lines = as_csv(entries) if kind == "csv" else as_json_lines(entries)
    return StreamingResponse(
        _pieces(lines),
        media_type=MEDIA_TYPES[kind],
        headers={
            **NO_STORE,
            "Content-Disposition": f'attachment; filename="audit.{kind}"',
        },
    )


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    # Each piece costs a change of threads.
    rest = iter(lines)
    while piece := "".join(islice(rest, AT_ONCE)):
        yield piece
