"""What answers cost, and what of it Papita has not been told yet."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COUNTS = ("requests", "unpriced", "prompt_tokens", "completion_tokens")


def upgrade() -> None:
    op.add_column("runs", sa.Column("lease_id", sa.String(length=64), nullable=True))
    for name in COUNTS:
        op.add_column("runs", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("runs", sa.Column("cost_nano", sa.BigInteger(), nullable=True))
    op.add_column("runs", sa.Column("price_source", sa.String(length=40), nullable=True))
    op.create_index("ix_runs_owner_created_at", "runs", ["owner", "created_at"])
    op.add_column("messages", sa.Column("usage", sa.JSON(), nullable=True))
    op.create_table(
        "usage_outbox",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("lease_id", sa.String(length=64), nullable=False),
        sa.Column("credential_id", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=True),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cost_nano", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_outbox")),
    )
    op.create_index("ix_usage_outbox_at", "usage_outbox", ["at", "id"])
    _take_over_what_is_known()


def _take_over_what_is_known() -> None:
    """Tokens of earlier answers; what they cost stays unknown."""
    if op.get_bind().dialect.name == "sqlite":
        prompt, completion = (
            f"json_extract(usage, '$.{name}')" for name in ("promptTokens", "completionTokens")
        )
    else:
        prompt, completion = (
            f"(usage ->> '{name}')::bigint" for name in ("promptTokens", "completionTokens")
        )
    op.execute(
        f"UPDATE runs SET requests = 1, unpriced = 1, prompt_tokens = coalesce({prompt}, 0),"  # noqa: S608 - nothing of it comes from outside
        f" completion_tokens = coalesce({completion}, 0) WHERE usage IS NOT NULL"
    )
    op.execute(
        "UPDATE messages SET usage = (SELECT runs.usage FROM runs WHERE runs.message_id ="
        " messages.id ORDER BY runs.id DESC LIMIT 1) WHERE role = 'assistant'"
    )


def downgrade() -> None:
    op.drop_table("usage_outbox")
    with op.batch_alter_table("messages", schema=None) as batch_op:
        batch_op.drop_column("usage")
    op.drop_index("ix_runs_owner_created_at", "runs")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        for name in ("price_source", "cost_nano", *COUNTS, "lease_id"):
            batch_op.drop_column(name)
