"""Files and tools of assistants, for conversations that begin with them."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("assistants", sa.Column("tools", sa.JSON(), nullable=True))
    op.create_table(
        "assistant_files",
        sa.Column("assistant_id", sa.String(40), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("attachment_id", sa.String(40), nullable=False),
        sa.ForeignKeyConstraint(
            ["assistant_id"],
            ["assistants.id"],
            name=op.f("fk_assistant_files_assistant_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["attachment_id"],
            ["attachments.id"],
            name=op.f("fk_assistant_files_attachment_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("assistant_id", "position", name=op.f("pk_assistant_files")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_assistant_files_attachment_id", "assistant_files", ["attachment_id"])


def downgrade() -> None:
    op.drop_table("assistant_files")
    with op.batch_alter_table("assistants", schema=None) as batch_op:
        batch_op.drop_column("tools")
