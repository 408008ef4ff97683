"""Settings: environment over file over default, and every mistake named in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from papita_core.settings import Settings, SettingsError, origin_of

CANARY = "sk-canary-77"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_defaults_are_those_of_the_contract(tmp_path: Path):
    found = Settings.load({})
    assert (found.host, found.port, found.origin) == ("127.0.0.1", 3000, "http://localhost:3000")
    assert found.database == f"sqlite:///{tmp_path / 'data' / 'papita.db'}"
    assert found.keys_dir == tmp_path / "keys"
    assert (found.resolve_limit, found.client_id) == ("6000/minute", "al-chat")
    assert (found.provider_allowlist, found.cookie_name) == ((), "papita_session")


def test_keys_lie_beside_the_data_folder_and_never_inside(tmp_path: Path):
    found = Settings.load({"PAPITA_DATA_DIR": "some/where"})
    assert found.keys_dir == tmp_path / "some" / "keys"


def test_https_switches_to_a_cookie_that_only_https_may_set():
    found = Settings.load({"PAPITA_PUBLIC_URL": "https://Papita.Example:443/x"})
    assert found.origin == "https://papita.example"
    assert (found.secure, found.cookie_name) == (True, "__Host-papita_session")


def test_the_environment_comes_before_the_file_and_that_before_the_default(tmp_path: Path):
    (tmp_path / "papita.toml").write_text('papita_port = 4000\npapita_host = "0.0.0.0"\n')
    (tmp_path / "other.toml").write_text("papita_port = 5000\n")
    assert Settings.load({}).port == 4000
    found = Settings.load({"PAPITA_PORT": "6000"})
    assert (found.port, found.host) == (6000, "0.0.0.0")  # noqa: S104
    assert Settings.load({"PAPITA_CONFIG": "other.toml"}).port == 5000
    assert Settings.load({"PAPITA_PORT": ""}).port == 4000


def test_settings_of_others_are_none_of_our_business():
    Settings.load({"ALCHAT_PORT": "8000", "PAPITA_API_URL": "x", "PATH": "/bin", "HOME": "/"})


WRONG = [
    ("PAPITA_PORT", "abc"),
    ("PAPITA_PORT", "0"),
    ("PAPITA_PORT", "65536"),
    ("PAPITA_PORTT", "3000"),
    ("PAPITA_DATABASE_URL", f"mysql://me:{CANARY}@host/db"),
    ("PAPITA_DATABASE_URL", "sqlite+aiosqlite:///x.db"),
    ("PAPITA_DATABASE_URL", f"postgresql://me:{CANARY}@host:port/db"),
    ("PAPITA_DATABASE_URL", "postgresql+psycopg2://host/db"),
    ("PAPITA_DATABASE_URL", "sqlite://"),
    ("PAPITA_DATABASE_URL", "sqlite:///:memory:"),
    ("PAPITA_DATABASE_URL", CANARY),
    ("PAPITA_PUBLIC_URL", "papita.example"),
    ("PAPITA_PUBLIC_URL", f"https://me:{CANARY}@papita.example"),
    ("PAPITA_PUBLIC_URL", f"https://[{CANARY}]"),
    ("PAPITA_PROVIDER_ALLOWLIST", "http://127.0.0.1:11434,localhost"),
    ("PAPITA_PROVIDER_ALLOWLIST", "*"),
    ("PAPITA_RESOLVE_LIMIT", "many"),
    ("PAPITA_RESOLVE_LIMIT", "0/minute"),
    ("PAPITA_RESOLVE_LIMIT", "5/fortnight"),
    ("PAPITA_SESSION_IDLE_MINUTES", "4"),
    ("PAPITA_SESSION_DAYS", "366"),
    ("PAPITA_LOG_LEVEL", "loud"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
@pytest.mark.parametrize("source", ["environment", "file"])
def test_a_mistake_is_one_line_that_names_the_setting(
    tmp_path: Path, source: str, name: str, value: str
):
    environment = {name: value} if source == "environment" else {}
    if source == "file":
        (tmp_path / "papita.toml").write_text(f'{name.lower()} = "{value}"\n')
    with pytest.raises(SettingsError) as caught:
        Settings.load(environment)
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert "\n" not in message
    assert CANARY not in message


@pytest.mark.parametrize(
    "content", [b"papita_port = ", b"\xff", b"[papita", f"x = {CANARY}".encode()]
)
def test_a_file_that_cannot_be_read_is_named_by_its_setting(tmp_path: Path, content: bytes):
    (tmp_path / "papita.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=r"^PAPITA_CONFIG: ") as caught:
        Settings.load({})
    assert "\n" not in str(caught.value)
    assert CANARY not in str(caught.value)


def test_other_names_in_the_file_are_mistakes(tmp_path: Path):
    (tmp_path / "papita.toml").write_text("port = 1\n")
    with pytest.raises(SettingsError, match=r"^port: no such setting"):
        Settings.load({})


def test_a_file_that_is_named_has_to_be_there():
    with pytest.raises(SettingsError, match=r"^PAPITA_CONFIG: "):
        Settings.load({"PAPITA_CONFIG": "nothing.toml"})


def test_no_repr_shows_a_secret():
    found = Settings.load(
        {
            "PAPITA_MASTER_KEY": CANARY,
            "ALCHAT_CLIENT_SECRET": CANARY,
            "PAPITA_DATABASE_URL": f"postgresql://me:{CANARY}@host/db",
        }
    )
    assert CANARY not in repr(found) + str(found)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://AI.example", "https://ai.example"),
        ("HTTPS://ai.example:443/v1", "https://ai.example"),
        ("http://ai.example:80", "http://ai.example"),
        ("http://ai.example:443", "http://ai.example:443"),
        ("http://[::1]:8080/x", "http://[::1]:8080"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, origin: str):
    assert origin_of(url) == origin
    assert origin_of(origin) == origin
