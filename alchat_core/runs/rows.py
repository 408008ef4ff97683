"""The rows of runs: statements that are compiled once, and helpers that work within a unit."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import (
    BigInteger,
    Integer,
    String,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.engine import Connection

from alchat_core.attachments.models import Attachment
from alchat_core.conversations.models import Run
from alchat_core.conversations.search import Entry, put
from alchat_core.conversations.tree import ACTIVE_LEAF
from alchat_core.db.tables import (
    ACTIVE,
    conversations,
    idempotency_keys,
    messages,
    run_events,
    runs,
)
from alchat_core.errors import InvalidInput, KeyReused, RunActive
from alchat_core.ids import now_ms
from alchat_core.providers.parameters import effective, refused
from alchat_core.runs.events import INTERRUPTED, REASONING, TEXT
from alchat_core.runs.live import Live, Sent
from alchat_core.usage.outbox import ADD as ADD_TO_OUTBOX
from alchat_core.usage.spent import Use, outbox_rows
from sqlkit import Many, Prepared

# Answers to one question that are written at the same time.
LANES = 4

# What is deleted is not there, although an undo may bring it back.
_MINE = and_(conversations.c.owner == bindparam("who"), conversations.c.deleted_at.is_(None))
_active = (
    select(runs.c.id)
    .where(runs.c.conversation_id == conversations.c.id, ACTIVE)
    .limit(1)
    .correlate(conversations)
    .scalar_subquery()
)
_running = (
    select(func.count())
    .select_from(runs)
    .where(runs.c.owner == conversations.c.owner, ACTIVE)
    .correlate(conversations)
    .scalar_subquery()
)
_SCENE = (
    conversations.c.title,
    conversations.c.model,
    ACTIVE_LEAF.label("leaf"),
    _active.label("active"),
    _running.label("running"),
    conversations.c.system_prompt,
    conversations.c.parameters,
    (
        or_(conversations.c.title.is_(None), conversations.c.title_origin == "words")
        & ~conversations.c.temporary
    ).label("wants_title"),
    conversations.c.tools,
    conversations.c.assistant_id,
)
SCENE = Prepared(select(*_SCENE).where(conversations.c.id == bindparam("wanted"), _MINE))
# `place` is whatever tells the rows that were given apart.
SCENES = Many(
    lambda given: select(given.place.label("place"), *_SCENE).where(
        conversations.c.id == given.wanted,
        conversations.c.owner == given.who,
        conversations.c.deleted_at.is_(None),
    ),
    {"place": Integer(), "wanted": String(), "who": String()},
)
ROLE = Prepared(
    select(messages.c.role).where(
        messages.c.id == bindparam("message"),
        messages.c.conversation_id == bindparam("conversation"),
    )
)
ROLES = Many(
    lambda given: select(given.place.label("place"), messages.c.role).where(
        messages.c.id == given.message, messages.c.conversation_id == given.conversation
    ),
    {"place": Integer(), "message": String(), "conversation": String()},
)
OWNED_MESSAGE = (
    select(messages.c.conversation_id, messages.c.role, messages.c.content, messages.c.parent_id)
    .join(conversations, conversations.c.id == messages.c.conversation_id)
    .where(messages.c.id == bindparam("message"), _MINE)
)
# The answer and its newest run, with the question that it answers.
_question = messages.alias("question")
BROKEN_OFF = (
    select(
        messages.c.conversation_id,
        messages.c.role,
        messages.c.content,
        func.coalesce(messages.c.model, runs.c.model),
        runs.c.state,
        _question.c.id,
        _question.c.content,
        _question.c.parent_id,
        messages.c.usage,
        messages.c.tool_calls,
    )
    .join(conversations, conversations.c.id == messages.c.conversation_id)
    .outerjoin(runs, runs.c.message_id == messages.c.id)
    .outerjoin(_question, _question.c.id == messages.c.parent_id)
    .where(messages.c.id == bindparam("message"), _MINE)
    .order_by(runs.c.id.desc())
    .limit(1)
)
ADD_MESSAGE = Many.insert(
    messages,
    ("id", "conversation_id", "parent_id", "role", "content", "created_at", "beside"),
)
ADD_RUN = Many.insert(
    runs,
    (
        "id",
        "owner",
        "conversation_id",
        "message_id",
        "user_message_id",
        "state",
        "model",
        "created_at",
        "last_event",
        "parameters",
        "lane",
    ),
)
CITED = (
    update(messages).where(messages.c.id == bindparam("message")).values(sources=bindparam("found"))
)
MOVED = Many(
    lambda given: (
        update(conversations)
        .where(conversations.c.id == given.conversation)
        .values(
            title=given.new_title,
            title_origin=case(
                (conversations.c.title.is_(None), "words"), else_=conversations.c.title_origin
            ),
            updated_at=given.now,
            last_message_at=given.now,
            active_leaf_id=given.leaf,
        )
    ),
    {"conversation": String(), "new_title": String(), "now": BigInteger(), "leaf": String()},
)
# The active branch stays where it is, also in a conversation of old, where it ended in the newest.
_STAYED = (
    update(conversations)
    .where(conversations.c.id == bindparam("conversation"))
    .values(
        updated_at=bindparam("now"),
        last_message_at=bindparam("now"),
        active_leaf_id=func.coalesce(conversations.c.active_leaf_id, bindparam("leaf")),
    )
)
_here = (runs.c.conversation_id == bindparam("conversation"), ACTIVE)
# On PostgreSQL that run does not end before what this one's answer goes beside is committed: so
# nobody takes the conversation for idle meanwhile. Only one, so that nobody waits in a circle.
_HELD = select(runs.c.id).where(*_here).order_by(runs.c.id).limit(1).with_for_update(read=True)
_LANES = select(runs.c.lane, runs.c.user_message_id).where(*_here)
_ANSWER = select(messages.c.parent_id, messages.c.beside).where(messages.c.id == bindparam("leaf"))
_KEY = (
    idempotency_keys.c.digest,
    idempotency_keys.c.message_id,
    idempotency_keys.c.run_id,
    runs.c.user_message_id,
)
_ITS_RUN = idempotency_keys.join(runs, runs.c.id == idempotency_keys.c.run_id)
KEY = Prepared(
    select(*_KEY)
    .select_from(_ITS_RUN)
    .where(
        idempotency_keys.c.owner == bindparam("who"), idempotency_keys.c.key == bindparam("used")
    )
)
KEYS = Many(
    lambda given: (
        select(given.place.label("place"), *_KEY)
        .select_from(_ITS_RUN)
        .where(idempotency_keys.c.owner == given.who, idempotency_keys.c.key == given.used)
    ),
    {"place": Integer(), "who": String(), "used": String()},
)
KEEP_KEY = Many.insert(idempotency_keys)
RUN = select(
    runs.c.id,
    runs.c.conversation_id,
    runs.c.message_id,
    runs.c.user_message_id,
    runs.c.state,
    runs.c.model,
    runs.c.created_at,
    runs.c.finished_at,
    runs.c.last_event,
    runs.c.error,
    runs.c.credential_id,
    runs.c.credential_type,
    runs.c.parameters,
    runs.c.usage,
).where(
    runs.c.id == bindparam("wanted"),
    runs.c.owner == bindparam("who"),
    exists().where(conversations.c.id == runs.c.conversation_id, _MINE),
)


class Scene(NamedTuple):
    """What `SCENE` reads of a conversation that may get a new answer; `background` are files of the
    assistant that it began with.

    `wants_title`: it has none but, at most, its first words.
    """

    title: str | None
    model: str | None
    leaf: str | None
    active: str | None
    running: int
    system_prompt: str | None
    defaults: dict[str, Any] | None
    wants_title: bool
    tools: list[str] | None
    assistant_id: str | None
    background: tuple[Attachment, ...] = ()
    lane: int = 0

    @property
    def carried(self) -> dict[str, Any]:
        """What of it goes into a `Live` as it is."""
        return {
            "defaults": self.defaults,
            "system_prompt": self.system_prompt,
            "wants_title": self.wants_title,
            "tools": tuple(self.tools or ()),
            "background": self.background,
        }


def run_of(row: Sequence[Any]) -> Run:
    """What `RUN` reads."""
    return Run(*row)


def free_lane(connection: Connection, conversation_id: str, question_id: str) -> int:
    """For one more answer to this question, beside those that are being written.

    Raises `RunActive`, `InvalidInput`.
    """
    given = {"conversation": conversation_id}
    connection.execute(_HELD, given)
    active = connection.execute(_LANES, given).all()
    if any(answered != question_id for _, answered in active):
        raise RunActive
    free = set(range(LANES)).difference(lane for lane, _ in active)
    if not free:
        raise InvalidInput("At most four answers to one question are written at a time.")
    return min(free)


def first_beside(connection: Connection, leaf: str | None, question_id: str) -> str | None:
    """The first answer of the comparison to which one more answer to this question belongs.

    None unless the active branch, whose end is `leaf`, ends in an answer to it.
    """
    row = connection.execute(_ANSWER, {"leaf": leaf}).first() if leaf else None
    if row is None or row.parent_id != question_id:
        return None
    return row.beside or leaf


def add_run(
    connection: Connection,
    live: Live,
    title: str,
    now: int,
    *,
    lane: int = 0,
    stay: str | None = None,
) -> None:
    """The active branch ends in its answer from now on, or else stays where it is, at `stay`."""
    ADD_RUN.run(connection, run_row(live, now, lane=lane))
    if stay is not None:
        given = {"conversation": live.conversation_id, "now": now, "leaf": stay}
        connection.execute(_STAYED, given)
        return
    MOVED.run(connection, moved_row(live, title, now))


def run_row(live: Live, now: int, *, lane: int = 0) -> dict[str, Any]:
    """For `ADD_RUN`."""
    return {
        "id": live.id,
        "owner": live.user.id,
        "conversation_id": live.conversation_id,
        "message_id": live.message_id,
        "user_message_id": live.user_message_id,
        "state": "queued",
        "model": live.model,
        "created_at": now,
        "last_event": 0,
        "parameters": effective(live.model, live.defaults, live.parameters),
        "lane": lane,
    }


def moved_row(live: Live, title: str, now: int) -> dict[str, Any]:
    """For `MOVED`."""
    return {
        "conversation": live.conversation_id,
        "new_title": title,
        "now": now,
        "leaf": live.message_id,
    }


def key_row(live: Live, key: str, digest: str, now: int) -> dict[str, Any]:
    """For `KEEP_KEY`."""
    return {
        "owner": live.user.id,
        "key": key,
        "digest": digest,
        "message_id": live.message_id,
        "run_id": live.id,
        "created_at": now,
    }


def check_parent(connection: Connection, conversation_id: str, parent_id: str) -> None:
    wanted = {"message": parent_id, "conversation": conversation_id}
    row = ROLE.first(connection, wanted)
    if row is None or row.role != "assistant":
        raise InvalidInput("parentId: name an answer in this conversation.")


def mark_interrupted(connection: Connection, run_id: str, message_id: str) -> None:
    rows = connection.execute(
        select(run_events.c.number, run_events.c.type, run_events.c.data)
        .where(run_events.c.run_id == run_id)
        .order_by(run_events.c.number)
    )
    written = rows.all()
    text, thoughts = (
        "".join(orjson.loads(data)["text"] for _, kind, data in written if kind == wanted)
        for wanted in (TEXT, REASONING)
    )
    last = (written[-1][0] if written else 0) + 1
    now = now_ms()
    connection.execute(
        insert(run_events).values(run_id=run_id, number=last, type=INTERRUPTED, data="{}")
    )
    asked = connection.execute(
        update(runs)
        .where(runs.c.id == run_id)
        .values(state="interrupted", finished_at=now, last_event=last)
        .returning(runs.c.lease_id, runs.c.credential_id, runs.c.model)
    ).one()
    if asked.lease_id and asked.credential_id:
        # The provider was asked, and nobody knows any more what that cost.
        use = Use(asked.lease_id, asked.credential_id, "", asked.model or "", None, now)
        ADD_TO_OUTBOX.run(connection, *outbox_rows(run_id, [use]))
        connection.execute(update(runs).where(runs.c.id == run_id).values(requests=1, unpriced=1))
    connection.execute(
        update(messages)
        .where(messages.c.id == message_id)
        # What an earlier run had written is there already.
        .values(
            content=messages.c.content + literal(text),
            reasoning=func.coalesce(messages.c.reasoning, literal("")) + literal(thoughts)
            if thoughts
            else messages.c.reasoning,
        )
    )
    # The question and the title may have had no time to get into the index.
    conversation_id, content, question_id, question, title = connection.execute(
        select(
            messages.c.conversation_id,
            messages.c.content,
            _question.c.id,
            _question.c.content,
            conversations.c.title,
        )
        .join(_question, _question.c.id == messages.c.parent_id)
        .join(conversations, conversations.c.id == messages.c.conversation_id)
        .where(messages.c.id == message_id)
    ).one()
    put(
        connection,
        [
            Entry(conversation_id, message_id, content),
            Entry(conversation_id, question_id, question),
            Entry(conversation_id, None, title or ""),
        ],
    )


def message_row(
    live: Live, message_id: str, parent_id: str | None, role: str, content: str, now: int
) -> dict[str, Any]:
    return {
        "id": message_id,
        "conversation_id": live.conversation_id,
        "parent_id": parent_id,
        "role": role,
        "content": content,
        "created_at": now,
        "beside": live.beside,
    }


def digest_of(*parts: str | None, parameters: dict[str, Any] | None = None) -> str:
    """What tells one request from another."""
    whole = (*parts, parameters) if parameters else parts
    return hashlib.sha256(orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)).hexdigest()


def check_parameters(model: str | None, parameters: dict[str, Any] | None) -> None:
    """Raises `InvalidInput` for a parameter that the model is known to refuse."""
    name = refused(model, parameters) if model and parameters else None
    if name is not None:
        raise InvalidInput(f"parameters.{name}: this model does not take it. Leave it out.")


def replay(connection: Connection, owner: str, key: str, digest: str) -> Sent | None:
    row = KEY.first(connection, {"who": owner, "used": key})
    return None if row is None else sent_before(row, digest)


def sent_before(row: Sequence[Any], digest: str) -> Sent:
    """What `KEY` found, for a request with this digest. Raises `KeyReused`."""
    if row[0] != digest:
        raise KeyReused
    return Sent(*row[1:])


def remember(connection: Connection, live: Live, key: str, digest: str, now: int) -> None:
    KEEP_KEY.run(connection, key_row(live, key, digest, now))
