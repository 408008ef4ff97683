"""The call that ends an account."""

from __future__ import annotations

from alchat_core.client.calls import Calls

# Of a user with very many conversations.
ERASE_SECONDS = 120.0


class AccountCalls(Calls):
    def delete_account(self, username: str) -> None:
        """Deletes all that there is of the user, for good; returns when nothing is left.

        `username` has to be that of the user. Raises `Invalid` where it is not.
        """
        self._client.answer(
            "DELETE",
            "/api/account",
            self._token_source(),
            params={"confirm": username},
            timeout=ERASE_SECONDS,
        )
