"""The file of providers: read strictly, and never repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from papita_core.settings import SettingsError
from papita_core.users.oidc.providers import load_providers
from tests.papita_core.house import House

SECRET = "sssh-this-is-the-secret"
GOOD = {
    "title": '"Corp"',
    "issuer": '"https://id.corp.example"',
    "client_id": '"papita"',
    "client_secret": f'"{SECRET}"',
}


def written(folder: Path, *tables: dict[str, str], names: str = "ab") -> Path:
    path = folder / "oidc.toml"
    lines = []
    for name, table in zip(names, tables, strict=False):
        lines += [f"[{name}]", *(f"{key} = {value}" for key, value in table.items())]
    path.write_text("\n".join(lines), "utf-8")
    return path


def test_a_table_needs_four_values_and_has_defaults_for_the_rest(tmp_path: Path):
    (provider,) = load_providers(written(tmp_path, GOOD)).values()
    assert provider.name == "a"
    assert provider.scopes == ("openid", "profile", "email")
    assert (provider.sign_up, provider.role_default, provider.trusted_email) == (
        False,
        "member",
        None,
    )
    assert provider.secret == SECRET
    assert SECRET not in repr(provider)
    assert SECRET not in str(provider.model_dump())


def test_the_secret_may_lie_in_a_file_beside_it(tmp_path: Path):
    (tmp_path / "corp.secret").write_text(f"{SECRET}\n", "utf-8")
    table = {**GOOD, "client_secret_file": '"corp.secret"'}
    table.pop("client_secret")
    (provider,) = load_providers(written(tmp_path, table)).values()
    assert provider.secret == SECRET


def test_without_a_file_there_is_no_provider():
    assert load_providers(None) == {}


def test_several_keep_their_order(tmp_path: Path):
    other = {**GOOD, "issuer": '"https://id.other.example"'}
    found = load_providers(written(tmp_path, GOOD, other, names=["zeta", "alpha"]))
    assert list(found) == ["zeta", "alpha"]


def test_the_highest_role_of_all_groups_wins(tmp_path: Path):
    roles = '{admins = "administrator", staff = "member", visitors = "guest"}'
    table = {**GOOD, "groups_claim": '"groups"', "roles": roles}
    (provider,) = load_providers(written(tmp_path, table)).values()
    assert provider.role_of({"staff", "admins", "x"}) == "administrator"
    assert provider.role_of({"visitors"}) == "guest"
    assert provider.role_of({"x"}) == "member"
    (closed,) = load_providers(written(tmp_path, {**table, "role_default": '"none"'})).values()
    assert closed.role_of({"x"}) is None
    assert closed.role_of({"staff"}) == "member"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title": None}, "[a] title: it has to be there"),
        ({"titel": '"x"'}, "[a] titel: no such key"),
        ({'"odd\\nkey"': '"x"'}, "[a] a key: no such key"),
        ({"title": "5"}, "[a] title: Input should be a valid string"),
        ({"title": '"a\\nb"'}, "[a] title: use one line of text"),
        ({"issuer": '"ftp://x"'}, "[a] issuer: the address must begin with https:// or http://"),
        (
            {"issuer": '"http://id.corp.example"'},
            "[a] issuer: the address must begin with https://; http:// is for this machine",
        ),
        (
            {"issuer": '"http://localhost.evil.example"'},
            "[a] issuer: the address must begin with https://; http:// is for this machine",
        ),
        ({"issuer": '"https://x/?a=1"'}, "[a] issuer: an issuer has neither ? nor #"),
        (
            {"client_secret": None},
            "[a] client_secret: give this or client_secret_file, one of the two",
        ),
        (
            {"client_secret_file": '"x"'},
            "[a] client_secret: give this or client_secret_file, one of the two",
        ),
        ({"client_secret": '" "'}, "[a] client_secret: it is empty"),
        (
            {"client_secret": None, "client_secret_file": '"nowhere"'},
            "[a] client_secret_file: the file cannot be read",
        ),
        ({"scopes": '["email"]'}, "[a] scopes: openid has to be among the scopes"),
        ({"scopes": '["openid", "a b"]'}, "[a] scopes: a scope has no spaces and no quotes"),
        ({"sign_up": '"yes"'}, "[a] sign_up: Input should be"),
        ({"role_default": '"king"'}, "[a] role_default: Input should be"),
        ({"roles": '{x = "member"}'}, "[a] roles: they go together with groups_claim"),
        (
            {"groups_claim": '"g"', "roles": '{x = "king"}'},
            "[a] roles: Input should be 'administrator', 'member' or 'guest'",
        ),
        ({"own_callback": '"yes"'}, "[a] own_callback: Input should be a valid boolean"),
        ({"name": '"b"'}, "[a] name: no such key"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_named_in_one_line(
    tmp_path: Path, change: dict[str, str | None], message: str
):
    table = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises(SettingsError) as caught:
        load_providers(written(tmp_path, table))
    said = str(caught.value)
    assert said.startswith(f"PAPITA_OIDC_FILE: oidc.toml: {message}"), said
    assert "\n" not in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'client_secret = "{SECRET}"', "client_secret stands outside of a table"),
        (f'[a]\nclient_secret = "{SECRET}', "is no TOML"),
        (f"[a]\nx = {SECRET}", "is no TOML"),
        ("[Corp]\n", "the name of a table takes up to 32 letters"),
    ],
)
def test_a_file_that_is_none_is_said_without_its_words(tmp_path: Path, text: str, message: str):
    path = tmp_path / "oidc.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsError) as caught:
        load_providers(path)
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_issuer_twice_would_be_two_names_for_one_account(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"\[a\] issuer: another table has it as well"):
        load_providers(written(tmp_path, GOOD, GOOD))


def test_a_missing_file_is_said_before_anything_is_opened(house: House):
    with pytest.raises(SettingsError, match="PAPITA_OIDC_FILE: there is no such file"):
        house.opened(PAPITA_OIDC_FILE=str(house.folder / "nowhere.toml"))
