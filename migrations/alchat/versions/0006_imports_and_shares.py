"""Where an imported conversation came from, and read-only snapshots for others."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "import_origins",
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("external_id", sa.String(200), nullable=False),
        sa.Column("conversation_id", sa.String(40), nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name="fk_import_origins_conversation_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("owner", "source", "external_id", name="pk_import_origins"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_import_origins_conversation_id", "import_origins", ["conversation_id"])
    op.create_table(
        "shares",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("owner_name", sa.String(200), nullable=False),
        sa.Column("conversation_id", sa.String(40), nullable=False),
        sa.Column("title", sa.String(200), nullable=True),
        sa.Column("everyone", sa.Boolean(), nullable=False),
        sa.Column("messages", sa.Text(), nullable=False),
        sa.Column("message_count", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name="fk_shares_conversation_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_shares"),
    )
    op.create_index("ix_shares_owner_created_at", "shares", ["owner", "created_at"])
    op.create_index("ix_shares_conversation_id", "shares", ["conversation_id"])
    op.create_table(
        "share_users",
        sa.Column("share_id", sa.String(40), nullable=False),
        sa.Column("username", sa.String(200), nullable=False),
        sa.ForeignKeyConstraint(
            ["share_id"], ["shares.id"], name="fk_share_users_share_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("share_id", "username", name="pk_share_users"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("share_users")
    op.drop_table("shares")
    op.drop_table("import_origins")
