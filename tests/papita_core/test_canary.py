"""One secret through every path, and then a search for it in everything that was written."""

from __future__ import annotations

import base64
import logging
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyotp
import pytest

from papita_core.audit.export import as_csv, as_json_lines
from papita_core.audit.service import AuditFilter
from papita_core.errors import PapitaError
from papita_core.vault.importing import read_env
from papita_core.vault.service import NewCredential, ReplaceCredential
from tests.papita_core.house import House
from tests.papita_core.starter import Starter

CANARIES = {
    "key": "sk-demo-canary+/=&?-7f3a9b",
    "second key": "sk-demo-canary+/=&?-8c4d1e",
    "password": "canary password +/&? 5e2f",
}


def spellings(secret: str) -> Iterator[bytes]:
    """Every way in which a secret may stand somewhere; base64 at each of three places."""
    raw = secret.encode()
    yield raw
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    yield urllib.parse.quote(secret, safe="").encode()
    yield urllib.parse.quote_plus(secret).encode()
    yield secret.encode("utf-16-le")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            # What stands before and after changes the letters at both ends alone.
            yield encode(b"\0" * shift + raw)[(0, 2, 3)[shift] : -4]


def found(where: dict[str, bytes], secrets: Mapping[str, str] = CANARIES) -> list[tuple[str, str]]:
    return [
        (place, name)
        for place, content in where.items()
        for name, secret in secrets.items()
        if any(spelling in content for spelling in spellings(secret))
    ]


def test_the_search_finds_what_is_there():
    for secret in CANARIES.values():
        raw = secret.encode()
        for form in (
            raw,
            base64.b64encode(b"x" + raw + b"yz"),
            base64.urlsafe_b64encode(b"xy" + raw),
            base64.b64encode(raw + b"12345"),
            raw.hex().encode(),
            urllib.parse.quote_plus(secret).encode(),
        ):
            assert found({"x": b"before" + form + b"after"})


@pytest.fixture
def logged(house: House) -> Iterator[Path]:
    """Everything that anything logs, at the finest level."""
    path = house.folder / "log"
    handler = logging.FileHandler(path)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    for name in ("sqlalchemy.engine", "urllib3", "uvicorn", "alembic"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield path
    root.removeHandler(handler)
    root.setLevel(before)
    for name in ("sqlalchemy.engine", "urllib3", "uvicorn", "alembic"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    handler.close()


def walk_services(house: House, provider: str) -> dict[str, bytes]:
    said: list[object] = []
    papita = house.papita
    ana = house.sign_in("ana")
    new = NewCredential("openai", {"api_key": CANARIES["key"]}, base_url=f"{provider}/v1")
    info = papita.credentials.create(ana, new, idempotency_key="once")
    again = ReplaceCredential(base_url=f"{provider}/v1", secret={"api_key": CANARIES["second key"]})
    info = papita.credentials.replace(ana, info.id, again, etag=info.etag)
    said += [new, again, info, papita.credentials.test(ana, info.id)]
    loan = house.lend(house.project_token(ana), "ana")
    assert loan.secret == {"api_key": CANARIES["second key"]}
    said += [loan, papita.credentials.list(ana), papita.audit.entries(ana)]
    house.sql("UPDATE credential_secrets SET blob = dek_wrapped")
    for use in (
        lambda: house.lend(house.project_token(ana), "ana"),
        lambda: papita.credentials.test(ana, info.id),
        lambda: papita.sign_in.authenticate("ana", CANARIES["password"]),
        lambda: papita.credentials.create(
            ana, NewCredential("openai", {"api_key": CANARIES["key"] + " "}, label="x" * 999)
        ),
    ):
        with pytest.raises(PapitaError) as caught:
            use()
        said += [caught.value, caught.value.__cause__, caught.value.args]
    papita.credentials.delete(ana, info.id, etag="*")
    return {"what the services said": repr(said).encode()}


def walk_vault(house: House, provider: str) -> dict[str, bytes]:
    """Import, test first, named values, sharing, rotation, exports of the log."""
    said: list[object] = []
    papita = house.papita
    ada = house.sign_in("ada", "administrator")
    text = f"""OPENAI_API_KEY='{CANARIES["key"]}'
OPENAI_BASE_URL={provider}/v1
NOTES={CANARIES["second key"]}
{CANARIES["second key"]}
"""
    read = read_env(text)
    (candidate,) = read.candidates
    new = candidate.new(None)
    said += [read, new, papita.credentials.test_secret(ada, new)]
    (info,) = papita.credentials.create_many(ada, [new])
    assert papita.credentials.known(ada, read.candidates) == {0}
    named = NewCredential("generic", {"token": CANARIES["second key"]}, label="Named")
    said += [info, papita.credentials.create(ada, named)]
    elsewhere = ReplaceCredential(
        base_url=f"{provider}/nothing", secret={"api_key": CANARIES["second key"]}
    )
    with pytest.raises(PapitaError) as caught:
        papita.credentials.replace(ada, info.id, elsewhere, etag=info.etag, test_first=True)
    said += [elsewhere, caught.value]
    info = papita.credentials.share(ada, info.id, everybody=True, usernames=[], etag=info.etag)
    ana = house.papita.access_tokens.actor(house.access_token("ana"))
    assert ana is not None
    loan = house.lend(house.project_token(house.sign_in("eve")), "eve")
    assert loan.secret["api_key"] == CANARIES["key"]
    said += [papita.credentials.shared_with_me(ana), papita.credentials.everyones(ada)]
    said += [papita.credentials.uses(ada, info.id), papita.credentials.usage(ada, [info.id])]
    said += [papita.grants.which(ana, "al-chat"), papita.rotation.rotate_root(ada)]
    entries = list(papita.audit.export(ada, AuditFilter()))
    said += [*entries, papita.ring, papita.ring.status]
    exported = "".join([*as_json_lines(entries), *as_csv(entries)])
    return {"what the vault said": repr(said).encode(), "exports": exported.encode()}


def walk_factors(house: House) -> tuple[dict[str, bytes], dict[str, str]]:
    """What services said of second factors, and what must not be found of them."""
    papita = house.papita
    fay = house.sign_in("fay")
    pending = papita.totp.begin(fay)
    said: list[object] = [pending, papita.totp.pending(fay)]
    totp = pyotp.TOTP(pending.secret)
    papita.totp.confirm(fay, totp.at(house.clock()))
    codes = papita.recovery.renew(fay)
    papita.recovery.use(fay.user_id, codes[0])
    secrets = {"secret of the app": pending.secret}
    for number, code in enumerate(codes):
        secrets |= {f"recovery code {number}": code, f"plain {number}": code.replace("-", "")}
    for use in (
        lambda: papita.recovery.use(fay.user_id, codes[0]),
        lambda: papita.totp.verify(fay.user_id, pending.secret),
        lambda: papita.recovery.use(fay.user_id, pending.secret),
    ):
        with pytest.raises(PapitaError) as caught:
            use()
        said += [caught.value, caught.value.__cause__, caught.value.args]
    papita.totp.begin(fay)
    said += [papita.factors.overview(fay), papita.audit.entries(fay)]
    return {"what was said of factors": repr(said).encode()}, secrets


def walk_api(house: House, provider: str) -> dict[str, bytes]:
    said: list[str] = []
    api = house.api()
    api.headers["Authorization"] = f"Bearer {house.access_token('ana')}"
    body = {
        "credentialType": "openai",
        "credentials": {"api_key": CANARIES["key"]},
        "baseUrl": f"{provider}/v1",
    }
    headers = {"Idempotency-Key": CANARIES["key"]}
    made = api.post("/api/credentials", json=body, headers=headers)
    assert made.status_code == 201
    place = made.headers["location"]
    answers = [
        made,
        api.post("/api/credentials", json=body, headers=headers),
        api.post("/api/credentials", json={**body, "label": "x"}, headers=headers),
        api.post("/api/credentials", json={**body, CANARIES["key"]: 1}),
        api.post("/api/credentials", json={"credentials": body["credentials"]}),
        api.post("/api/credentials", content=CANARIES["key"]),
        api.post("/api/token", data={"subject_token": CANARIES["key"]}),
        api.get(place),
        api.get("/api/credentials"),
        api.post(f"{place}/test"),
        api.put(place, json={**body, "credentialType": "x"}, headers={"If-Match": "*"}),
        api.delete(place, headers={"If-Match": "*"}),
        api.get(place),
        api.get("/api/openapi.json"),
    ]
    said += [f"{answer.status_code} {answer.headers} {answer.text}" for answer in answers]
    return {"what the API answered": "\n".join(said).encode()}


def walk_command_line(house: House, starter: Starter) -> dict[str, bytes]:
    said = ""
    for arguments in (
        ("users", "add", "ben", "--password-stdin"),
        ("users", "add", "ben", "--password-stdin"),
        ("users", "add", "ben", CANARIES["password"]),
        ("users", "reset-password", "ben", "--password-stdin"),
        ("users", "list"),
        ("tokens", "create", "--user", "ben", "--name", "x"),
        ("credentials", "import", "--user", "ana", "-"),
        ("credentials", "import", "--user", "ana", CANARIES["key"]),
        ("audit", "verify"),
        ("audit", "export"),
        ("keys", "rotate"),
        ("keys", "status"),
        ("doctor",),
        ("backup", str(house.folder / "backup")),
        ("restore", str(house.folder / "backup"), "--check"),
    ):
        typed = CANARIES["password"]
        if "import" in arguments:
            typed = f"GROQ_API_KEY={CANARIES['key']}\nOTHER={CANARIES['second key']}\n"
        done = starter.command(house.environment, *arguments, typed=typed)
        said += done.output + done.errors
    assert "added ben" in said
    assert "Groq" in said
    assert (house.folder / "backup" / "papita.db").exists()
    return {"what the commands printed": said.encode()}


def test_no_secret_is_anywhere(
    house: House,
    provider: str,
    starter: Starter,
    logged: Path,
    capfd: pytest.CaptureFixture[str],
):
    house.environment["PAPITA_PROVIDER_ALLOWLIST"] = provider
    where = walk_services(house, provider) | walk_api(house, provider)
    where |= walk_vault(house, provider)
    of_factors, factors = walk_factors(house)
    where |= of_factors
    where |= walk_command_line(house, starter)
    master = (house.settings().keys_dir / "master.key").read_bytes().strip()
    printed = capfd.readouterr()
    where |= {"output": printed.out.encode(), "errors": printed.err.encode()}

    def files() -> dict[str, bytes]:
        paths = [path for path in house.folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(house.folder)): path.read_bytes() for path in paths}

    while_open = files()
    assert "data/papita.db-wal" in while_open
    assert b"INSERT INTO credentials" in while_open["log"]
    house.papita.close()
    closed = files()
    assert b"INSERT INTO recovery_codes" in while_open["log"]
    for places in (where, while_open, closed):
        assert found(places) == []
        assert found(places, factors) == []
    for place, content in {**where, **while_open, **closed}.items():
        if place != "keys/master.key":
            assert master not in content
