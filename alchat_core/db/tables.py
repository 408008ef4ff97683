"""The tables of AL-Chat. Times are milliseconds since 1970, UTC."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    false,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import TSVECTOR

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ID = String(40)

conversations = Table(
    "conversations",
    metadata,
    Column("id", ID, primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("title", String(200)),
    Column("model", String(200)),
    Column("pinned", Boolean, nullable=False),
    Column("archived", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("last_message_at", BigInteger, nullable=False),
    # The end of the active branch. No foreign key: messages point here already. Null: the newest.
    Column("active_leaf_id", ID),
    # Hidden since; the service really deletes it when the time for an undo is over.
    Column("deleted_at", BigInteger),
    Column("temporary", Boolean, nullable=False, server_default=false()),
    Column("folder", String(100)),
)
Index(
    "ix_conversations_deleted_at",
    conversations.c.deleted_at,
    sqlite_where=text("deleted_at IS NOT NULL"),
    postgresql_where=text("deleted_at IS NOT NULL"),
)
Index(
    "ix_conversations_temporary",
    conversations.c.updated_at,
    sqlite_where=text("temporary"),
    postgresql_where=text("temporary"),
)
Index(
    "ix_conversations_folder",
    conversations.c.owner,
    conversations.c.folder,
    sqlite_where=text("folder IS NOT NULL"),
    postgresql_where=text("folder IS NOT NULL"),
)
Index(
    "ix_conversations_list",
    conversations.c.owner,
    conversations.c.archived,
    conversations.c.pinned,
    conversations.c.last_message_at,
    conversations.c.id,
)

messages = Table(
    "messages",
    metadata,
    Column("id", ID, primary_key=True),
    Column(
        "conversation_id", ID, ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False
    ),
    # No cascade here: a long branch would exceed SQLite's depth of nested cascades.
    Column("parent_id", ID, ForeignKey("messages.id")),
    Column("role", String(16), nullable=False),
    Column("content", Text, nullable=False),
    Column("model", String(200)),
    Column("created_at", BigInteger, nullable=False),
    # What the model thought before it answered; no provider reads it again.
    Column("reasoning", Text),
)
Index("ix_messages_conversation_id_id", messages.c.conversation_id, messages.c.id)
Index("ix_messages_parent_id", messages.c.parent_id)
Index(
    "ix_messages_first",
    messages.c.conversation_id,
    sqlite_where=text("parent_id IS NULL"),
    postgresql_where=text("parent_id IS NULL"),
)

conversation_tags = Table(
    "conversation_tags",
    metadata,
    Column(
        "conversation_id", ID, ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True
    ),
    Column("tag", String(50), primary_key=True),
    sqlite_with_rowid=False,
)

# The words of titles (no message) and messages, made by `alchat_core.conversations.words`. On
# SQLite triggers keep the FTS5 table `search_index` beside it, which the migration makes; `number`
# is its rowid, so that a change there touches one row and does not scan.
search_texts = Table(
    "search_texts",
    metadata,
    Column("number", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column(
        "conversation_id", ID, ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False
    ),
    Column("message_id", ID),
    Column("words", Text().with_variant(TSVECTOR(), "postgresql"), nullable=False),
)
Index(
    "ix_search_texts_conversation_id_message_id",
    search_texts.c.conversation_id,
    search_texts.c.message_id,
)
Index("ix_search_texts_words", search_texts.c.words, postgresql_using="gin").ddl_if("postgresql")


runs = Table(
    "runs",
    metadata,
    Column("id", ID, primary_key=True),
    Column("owner", String(64), nullable=False),
    Column(
        "conversation_id", ID, ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False
    ),
    Column("message_id", ID, ForeignKey("messages.id", ondelete="CASCADE"), nullable=False),
    Column("user_message_id", ID, ForeignKey("messages.id", ondelete="CASCADE"), nullable=False),
    Column("state", String(16), nullable=False),
    Column("model", String(200)),
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("last_event", Integer, nullable=False),
    Column("error", JSON(none_as_null=True)),
    Column("usage", JSON(none_as_null=True)),
    # Which of the owner's credentials in Papita wrote the answer; never what it holds.
    Column("credential_id", String(64)),
    Column("credential_type", String(64)),
    Column("parameters", JSON(none_as_null=True)),
)
# Written out, not bound: only so can the partial indexes below serve the query.
ACTIVE = runs.c.state.in_([literal_column("'queued'"), literal_column("'running'")])
Index("ix_runs_conversation_id", runs.c.conversation_id)
Index("ix_runs_message_id", runs.c.message_id)
Index("ix_runs_user_message_id", runs.c.user_message_id)
# One answer at a time in a conversation; the database says so, not only the code.
Index(
    "uq_runs_active",
    runs.c.conversation_id,
    unique=True,
    sqlite_where=text("state IN ('queued', 'running')"),
    postgresql_where=text("state IN ('queued', 'running')"),
)
Index(
    "ix_runs_owner_active",
    runs.c.owner,
    sqlite_where=text("state IN ('queued', 'running')"),
    postgresql_where=text("state IN ('queued', 'running')"),
)

run_events = Table(
    "run_events",
    metadata,
    Column("run_id", ID, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("type", String(32), nullable=False),
    Column("data", Text, nullable=False),
    sqlite_with_rowid=False,
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("message_id", ID, nullable=False),
    Column("run_id", ID, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
Index("ix_idempotency_keys_run_id", idempotency_keys.c.run_id)
