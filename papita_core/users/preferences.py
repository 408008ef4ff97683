"""What a user has set for the pages: small values by name, which no rule depends on."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from sqlalchemy import bindparam, select

from papita_core.actors import Actor
from papita_core.db import Database, Prepared, table_of
from papita_core.errors import InvalidInput
from papita_core.users.models import PreferenceRow

MOST_CHARACTERS = 20_000
APPEARANCE = "appearance"
THEMES = ("system", "light", "dark")
COLOURS = ("amber", "olive", "green", "teal", "blue", "violet", "rose", "grey")


@dataclass(frozen=True, slots=True)
class Appearance:
    """How the pages look for one user. An empty `zone` is the browser's, an empty `colour` one that
    the name decides.
    """

    zone: str = ""
    theme: str = THEMES[0]
    colour: str = ""

    @staticmethod
    def read(stored: str | None) -> Appearance:
        """As its row has it; what is not usable any more is left out."""
        return AS_IT_COMES if stored is None else _read(stored)


AS_IT_COMES = Appearance()


@lru_cache(1000)
def _read(stored: str) -> Appearance:
    # Every run of every page comes by here.
    found = json.loads(stored)
    valid = {"zone": zones(), "theme": THEMES, "colour": COLOURS}
    return Appearance(
        **{name: value for name, value in found.items() if value in valid.get(name, ())}
    )


_PREFERENCE = table_of(PreferenceRow)
_VALUE = Prepared(
    select(_PREFERENCE.c.value).where(
        _PREFERENCE.c.user_id == bindparam("whose"), _PREFERENCE.c.name == bindparam("which")
    )
)


class PreferenceService:
    """Everybody's own; an actor reads and writes nobody else's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, actor: Actor, name: str) -> Any:
        """The value as JSON has it, None where nothing was set."""
        with self._database.look() as connection:
            row = _VALUE.first(connection, {"whose": actor.user_id, "which": name})
        return None if row is None else json.loads(row.value)

    def put(self, actor: Actor, name: str, value: Any) -> None:
        """Sets it. Raises `InvalidInput` if it is too long."""
        text = json.dumps(value)
        if len(text) > MOST_CHARACTERS:
            raise InvalidInput({"value": "This is too long to be remembered."})
        with self._database.write() as session:
            session.merge(PreferenceRow(user_id=actor.user_id, name=name, value=text))

    def appearance(self, actor: Actor) -> Appearance:
        with self._database.read() as session:
            row = session.get(PreferenceRow, (actor.user_id, APPEARANCE))
        return Appearance.read(None if row is None else row.value)

    def change_appearance(self, actor: Actor, **changes: str) -> Appearance:
        """Any of zone, theme, colour; the others stay. Raises `InvalidInput`."""
        errors = {}
        if changes.get("zone") and changes["zone"] not in zones():
            errors["zone"] = "There is no such time zone. Choose one from the list."
        if changes.get("theme", THEMES[0]) not in THEMES:
            errors["theme"] = "The themes are system, light and dark."
        if changes.get("colour") and changes["colour"] not in COLOURS:
            errors["colour"] = "There is no such colour. Choose one from the list."
        if errors:
            raise InvalidInput(errors)
        with self._database.write() as session:
            row = session.get(PreferenceRow, (actor.user_id, APPEARANCE), with_for_update=True)
            found = replace(Appearance.read(None if row is None else row.value), **changes)
            value = json.dumps(asdict(found))
            session.merge(PreferenceRow(user_id=actor.user_id, name=APPEARANCE, value=value))
        return found

    def colours(self, actor: Actor, user_ids: Collection[str]) -> Mapping[str, str]:
        """The colours that these users chose, by id, for whoever manages users."""
        actor.require("users:manage")
        query = select(PreferenceRow.user_id, PreferenceRow.value).where(
            PreferenceRow.user_id.in_(user_ids), PreferenceRow.name == APPEARANCE
        )
        with self._database.read() as session:
            rows = session.execute(query).all()
        return {row.user_id: Appearance.read(row.value).colour for row in rows}


@cache
def zones() -> frozenset[str]:
    """The names of all time zones that one may choose: places, and UTC."""
    return frozenset(name for name in available_timezones() if name == "UTC" or _is_place(name))


def zone_of(name: str) -> ZoneInfo | None:
    """The zone of this name, None where there is none."""
    return ZoneInfo(name) if name in zones() else None


def _is_place(name: str) -> bool:
    area, slash, _ = name.partition("/")
    return bool(slash) and area not in {"Etc", "SystemV", "US", "posix", "right"}
