"""What a user has set for the pages: small values by name, which no rule depends on."""

from __future__ import annotations

import json
from typing import Any

from papita_core.actors import Actor
from papita_core.db import Database
from papita_core.errors import InvalidInput
from papita_core.users.models import PreferenceRow

MOST_CHARACTERS = 20_000


class PreferenceService:
    """Everybody's own; an actor reads and writes nobody else's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, actor: Actor, name: str) -> Any:
        """The value as JSON has it, None where nothing was set."""
        with self._database.read() as session:
            row = session.get(PreferenceRow, (actor.user_id, name))
            return None if row is None else json.loads(row.value)

    def put(self, actor: Actor, name: str, value: Any) -> None:
        """Sets it. Raises `InvalidInput` if it is too long."""
        text = json.dumps(value)
        if len(text) > MOST_CHARACTERS:
            raise InvalidInput({"value": "This is too long to be remembered."})
        with self._database.write() as session:
            session.merge(PreferenceRow(user_id=actor.user_id, name=name, value=text))
