"""The active branch, delete with undo, temporary conversations, folders, tags, the search index."""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSVECTOR

from alchat_core.conversations.words import indexed

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BATCH = 500

# `words` has them once more because FTS5 wants the old ones back when a row goes or changes; that a
# table without them can delete as well is new in SQLite 3.43. Conversations that are deleted take
# their rows along, and the triggers see each of them.
FTS5 = (
    """
    CREATE VIRTUAL TABLE search_index USING fts5(
        words, content='search_texts', content_rowid='number',
        detail=none, columnsize=0, tokenize='ascii'
    )
    """,
    """
    CREATE TRIGGER search_texts_added AFTER INSERT ON search_texts BEGIN
        INSERT INTO search_index (rowid, words) VALUES (new.number, new.words);
    END
    """,
    """
    CREATE TRIGGER search_texts_gone AFTER DELETE ON search_texts BEGIN
        INSERT INTO search_index (search_index, rowid, words)
            VALUES ('delete', old.number, old.words);
    END
    """,
    """
    CREATE TRIGGER search_texts_changed AFTER UPDATE ON search_texts BEGIN
        INSERT INTO search_index (search_index, rowid, words)
            VALUES ('delete', old.number, old.words);
        INSERT INTO search_index (rowid, words) VALUES (new.number, new.words);
    END
    """,
)


def upgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"

    op.add_column("conversations", sa.Column("active_leaf_id", sa.String(40), nullable=True))
    op.add_column("conversations", sa.Column("deleted_at", sa.BigInteger(), nullable=True))
    op.add_column(
        "conversations",
        sa.Column("temporary", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.add_column("conversations", sa.Column("folder", sa.String(100), nullable=True))
    for name, columns, condition in (
        ("ix_conversations_deleted_at", ["deleted_at"], "deleted_at IS NOT NULL"),
        ("ix_conversations_temporary", ["updated_at"], "temporary"),
        ("ix_conversations_folder", ["owner", "folder"], "folder IS NOT NULL"),
    ):
        op.create_index(
            name,
            "conversations",
            columns,
            sqlite_where=sa.text(condition),
            postgresql_where=sa.text(condition),
        )
    op.create_index(
        "ix_messages_first",
        "messages",
        ["conversation_id"],
        sqlite_where=sa.text("parent_id IS NULL"),
        postgresql_where=sa.text("parent_id IS NULL"),
    )
    op.create_index("ix_idempotency_keys_run_id", "idempotency_keys", ["run_id"])

    op.create_table(
        "conversation_tags",
        sa.Column("conversation_id", sa.String(40), nullable=False),
        sa.Column("tag", sa.String(50), nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_conversation_tags_conversation_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("conversation_id", "tag", name=op.f("pk_conversation_tags")),
        sqlite_with_rowid=False,
    )

    texts = op.create_table(
        "search_texts",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("conversation_id", sa.String(40), nullable=False),
        sa.Column("message_id", sa.String(40), nullable=True),
        sa.Column("words", sa.Text().with_variant(TSVECTOR(), "postgresql"), nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_search_texts_conversation_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_search_texts")),
    )
    op.create_index(
        "ix_search_texts_conversation_id_message_id",
        "search_texts",
        ["conversation_id", "message_id"],
    )
    if sqlite:
        for statement in FTS5:
            op.execute(statement)
    else:
        op.create_index("ix_search_texts_words", "search_texts", ["words"], postgresql_using="gin")
    _index_what_is_there(texts, sqlite)


def _index_what_is_there(texts: sa.Table, sqlite: bool) -> None:
    """Titles and messages of before, oldest first."""
    connection = op.get_bind()
    if sqlite:
        add = sa.insert(texts)
    else:
        words = sa.func.array_to_tsvector(sa.cast(sa.bindparam("words"), sa.ARRAY(sa.Text())))
        add = sa.insert(texts).values(
            conversation_id=sa.bindparam("conversation_id"),
            message_id=sa.bindparam("message_id"),
            words=words,
        )
    titles = "SELECT id, id, NULL, owner, title FROM conversations WHERE title IS NOT NULL"
    contents = (
        "SELECT messages.id, conversation_id, messages.id, owner, content FROM messages"
        " JOIN conversations ON conversations.id = conversation_id WHERE content <> ''"
    )
    for source, key in ((titles, "id"), (contents, "messages.id")):
        for rows in _pages(connection, source, key):
            found = [
                {
                    "conversation_id": conversation_id,
                    "message_id": message_id,
                    "words": " ".join(words) if sqlite else words,
                }
                for _, conversation_id, message_id, owner, text in rows
                if (words := indexed(owner, text))
            ]
            if found:
                connection.execute(add, found)


def _pages(connection: sa.Connection, source: str, key: str) -> Iterator[list[sa.Row]]:
    last = ""
    while rows := connection.execute(
        sa.text(f"{source} AND {key} > :last ORDER BY {key} LIMIT :count"),
        {"last": last, "count": BATCH},
    ).all():
        yield list(rows)
        last = rows[-1][0]


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE search_index")
    op.drop_table("search_texts")
    op.drop_table("conversation_tags")
    op.drop_index("ix_idempotency_keys_run_id", table_name="idempotency_keys")
    op.drop_index("ix_messages_first", table_name="messages")
    for name in ("folder", "temporary", "deleted_at"):
        op.drop_index(f"ix_conversations_{name}", table_name="conversations")
    with op.batch_alter_table("conversations", schema=None) as batch_op:
        for name in ("folder", "temporary", "deleted_at", "active_leaf_id"):
            batch_op.drop_column(name)
