"""Each check sees exactly the thing that was broken, and says what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from papita_core.operations.backup import make_backup
from papita_core.operations.doctor import examine
from papita_core.operations.findings import Finding
from tests.papita_core.house import KEY, PASSWORD, House, both_engines
from tests.papita_core.starter import Starter

CHECKS = (
    *("files", "database", "schema", "integrity", "key ring", "root keys", "secrets", "audit log"),
    *("credentials", "addresses", "signing key", "administrators", "expiry", "backup", "clock"),
)


@pytest.fixture
def sound(house: House) -> House:
    """A house in which everything is as it should be."""
    for place in (house.settings().data_dir, house.settings().keys_dir):
        place.mkdir(exist_ok=True)
        place.chmod(0o700)
    house.key(house.sign_in("ada", "administrator"))
    papita = house.papita
    make_backup(papita.database, papita.ring, papita.audit, house.folder / "backup", house.clock)
    return house


def examined(house: House, **more: str) -> list[Finding]:
    return list(examine(house.settings(**more), house.clock))


def amiss(house: House, **more: str) -> list[Finding]:
    return [finding for finding in examined(house, **more) if finding.level != "ok"]


def only(house: House, level: str, check: str, *words: str, **more: str) -> None:
    """One finding, of this level and check, whose sentence has these words."""
    (found,) = amiss(house, **more)
    assert (found.level, found.check) == (level, check)
    for word in words:
        assert word in found.sentence


def credential(house: House) -> str:
    return str(house.sql("SELECT id FROM credentials")[0][0])


@both_engines
def test_nothing_is_wrong(sound: House, engine: str):
    found = examined(sound)
    assert [finding for finding in found if finding.level != "ok"] == []
    checks = [name for name in CHECKS if engine == "sqlite" or name != "integrity"]
    assert [finding.check for finding in found] == checks


def test_the_command_prints_a_line_for_each_and_ends_with_1_if_there_is_a_problem(
    sound: House, starter: Starter
):
    environment = {"PATH": os.environ["PATH"], **sound.environment}
    done = starter.command(environment, "doctor")
    assert (done.code, done.errors) == (0, "")
    assert [line.split("\t")[:2] for line in done.output.splitlines()] == [
        ["ok", name] for name in CHECKS
    ]
    sound.sql("UPDATE users SET disabled_at = created_at")
    done = starter.command(environment, "doctor")
    assert (done.code, done.errors) == (1, "")
    assert "problem\tadministrators\t" in done.output


def test_it_makes_nothing(house: House):
    shutil.rmtree(house.folder / "data")
    before = set(house.folder.rglob("*"))
    only(house, "problem", "database", "none yet", "restore")
    assert set(house.folder.rglob("*")) == before


@both_engines
def test_no_tables(empty_house: House, engine: str):
    if engine == "sqlite":
        (empty_house.folder / "data").mkdir(mode=0o700)
        (empty_house.folder / "data" / "papita.db").touch()
    only(empty_house, "problem", "schema", "no tables", "Start Papita")


def test_tables_without_a_ring_are_a_fresh_start(house: House):
    house.settings().data_dir.chmod(0o700)
    found = {finding.check: finding for finding in amiss(house)}
    assert found["key ring"].level == "warning"
    assert not house.settings().keys_dir.exists()


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o770, 0o702])
@pytest.mark.parametrize("name", ["data", "keys"])
def test_a_folder_that_others_may_enter(sound: House, name: str, mode: int):
    (sound.folder / name).chmod(mode)
    only(sound, "problem" if mode & 0o022 else "warning", "files", f"{name} folder", "chmod 700")


def test_a_generated_master_key_that_others_may_read(sound: House):
    (sound.settings().keys_dir / "master.key").chmod(0o640)
    found = {finding.check: finding for finding in amiss(sound)}
    assert found["key ring"].level == "problem"
    assert "chmod 600" in found["key ring"].sentence


def test_a_named_master_key_that_others_may_read_or_that_is_a_link(sound: House):
    path = shutil.copy(sound.settings().keys_dir / "master.key", sound.folder / "named")
    named = {"PAPITA_MASTER_KEY_FILE": str(path)}
    assert amiss(sound, **named) == []
    Path(path).chmod(0o604)
    only(sound, "warning", "files", "PAPITA_MASTER_KEY_FILE", "chmod 600", **named)
    Path(path).chmod(0o600)
    (sound.folder / "link").symlink_to(path)
    link = {"PAPITA_MASTER_KEY_FILE": str(sound.folder / "link")}
    only(sound, "warning", "files", "a link", **link)


def test_a_database_that_does_not_answer(sound: House):
    secret = "a-password-in-an-address"
    url = f"postgresql://me:{secret}@127.0.0.1:1/papita"
    only(sound, "problem", "database", "PAPITA_DATABASE_URL", PAPITA_DATABASE_URL=url)
    assert secret not in str(examined(sound, PAPITA_DATABASE_URL=url))
    sound.papita.close()
    (sound.folder / "data" / "papita.db").write_bytes(b"not a database at all" * 100)
    only(sound, "problem", "database", "restore a backup")


@pytest.mark.parametrize(("revision", "word"), [("0001", "earlier"), ("9999", "Update Papita")])
@both_engines
def test_another_schema(sound: House, revision: str, word: str):
    sound.sql("UPDATE alembic_version SET version_num = :it", it=revision)
    only(sound, "problem", "schema", word)


def test_a_damaged_page(sound: House):
    (page,) = sound.sql(
        "SELECT rootpage, page_size FROM sqlite_schema, pragma_page_size"
        " WHERE name = 'ix_credentials_resolve'"
    )
    sound.papita.close()
    path = sound.folder / "data" / "papita.db"
    content = bytearray(path.read_bytes())
    content[(page[0] - 1) * page[1] : page[0] * page[1]] = b"\x0a" + bytes(page[1] - 1)
    path.write_bytes(content)
    only(sound, "problem", "integrity", "damaged", "restore")


def test_rows_that_refer_to_nothing(sound: House):
    with sound.papita.database.engine.connect() as connection:
        connection.connection.cursor().execute("PRAGMA foreign_keys=OFF")
        connection.exec_driver_sql("INSERT INTO credential_shares VALUES ('a', 'b', '2026-01-01')")
        connection.commit()
        connection.connection.cursor().execute("PRAGMA foreign_keys=ON")
    only(sound, "problem", "integrity", "2 rows refer", "credential_shares")


def test_a_sealed_vault(sound: House):
    kid = str(sound.papita.ring.status.master_kid)
    (sound.settings().keys_dir / "master.key").unlink()
    found = amiss(sound)
    assert [(item.level, item.check) for item in found] == [
        ("problem", "key ring"),
        ("warning", "secrets"),
        ("warning", "audit log"),
    ]
    assert kid in found[0].sentence
    assert not (sound.settings().keys_dir / "master.key").exists()
    other = examined(sound, PAPITA_MASTER_KEY="00" * 32)
    assert any(item.check == "key ring" and kid in item.sentence for item in other)


def test_a_damaged_ring(sound: House):
    sound.sql("UPDATE key_slots SET wrapped = (SELECT canary FROM root_keys)")
    assert "damaged" in amiss(sound)[0].sentence


def test_a_ring_that_is_gone(sound: House):
    sound.sql("DELETE FROM key_slots")
    sound.sql("DELETE FROM root_keys")
    first = amiss(sound)[0]
    assert (first.level, first.check) == ("problem", "key ring")
    assert "gone" in first.sentence


@pytest.mark.parametrize("state", ["staged", "retiring"])
@both_engines
def test_a_rotation_that_was_cut_off(sound: House, state: str):
    sound.sql(
        "INSERT INTO root_keys (kid, state, canary, created_at)"
        " SELECT :kid, :state, canary, created_at FROM root_keys",
        kid="ab" * 16,
        state=state,
    )
    only(sound, "warning", "root keys", "ab" * 16, state, "keys rotate")


def test_no_active_root_key(sound: House):
    sound.sql("UPDATE root_keys SET state = 'retiring'")
    found = [item for item in amiss(sound) if item.check == "root keys"]
    assert [item.level for item in found] == ["problem", "warning"]
    assert "no active" in found[0].sentence


@both_engines
def test_a_secret_that_does_not_open(sound: House):
    sound.sql("UPDATE credential_secrets SET blob = dek_wrapped")
    only(sound, "problem", "secrets", credential(sound), "1 value cannot")


def test_a_key_of_the_ring_that_does_not_open(sound: House):
    sound.sql("UPDATE purpose_keys SET blob = dek_wrapped WHERE state = 'next'")
    only(sound, "problem", "secrets", "purpose_keys")


def test_many_that_are_broken_are_counted(sound: House):
    ben = sound.sign_in("ben")
    for number in range(24):
        sound.key(ben, f"{KEY}-{number}")
    sound.sql("UPDATE credential_secrets SET blob = dek_wrapped")
    only(sound, "problem", "secrets", "25 values", "and 5 more")


@both_engines
def test_a_credential_without_its_secret(sound: House):
    it = credential(sound)
    sound.sql("DELETE FROM credential_secrets")
    only(sound, "problem", "credentials", it, "enter the keys again")


@both_engines
def test_a_secret_of_another_version(sound: House):
    it = credential(sound)
    sound.sql("UPDATE credentials SET version = 2")
    found = amiss(sound)
    assert [item.check for item in found] == ["credentials", "credentials"]
    assert all(it in item.sentence for item in found)


@both_engines
def test_a_base_url_that_was_turned(sound: House):
    sound.sql("UPDATE credentials SET base_url = 'https://evil.example/v1'")
    found = {item.check: item for item in amiss(sound)}
    assert found.keys() == {"addresses", "secrets"}
    assert credential(sound) in found["addresses"].sentence
    assert "evil" not in str(found)


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("UPDATE audit_log SET outcome = 'no' WHERE seq = 2", "edited"),
        ("DELETE FROM audit_log WHERE seq = 2", "removed"),
    ],
)
@both_engines
def test_a_changed_audit_log(sound: House, statement: str, word: str):
    sound.sql(statement)
    only(sound, "problem", "audit log", "main", "row 2", word)


@both_engines
def test_an_old_signing_key(sound: House):
    sound.clock.forward(days=5, hours=23)
    assert amiss(sound, PAPITA_SIGNING_KEY_DAYS="6") == []
    old = {"PAPITA_SIGNING_KEY_DAYS": "5"}
    only(sound, "warning", "signing key", "5 days", "keys rotate", **old)
    sound.papita.rotation.rotate_signing_if_due()
    assert "signing key" in {item.check for item in amiss(sound, **old)}
    sound.opened(**old).rotation.rotate_signing_if_due()
    assert amiss(sound, **old) == []


@pytest.mark.parametrize("change", ["disabled_at = created_at", "role = 'member'"])
@both_engines
def test_no_administrator(sound: House, change: str):
    sound.sql(f"UPDATE users SET {change}")
    only(sound, "problem", "administrators", "users enable")


@both_engines
def test_credentials_that_expire(sound: House):
    ben = sound.sign_in("ben")
    for days in (1, 10, 30):
        expires_at = sound.clock().replace(microsecond=0)
        sound.key(ben, f"{KEY}-{days}", expires_at=expires_at + timedelta(days=days))
    sound.clock.forward(days=2)
    only(sound, "warning", "expiry", "1 credential has expired and 1 will")


@both_engines
def test_a_backup_that_is_old_or_was_never_made(sound: House):
    sound.clock.forward(days=7, hours=23)
    only(sound, "warning", "backup", "7 days", "backup DIR")
    sound.clock.forward(days=-7)
    assert amiss(sound) == []


def test_no_backup(house: House):
    house.settings().data_dir.chmod(0o700)
    house.user("ada", "administrator")
    only(house, "warning", "backup", "never", "backup DIR")


@both_engines
def test_a_clock_that_is_behind(sound: House):
    sound.clock.forward(minutes=-30, seconds=-30)
    only(sound, "problem", "clock", "30 minutes", "clock of this machine")


@both_engines
def test_nothing_secret_is_said(sound: House):
    master = (sound.settings().keys_dir / "master.key").read_text().strip()
    break_all: tuple[Callable[[], object], ...] = (
        lambda: None,
        lambda: sound.sql("UPDATE credential_secrets SET dek_wrapped = blob"),
        lambda: sound.sql("UPDATE credentials SET base_url = 'x', version = 7"),
        lambda: (sound.settings().keys_dir / "master.key").unlink(),
    )
    for step in break_all:
        step()
        said = "\n".join(map(str, examined(sound)))
        assert not any(secret in said for secret in (KEY, master, PASSWORD))
