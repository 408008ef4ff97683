"""Which credential a run used."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("credential_id", sa.String(length=64), nullable=True))
    op.add_column("runs", sa.Column("credential_type", sa.String(length=64), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_column("credential_type")
        batch_op.drop_column("credential_id")
