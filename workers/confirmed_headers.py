"""Reads headers whose newest message is in the log.

A header may show a message that is lost: it was inserted on a primary that failed, and projected into the header on its
successor. Such a header is projected anew from the log before anybody stores, counts or acks anything by it. It is
recognized by its term, which is not the present one; so each header is confirmed once after a change of primary.
"""

from collections.abc import Collection, Iterable

from contracts.errors import StoreUnavailable
from infra.store.client import Store
from infra.store.conversations import Conversations, Header
from infra.store.messages import Messages
from infra.store.operations import Term

#: Headers that are confirmed in one query of the log.
CHUNK = 200


class ConfirmedHeaders:
    """Reads and confirms headers."""

    def __init__(self, store: Store) -> None:
        self._conversations = Conversations(store)
        self._messages = Messages(store)

    async def read(self, ids: Collection[str], term: Term) -> dict[str, Header]:
        """Headers by conversation id, without those that do not exist. `term` is the present one, confirmed.

        The newest message of each is committed, and so is everything that a watermark counts as read. Raises
        StoreUnavailable, also while another worker projects a message of an earlier term.
        """
        headers = await self._conversations.headers(ids)
        unconfirmed = unconfirmed_headers(headers.values(), term)
        for start in range(0, len(unconfirmed), CHUNK):
            headers |= await self._confirm(unconfirmed[start : start + CHUNK], term)
        return headers

    async def _confirm(self, headers: Collection[Header], term: Term) -> dict[str, Header]:
        ids = [header.id for header in headers]
        await self._conversations.reproject(await self._messages.newest(ids), headers, term)
        confirmed = await self._conversations.headers(ids)
        if unconfirmed_headers(confirmed.values(), term):
            raise StoreUnavailable("Another worker projects messages of an earlier term into the headers.")
        return confirmed


def unconfirmed_headers(headers: Iterable[Header], term: Term) -> list[Header]:
    """Headers whose newest message was inserted in another term than this one."""
    return [header for header in headers if header.last is not None and header.term != term]
