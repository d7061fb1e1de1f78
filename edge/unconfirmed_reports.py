"""Repeats this edge's reports of users who left and of earlier epochs, each until the presence workers confirm it.

There is one timer for all reports that failed, and no task: tens of thousands of users may leave while nothing can be
published.
"""

import asyncio
from contextlib import suppress
from functools import partial
from itertools import islice

from contracts.codec import ack_outcome
from contracts.reports import SessionClose, SessionsDrop
from edge.relay import Relay
from infra.backoff import backoff
from infra.clock import now_ms

#: Reports that are repeated at once.
REPEATED_AT_ONCE = 500

Report = SessionClose | SessionsDrop


class UnconfirmedReports:
    """Reports without a confirmation: one for each user who left, and one for earlier epochs of the edge."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        #: By user id; the report of earlier epochs has the key None.
        self._unconfirmed: dict[str | None, Report] = {}
        #: Keys of reports that wait to be repeated, in the order in which they failed.
        self._failed: dict[str | None, None] = {}
        self._attempts = 0
        self._timer: asyncio.TimerHandle | None = None
        self._all_confirmed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._unconfirmed)

    def add(self, report: Report) -> None:
        """Send a report now, and repeat it until it is confirmed. It replaces an earlier one with the same key."""
        key = report.user_id if isinstance(report, SessionClose) else None
        self._unconfirmed[key] = report
        self._failed.pop(key, None)
        self._all_confirmed.clear()
        self._send(key, report)

    def discard(self, user_id: str) -> None:
        """Stop reporting that a user has left: the user is back, and a report of that follows."""
        self._remove(user_id)

    def discard_users(self) -> None:
        """Stop reporting all users who have left: a report of earlier epochs covers them."""
        for key in [key for key in self._unconfirmed if key is not None]:
            self._remove(key)

    async def confirmed(self, *, within: float) -> None:
        """Wait until every report is confirmed, up to `within` seconds."""
        if self._unconfirmed:
            with suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._all_confirmed.wait()

    def _remove(self, key: str | None) -> None:
        self._unconfirmed.pop(key, None)
        self._failed.pop(key, None)
        if not self._unconfirmed:
            self._all_confirmed.set()

    def _send(self, key: str | None, report: Report) -> None:
        command = report.model_copy(update={"request": self._relay.next_request(), "at": now_ms()})
        self._relay.send([command], [partial(self._on_ack, key, report)])

    def _on_ack(self, key: str | None, report: Report, ack: str) -> None:
        if self._unconfirmed.get(key) is not report:
            return  # a newer report has replaced it
        if ack_outcome(ack) == "ok":
            self._attempts = 0
            self._remove(key)
        else:
            self._failed[key] = None
            self._repeat_later()

    def _repeat_later(self) -> None:
        if self._failed and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(backoff(self._attempts + 1), self._repeat)

    def _repeat(self) -> None:
        self._timer = None
        self._attempts += 1
        for key in list(islice(self._failed, REPEATED_AT_ONCE)):
            del self._failed[key]
            self._send(key, self._unconfirmed[key])
        self._repeat_later()
