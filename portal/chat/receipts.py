"""What an answer was and what it cost: one quiet line, and the details for whoever asks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import streamlit as st
from babel.dates import format_datetime
from babel.numbers import format_decimal, format_percent

from alchat_core.client import AlChatError, Message, Run
from papita_core.errors import PapitaError
from papita_core.usage.budgets import DAY, Spending
from portal import wiring, words
from portal.chat.reasoning import in_seconds
from portal.chat.steering import Steering
from portal.chat.view import View, client, problem_of
from portal.dialogs import dialog
from portal.session import actor, remembered, require_user
from portal.texts import N_, locale, t, tn
from portal.words import plain, table

# Of credentials that a look at Papita has not found, another look is taken no sooner than this.
LOOK_AGAIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Key:
    """A credential as its user knows it. `hint` is how it ends."""

    label: str
    hint: str
    shared_by: str | None = None
    budget: Spending | None = None


@dataclass(slots=True)
class Keys:
    """The keys of this tab's user, asked once, and again when an answer has been paid for."""

    by_id: dict[str, Key] = field(default_factory=dict)
    as_of_run: str | None = None
    missing: dict[str, float] = field(default_factory=dict)
    readable: bool = True

    def find(self, credential_id: str, as_of_run: str | None = None) -> Key | None:
        """None: it is deleted, or nobody shares it any more."""
        found = self.by_id.get(credential_id)
        stale = as_of_run is not None and as_of_run != self.as_of_run
        unknown = found is None and self.missing.get(credential_id, 0.0) < time.monotonic()
        if stale or unknown:
            try:
                self._read()
                self.readable = True
            except PapitaError:
                # The page itself says what is wrong; here nothing is said of keys meanwhile.
                self.readable = False
            self.as_of_run = as_of_run or self.as_of_run
            found = self.by_id.get(credential_id)
            if found is None:
                self.missing[credential_id] = time.monotonic() + LOOK_AGAIN_SECONDS
        return found

    def _read(self) -> None:
        credentials = wiring.services().papita.credentials
        who = actor()
        self.by_id = {}
        if who.may("credentials:read"):  # guests have none of their own
            self.by_id = {
                item.id: Key(item.label, item.hint, budget=item.budget)
                for item in credentials.list(who, limit=200).items
            }
        for shared in credentials.shared_with_me(who):
            self.by_id[shared.id] = Key(shared.label, "", shared.owner_name)


def receipt(message: Message, keys: Keys, *, last: bool) -> str:
    """The line below an answer, empty where nothing is known. That of the last answer tells what
    of the budget is spent.
    """
    if message.run is None or not (message.usage or message.credential_id):
        return ""
    key = None
    if message.credential_id:
        key = keys.find(message.credential_id, message.run.id if last else None)
    return " · ".join(_line(message, keys, key, last=last))


def show_details_asked_for(view: View) -> bool:
    """Opens the details of the answer whose receipt was clicked; True while they are open."""
    steering = remembered(Steering)
    message, steering.details = view.message(steering.details), None
    if message is None or message.run is None:
        return False
    _details(message)
    return True


def _line(message: Message, keys: Keys, key: Key | None, *, last: bool) -> Iterator[str]:
    usage = message.usage or {}
    if message.model:
        yield message.model
    if total := _total(usage):
        yield tn("{count} token", "{count} tokens", total)
    if (cost := usage.get("costUsd")) is not None:
        yield dollars(cost)
    if message.credential_id and keys.readable:
        yield key_in_words(key)
    standing = key.budget if last and key is not None else None
    if standing is not None and standing.budget.counts_for(wiring.AL_CHAT):
        yield budget_share(standing)


def key_in_words(key: Key | None) -> str:
    """Whose key it was."""
    if key is None:
        return t("a key that is deleted")
    if key.shared_by is not None:
        return t("shared by {owner}", owner=key.shared_by)
    return t("your key {hint}", hint=key.hint.replace("••••", "••"))


def budget_share(standing: Spending) -> str:
    """`63 % of this month's budget`."""
    share = format_percent(standing.spent_nano / standing.budget.limit_nano, locale=locale())
    if standing.budget.period == DAY:
        return t("{share} of today's budget", share=share)
    return t("{share} of this month's budget", share=share)


def dollars(amount: float) -> str:
    """`$0.012`, `$1.50`; of less than a tenth of a cent two places that are not nought."""
    if 0 < amount < 0.001:
        places = "0.00########" if amount < 0.00001 else "0.00####"
        return words.dollars(float(f"{amount:.1g}"), places)
    return words.dollars(amount, "#,##0.00#")


def _total(usage: Mapping[str, Any]) -> int:
    known = usage.get("totalTokens")
    return known or (usage.get("promptTokens") or 0) + (usage.get("completionTokens") or 0)


@dialog(N_("Details of this answer"), on_dismiss="rerun", icon=":material/receipt_long:")
def _details(message: Message) -> None:
    require_user("projects:launch")
    assert message.run is not None  # noqa: S101 - `show_details_asked_for` has looked
    try:
        run = client().run(message.run.id)
    except (AlChatError, PapitaError) as error:
        st.error(plain(problem_of(error).sentence), icon=":material/error:")
        return
    key = remembered(Keys).find(message.credential_id) if message.credential_id else None
    heads = t("This answer"), plain(message.model or "-")
    st.markdown(table(heads, list(_rows(message, run, key))))
    st.caption(plain(run.id))


def _rows(message: Message, run: Run, key: Key | None) -> Iterator[tuple[str, str]]:
    usage = message.usage or {}
    for name, label in (
        ("promptTokens", t("Tokens read")),
        ("cachedTokens", t("of them from the provider's cache")),
        ("completionTokens", t("Tokens written")),
        ("reasoningTokens", t("of them thoughts")),
    ):
        if (count := usage.get(name)) is not None:
            yield label, format_decimal(count, locale=locale())
    cost = usage.get("costUsd")
    yield t("Cost"), dollars(cost) if cost is not None else t("nobody knows")
    if key is not None:
        yield t("Key"), f"{key.label} {key.hint}".strip()
    if run.finished_at is not None:
        seconds = (run.finished_at - run.created_at).total_seconds()
        yield t("Took"), in_seconds(seconds)
        written = usage.get("completionTokens")
        if written and seconds > 0:
            yield (
                t("Tokens per second"),
                format_decimal(round(written / seconds, 1), locale=locale()),
            )
    yield t("When"), format_datetime(run.created_at, "medium", locale=locale())
    for name, value in (run.parameters or {}).items():
        if value is not None:
            yield name, str(value)
