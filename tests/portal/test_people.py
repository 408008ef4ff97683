"""Pictures of people: their letters can be read on every colour, and no name is markup."""

from __future__ import annotations

import pytest

from papita_core.users.preferences import COLOURS
from portal.people import SHADES, colour_of, initials, person, picture

LIGHT, DARK = "#fffdf9", "#1a1613"


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", COLOURS)
def test_letters_can_be_read_on_every_colour_and_the_colour_on_every_ground(colour: str) -> None:
    shade = SHADES[colour]
    assert contrast("#ffffff", shade) >= 4.5
    assert contrast(shade, LIGHT) >= 3
    assert contrast(shade, DARK) >= 2.5


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        ("Ana Belén Torres", "AT"),
        ("ana", "A"),
        ("ben.miller", "BM"),
        ("Øyvind", "Ø"),
        ("<b> x", "X"),
        ("", "?"),
        ("日本 太郎", "日太"),
    ],
)
def test_initials(name: str, letters: str) -> None:
    assert initials(name) == letters


def test_a_name_is_no_markup_and_always_has_the_same_colour() -> None:
    name = '<img src=x onerror="alert(1)">'
    assert "<img" not in person(name, below=name) + picture(name)
    assert colour_of("Ana") == colour_of("Ana")
    assert len({colour_of(f"user {number}") for number in range(200)}) == len(COLOURS)
    assert SHADES["teal"] in picture("Ana", "teal")
