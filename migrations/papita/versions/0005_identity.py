"""Second factors, passkeys, identity providers, one-time links, limits, policies"""

import unicodedata

import sqlalchemy as sa
from alembic import op

from papita_core.db.base import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

FEW = {
    "administrators": "role = 'administrator'",
    "disabled": "disabled_at IS NOT NULL",
    "waiting": "awaits_approval_since IS NOT NULL",
    "reset_asked": "reset_asked_at IS NOT NULL",
}


def upgrade() -> None:
    op.create_table(
        "erasures",
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("username", sa.String(length=64), nullable=False),
        sa.Column("asked_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "project_id", name=op.f("pk_erasures")),
    )
    op.create_table(
        "policies",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_policies")),
    )
    op.create_table(
        "attempt_counters",
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("window_start", UtcDateTime(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("most", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=True),
        sa.Column("address", sa.String(length=64), server_default="", nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_attempt_counters_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("kind", "key_hash", name=op.f("pk_attempt_counters")),
    )
    op.create_index(
        op.f("ix_attempt_counters_expires_at"), "attempt_counters", ["expires_at"], unique=False
    )
    op.create_index(
        op.f("ix_attempt_counters_user_id"), "attempt_counters", ["user_id"], unique=False
    )
    op.create_table(
        "oidc_attempts",
        sa.Column("state_hash", sa.String(length=64), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=True),
        sa.Column("session_id", sa.String(length=36), nullable=True),
        sa.Column("next_page", sa.String(length=300), nullable=False),
        sa.Column("remember", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_oidc_attempts_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("state_hash", name=op.f("pk_oidc_attempts")),
    )
    op.create_index(
        op.f("ix_oidc_attempts_expires_at"), "oidc_attempts", ["expires_at"], unique=False
    )
    op.create_table(
        "oidc_identities",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("issuer", sa.String(length=300), nullable=False),
        sa.Column("subject", sa.String(length=300), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("last_used_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_oidc_identities_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oidc_identities")),
        sa.UniqueConstraint("issuer", "subject", name=op.f("uq_oidc_identities_issuer")),
    )
    op.create_index(
        op.f("ix_oidc_identities_user_id"), "oidc_identities", ["user_id"], unique=False
    )
    op.create_table(
        "one_time_links",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=True),
        sa.Column("role", sa.String(length=32), nullable=True),
        sa.Column("email", sa.String(length=320), nullable=True),
        sa.Column("note", sa.String(length=200), server_default="", nullable=False),
        sa.Column("created_by", sa.String(length=36), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("used_at", UtcDateTime(), nullable=True),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_one_time_links_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_one_time_links")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_one_time_links_token_hash")),
    )
    op.create_index(
        op.f("ix_one_time_links_expires_at"), "one_time_links", ["expires_at"], unique=False
    )
    op.create_index(op.f("ix_one_time_links_user_id"), "one_time_links", ["user_id"], unique=False)
    op.create_table(
        "passkeys",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("credential_id", sa.String(length=1400), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("transports", sa.String(length=200), server_default="", nullable=False),
        sa.Column("aaguid", sa.String(length=36), server_default="", nullable=False),
        sa.Column("backed_up", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("last_used_at", UtcDateTime(), nullable=True),
        sa.Column("cloned_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_passkeys_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_passkeys")),
        sa.UniqueConstraint("credential_id", name=op.f("uq_passkeys_credential_id")),
    )
    op.create_index(op.f("ix_passkeys_user_id"), "passkeys", ["user_id"], unique=False)
    op.create_table(
        "recovery_codes",
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("code_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("used_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_recovery_codes_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("user_id", "code_hash", name=op.f("pk_recovery_codes")),
    )
    op.create_table(
        "totp_devices",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("confirmed_at", UtcDateTime(), nullable=True),
        sa.Column("last_step", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.Column("dek_wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("kek_kid", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_totp_devices_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_totp_devices")),
    )
    op.create_index(op.f("ix_totp_devices_user_id"), "totp_devices", ["user_id"], unique=False)
    op.create_index(op.f("ix_totp_devices_kek_kid"), "totp_devices", ["kek_kid"], unique=False)
    op.add_column(
        "sign_in_sessions",
        sa.Column("method", sa.String(length=16), server_default="password", nullable=False),
    )
    op.add_column(
        "sign_in_sessions", sa.Column("second_factor", sa.String(length=16), nullable=True)
    )
    op.add_column("sign_in_sessions", sa.Column("proved_at", UtcDateTime(), nullable=True))
    op.add_column(
        "sign_in_sessions",
        sa.Column("remember", sa.Boolean(), server_default=sa.true(), nullable=False),
    )
    op.add_column(
        "sign_in_sessions", sa.Column("oidc_issuer", sa.String(length=300), nullable=True)
    )
    op.add_column(
        "sign_in_sessions", sa.Column("oidc_subject", sa.String(length=300), nullable=True)
    )
    op.add_column("sign_in_sessions", sa.Column("oidc_sid", sa.String(length=300), nullable=True))
    op.add_column(
        "sign_in_sessions",
        sa.Column("network", sa.String(length=64), server_default="", nullable=False),
    )
    # An IPv6 address of before counts as one of its own until its user signs in again.
    op.execute("UPDATE sign_in_sessions SET network = address")
    op.create_index(
        "ix_sign_in_sessions_network", "sign_in_sessions", ["user_id", "network"], unique=False
    )
    op.create_index(
        "ix_sign_in_sessions_oidc",
        "sign_in_sessions",
        ["oidc_issuer", "oidc_subject"],
        unique=False,
    )
    op.add_column("users", sa.Column("email_key", sa.String(length=320), nullable=True))
    op.add_column("users", sa.Column("email_verified_at", UtcDateTime(), nullable=True))
    op.add_column("users", sa.Column("awaits_approval_since", UtcDateTime(), nullable=True))
    op.add_column("users", sa.Column("reset_asked_at", UtcDateTime(), nullable=True))
    op.add_column("users", sa.Column("last_sign_in_at", UtcDateTime(), nullable=True))
    op.add_column("users", sa.Column("search_key", sa.Text(), server_default="", nullable=False))
    op.create_index("uq_users_email_key", "users", ["email_key"], unique=True)
    _compare_emails()
    _make_searchable()
    for name, condition in FEW.items():
        where = sa.text(condition)
        op.create_index(
            f"ix_users_{name}", "users", ["username"], sqlite_where=where, postgresql_where=where
        )
    op.create_index("ix_users_search", "users", ["username", "search_key"])


def _compare_emails() -> None:
    """Until now only administrators set e-mails, so they vouched for them; of two accounts with one
    e-mail the older one signs in with it.
    """
    users = sa.table(
        "users",
        sa.column("id", sa.String()),
        sa.column("email", sa.String()),
        sa.column("email_key", sa.String()),
        sa.column("email_verified_at", UtcDateTime()),
        sa.column("created_at", UtcDateTime()),
    )
    connection = op.get_bind()
    taken: set[str] = set()
    for row in connection.execute(
        sa.select(users).where(users.c.email.is_not(None)).order_by(users.c.created_at)
    ).all():
        key = row.email.strip().casefold()
        if key in taken:
            continue
        taken.add(key)
        connection.execute(
            sa.update(users)
            .where(users.c.id == row.id)
            .values(email_key=key, email_verified_at=row.created_at)
        )


def _make_searchable() -> None:
    """The users of before, as their rows would have it (`papita_core.users.models`)."""
    users = sa.table(
        "users",
        sa.column("id", sa.String()),
        sa.column("username", sa.String()),
        sa.column("display_name", sa.String()),
        sa.column("email", sa.String()),
        sa.column("search_key", sa.Text()),
    )
    connection = op.get_bind()
    for row in connection.execute(sa.select(users)).all():
        letters = unicodedata.normalize(
            "NFKD", "\n".join((row.username, row.display_name, row.email or ""))
        )
        plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
        connection.execute(
            sa.update(users)
            .where(users.c.id == row.id)
            .values(search_key=" ".join(plain.casefold().split())[:600])
        )


def downgrade() -> None:
    op.drop_index("ix_users_search", "users")
    for name in FEW:
        op.drop_index(f"ix_users_{name}", "users")
    op.drop_index("uq_users_email_key", "users")
    for column in (
        "search_key",
        "last_sign_in_at",
        "reset_asked_at",
        "awaits_approval_since",
        "email_verified_at",
        "email_key",
    ):
        op.drop_column("users", column)
    op.drop_index("ix_sign_in_sessions_oidc", "sign_in_sessions")
    op.drop_index("ix_sign_in_sessions_network", "sign_in_sessions")
    for column in (
        "network",
        "oidc_sid",
        "oidc_subject",
        "oidc_issuer",
        "remember",
        "proved_at",
        "second_factor",
        "method",
    ):
        op.drop_column("sign_in_sessions", column)
    for table in (
        "totp_devices",
        "recovery_codes",
        "passkeys",
        "one_time_links",
        "oidc_identities",
        "oidc_attempts",
        "attempt_counters",
        "policies",
        "erasures",
    ):
        op.drop_table(table)
