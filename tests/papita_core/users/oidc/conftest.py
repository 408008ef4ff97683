"""A house whose users may come by a provider that does whatever the test wants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from papita_core.users.oidc.attempts import BrowserSecret, Purpose
from papita_core.users.oidc.service import Answer, Done
from papita_core.users.sessions import SignInSession
from tests.identity_providers import HostileProvider
from tests.papita_core.house import House


@dataclass
class Door:
    """One browser in front of one house."""

    house: House
    provider: HostileProvider
    secret: BrowserSecret = field(default_factory=BrowserSecret.fresh)
    session: SignInSession | None = None

    def configure(self, *tables: str) -> None:
        """Before anything else: which providers there are."""
        path = self.house.folder / "oidc.toml"
        path.write_text("\n".join(tables), "utf-8")
        self.house.environment["PAPITA_OIDC_FILE"] = str(path)

    def begin(
        self, provider: str = "corp", purpose: Purpose = "sign-in", next_page: str = "/"
    ) -> str:
        return self.house.papita.oidc.begin(
            provider, purpose, self.secret, next_page=next_page, session=self.session
        )

    def finish(self, **answer: Any) -> Done:
        return self.house.papita.oidc.finish(
            Answer(**answer), self.secret, session=self.session, address="192.0.2.7"
        )

    def sign_in(self, **claims: Any) -> Done:
        """An honest round trip of somebody of whom the provider claims this."""
        return self.finish(**self.provider.answer(self.begin(), **claims))

    def here(self, user_id: str) -> SignInSession:
        """Signs a user in, in this browser, without any provider."""
        papita = self.house.papita
        _, self.session = papita.sessions.redeem(papita.sessions.start(user_id).ticket)
        return self.session


@pytest.fixture(scope="module")
def running() -> Iterator[HostileProvider]:
    with HostileProvider() as provider:
        yield provider


@pytest.fixture
def hostile(running: HostileProvider) -> HostileProvider:
    running.forget()
    return running


@pytest.fixture
def door(house: House, hostile: HostileProvider) -> Door:
    """One provider, `corp`, at which unknown people get an account."""
    made = Door(house, hostile)
    made.configure(hostile.table(sign_up=True))
    return made


@pytest.fixture(scope="module")
def lasting_house(shared_house: House, running: HostileProvider) -> House:
    Door(shared_house, running).configure(running.table(sign_up=True))
    return shared_house


@pytest.fixture
def lasting(lasting_house: House, hostile: HostileProvider) -> Door:
    """As `door`, but of a house that several tests of a file share, each with a new browser."""
    return Door(lasting_house, hostile)
