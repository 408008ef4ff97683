"""Every text is in every catalogue, translated whole; nothing that people read goes around it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from string import Formatter
from unittest.mock import PropertyMock, patch

import pytest
from babel.messages.catalog import Message
from streamlit.runtime.context import ContextProxy
from streamlit.testing.v1 import AppTest

from papita_core.errors import (
    InvalidInput,
    ProjectUnavailable,
    SignInRefused,
    TestFailed,
    TooManyAttempts,
)
from papita_core.users.service import User
from portal.texts import STILL_THE_OLD_KEY, catalogues, later, said, t, tn
from portal.texts.catalogues import OURS, TRANSLATED, Text, collect, sources
from portal.wiring import Services
from tests.portal.test_door import HOME, TIMEOUT, signed_in

# Elements of Streamlit and of ours, and the arguments of theirs that people read.
ELEMENTS = """
    audio_input badge button caption chat_input checkbox date_input dialog download_button error
    expander feedback file_uploader form_submit_button header info link_button markdown menu_button
    metric multiselect number_input page_link pills popover progress radio segmented_control
    select_slider selectbox slider spinner status subheader success tabs text text_area text_input
    title toast toggle warning write
""".split()  # noqa: SIM905
READ = {"alt", "body", "captions", "help", "label", "name", "placeholder", "text", "title"}
DIRECTIVE = re.compile(r":material/\w+:|:[a-z0]+(?:-background)?\[|`[^`]*`|https?://\S*")
NOT_WORDS = frozenset({"client_id"})  # an example of what programs read
MARKUP = re.compile(r":material/\w+:|:[a-z]+\[|\*\*|`|\]\(|[\[\]]")


@pytest.fixture(scope="module")
def texts() -> Mapping[str, Text]:
    return collect()


def forms(message: Message) -> list[str]:
    found = message.string or ""
    return [found] if isinstance(found, str) else list(found)


def places(text: str) -> set[str]:
    """The names of the values in a text."""
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_catalogue_has_every_text_and_no_other(language: str, texts: Mapping[str, Text]) -> None:
    keys = {catalogues._key(message.id) for message in catalogues.read(language) if message.id}
    assert sorted(texts.keys() - keys) == [], "run `python -m portal.texts`, then translate"
    assert sorted(keys - texts.keys()) == [], "run `python -m portal.texts`"


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_translation_is_whole(language: str, texts: Mapping[str, Text]) -> None:
    """Translated, in both numbers, with the same values and the same Markdown."""
    for message in catalogues.read(language):
        if not message.id:
            continue
        text = texts[catalogues._key(message.id)]
        assert not message.fuzzy, text.one
        assert len(forms(message)) == (1 if text.many is None else 2), text.one
        for form, english in zip(forms(message), (text.one, text.many), strict=False):
            assert english is not None
            assert form.strip() == form != "", text.one
            assert places(form) == places(english), form
            assert sorted(MARKUP.findall(form)) == sorted(MARKUP.findall(english)), form


def test_texts_are_written_where_they_are_said() -> None:
    """What is not a literal would be in no catalogue."""
    for file, tree in sources(*OURS):
        for name, call in catalogues.calls_in(tree):
            count = 2 if name == "tn" else 1
            for argument in call.args[:count]:
                assert isinstance(argument, ast.Constant), f"{file}:{call.lineno}"
                assert isinstance(argument.value, str), f"{file}:{call.lineno}"
            assert len(call.args) == (3 if name == "tn" else 1), f"{file}:{call.lineno}"


def words_in(node: ast.AST) -> Iterator[str]:
    """The literals of an argument that are shown as they are, past every call."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str) and node.value not in NOT_WORDS:
            yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(it.value if isinstance(it, ast.Constant) else "0" for it in node.values)  # type: ignore[misc]
    elif not isinstance(node, ast.Call | ast.Lambda | ast.Compare | ast.Subscript):
        for child in ast.iter_child_nodes(node):
            yield from words_in(child)


def faults(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr not in ELEMENTS or ast.unparse(node.func.value) == "log":
            continue
        read = [word.value for word in node.keywords if word.arg in READ]
        for words in (words for it in (*node.args, *read) for words in words_in(it)):
            if re.search(r"[^\W\d_]{2}", DIRECTIVE.sub("", words)):
                yield f"{node.lineno}: {words}"


def test_nothing_is_shown_in_english_alone() -> None:
    found = [f"{file}:{fault}" for file, tree in sources(*OURS) for fault in faults(tree)]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        'st.button("Save")',
        'place.markdown(f"Made {when}")',
        'st.text_input(t("Name"), help="Who you are")',
        'st.button(":material/add: Add" if new else t("Save"))',
        '@st.dialog("Add credential")\ndef add(): ...',
    ],
)
def test_a_bare_text_is_found(line: str) -> None:
    assert list(faults(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    ['st.markdown(":material/add:")', 'st.button(t("Save"))', 'st.caption(f"**{name}** `on`")'],
)
def test_icons_and_names_are_no_texts(line: str) -> None:
    assert not list(faults(ast.parse(line)))


def browser_speaks(tag: str | None) -> AbstractContextManager[object]:
    return patch.object(ContextProxy, "locale", new_callable=PropertyMock, return_value=tag)


@pytest.mark.parametrize(
    ("tag", "ago", "hello"),
    [
        ("de-AT", "vor 1.200 Minuten", "Hallo, Ana"),
        ("es", "hace 1.200 minutos", "Hola, Ana"),
        ("en-GB", "1,200 minutes ago", "Hello, Ana"),
        ("fr-FR", "1,200 minutes ago", "Hello, Ana"),
        ("nonsense", "1,200 minutes ago", "Hello, Ana"),
        (None, "1,200 minutes ago", "Hello, Ana"),
    ],
)
def test_the_browser_says_which_language(tag: str | None, ago: str, hello: str) -> None:
    with browser_speaks(tag):
        assert tn("{count} minute ago", "{count} minutes ago", 1200).replace("\xa0", " ") == ago
        assert t("Hello, {name}", name="Ana") == hello


def test_sentences_of_the_cores_are_translated_too() -> None:
    with browser_speaks("de"):
        assert said(SignInRefused()) == "Benutzername oder Passwort stimmen nicht."
        assert said(TooManyAttempts(1)) == (
            "Zu viele Versuche. In 1 Sekunde noch einmal versuchen."
        )
        assert said(TestFailed("rejected", "The provider answers.")) == (
            "Der Anbieter antwortet. Der alte Schlüssel gilt weiter."
        )
        assert said(InvalidInput({"a": "It has no value.", "b": "The file is 3 kB."})) == (
            "Es hat keinen Wert. The file is 3 kB."
        )


def test_what_was_said_elsewhere_is_translated_where_it_is_read() -> None:
    error = ProjectUnavailable(later("Nothing answers at {url}.", url="http://x"))
    assert str(error) == "Nothing answers at http://x."
    with browser_speaks("de"):
        assert said(error) == "Unter http://x antwortet nichts."


def test_a_core_says_what_is_taken_off_here() -> None:
    """`said` takes the last sentence off to translate the one before."""
    assert str(TestFailed("rejected", "No.")) == f"No.{STILL_THE_OLD_KEY}"


@pytest.mark.parametrize(
    ("tag", "title", "fields", "buttons", "hello"),
    [
        (
            "de-DE",
            "Bei Papita anmelden",
            ["Benutzername", "Passwort"],
            ["Anmelden", "Passwort vergessen?"],
            "Hallo, Ana",
        ),
        (
            "es-MX",
            "Iniciar sesión en Papita",
            ["Nombre de usuario", "Contraseña"],
            ["Iniciar sesión", "¿Has olvidado tu contraseña?"],
            "Hola, Ana",
        ),
    ],
)
def test_pages_speak_it(
    services: Services,
    ana: User,
    tag: str,
    title: str,
    fields: list[str],
    buttons: list[str],
    hello: str,
) -> None:
    with browser_speaks(tag):
        door = AppTest.from_file(HOME, default_timeout=TIMEOUT).run()
        app, _ = signed_in(services, ana)
    assert not door.exception
    assert not app.exception
    assert [element.value for element in door.title] == [title]
    assert [field.label for field in door.text_input] == fields
    assert [element.label for element in door.button] == buttons
    assert app.title[0].value == hello
