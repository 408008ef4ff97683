"""A browser that asks for another language gets the portal in it, from the door on."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.people import arrive, composer, cookie_is_set
from tests.system import PASSWORD, System

WORDS = {
    "de-DE": (
        "Benutzername",
        "Passwort",
        "Anmelden",
        "Hallo, Linda",
        "Zugangsdaten",
        "AL-Chat öffnen",
    ),
    "es-ES": (
        "Nombre de usuario",
        "Contraseña",
        "Iniciar sesión",
        "Hola, Linda",
        "Credenciales",
        "Abrir AL-Chat",
    ),
}


@pytest.fixture(scope="module")
def system(shared_system: System) -> System:
    return shared_system


@pytest.fixture(scope="module")
def ana(system: System, browser: Browser) -> str:
    with browser.new_context() as context, arrive(context, system, "linda", key=False) as page:
        expect(page.locator("html")).to_have_attribute("lang", "en")
    return "linda"


@pytest.mark.parametrize("tag", WORDS)
def test_the_portal_speaks_the_browsers_language(
    system: System, browser: Browser, ana: str, tag: str
) -> None:
    username, password, log_in, hello, credentials, open_chat = WORDS[tag]
    with browser.new_context(locale=tag) as context, context.new_page() as page:
        page.goto(system.url)
        page.get_by_label(username).fill(ana)
        page.get_by_label(password, exact=True).fill("wrong")
        page.get_by_role("button", name=log_in, exact=True).click()
        expect(page.get_by_text(re.compile("stimmen nicht|no es correcto"))).to_be_visible()
        page.get_by_label(password, exact=True).fill(PASSWORD)
        page.get_by_role("button", name=log_in, exact=True).click()
        expect(page.get_by_role("heading", name=hello)).to_be_visible()
        expect(page.locator("html")).to_have_attribute("lang", tag[:2])
        cookie_is_set(page)
        expect(page.get_by_role("button", name=open_chat)).to_be_visible()
        page.get_by_role("link", name=credentials).first.click()
        expect(page.get_by_role("heading", name=credentials, exact=True)).to_be_visible()
        page.goto(f"{system.url}/al-chat")
        expect(page.get_by_placeholder("AL-Chat")).to_be_visible()
        expect(composer(page)).to_have_count(0)  # which asks for it in English
