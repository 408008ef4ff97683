"""Tokens of tool servers: lent for the address of their server alone."""

from __future__ import annotations

import pytest

from papita_core.actors import Actor
from papita_core.errors import CredentialNotFound
from papita_core.grants.lending import Loan, LoanRequest
from papita_core.vault.records import NewCredential
from tests.papita_core.house import House, both_engines

HERE, THERE = "https://tools.example/mcp", "https://other.example/mcp"


def token_for_tools(house: House, actor: Actor) -> str:
    house.papita.grants.allow(actor, "al-chat")
    user_token = house.papita.projects.user_token(actor, "al-chat").token
    return house.papita.grants.exchange("al-chat", user_token, "mcp").token


def store(house: House, actor: Actor, url: str, token: str) -> str:
    new = NewCredential("mcp-server", {"token": token}, base_url=url)
    return house.papita.credentials.create(actor, new).id


def lend(house: House, token: str, url: str | None) -> Loan:
    request = LoanRequest(token, "ana", "mcp", "al-chat", base_url=url)
    return house.papita.lender.resolve(request).result(30)


@both_engines
def test_the_address_says_which_token_is_lent(house: House):
    ana = house.sign_in("ana")
    here = store(house, ana, HERE, "token-of-here")
    there = store(house, ana, f"{THERE}/", "token-of-there")
    house.papita.credentials.create(ana, NewCredential("openai", {"api_key": "sk-of-no-server"}))
    token = token_for_tools(house, ana)
    for url, which, secret in ((HERE, here, "token-of-here"), (THERE, there, "token-of-there")):
        for spelled in (url, f"{url}/"):
            loan = lend(house, token, spelled)
            assert (loan.credential_id, loan.secret) == (which, {"token": secret})
            assert (loan.credential_type, loan.base_url) == ("mcp-server", url)
    for url in ("https://tools.example", f"{HERE}/more", "https://tools.example.evil/mcp", ""):
        with pytest.raises(CredentialNotFound):
            lend(house, token, url)
    # Who asks for tools gets no key of a provider, and the other way round.
    with pytest.raises(CredentialNotFound):
        lend(house, token, "https://api.openai.com/v1")
    assert house.lend(house.project_token(ana), "ana").secret == {"api_key": "sk-of-no-server"}


def test_over_http_it_is_a_parameter_of_the_loan(house: House):
    ana = house.sign_in("ana")
    store(house, ana, HERE, "token-of-here")
    token = token_for_tools(house, ana)
    asked = {"username": "ana", "credentialType": "mcp", "projectId": "al-chat"}
    headers = {"Authorization": f"Bearer {token}"}
    here, there = (
        house.api().get("/api/credentials", params={**asked, **more}, headers=headers)
        for more in ({"baseUrl": HERE, "runId": "run_1"}, {"baseUrl": THERE})
    )
    assert here.json()["credentials"]["credentials"] == {"token": "token-of-here"}
    assert (there.status_code, there.json()["code"]) == (404, "credential-not-found")
    entries = house.papita.audit.entries(ana, limit=2).items
    assert [(one.event.outcome, one.event.run_id) for one in entries] == [
        ("credential-not-found", None),
        ("ok", "run_1"),
    ]
