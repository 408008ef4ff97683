"""Which answer of a conversation its owner has read last."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("conversations", sa.Column("seen_run_id", sa.String(40), nullable=True))
    # What was there before nobody has to look for.
    op.execute(
        "UPDATE conversations SET seen_run_id ="
        " (SELECT max(id) FROM runs WHERE runs.conversation_id = conversations.id)"
    )


def downgrade() -> None:
    with op.batch_alter_table("conversations", schema=None) as batch_op:
        batch_op.drop_column("seen_run_id")
