"""Nothing that holds a secret shows it by accident."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from papita_core.api import schemas
from papita_core.grants.exchanges import ProjectToken
from papita_core.grants.lending import Loan, LoanRequest
from papita_core.grants.user_tokens import UserToken
from papita_core.outbound import Answer
from papita_core.secret import Secret
from papita_core.users.access_tokens import AccessToken, NewAccessToken
from papita_core.users.service import NewUser
from papita_core.users.sessions import NewSession, SignInSession
from papita_core.vault.master_key import LocalMasterKey
from papita_core.vault.service import NewCredential, ReplaceCredential

CANARY = "sk-canary-0123456789-0123456789-"
NOW = datetime.now(UTC)
SESSION = SignInSession(*("x",) * 7, NOW, NOW, NOW, "password", None, NOW, True)
HOLDERS: list[object] = [
    Secret(CANARY),
    NewUser("ana", CANARY),
    NewSession(SESSION, CANARY),
    NewAccessToken(AccessToken("id", "name", (), NOW, None, None), CANARY),
    NewCredential("openai", {"api_key": CANARY}),
    ReplaceCredential(secret={"api_key": CANARY}),
    LoanRequest(CANARY, "ana", "openai", "al-chat"),
    Loan("id", "openai", None, "https://x", {"api_key": CANARY}, "lease", NOW),
    UserToken(CANARY, NOW),
    ProjectToken(CANARY, "lease", 300),
    Answer(200, {"set-cookie": CANARY}, CANARY.encode()),
    LocalMasterKey(CANARY.encode()),
    schemas.Secret.model_validate({"api_key": CANARY}),
    schemas.NewCredentialBody.model_validate(
        {"credentialType": "openai", "credentials": {"api_key": CANARY}}
    ),
    schemas.ReplaceCredentialBody.model_validate({"credentials": {"api_key": CANARY}}),
    schemas.LaunchAnswer(project_id="x", token=CANARY, expires_at=NOW, url="http://x"),
    schemas.TokenAnswer(access_token=CANARY, issued_token_type="x", token_type="x", expires_in=1),
    schemas.LentCredential(
        id="x",
        credential_type="openai",
        project_id=None,
        base_url="https://x",
        credentials={"api_key": CANARY},
    ),
]


@pytest.mark.parametrize("shown", [repr, str, "{}".format, "%r".__mod__])
@pytest.mark.parametrize("holder", HOLDERS, ids=lambda holder: type(holder).__name__)
def test_it_is_not_shown(holder: object, shown: Callable[[Any], str]):
    wrapped = shown([holder])
    assert CANARY not in wrapped
    assert CANARY[:12] not in wrapped
    assert CANARY.encode().hex()[:24] not in wrapped


def test_a_secret_says_so_and_compares_in_its_own_way():
    secret = Secret(CANARY)
    assert secret.reveal() == CANARY
    assert secret.matches(CANARY)
    assert not secret.matches(CANARY[:-1])
    assert not secret.matches("ü")
    assert secret != Secret(CANARY)
    assert f"{secret:>60}" == repr(secret)
    assert not Secret("")


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy, vars, dataclasses.asdict])
def test_a_secret_is_not_copied_away(way: Callable[[Any], object]):
    with pytest.raises(TypeError):
        way(Secret(CANARY))
