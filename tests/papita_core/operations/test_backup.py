"""Backup, wipe, restore: on both engines and between them, under load, killed, tampered with."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Table, inspect, text

from papita_core.actors import Actor
from papita_core.db import Base, Database
from papita_core.db.migrate import migrate, revisions
from papita_core.errors import Conflict, FactorRefused, Unauthenticated, VaultSealed
from papita_core.operations import backup as backups
from papita_core.operations.backup import Manifest, make_backup
from tests.papita_core.authenticator import app, passkey
from tests.papita_core.house import KEY, PASSWORD, ROOT, House, both_engines
from tests.papita_core.postgres import Postgres
from tests.papita_core.starter import Done, Starter
from tests.papita_core.test_canary import spellings

Command = Callable[..., Done]
MANY = 12_000  # rows; a backup and a restore of them take long enough to be hit
Another = Callable[..., House]


@pytest.fixture
def another(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Another]:
    """Another machine: nothing is there yet, except for what `keys_of` has in its keys folder."""
    with ExitStack() as stack:

        def make(engine: str = "sqlite", *, keys_of: House | None = None) -> House:
            url = None
            if engine == "postgresql":
                postgres: Postgres = request.getfixturevalue("postgres")
                url = stack.enter_context(postgres.database())
            folder = tmp_path / f"machine-{len(list(tmp_path.glob('machine-*')))}"
            folder.mkdir()
            if keys_of is not None:
                shutil.copytree(keys_of.settings().keys_dir, folder / "keys")
            return stack.enter_context(House(folder, url))

        yield make


@pytest.fixture
def run(starter: Starter) -> Callable[..., Done]:
    def command(house: House, *arguments: object, **more: str) -> Done:
        environment = {"PATH": os.environ["PATH"], **house.environment, **more}
        return starter.command(environment, *map(str, arguments))

    return command


def well(done: Done) -> str:
    assert (done.code, done.errors) == (0, "")
    return done.output


def refused(done: Done, *words: str) -> None:
    assert (done.code, done.output) == (1, "")
    assert done.errors.count("\n") == 1, done.errors
    assert "Traceback" not in done.errors
    for word in words:
        assert word in done.errors


def lines(done: Done, level: str) -> list[str]:
    return [line for line in done.output.splitlines() if line.startswith(level)]


def people(house: House) -> dict[str, str]:
    """Two users with a key each; user name → key."""
    keys = {"ada": f"{KEY}-ada", "ben": f"{KEY}-ben"}
    for name, key in keys.items():
        role = "administrator" if name == "ada" else "member"
        house.key(house.sign_in(name, role), key)
    return keys


def taken(house: House, folder: Path) -> Manifest:
    papita = house.papita
    return make_backup(papita.database, papita.ring, papita.audit, folder, house.clock)


def whole(house: House, keys: dict[str, str]) -> None:
    """Users sign in, their keys are lent, and the audit log is whole."""
    papita = house.papita
    assert papita.audit.verify() == []
    for name, key in keys.items():
        user = papita.sign_in.authenticate(name, PASSWORD)
        started = papita.sessions.start(user.id)
        actor = Actor.for_session(papita.sessions.redeem(started.ticket)[1])
        assert house.lend(house.project_token(actor), name).secret == {"api_key": key}


def in_bulk(house: House, user_id: str) -> None:
    """Many rows, so that everything takes its time."""
    now = house.clock()
    row = {
        "user_id": user_id,
        "address": "192.0.2.1",
        "user_agent": "x" * 250,
        "created_at": now,
        "last_seen_at": now,
        "expires_at": now,
    }
    table = Base.metadata.tables["sign_in_sessions"]
    with house.papita.database.write() as session:
        for start in range(0, MANY, 4000):
            session.connection().execute(
                table.insert(),
                [{"id": f"{start + i:036}", **row} for i in range(4000)],
            )


def test_a_backup_holds_every_table_and_nobody_else_may_read_it(house: House, tmp_path: Path):
    people(house)
    folder = tmp_path / "backups" / "monday"
    manifest = taken(house, folder)
    assert manifest.rows.keys() == Base.metadata.tables.keys()
    assert manifest.rows["users"] == manifest.rows["credential_secrets"] == 2
    assert manifest.master_keys == [house.papita.ring.status.master_kid]
    assert (manifest.engine, manifest.revision) == ("sqlite", revisions()[0])
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "papita.db"]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["monday"]
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder, *sorted(folder.iterdir()))]
    assert modes == [0o700, 0o600, 0o600]
    assert hashlib.sha256((folder / "papita.db").read_bytes()).hexdigest() == manifest.sha256
    assert json.loads((folder / "manifest.json").read_text()) == manifest.model_dump()


@both_engines
def test_what_is_secret_is_not_in_a_backup(house: House, tmp_path: Path):
    secret = "sk-demo-canary+/=&?-7f3a9b"
    ana = house.sign_in("ana")
    house.key(ana, secret)
    house.lend(house.project_token(ana), "ana")
    taken(house, tmp_path / "backup")
    master = (house.settings().keys_dir / "master.key").read_bytes().strip()
    for path in (tmp_path / "backup").iterdir():
        content = path.read_bytes()
        assert b"openai" in content or path.name == "manifest.json"
        assert not any(spelling in content for spelling in (*spellings(secret), master))


@both_engines
def test_a_backup_is_on_the_record(house: House, tmp_path: Path, run: Command):
    people(house)
    rows = house.papita.audit.count()
    printed = well(run(house, "backup", tmp_path / "backup"))
    kid = house.papita.ring.status.master_kid
    assert str(tmp_path / "backup") in printed
    assert f"master key {kid}" in printed
    assert "NOT in the backup" in printed
    last = house.sql("SELECT action, actor_id FROM audit_log ORDER BY seq")[rows:]
    assert [tuple(row) for row in last] == [("vault.backed-up", "operator")]
    assert house.papita.audit.verify() == []


@both_engines
def test_second_factors_come_along_and_what_was_used_stays_used(
    house: House, another: Another, run: Command, tmp_path: Path
):
    ana = house.sign_in("ana")
    totp, key = app(house, ana), passkey(house, ana)
    codes = house.papita.recovery.renew(ana)
    house.papita.recovery.use(ana.user_id, codes[0])
    now = house.clock()
    house.papita.totp.verify(ana.user_id, totp.at(now))
    taken(house, tmp_path / "backup")
    other = another(keys_of=house)
    well(run(other, "restore", tmp_path / "backup"))
    other.clock.forward(seconds=(now - other.clock()).total_seconds())
    papita = other.papita
    assert papita.recovery.use(ana.user_id, codes[1]) == 8
    with pytest.raises(FactorRefused):
        papita.recovery.use(ana.user_id, codes[0])
    with pytest.raises(FactorRefused):
        papita.totp.verify(ana.user_id, totp.at(now))
    papita.totp.verify(ana.user_id, totp.at(now + timedelta(seconds=30)))
    question = papita.passkeys.ask_anybody()
    answer = key.get(question.options)
    assert papita.passkeys.verify(question, "sign-in", answer).username == "ana"


def test_a_folder_that_holds_something_is_left_alone(house: House, tmp_path: Path, run: Command):
    folder = tmp_path / "backup"
    folder.mkdir()
    well(run(house, "backup", folder))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    refused(run(house, "backup", folder), "another folder")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (tmp_path / "file").write_text("mine")
    refused(run(house, "backup", tmp_path / "file"), "another folder")
    refused(run(house, "backup", tmp_path / "file" / "x"), "another folder")
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "nothing").symlink_to(tmp_path / "gone")
    refused(run(house, "backup", tmp_path / "nothing"), "another folder")
    refused(run(house, "backup", "/dev/null/x"), "another folder")
    assert not list(tmp_path.glob(".*.partial"))


@both_engines
@pytest.mark.parametrize("to", ["sqlite", "postgresql"])
def test_backup_under_load_wipe_and_restore(
    house: House, to: str, another: Another, run: Command, tmp_path: Path
):
    keys = people(house)
    papita = house.papita
    ada = house.sign_in("root", "administrator")
    ben = house.sign_in("writer")
    token = house.project_token(ben)
    house.key(ben)
    written = [0, 0, 0, 0]
    problems: list[Exception] = []
    over = threading.Event()

    def create() -> None:
        house.key(ada, f"{KEY}-{written[0]}")

    def lend() -> None:
        house.lend(token, "writer")

    def add_user() -> None:
        house.user(f"user-{written[2]}")

    def sign_in() -> None:
        papita.sessions.start(ben.user_id)

    def write(place: int, what: Callable[[], None]) -> None:
        try:
            while not over.is_set():
                what()
                written[place] += 1
        except Exception as error:  # noqa: BLE001 - the test looks at it
            problems.append(error)

    threads = [
        threading.Thread(target=write, args=(place, what))
        for place, what in enumerate((create, lend, add_user, sign_in))
    ]
    for thread in threads:
        thread.start()
    while not problems and min(written) < 5:
        time.sleep(0.01)
    before = list(written)
    done = run(house, "backup", tmp_path / "backup")
    after = list(written)
    over.set()
    for thread in threads:
        thread.join()
    assert problems == []
    well(done)
    assert sum(after) > sum(before), "nobody wrote meanwhile"
    manifest = Manifest.model_validate_json((tmp_path / "backup" / "manifest.json").read_bytes())
    assert manifest.rows["credentials"] >= before[0] + 3
    assert manifest.rows["users"] >= before[2] + 4

    new = another(to, keys_of=house)
    papita.close()
    if house.environment.get("PAPITA_DATABASE_URL") is None:
        shutil.rmtree(house.settings().data_dir)
    checked = run(new, "restore", tmp_path / "backup", "--check")
    assert (checked.code, lines(checked, "warning")) == (0, [])
    assert f"All {manifest.rows['credential_secrets'] + 4} sealed values open." in checked.output
    restored = well(run(new, "restore", tmp_path / "backup"))
    assert f"restored {manifest.total} rows" in restored
    whole(new, keys)
    doctor = run(new, "doctor")
    assert lines(doctor, "problem") == []
    last = new.sql("SELECT action FROM audit_log WHERE stream = 'main' ORDER BY seq")
    assert ("vault.restored",) in [tuple(row) for row in last]


@both_engines
def test_every_row_comes_back_as_it_was(house: House, another: Another, run: Command):
    people(house)
    house.access_token("ben")
    folder = house.folder / "backup"
    taken(house, folder)
    before = rows_of(house)
    for engine in ("sqlite", "postgresql"):
        new = another(engine, keys_of=house)
        well(run(new, "restore", folder))
        after = rows_of(new)
        new.papita.close()
        for name, rows in before.items():
            if name not in ("audit_log", "audit_heads", "sign_in_sessions", "leases"):
                assert after[name] == rows, name
        # The backup is on the record of what it was made of, and the restore on the other.
        assert [row["action"] for row in before["audit_log"]][-1] == "vault.backed-up"
        assert [row["action"] for row in after["audit_log"]][-1] == "vault.restored"
        assert after["audit_log"][:-1] == before["audit_log"][:-1]


def rows_of(house: House) -> dict[str, list[dict[str, Any]]]:
    def read(table: Table) -> list[dict[str, Any]]:
        found = session.execute(table.select().order_by(*table.primary_key.columns))
        return [dict(row) for row in found.mappings()]

    with house.papita.database.read() as session:
        return {table.name: read(table) for table in Base.metadata.sorted_tables}


@both_engines
def test_a_restore_revives_no_session_lease_or_setup_code(
    house: House, another: Another, run: Command
):
    people(house)
    cookie = house.cookie("ben")["Cookie"].partition("=")[2]
    waiting = house.papita.sessions.start(house.user("cid"))
    token = house.project_token(house.sign_in("dan"))
    code = house.papita.setup.issue_code()
    assert house.papita.sessions.by_handle(cookie) is not None
    taken(house, house.folder / "backup")
    new = another(keys_of=house)
    well(run(new, "restore", house.folder / "backup"))
    assert new.papita.sessions.by_handle(cookie) is None
    with pytest.raises(Unauthenticated):
        new.papita.sessions.redeem(waiting.ticket)
    with pytest.raises(Unauthenticated):
        new.lend(token, "dan")
    assert new.sql("SELECT * FROM setup_codes") == []
    assert code


@both_engines
def test_what_is_there_is_replaced_only_when_told(house: House, another: Another, run: Command):
    keys = people(house)
    folder = house.folder / "backup"
    taken(house, folder)
    house.user("late")
    house.papita.close()
    refused(run(house, "restore", folder), "--replace")
    well(run(house, "users", "disable", "late"))
    well(run(house, "restore", folder, "--replace"))
    assert run(house, "users", "list").output.split() == [
        *("ada", "administrator", "enabled", "-"),
        *("ben", "member", "enabled", "-"),
    ]
    house._papita = None
    whole(house, keys)


@both_engines
def test_a_database_that_a_portal_works_with_is_left_alone(house: House, run: Command):
    people(house)
    folder = house.folder / "backup"
    taken(house, folder)
    before = rows_of(house)
    refused(run(house, "restore", folder, "--replace"), "Stop Papita")
    assert rows_of(house) == before
    house.papita.close()
    well(run(house, "restore", folder, "--replace"))


def test_without_the_master_key_everything_is_restored_and_stays_sealed(
    house: House, another: Another, run: Command
):
    keys = people(house)
    kid = str(house.papita.ring.status.master_kid)
    folder = house.folder / "backup"
    taken(house, folder)
    new = another()
    checked = run(new, "restore", folder, "--check")
    assert checked.code == 1
    assert any(kid in line for line in lines(checked, "problem"))
    assert not (new.folder / "data").exists()
    restored = well(run(new, "restore", folder))
    assert any(kid in line and "sealed" in line for line in restored.splitlines())
    assert not new.settings().keys_dir.exists()
    with pytest.raises(VaultSealed):
        new.papita.ring.purpose_key("audit")
    assert not (new.settings().keys_dir / "master.key").exists()
    new.papita.close()
    shutil.copytree(house.settings().keys_dir, new.settings().keys_dir)
    new._papita = None
    whole(new, keys)


def test_another_master_key_stays_where_it_is_and_is_named(
    house: House, another: Another, run: Command
):
    people(house)
    kid = str(house.papita.ring.status.master_kid)
    taken(house, house.folder / "backup")
    new = another()
    well(run(new, "keys", "status"))  # a fresh start, which makes a ring and a master key
    path = new.settings().keys_dir / "master.key"
    key = path.read_bytes()
    restored = well(run(new, "restore", house.folder / "backup"))
    assert any(kid in line and "sealed" in line for line in restored.splitlines())
    assert path.read_bytes() == key
    right = (house.settings().keys_dir / "master.key").read_text()
    assert run(new, "keys", "status").code == 1
    assert run(new, "keys", "status", PAPITA_MASTER_KEY=right).code == 0


def test_a_backup_of_a_sealed_vault_is_not_signed(house: House, another: Another, run: Command):
    keys = people(house)
    house.papita.close()
    key = house.settings().keys_dir / "master.key"
    away = key.rename(house.folder / "away")
    folder = house.folder / "backup"
    assert "sealed" in well(run(house, "backup", folder))
    away.rename(key)
    new = another(keys_of=house)
    checked = run(new, "restore", folder, "--check")
    assert (checked.code, len(lines(checked, "warning"))) == (0, 1)
    refused(run(new, "restore", folder), "--unsigned")
    well(run(new, "restore", folder, "--unsigned"))
    whole(new, keys)


# --- what is not a backup ---


def changed(**values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def missing(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def filled(name: str, content: bytes) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return fill


def flipped(folder: Path) -> None:
    path = folder / "papita.db"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def damaged(folder: Path) -> None:
    """A page is gone, and the manifest says so."""
    path = folder / "papita.db"
    content = bytearray(path.read_bytes())
    content[4096:8192] = bytes(4096)
    path.write_bytes(content)
    changed(sha256=hashlib.sha256(content).hexdigest())(folder)


def no_database(folder: Path) -> None:
    content = b"not a database at all" * 1000
    (folder / "papita.db").write_bytes(content)
    changed(sha256=hashlib.sha256(content).hexdigest())(folder)


def described_anew(folder: Path) -> None:
    """What somebody does who can write the backup and knows how it is made."""
    path = folder / "papita.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE users SET role = 'administrator'")
        connection.commit()
    changed(sha256=hashlib.sha256(path.read_bytes()).hexdigest())(folder)


def without_a_ring(folder: Path) -> None:
    path = folder / "papita.db"
    with closing(sqlite3.connect(path)) as connection:
        for name in ("root_keys", "key_slots"):
            connection.execute(f"DELETE FROM {name}")
        connection.commit()
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    rows = json.loads((folder / "manifest.json").read_text())["rows"]
    rows |= {"root_keys": 0, "key_slots": 0}
    changed(sha256=sha256, rows=rows, master_keys=[])(folder)


TAMPERED = [
    (flipped, "SHA-256"),
    (damaged, "damaged"),
    (no_database, "no database"),
    (described_anew, "signature"),
    (without_a_ring, "key ring"),
    (changed(rows={"users": 1}), "says something else"),
    (changed(revision="0001"), "says something else"),
    (changed(revision="9999"), "update Papita"),
    (changed(format=2, more="x"), "later one"),
    (changed(format=0), "damaged"),
    (changed(sha256="0" * 64), "SHA-256"),
    (changed(master_keys=[]), "says something else"),
    (changed(audit_heads=[]), "says something else"),
    (changed(made_at="2020-01-01T00:00:00+00:00"), "signature"),
    (changed(papita="\x1b[31m"), "damaged"),
    (changed(engine="oracle"), "damaged"),
    (changed(signature=None), "--unsigned"),
    (changed(signature={"key_kid": "0" * 32, "mac": "0" * 64}), "signature"),
    (changed(more="x"), "damaged"),
    (filled("manifest.json", b""), "damaged"),
    (filled("manifest.json", b"[" * 100_000), "damaged"),
    (filled("manifest.json", b"\xff{}"), "damaged"),
    (filled("manifest.json", b"[]"), "damaged"),
    (filled("papita.db", b""), "SHA-256"),
    (missing("papita.db"), "missing"),
    (missing("manifest.json"), "manifest.json"),
    (shutil.rmtree, "manifest.json"),
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Path]]:
    """A backup that is sound, and the house it is of."""
    folder = tmp_path_factory.mktemp("sound")
    with House(folder) as house:
        people(house)
        taken(house, folder / "backup")
        yield house, folder / "backup"


@pytest.mark.parametrize(("tamper", "word"), TAMPERED)
def test_a_tampered_backup_is_refused_with_a_sentence(
    sound: tuple[House, Path],
    another: Another,
    run: Command,
    tmp_path: Path,
    tamper: Callable[[Path], None],
    word: str,
):
    house, backup = sound
    folder = shutil.copytree(backup, tmp_path / "copy")
    tamper(folder)
    new = another(keys_of=house)
    refused(run(new, "restore", folder), word)
    checked = run(new, "restore", folder, "--check")
    if "--unsigned" not in word:
        assert checked.code == 1
        assert word in "\n".join(lines(checked, "problem"))
    assert "\x1b" not in checked.output
    data = new.folder / "data" / "papita.db"
    assert not data.exists() or new.sql("SELECT * FROM users") == []


def test_a_check_changes_nothing(sound: tuple[House, Path], another: Another, run: Command):
    house, folder = sound

    def state(place: Path) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in place.rglob("*") if path.is_file()}

    new = another(keys_of=house)
    before = state(folder), state(new.folder)
    assert run(new, "restore", folder, "--check").code == 0
    assert (state(folder), state(new.folder)) == before


def test_a_secret_that_does_not_open_is_named_by_a_check(
    house: House, another: Another, run: Command
):
    info = house.key(house.sign_in("ana"))
    house.sql("UPDATE credential_secrets SET dek_wrapped = blob")
    house.sql("UPDATE audit_log SET owner_id = 'eve' WHERE seq = 1")
    taken(house, house.folder / "backup")
    new = another(keys_of=house)
    checked = run(new, "restore", house.folder / "backup", "--check")
    assert checked.code == 1
    problems = lines(checked, "problem")
    assert len(problems) == 2
    assert info.id in problems[0]
    assert "edited" in problems[1]
    well(run(new, "restore", house.folder / "backup"))  # better than nothing


# --- an earlier version ---


@pytest.mark.parametrize("to", ["sqlite", "postgresql"])
def test_an_earlier_backup_is_migrated(
    house: House, to: str, another: Another, run: Command, tmp_path: Path
):
    keys = people(house)
    folder = tmp_path / "old"
    folder.mkdir()
    path = folder / "papita.db"
    old = Database(f"sqlite:///{path}")
    migrate(old, "0001")
    with old.write() as target, house.papita.database.read() as source:
        there = inspect(target.connection())
        for table in Base.metadata.sorted_tables:
            if not there.has_table(table.name):
                continue
            names = [column["name"] for column in there.get_columns(table.name)]
            listed = ", ".join(names)
            values = ", ".join(f":{name}" for name in names)
            for row in source.execute(text(f"SELECT {listed} FROM {table.name}")).mappings():
                target.execute(text(f"INSERT INTO {table.name} VALUES ({values})"), dict(row))
    with closing(old.engine.raw_connection()) as connection:
        connection.cursor().execute("PRAGMA journal_mode=DELETE")
    old.close()
    manifest = Manifest(
        format=1,
        papita="0.0.9",
        engine="sqlite",
        made_at="2020-01-01T00:00:00+00:00",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        signature=None,
        **dict(backups._contents(path)),
    )
    assert manifest.revision == "0001"
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    new = another(to, keys_of=house)
    well(run(new, "restore", folder, "--unsigned"))
    whole(new, keys)


# --- killed ---


def begun(house: House, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "papita_core", *map(str, arguments)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "TMPDIR": str(house.folder), **house.environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def killed(process: subprocess.Popen[bytes], when: Callable[[], bool]) -> None:
    """Kills a process as soon as `when` is so; it must not have ended before."""
    try:
        while process.poll() is None and not when():
            time.sleep(0.001)
    finally:
        process.kill()
    assert process.wait() == -9, "it had ended already"


@both_engines
def test_a_killed_backup_never_looks_whole(house: House, another: Another, run: Command):
    people(house)
    in_bulk(house, house.user("bulk"))
    folder = house.folder / "backup"

    def scratch() -> list[Path]:
        return list(house.folder.glob(".backup.*.partial/*"))

    killed(begun(house, "backup", folder), lambda: bool(scratch()))
    assert scratch()
    assert not folder.exists()
    refused(run(house, "restore", folder), "manifest.json")
    well(run(house, "backup", folder))
    assert run(another(keys_of=house), "restore", folder, "--check").code == 0


@both_engines
def test_a_killed_restore_leaves_the_old_state(
    house: House, engine: str, run: Command, request: pytest.FixtureRequest
):
    keys = people(house)
    in_bulk(house, house.user("bulk"))
    folder = house.folder / "backup"
    taken(house, folder)
    house.sql("DELETE FROM sign_in_sessions")
    late = house.user("late")
    before = rows_of(house)
    house.papita.close()
    log = house.settings().data_dir / "papita.db-wal"

    def in_the_middle() -> bool:
        if engine == "sqlite":
            return log.exists() and log.stat().st_size > 1 << 20
        return bool(connection.execute(writing, [name]).fetchone())

    writing = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND query LIKE 'INSERT INTO sign_in%%'"
    )
    with ExitStack() as stack:
        if engine == "postgresql":
            server: Postgres = request.getfixturevalue("postgres")
            connection = stack.enter_context(
                psycopg.connect(
                    f"postgresql://papita@/postgres?host={server.socket_dir}", autocommit=True
                )
            )
            name = house.environment["PAPITA_DATABASE_URL"].partition("?")[0].rpartition("/")[2]
        killed(begun(house, "restore", folder, "--replace"), in_the_middle)
    house._papita = None
    assert rows_of(house) == before
    assert any(row["id"] == late for row in before["users"])
    whole(house, keys)
    house.papita.close()
    well(run(house, "restore", folder, "--replace"))


def test_the_services_refuse_as_the_commands_do(house: House, tmp_path: Path):
    (tmp_path / "data" / "x").touch()
    with pytest.raises(Conflict, match="another folder"):
        taken(house, tmp_path / "data")
