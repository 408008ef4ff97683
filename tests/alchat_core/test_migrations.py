"""The Alembic history makes what the tables say, on both engines, and keeps what was there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, select, text
from sqlalchemy.exc import IntegrityError

from alchat_core.db.migrate import SCRIPTS, migrate
from alchat_core.db.tables import messages, metadata, runs
from tests.papita_core.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without tables."""
    with ExitStack() as stack:
        if request.param == "postgresql":
            server: Postgres = request.getfixturevalue("postgres")
            yield stack.enter_context(server.database())
        else:
            yield f"sqlite:///{tmp_path}/deep/alchat.db"


def move(url: str, revision: str, *, down: bool = False) -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    engine = create_engine(url)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        (command.downgrade if down else command.upgrade)(config, revision)
    engine.dispose()


def _ours(_object: object, name: str | None, *_: object) -> bool:
    """FTS5 keeps tables of its own."""
    return not str(name).startswith("search_index")


def test_the_migrations_make_what_the_tables_say(url: str) -> None:
    migrate(url)
    engine = create_engine(url)
    with engine.connect() as connection:
        options = {"compare_type": True, "include_object": _ours}
        context = MigrationContext.configure(connection, opts=options)
        drift = compare_metadata(context, metadata)
    if engine.dialect.name == "sqlite":
        drift = [one for one in drift if "ix_search_texts_words" not in str(one)]
    assert drift == []
    engine.dispose()


def test_one_can_go_back_and_forth(url: str) -> None:
    migrate(url)
    move(url, "base", down=True)
    engine = create_engine(url)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    migrate(url)
    engine.dispose()


def test_the_tokens_of_earlier_answers_are_taken_over(url: str) -> None:
    migrate(url)
    move(url, "0006", down=True)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO conversations (id, owner, pinned, archived, created_at, updated_at,"
                " last_message_at) VALUES ('c', 'ana', false, false, 1, 1, 1)"
            )
        )
        connection.execute(
            text(
                "INSERT INTO messages (id, conversation_id, role, content, created_at) VALUES"
                " ('q', 'c', 'user', 'x', 1), ('a', 'c', 'assistant', 'y', 1)"
            )
        )
        for number, usage in (("1", None), ("2", '{"promptTokens": 3, "totalTokens": 8}')):
            connection.execute(
                text(
                    "INSERT INTO runs (id, owner, conversation_id, message_id, user_message_id,"
                    " state, created_at, last_event, usage) VALUES (:id, 'ana', 'c', 'a', 'q',"
                    " 'completed', 1, 1, :usage)"
                ),
                {"id": number, "usage": usage},
            )
    migrate(url)
    with engine.connect() as connection:
        found = connection.execute(
            select(
                runs.c.requests,
                runs.c.unpriced,
                runs.c.prompt_tokens,
                runs.c.completion_tokens,
                runs.c.cost_nano,
            ).order_by(runs.c.id)
        ).all()
        assert found == [(0, 0, 0, 0, None), (1, 1, 3, 0, None)]
        kept = connection.scalars(select(messages.c.usage).order_by(messages.c.id)).all()
        assert kept == [{"promptTokens": 3, "totalTokens": 8}, None]
    engine.dispose()


def test_of_several_active_runs_the_version_before_keeps_the_first(url: str) -> None:
    migrate(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO conversations (id, owner, pinned, archived, created_at, updated_at,"
                " last_message_at) VALUES ('c', 'ana', false, false, 1, 1, 1)"
            )
        )
        connection.execute(
            text(
                "INSERT INTO messages (id, conversation_id, role, content, created_at, beside)"
                " VALUES ('q', 'c', 'user', 'x', 1, NULL), ('a', 'c', 'assistant', '', 1, NULL),"
                " ('b', 'c', 'assistant', '', 1, 'a')"
            )
        )
        for number, message in enumerate("ab"):
            connection.execute(
                text(
                    "INSERT INTO runs (id, owner, conversation_id, message_id, user_message_id,"
                    " state, created_at, last_event, lane) VALUES (:message, 'ana', 'c', :message,"
                    " 'q', 'running', 1, 1, :number)"
                ),
                {"message": message, "number": number},
            )
    move(url, "0012", down=True)
    migrate(url)
    with engine.begin() as connection:
        found = connection.execute(select(runs.c.state, runs.c.lane).order_by(runs.c.id)).all()
        assert found == [("running", 0), ("interrupted", 0)]
        assert connection.scalars(select(messages.c.beside)).all() == [None] * 3
    again = text(
        "INSERT INTO runs (id, owner, conversation_id, message_id, user_message_id, state,"
        " created_at, last_event) VALUES ('d', 'ana', 'c', 'b', 'q', 'queued', 1, 1)"
    )
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(again)
    engine.dispose()
