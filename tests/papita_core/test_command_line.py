"""`python -m papita_core`: what it prints, how it ends, and what it never shows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from papita_core.errors import SignInRefused
from tests.papita_core.house import KEY, PASSWORD, ROOT, House
from tests.papita_core.starter import Done, Starter

Command = Callable[..., Done]


@pytest.fixture
def command(house: House, starter: Starter) -> Command:
    """Runs a command in a process of its own, over the house's data."""
    house.environment["PATH"] = os.environ["PATH"]

    def run(*arguments: str, typed: str = "", **more: str) -> Done:
        return starter.command({**house.environment, **more}, *arguments, typed=typed)

    return run


def well(done: Done) -> str:
    assert (done.code, done.errors) == (0, "")
    return done.output


def refused(done: Done, code: int, *words: str) -> None:
    assert (done.code, done.output) == (code, "")
    assert done.errors.count("\n") == 1, done.errors
    assert done.errors.endswith("\n")
    assert "Traceback" not in done.errors
    for word in words:
        assert word in done.errors


def add(command: Command, name: str = "ana", *more: str, password: str = PASSWORD) -> Done:
    return command("users", "add", name, *more, "--password-stdin", typed=f"{password}\n")


def test_the_module_is_a_command(house: House):
    def run(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "papita_core", *arguments],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **house.environment},
            input=typed,
            capture_output=True,
            text=True,
            check=False,
        )

    made = run("users", "add", "ana", "--admin", "--password-stdin", typed=PASSWORD)
    assert (made.returncode, made.stdout, made.stderr) == (0, "added ana (administrator)\n", "")
    wrong = run("users", "fly")
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)


def test_users_are_added_listed_disabled_enabled_and_reset(house: House, command: Command):
    assert well(add(command, "Ada", "--admin")) == "added ada (administrator)\n"
    assert well(add(command, "ana", "--email", "ana@example.org")) == "added ana (member)\n"
    assert well(command("users", "list")).splitlines() == [
        "ada\tadministrator\tenabled\t-",
        "ana\tmember\tenabled\tana@example.org",
    ]
    assert well(command("users", "disable", "ana")) == "disabled ana\n"
    assert "ana\tmember\tdisabled" in well(command("users", "list"))
    with pytest.raises(SignInRefused):
        house.papita.sign_in.authenticate("ana", PASSWORD)
    assert well(command("users", "enable", "ana")) == "enabled ana\n"
    house.papita.sign_in.authenticate("ana", PASSWORD)
    reset = command("users", "reset-password", "ana", "--password-stdin", typed="a fresh one 7\n")
    assert "every session" in well(reset)
    house.papita.sign_in.authenticate("ana", "a fresh one 7")
    refused(command("users", "disable", "ada"), 1, "last administrator")
    assert house.papita.audit.verify() == []


def test_help_and_version_are_no_errors(command: Command):
    assert "users" in well(command("--help"))
    assert "--password-stdin" in well(command("users", "add", "--help"))
    assert well(command("--version")).strip()


def test_what_cannot_be_is_refused_with_the_code_for_it(command: Command):
    well(add(command))
    refused(add(command), 1, "already")
    refused(add(command, "a b"), 2, "user name")
    refused(add(command, "ben", password="short"), 2, "at least 10")
    refused(add(command, "ben", password=""), 2, "at least 10")
    refused(add(command, "ben", "--email", "x"), 2, "e-mail")
    refused(command("users", "disable", "nobody"), 1, "no user")
    refused(command("tokens", "list", "--user", "a", "--name", "x"), 2)
    refused(command("tokens", "revoke", "nothing"), 1, "no such token")
    refused(command("tokens", "create", "--user", "nobody", "--name", "x"), 1, "no user")
    create = ("tokens", "create", "--user", "ana", "--name")
    refused(command(*create, "x", "--scope", "everything"), 2, "--scope")
    refused(command(*create, "x", "--expires", "0"), 2, "3650")
    refused(command(*create, "x", "--expires", "soon"), 2, "--expires")
    refused(command(*create, ""), 2, "name")
    refused(command(), 2)
    refused(command("users"), 2)
    refused(command("fly"), 2)


def test_a_password_is_never_an_argument(command: Command):
    refused(command("users", "add", "ana"), 2, "--password-stdin")
    for more in (("--password", "hunter2-hunter2"), ("--password-stdin", "hunter2-hunter2")):
        done = command("users", "add", "ana", "--password-stdin", *more)
        refused(done, 2)
        assert "hunter2" not in done.errors
    assert well(command("users", "list")) == ""


def test_a_token_is_printed_once_and_works(house: House, command: Command):
    well(add(command))
    token = well(command("tokens", "create", "--user", "ana", "--name", "laptop")).strip()
    assert token.startswith("papita_pat_")
    actor = house.papita.access_tokens.actor(token)
    assert actor is not None
    assert actor.capabilities == {"credentials:read", "credentials:write", "projects:launch"}
    narrow = well(
        command(
            *("tokens", "create", "--user", "ana", "--name", "script", "--expires", "1"),
            *("--scope", "credentials:read", "--scope", "projects:launch"),
        )
    ).strip()
    actor = house.papita.access_tokens.actor(narrow)
    assert actor is not None
    assert actor.capabilities == {"credentials:read", "projects:launch"}
    listed = well(command("tokens", "list", "--user", "ana"))
    assert [line.split("\t")[1] for line in listed.splitlines()] == ["laptop", "script"]
    assert token not in listed
    assert well(command("tokens", "revoke", listed.split("\t")[0])) == "revoked\n"
    assert house.papita.access_tokens.actor(token) is None
    assert house.papita.access_tokens.actor(narrow) is not None


def test_keys_status_tells_open_from_sealed(house: House, command: Command):
    shown = well(command("keys", "status"))
    assert shown.startswith("vault\topen\n")
    kid = house.papita.ring.status.master_kid
    assert f"master key\t{kid}\n" in shown
    (house.settings().keys_dir / "master.key").unlink()
    sealed = command("keys", "status")
    assert sealed.code == 1
    assert sealed.output.startswith("vault\tsealed\nmaster key\tnone\n")
    assert f"opens with\t{kid}\n" in sealed.output
    assert not (house.settings().keys_dir / "master.key").exists()
    refused(add(command), 1, "sealed")


def test_audit_verify_tells_whole_from_damaged(house: House, command: Command):
    well(add(command))
    well(add(command, "ben"))
    assert well(command("audit", "verify")) == "ok\t2 rows\n"
    house.sql("UPDATE audit_log SET owner_id = 'eve' WHERE seq = 2")
    damaged = command("audit", "verify")
    assert (damaged.code, damaged.output) == (1, "main\t2\tedited\n")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PAPITA_PORT", "x"),
        ("PAPITA_PORTT", "1"),
        ("PAPITA_MASTER_KEY", KEY),
        ("PAPITA_MASTER_KEY_FILE", "/nothing"),
        ("PAPITA_DATABASE_URL", f"mysql://me:{KEY}@x/y"),
        ("PAPITA_DATABASE_URL", f"postgresql://me:{KEY}@127.0.0.1:1/y"),
        ("PAPITA_DATABASE_URL", "sqlite:////dev/null/x.db"),
        ("PAPITA_DATA_DIR", "/dev/null/data"),
        ("ALCHAT_CLIENT_SECRET_FILE", "/nothing"),
        ("PAPITA_CONFIG", "/nothing"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(command: Command, name: str, value: str):
    done = command("users", "list", **{name: value})
    refused(done, 2, name)
    assert KEY not in done.errors


def test_a_key_file_that_others_may_read_is_named(house: House, command: Command):
    well(command("keys", "status"))
    (house.settings().keys_dir / "master.key").chmod(0o644)
    refused(command("keys", "status"), 2, "keys/master.key", "chmod 600")


def test_what_is_no_database_is_named(house: House, command: Command):
    (house.folder / "data" / "papita.db").write_bytes(b"not a database at all" * 100)
    refused(command("users", "list"), 2, "PAPITA_DATA_DIR")


def test_a_database_of_a_later_version_is_left_alone(house: House, command: Command):
    well(command("users", "list"))
    house.sql("UPDATE alembic_version SET version_num = '9999'")
    refused(command("users", "list"), 2, "PAPITA_DATA_DIR", "version")
