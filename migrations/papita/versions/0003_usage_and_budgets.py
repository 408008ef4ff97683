"""What projects spent with borrowed credentials, and budgets"""

import sqlalchemy as sa
from alembic import op

from papita_core.db.base import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COLUMNS = (
    *("budget_nano", "budget_period", "budget_project_id"),
    *("spent_nano", "spent_unpriced", "spent_since"),
)


def upgrade() -> None:
    for column in (
        sa.Column("budget_nano", sa.BigInteger(), nullable=True),
        sa.Column("budget_period", sa.String(length=8), nullable=True),
        sa.Column("budget_project_id", sa.String(length=64), nullable=True),
        sa.Column("spent_nano", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("spent_unpriced", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("spent_since", sa.Date(), nullable=True),
    ):
        op.add_column("credentials", column)
    op.create_table(
        "usage_days",
        sa.Column("credential_id", sa.String(length=36), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("unpriced_requests", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_nano", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_usage_days_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            *("credential_id", "day", "user_id", "project_id", "model"),
            name=op.f("pk_usage_days"),
        ),
    )
    op.create_index("ix_usage_days_user_day", "usage_days", ["user_id", "day"], unique=False)
    op.create_table(
        "usage_reports",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("pk_usage_reports")),
    )
    op.create_index(
        op.f("ix_usage_reports_received_at"), "usage_reports", ["received_at"], unique=False
    )


def downgrade() -> None:
    op.drop_table("usage_reports")
    op.drop_table("usage_days")
    for name in reversed(COLUMNS):
        op.drop_column("credentials", name)
