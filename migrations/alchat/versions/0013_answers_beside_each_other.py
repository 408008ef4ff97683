"""Several answers to one question at a time, each in a lane of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

ACTIVE = "state IN ('queued', 'running')"


def _unique(*columns: str) -> None:
    op.drop_index("uq_runs_active", table_name="runs")
    op.create_index(
        "uq_runs_active",
        "runs",
        columns,
        unique=True,
        sqlite_where=sa.text(ACTIVE),
        postgresql_where=sa.text(ACTIVE),
    )


def upgrade() -> None:
    op.add_column("messages", sa.Column("beside", sa.String(40), nullable=True))
    op.add_column("runs", sa.Column("lane", sa.Integer(), nullable=False, server_default="0"))
    _unique("conversation_id", "lane")


def downgrade() -> None:
    # The version before takes one active run of a conversation for the only one.
    op.execute(
        "UPDATE runs SET state = 'interrupted', finished_at = created_at"
        " WHERE lane > 0 AND state IN ('queued', 'running')"
    )
    _unique("conversation_id")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_column("lane")
    with op.batch_alter_table("messages", schema=None) as batch_op:
        batch_op.drop_column("beside")
