"""With which parameters a run asked, and what the model thought before it answered."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("parameters", sa.JSON(), nullable=True))
    op.add_column("messages", sa.Column("reasoning", sa.Text(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("messages", schema=None) as batch_op:
        batch_op.drop_column("reasoning")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_column("parameters")
