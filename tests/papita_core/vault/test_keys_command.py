"""`keys status` and `keys rotate`, as typed."""

from __future__ import annotations

import pytest

from papita_core.vault.master_key import LocalMasterKey, generated_paths
from tests.papita_core.house import House, both_engines
from tests.papita_core.starter import Done, Starter

SECOND = bytes(range(1, 33)).hex()


class Keys:
    def __init__(self, house: House, starter: Starter) -> None:
        self.house, self.starter = house, starter

    def __call__(self, *arguments: str, **settings: str) -> Done:
        environment = {**self.house.environment, **settings}
        done = self.starter.command(environment, "keys", *arguments)
        assert "Traceback" not in done.output + done.errors
        return done

    def well(self, *arguments: str, **settings: str) -> list[list[str]]:
        """The cells of each line."""
        done = self(*arguments, **settings)
        assert (done.code, done.errors) == (0, "")
        return [line.split("\t") for line in done.output.splitlines()]

    def refused(self, code: int, word: str, *arguments: str, **settings: str) -> None:
        done = self(*arguments, **settings)
        assert (done.code, done.output) == (code, "")
        assert word in done.errors
        assert done.errors.count("\n") == 1


@pytest.fixture
def keys(house: House, starter: Starter) -> Keys:
    return Keys(house, starter)


def test_status_shows_the_whole_ring(house: House, keys: Keys):
    lines = keys.well("status")
    assert lines[0] == ["vault", "open"]
    assert lines[2] == ["from", "keys/master.key"]
    assert [line[4] for line in lines if line[0] == "root key"] == ["1 slot"]
    assert sorted((line[0], line[2]) for line in lines if len(line) > 3) == [
        ("audit key", "active"),
        ("fingerprint key", "active"),
        ("root key", "active"),
        ("user-token key", "active"),
        ("user-token key", "next"),
    ]
    assert not [line for line in lines if line[0] in ("rotation", "problem")]


@both_engines
def test_the_root_key_is_rotated_by_default(house: House, keys: Keys):
    actor = house.sign_in("ana")
    for _ in range(3):
        house.key(actor)
    lines = keys.well("rotate")
    assert [line[0] for line in lines if line[0].endswith("%")][-1] == "100 %"
    assert lines[-1][0] == "root key"
    assert lines[-1][2:] == ["active", "7 rows moved"]
    assert [line[2] for line in keys.well("status") if line[0] == "root key"] == [
        "retired",
        "active",
    ]
    assert keys.well("rotate", "--root")[-1][3] == "7 rows moved"
    house.key(actor)  # by a process that has not heard of it
    assert house.opened().ready() == (True, "ready")


def test_a_row_that_cannot_be_read_is_exit_code_1_and_stays_on_show(house: House, keys: Keys):
    info = house.key(house.sign_in("ana"))
    house.sql("UPDATE credential_secrets SET dek_wrapped = blob")
    done = keys("rotate")
    assert done.code == 1
    assert info.id in done.errors
    lines = keys.well("status")
    assert ["rotation", "interrupted", "4 of 5"] in lines
    assert any(line[0] == "problem" and info.id in line[1] for line in lines)


def test_the_other_keys(house: House, keys: Keys):
    house.sign_in("ana")
    (signing,), (audit,) = keys.well("rotate", "--signing"), keys.well("rotate", "--audit")
    shown = keys.well("status")
    for name, kid, _ in (signing, audit):
        assert any(line[:3] == [name, kid, "active"] for line in shown)
    assert house.opened().audit.verify() == []


def test_a_generated_master_key(house: House, keys: Keys):
    house.sign_in("ana")
    old = house.papita.ring.status.master_kid
    lines = keys.well("rotate", "--master")
    assert lines[0][2:] == ["in force", "keys/master.key"]
    assert lines[1:] == [["removed", old, "opens nothing any more"]]
    assert keys.well("status")[1][1] == lines[0][1]


def test_from_a_generated_key_to_one_of_ones_own(house: House, keys: Keys):
    house.sign_in("ana")
    path = house.folder / "second"
    path.write_text(SECOND)
    path.chmod(0o600)
    lines = keys.well("rotate", "--master", "--to", str(path))
    kid = LocalMasterKey(bytes.fromhex(SECOND)).key_id.hex()
    assert lines[0][1] == kid
    assert f"restart with PAPITA_MASTER_KEY_FILE={path}" in lines[1][1]
    named = {"PAPITA_MASTER_KEY_FILE": str(path)}
    finished = keys.well("rotate", "--master", "--finish", **named)
    assert finished[0] == ["master key", kid, "in force", "PAPITA_MASTER_KEY_FILE"]
    assert finished[-1][0] == "to do"  # the generated file is of no use any more
    generated_paths(house.settings())[0].unlink()
    keys.refused(2, "--to", "rotate", "--master", **named)
    assert keys.well("status", **named)[0] == ["vault", "open"]
    assert keys("status").code == 1


def test_a_root_key_rotated_between_two_steps_says_who_is_locked_out(house: House, keys: Keys):
    house.sign_in("ana")
    path = house.folder / "second"
    path.write_text(SECOND)
    keys.well("rotate", "--master", "--to", str(path))
    lost = [line for line in keys.well("rotate") if line[0] == "lost"]
    assert [line[1] for line in lost] == [LocalMasterKey(bytes.fromhex(SECOND)).key_id.hex()]
    assert keys.well("rotate", "--master", "--to", str(path))[0][0] == "master key"


@pytest.mark.parametrize(
    ("code", "word", "arguments"),
    [
        (2, "--master", ("--to", "x")),
        (2, "--master", ("--signing", "--finish")),
        (2, "restart", ("--master", "--to", "x", "--finish")),
        (2, "--to: the file cannot be read", ("--master", "--to", "/nowhere")),
        (2, "VAULT_ADDR", ("--master", "--to", "vault-transit:transit/papita")),
        (2, "not allowed", ("--signing", "--audit")),
    ],
)
def test_what_cannot_be_done_is_one_line(
    keys: Keys, house: House, code: int, word: str, arguments: tuple[str, ...]
):
    house.sign_in("ana")
    keys.refused(code, word, "rotate", *arguments)
    assert [root.state for root in house.papita.ring.status.roots] == ["active"]


def test_a_sealed_vault_is_exit_code_1(house: House, keys: Keys):
    house.sign_in("ana")
    other = {"PAPITA_MASTER_KEY": SECOND}
    for arguments in ((), ("--signing",), ("--audit",), ("--master",), ("--master", "--finish")):
        keys.refused(1, "sealed", "rotate", *arguments, **other)
