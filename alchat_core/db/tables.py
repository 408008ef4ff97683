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
    # What every prompt begins with, and the parameters of messages that name none of their own.
    Column("system_prompt", Text),
    Column("parameters", JSON(none_as_null=True)),
    # The assistant that it began with. No foreign key: it is remembered when that is deleted.
    Column("assistant_id", ID),
    # Who made the title: user, words (the first ones) or model. Null, of old: nobody knows.
    Column("title_origin", String(8)),
    # Ids of the tool servers that its answers may use; one that is gone by now is passed over.
    Column("tools", JSON(none_as_null=True)),
    # The newest run whose answer the owner has read. No foreign key: it is only compared.
    Column("seen_run_id", ID),
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
    # For how long, where that is known.
    Column("reasoning_ms", BigInteger),
    # The excerpts of attached files that the answer was given, as `run.sources` lists them.
    Column("sources", JSON(none_as_null=True)),
    # Of all runs that wrote it.
    Column("usage", JSON(none_as_null=True)),
    # The tools that were called for it and what they said, in order (`alchat_core.tools.models`).
    Column("tool_calls", JSON(none_as_null=True)),
    # Of an answer that was asked for beside another: the first answer of that comparison, which
    # itself has none. No foreign key: both are deleted with their conversation.
    Column("beside", ID),
)
Index("ix_messages_conversation_id_id", messages.c.conversation_id, messages.c.id)
Index("ix_messages_parent_id", messages.c.parent_id)
Index(
    "ix_messages_first",
    messages.c.conversation_id,
    sqlite_where=text("parent_id IS NULL"),
    postgresql_where=text("parent_id IS NULL"),
)

# What the owner thinks of an answer.
feedback = Table(
    "feedback",
    metadata,
    Column("message_id", ID, ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True),
    Column("rating", String(8), nullable=False),
    Column("comment", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

# Prompts and assistants; `shared` ones are there for every user of the portal to read.
assistants = Table(
    "assistants",
    metadata,
    Column("id", ID, primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("owner_name", String(200), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("name", String(100), nullable=False),
    Column("prompt", Text, nullable=False),
    Column("model", String(200)),
    Column("parameters", JSON(none_as_null=True)),
    Column("shared", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("tools", JSON(none_as_null=True)),
)
Index("ix_assistants_owner_id", assistants.c.owner, assistants.c.id)
Index(
    "ix_assistants_shared",
    assistants.c.id,
    sqlite_where=text("shared"),
    postgresql_where=text("shared"),
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
    Column("lease_id", String(64)),
    # Requests that the provider took, and those of them whose cost nobody knows; `cost_nano` is the
    # sum of the others, in billionths of a US dollar.
    Column("requests", BigInteger, nullable=False, server_default="0"),
    Column("unpriced", BigInteger, nullable=False, server_default="0"),
    Column("prompt_tokens", BigInteger, nullable=False, server_default="0"),
    Column("completion_tokens", BigInteger, nullable=False, server_default="0"),
    Column("cost_nano", BigInteger),
    Column("price_source", String(40)),
    # Which of the answers that are written beside each other.
    Column("lane", Integer, nullable=False, server_default="0"),
)
# Written out, not bound: only so can the partial indexes below serve the query.
ACTIVE = runs.c.state.in_([literal_column("'queued'"), literal_column("'running'")])
Index("ix_runs_conversation_id", runs.c.conversation_id)
Index("ix_runs_message_id", runs.c.message_id)
Index("ix_runs_user_message_id", runs.c.user_message_id)
Index("ix_runs_owner_created_at", runs.c.owner, runs.c.created_at)
# One answer at a time in a lane of a conversation; the database says so, not only the code.
Index(
    "uq_runs_active",
    runs.c.conversation_id,
    runs.c.lane,
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

# Which conversation was made from which of a file, so that an import brings none twice.
import_origins = Table(
    "import_origins",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("source", String(16), primary_key=True),
    Column("external_id", String(200), primary_key=True),
    Column(
        "conversation_id", ID, ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False
    ),
    sqlite_with_rowid=False,
)
Index("ix_import_origins_conversation_id", import_origins.c.conversation_id)

# Read-only snapshots. `messages` is JSON as `GET /api/shared/{id}` shows it.
shares = Table(
    "shares",
    metadata,
    Column("id", ID, primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("owner_name", String(200), nullable=False),
    Column(
        "conversation_id", ID, ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False
    ),
    Column("title", String(200)),
    Column("everyone", Boolean, nullable=False),
    Column("messages", Text, nullable=False),
    Column("message_count", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
Index("ix_shares_owner_created_at", shares.c.owner, shares.c.created_at)
Index("ix_shares_conversation_id", shares.c.conversation_id)

# By whom a snapshot that is not for everyone can be read.
share_users = Table(
    "share_users",
    metadata,
    Column("share_id", ID, ForeignKey("shares.id", ondelete="CASCADE"), primary_key=True),
    Column("username", String(200), primary_key=True),
    sqlite_with_rowid=False,
)

# What Papita has not been told yet. No foreign key: what was spent is reported although the
# conversation is gone by then. Nothing of what was said is in it.
usage_outbox = Table(
    "usage_outbox",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("lease_id", String(64), nullable=False),
    Column("credential_id", String(64), nullable=False),
    Column("model", String(200), nullable=False),
    Column("prompt_tokens", BigInteger),
    Column("completion_tokens", BigInteger),
    Column("cost_nano", BigInteger),
    Column("at", BigInteger, nullable=False),
)
Index("ix_usage_outbox_at", usage_outbox.c.at, usage_outbox.c.id)

attachments = Table(
    "attachments",
    metadata,
    Column("id", ID, primary_key=True),
    Column("owner", String(64), nullable=False),
    # Where the file lies; several rows may name one file. Null: deleted, but named in messages.
    Column("sha256", String(64)),
    Column("name", String(200), nullable=False),
    Column("media_type", String(100), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("pages", Integer),
    Column("characters", Integer, nullable=False),
    Column("sent", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
Index("ix_attachments_owner", attachments.c.owner)
Index("ix_attachments_sha256", attachments.c.sha256)
Index(
    "ix_attachments_unsent",
    attachments.c.created_at,
    sqlite_where=text("NOT sent"),
    postgresql_where=text("NOT sent"),
)

message_attachments = Table(
    "message_attachments",
    metadata,
    Column("message_id", ID, ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("attachment_id", ID, ForeignKey("attachments.id", ondelete="CASCADE"), nullable=False),
    # That of the message, so that all files of one are found without its messages.
    Column("conversation_id", ID, nullable=False),
    sqlite_with_rowid=False,
)
Index("ix_message_attachments_attachment_id", message_attachments.c.attachment_id)
Index("ix_message_attachments_conversation_id", message_attachments.c.conversation_id)

assistant_files = Table(
    "assistant_files",
    metadata,
    Column("assistant_id", ID, ForeignKey("assistants.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("attachment_id", ID, ForeignKey("attachments.id", ondelete="CASCADE"), nullable=False),
    sqlite_with_rowid=False,
)
Index("ix_assistant_files_attachment_id", assistant_files.c.attachment_id)

# Servers of tools that speak MCP. Their tokens are in Papita. `tools` is the list that the owner
# got last; a `shared` one can be used by every user of the portal.
tool_servers = Table(
    "tool_servers",
    metadata,
    Column("id", ID, primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("owner_name", String(200), nullable=False),
    Column("name", String(100), nullable=False),
    Column("url", String(2048), nullable=False),
    Column("needs_token", Boolean, nullable=False),
    Column("shared", Boolean, nullable=False),
    Column("tools", JSON(none_as_null=True)),
    Column("tools_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
Index("ix_tool_servers_owner_id", tool_servers.c.owner, tool_servers.c.id)
Index(
    "ix_tool_servers_shared",
    tool_servers.c.id,
    sqlite_where=text("shared"),
    postgresql_where=text("shared"),
)

# Tools that a user lets be called unasked, as long as they describe themselves as they did then.
tool_approvals = Table(
    "tool_approvals",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("server_id", ID, ForeignKey("tool_servers.id", ondelete="CASCADE"), primary_key=True),
    Column("tool", String(200), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
Index("ix_tool_approvals_server_id", tool_approvals.c.server_id)
