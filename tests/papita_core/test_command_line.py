"""`python -m papita_core`: what it prints, how it ends, and what it never shows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta

import pytest

from papita_core.errors import SignInRefused
from papita_core.users.limits import Limit, Try
from papita_core.users.service import NewUser
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


def test_roles_invitations_and_links(house: House, command: Command):
    house.user("ada", "administrator")
    assert well(add(command, "gus", "--role", "guest")) == "added gus (guest)\n"
    assert well(command("users", "role", "gus", "member")) == "gus is member\n"
    refused(command("users", "role", "ada", "guest"), 1, "last administrator")
    refused(command("users", "role", "gus", "owner"), 2)
    refused(command("users", "invite", "--hours", "721"), 2, "30 days")
    invited = well(command("users", "invite", "--role", "administrator", "--note", "for Bea"))
    assert invited.startswith("http://localhost:3000/?invite=")
    token = invited.strip().partition("=")[2]
    listed = well(command("users", "invitations"))
    assert token not in listed
    link_id, role, _, _, note = listed.strip().split("\t")
    assert (role, note) == ("administrator", "for Bea")
    assert well(command("users", "invitations", "--revoke", link_id)) == "revoked\n"
    assert well(command("users", "invitations")) == ""
    reset = well(command("users", "reset-link", "gus")).strip()
    house.papita.links.set_password(reset.partition("?reset=")[2], "a fresh one 7")
    assert house.papita.sign_in.authenticate("gus", "a fresh one 7")


def test_users_are_found_approved_signed_out_and_deleted(house: House, command: Command):
    house.user("ada", "administrator")
    well(command("users", "policy", "sign-up", "approval"))
    for name in ("ana", "ben"):
        house.papita.sign_up.sign_up(NewUser(name, PASSWORD, name.title()))
    waiting = well(command("users", "list", "--state", "waiting", "--search", "BEN"))
    assert waiting == "ben\tmember\twaiting\t-\n"
    assert well(command("users", "approve", "ben")) == "approved ben\n"
    assert "gone" in well(command("users", "refuse", "ana"))
    refused(command("users", "approve", "ben"), 1, "does not wait")
    ben = house.papita.users.by_username("ben")
    assert ben is not None
    house.papita.sessions.start(ben.id)
    house.papita.sign_up.forgotten("ben")
    long = well(command("users", "list", "--long", "--role", "member")).strip().split("\t")
    assert long[4] == "Ben"
    assert long[5].startswith("20")
    assert long[6:] == ["-", "asked-for-reset"]
    assert "ended" in well(command("users", "sign-out", "ben"))
    assert house.papita.sessions.of_user(ben.id) == []
    assert "second factors" in well(command("users", "reset-second-factor", "ben"))
    refused(command("users", "delete", "ben"), 1, "--yes")
    assert "deleted" in well(command("users", "delete", "ben", "--yes"))
    refused(command("users", "delete", "ada", "--yes"), 1, "last administrator")
    assert well(command("users", "list")) == "ada\tadministrator\tenabled\t-\n"


def test_policies_and_lock_outs(house: House, command: Command):
    assert well(command("users", "policy")).splitlines() == [
        "second-factor\tnobody",
        "sign-up\tclosed",
        "link-by-email\tno",
    ]
    assert well(command("users", "policy", "sign-up", "open")) == "sign-up\topen\n"
    refused(command("users", "policy", "sign-up", "perhaps"), 2, "closed, approval, open")
    refused(command("users", "policy", "nothing"), 2, "second-factor")
    user_id = house.user("ana")
    limit = Limit("test.account", 1, timedelta(minutes=5))
    for who, key in ((user_id, "a"), (None, "b")):
        house.papita.limits.hit(Try(limit, key, user_id=who, address="192.0.2.1"))
    assert len(well(command("users", "lockouts")).splitlines()) == 2
    line = well(command("users", "lockouts", "--user", "ana")).strip().split("\t")
    assert line[:4] == ["test.account", "ana", "192.0.2.1", "1"]
    assert well(command("users", "lockouts", "--user", "ana", "--clear")) == "cleared 1\n"
    assert well(command("users", "lockouts", "--clear")) == "cleared 1\n"
    assert well(command("users", "lockouts")) == ""


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
