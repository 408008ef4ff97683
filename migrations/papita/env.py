"""Runs Papita's migrations on the connection that `papita_core.db.migrate` hands over."""

from alembic import context

import papita_core.audit.models
import papita_core.grants.models
import papita_core.usage.models
import papita_core.users.models
import papita_core.vault.models  # noqa: F401 - each import adds its tables to the metadata
from papita_core.db import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()
