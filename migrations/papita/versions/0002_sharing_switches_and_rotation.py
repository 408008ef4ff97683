"""Sharing, switches, rotation, and an audit log that can be searched"""

import sqlalchemy as sa
from alembic import op

from papita_core.db.base import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SEARCHED = ("actor_id", "subject_id", "project_id", "outcome")


def upgrade() -> None:
    op.add_column("root_keys", sa.Column("retired_at", UtcDateTime(), nullable=True))
    op.add_column("purpose_keys", sa.Column("retired_at", UtcDateTime(), nullable=True))

    for column in (
        sa.Column("last_used_by", sa.String(length=64), nullable=True),
        sa.Column("disabled_at", UtcDateTime(), nullable=True),
        sa.Column("blocked_at", UtcDateTime(), nullable=True),
        sa.Column("shared_with_all", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
    ):
        op.add_column("credentials", column)
    op.create_index(
        "ix_credentials_for_all",
        "credentials",
        ["id"],
        unique=False,
        sqlite_where=sa.text("shared_with_all = 1"),
        postgresql_where=sa.text("shared_with_all"),
    )
    op.create_table(
        "credential_shares",
        sa.Column("credential_id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["credential_id"],
            ["credentials.id"],
            name=op.f("fk_credential_shares_credential_id_credentials"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_credential_shares_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("credential_id", "user_id", name=op.f("pk_credential_shares")),
    )
    op.create_index(
        op.f("ix_credential_shares_user_id"), "credential_shares", ["user_id"], unique=False
    )
    op.create_table(
        "project_states",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("disabled_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_project_states")),
    )
    _make_the_log_searchable()


def _make_the_log_searchable() -> None:
    for name, length, default in (
        ("actor_id", 64, None),
        ("subject_id", 64, None),
        ("project_id", 64, None),
        ("outcome", 64, "ok"),
    ):
        op.add_column(
            "audit_log",
            sa.Column(
                name, sa.String(length=length), server_default=default, nullable=default is None
            ),
        )
    # The new columns repeat what the bodies of earlier rows say.
    if op.get_bind().dialect.name == "sqlite":
        values = {name: f"json_extract(body, '$.{name}')" for name in SEARCHED}
    else:
        values = {name: f"body::json ->> '{name}'" for name in SEARCHED}
    parts = ", ".join(f"{name} = {value}" for name, value in values.items())
    op.execute(f"UPDATE audit_log SET {parts}")  # noqa: S608 - nothing of it comes from outside
    with op.batch_alter_table("audit_log") as batch:
        batch.alter_column("outcome", existing_type=sa.String(length=64), server_default=None)
    op.drop_index(op.f("ix_audit_log_owner_id"), table_name="audit_log")
    op.create_index("ix_audit_log_owner_at", "audit_log", ["owner_id", "at"], unique=False)
    op.create_index("ix_audit_log_subject_at", "audit_log", ["subject_id", "at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_audit_log_subject_at", table_name="audit_log")
    op.drop_index("ix_audit_log_owner_at", table_name="audit_log")
    op.create_index(op.f("ix_audit_log_owner_id"), "audit_log", ["owner_id"], unique=False)
    for name in SEARCHED:
        op.drop_column("audit_log", name)
    op.drop_table("project_states")
    op.drop_table("credential_shares")
    op.drop_index("ix_credentials_for_all", table_name="credentials")
    for name in ("fingerprint", "shared_with_all", "blocked_at", "disabled_at", "last_used_by"):
        op.drop_column("credentials", name)
    op.drop_column("purpose_keys", "retired_at")
    op.drop_column("root_keys", "retired_at")
