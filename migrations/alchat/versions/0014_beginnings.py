"""One or two letters are found at once on SQLite: their beginnings are in the index."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# A word begins with the eight characters that mark its owner (`alchat_core.conversations.words`).
ONE_OR_TWO_LETTERS = ", prefix='9 10'"


def _index(prefixes: str) -> None:
    """Makes it anew from `search_texts`, whose triggers keep it as they did."""
    if op.get_bind().dialect.name != "sqlite":
        return
    op.execute("DROP TABLE search_index")
    op.execute(
        "CREATE VIRTUAL TABLE search_index USING fts5(words, content='search_texts',"
        f" content_rowid='number', detail=none, columnsize=0, tokenize='ascii'{prefixes})"
    )
    op.execute("INSERT INTO search_index (search_index) VALUES ('rebuild')")


def upgrade() -> None:
    _index(ONE_OR_TWO_LETTERS)


def downgrade() -> None:
    _index("")
