"""`audit verify` and `audit export` on the command line."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from papita_core.audit.service import Event
from tests.papita_core.house import ROOT, House, both_engines
from tests.papita_core.starter import Done, Starter

Command = Callable[..., Done]


@pytest.fixture
def command(house: House, starter: Starter) -> Command:
    house.environment["PATH"] = os.environ["PATH"]
    return lambda *arguments: starter.command(house.environment, "audit", *arguments)


def exported(done: Done) -> list[str]:
    assert (done.code, done.errors) == (0, "")
    return [json.loads(line)["action"] for line in done.output.splitlines()]


def write(house: House, *events: Event, stream: str = "main") -> None:
    with house.papita.database.write() as session:
        house.papita.audit.append(session, *events, stream=stream)


@both_engines
def test_verify_names_stream_row_and_kind(house: House, command: Command):
    write(house, Event("test.done"), Event("test.done"), stream="loans-1")
    write(house, Event("test.done"))
    done = command("verify")
    assert (done.code, done.output, done.errors) == (0, "ok\t4 rows\n", "")
    house.sql("DELETE FROM audit_log WHERE stream = 'loans-1' AND seq = 1")
    house.sql("UPDATE audit_log SET outcome = 'no' WHERE stream = 'main' AND seq = 2")
    done = command("verify")
    assert (done.code, done.errors) == (1, "")
    assert done.output == "main\t2\tedited\nloans-1\t1\tremoved\n"


def test_verify_of_a_log_that_was_emptied(house: House, command: Command):
    house.user("ana")
    house.sql("DELETE FROM audit_log")
    house.sql("DELETE FROM audit_heads")
    done = command("verify")
    assert (done.code, done.output) == (1, "main\t0\thead gone\n")


def test_verify_and_export_of_a_sealed_vault(house: House, command: Command):
    write(house, Event("test.done"))
    (house.settings().keys_dir / "master.key").unlink()
    done = command("verify")
    assert (done.code, done.output) == (1, "")
    assert "sealed" in done.errors
    assert exported(command("export")) == ["test.done"]


def test_export_takes_a_filter(house: House, command: Command):
    ana = house.user("ana")
    write(house, Event("key.read", "al-chat", ana, project_id="al-chat"), Event("key.lost"))
    assert exported(command("export")) == ["user.created", "key.read", "key.lost"]
    assert exported(command("export", "--user", "ana")) == ["user.created", "key.read"]
    assert exported(command("export", "--project", "al-chat")) == ["key.read"]
    assert exported(command("export", "--action", "key.lost")) == ["key.lost"]
    assert exported(command("export", "--user", "operator")) == []
    assert exported(command("export", "--since", "2100-01-01")) == []
    assert exported(command("export", "--until", "2000-01-01T00:00:00Z")) == []
    today = f"{house.clock():%Y-%m-%d}"
    assert len(exported(command("export", "--since", today, "--until", today))) == 3


def test_export_as_csv(house: House, command: Command):
    write(house, Event("=1+1", subject_id="ä"))
    done = command("export", "--format", "csv")
    assert (done.code, done.errors) == (0, "")
    (row,) = csv.DictReader(io.StringIO(done.output))
    assert (row["action"], row["subject"]) == ("'=1+1", "ä")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--since", "soon"), "2030-01-31"),
        (("--until", "2030-02-31"), "2030-01-31"),
        (("--format", "xml"), "--format"),
        (("--user", "nobody-here"), "no user"),
        (("--action", "a\nb"), "characters"),
        (("everything",), "--help"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(command: Command, arguments: tuple[str, ...], word: str):
    done = command("export", *arguments)
    assert (done.code, done.output, done.errors.count("\n")) == (2, "", 1)
    assert word in done.errors
    assert "Traceback" not in done.errors
    assert "soon" not in done.errors


def test_a_reader_that_has_enough_is_no_error(house: House):
    write(house, *[Event("test.done", subject_id=str(number)) for number in range(3000)])
    with subprocess.Popen(
        [sys.executable, "-m", "papita_core", "audit", "export"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **house.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "test.done" in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
