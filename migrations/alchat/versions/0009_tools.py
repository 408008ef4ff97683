"""Tool servers (MCP), what users allow them to do unasked, and the calls of an answer."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tool_servers",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("owner_name", sa.String(200), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("url", sa.String(2048), nullable=False),
        sa.Column("needs_token", sa.Boolean(), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("tools", sa.JSON(), nullable=True),
        sa.Column("tools_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tool_servers")),
    )
    op.create_index("ix_tool_servers_owner_id", "tool_servers", ["owner", "id"])
    op.create_index(
        "ix_tool_servers_shared",
        "tool_servers",
        ["id"],
        sqlite_where=sa.text("shared"),
        postgresql_where=sa.text("shared"),
    )
    op.create_table(
        "tool_approvals",
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("server_id", sa.String(40), nullable=False),
        sa.Column("tool", sa.String(200), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["server_id"],
            ["tool_servers.id"],
            name=op.f("fk_tool_approvals_server_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("owner", "server_id", "tool", name=op.f("pk_tool_approvals")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_tool_approvals_server_id", "tool_approvals", ["server_id"])
    op.add_column("conversations", sa.Column("tools", sa.JSON(), nullable=True))
    op.add_column("messages", sa.Column("tool_calls", sa.JSON(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("messages", schema=None) as batch_op:
        batch_op.drop_column("tool_calls")
    with op.batch_alter_table("conversations", schema=None) as batch_op:
        batch_op.drop_column("tools")
    op.drop_table("tool_approvals")
    op.drop_table("tool_servers")
