"""The two guards of outbound requests have one mind: papita_core's and alchat_core's."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alchat_core.providers import guard
from alchat_core.settings import origin_of as origin_for_alchat
from papita_core import outbound
from papita_core.settings import origin_of as origin_for_papita
from tests.hostile_addresses import GLOBAL, HOSTS, PRIVATE, URLS


@pytest.mark.parametrize("address", PRIVATE)
def test_neither_takes_a_private_address(address: str) -> None:
    assert not outbound.is_global(address)
    assert not guard.is_global(address)


@pytest.mark.parametrize("address", GLOBAL)
def test_both_take_a_global_address(address: str) -> None:
    assert outbound.is_global(address)
    assert guard.is_global(address)


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_they_agree_on_any_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert outbound.is_global(str(address)) is guard.is_global(str(address))


@given(st.ip_addresses(v=4))
@example(ipaddress.IPv4Address("127.0.0.1"))
def test_an_address_in_another_is_as_private_as_itself(address: ipaddress.IPv4Address) -> None:
    for form in (f"::ffff:{address}", f"64:ff9b::{address}"):
        assert guard.is_global(form) is outbound.is_global(form) is guard.is_global(str(address))
    for form in (f"::{address}", f"64:ff9b:1::{address}", f"::ffff:0:{address}"):
        assert not guard.is_global(form)
        assert not outbound.is_global(form)


def _origins(url: str) -> list[str | None]:
    found: list[str | None] = []
    for read in (origin_for_papita, origin_for_alchat):
        try:
            found.append(read(url))
        except ValueError:
            found.append(None)
    return found


@pytest.mark.parametrize("host", HOSTS)
def test_they_read_the_same_origin_out_of_a_host(host: str) -> None:
    papita, alchat = _origins(f"http://{host}:8000/v1")
    assert papita == alchat


@pytest.mark.parametrize("url", URLS)
def test_they_read_the_same_origin_out_of_a_url(url: str) -> None:
    papita, alchat = _origins(url.format(port=8000) if "{port}" in url else url)
    assert papita == alchat


@given(st.text(alphabet=st.sampled_from("htps:/.@\\[]%#?0127aA。１ⓛ:-_ x"), max_size=40))
def test_they_read_the_same_origin_out_of_anything(rest: str) -> None:
    papita, alchat = _origins(f"http://{rest}".strip())
    assert papita == alchat
