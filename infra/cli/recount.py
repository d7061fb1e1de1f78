"""Rebuilds projections from what they project: headers from messages, inbox entries from headers.

While people chat, a projection is always a moment behind, and that is no drift. With `settle`, only what differs at two
looks, some seconds apart and with the same wrong content, counts.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

import typer

from contracts.errors import StoreUnavailable
from infra import logs, metrics
from infra.cli.console import console, run, serve
from infra.settings import Settings, load
from infra.store.client import Store
from infra.store.conversations import Conversations
from infra.store.inboxes import InboxEntry, Inboxes, entry_of
from infra.store.messages import Messages, StoredMessage
from infra.store.operations import Document

log = logging.getLogger(__name__)

#: Conversations that are looked at together.
CHUNK = 200
#: Seconds between the two looks of a recount that is repeated.
SETTLE = 5.0

#: An inbox entry by (user, conversation).
Key = tuple[str, str]
K = TypeVar("K")
R = TypeVar("R")


@dataclass
class Recount:
    """What a recount found; a healthy system that is at rest has no differences."""

    conversations: int = 0
    headers_differed: int = 0
    inboxes_differed: int = 0


@dataclass
class Differences:
    """What is wrong now: for each header the wrong `last` and the newest message; for each inbox both states."""

    headers: dict[str, tuple[Document | None, StoredMessage]] = field(default_factory=dict)
    inboxes: dict[Key, tuple[Document | None, InboxEntry]] = field(default_factory=dict)


async def recount_all(store: Store, *, settle: float = 0.0) -> Recount:
    """Compare, repair, and count differences. Safe beside running workers: nothing is ever set back.

    `settle` is seconds after which a difference must still be there to count; 0 counts and repairs it at once.
    Raises StoreUnavailable.
    """
    result = Recount()
    projections = Projections(store)
    after = ""
    while ids := await projections.conversations.ids_after(after, CHUNK):
        differences = await projections.differences(ids)
        if settle and (differences.headers or differences.inboxes):
            await asyncio.sleep(settle)
            again = await projections.differences(ids)
            differences = Differences(
                _still(differences.headers, again.headers), _still(differences.inboxes, again.inboxes)
            )
        await projections.repair(differences)
        result.conversations += len(ids)
        result.headers_differed += len(differences.headers)
        result.inboxes_differed += len(differences.inboxes)
        after = ids[-1]
    return result


class Projections:
    """Headers and inbox entries, compared with what they project. Every method may raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self.conversations = Conversations(store)
        self._messages = Messages(store)
        self._inboxes = Inboxes(store)

    async def differences(self, ids: Collection[str]) -> Differences:
        """What is wrong in these conversations now."""
        newest = await self._messages.newest(ids)
        # Entries before headers: a header read later is at least as new as any entry that is right.
        states = await self._inboxes.states(ids)
        found = Differences()
        for header in (await self.conversations.headers(ids)).values():
            message = newest.get(header.id)
            if message is not None and message.seq > header.last_seq:
                found.headers[header.id] = (header.last, message)
                header = header.with_messages([message])  # noqa: PLW2901 - as it will be
            if not header.last_seq:
                continue
            for user_id in header.user_ids:
                entry, state = entry_of(header, user_id), states.get((user_id, header.id))
                if (state or {"n": 0})["n"] != entry.state["n"]:
                    found.inboxes[user_id, header.id] = (state, entry)
        return found

    async def repair(self, differences: Differences) -> None:
        """Set right what is wrong. What a worker has written since stays."""
        if differences.headers:
            messages = [message for _, message in differences.headers.values()]
            await self.conversations.advance(messages, await self.conversations.headers(differences.headers))
        behind, ahead = [], {}
        for key, (state, entry) in differences.inboxes.items():
            if state is None or state["v"] < entry.state["v"]:
                behind.append(entry)
            else:
                # It claims more than there is.
                ahead[key] = (state, entry.state)
        await self._inboxes.write(behind)
        await self._inboxes.replace(ahead)


def _still(
    before: Mapping[K, tuple[Document | None, R]], now: Mapping[K, tuple[Document | None, R]]
) -> dict[K, tuple[Document | None, R]]:
    """What is wrong in the same way as before; what has moved meanwhile was only late."""
    return {key: found for key, found in now.items() if key in before and before[key][0] == found[0]}


# --- The command ------------------------------------------------------------------------------------------


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
    every: Annotated[
        float, typer.Option(help="Seconds between two recounts, until SIGTERM; 0 = one, and then end.", min=0)
    ] = 0,
    port: Annotated[int, typer.Option(help="With --every: port of /metrics; 0 = none.", min=0, max=65_535)] = 0,
    host: Annotated[str, typer.Option(help="Address of that port.")] = "127.0.0.1",
) -> None:
    """Rebuild every header's newest message and every inbox from the messages; print how many differed."""
    run(_repeat(every, host, port) if every else _once(as_json=as_json))


async def _once(*, as_json: bool) -> None:
    store = Store(load(Settings))
    try:
        result = await recount_all(store)
    finally:
        await store.close()
    if as_json:
        sys.stdout.write(json.dumps(result.__dict__) + "\n")
    else:
        console.print(
            f"{result.conversations} conversations: {result.headers_differed} headers and "
            f"{result.inboxes_differed} inbox entries differed."
        )


async def _repeat(every: float, host: str, port: int) -> None:
    """Recount again and again, and export what was found. What is only late does not count."""
    settings = load(Settings)
    logs.configure("recount", settings.log_level)
    store = Store(settings)
    reason: str | None = "nothing was counted yet"

    async def readiness() -> str | None:
        return reason

    async def count() -> None:
        nonlocal reason
        while True:
            try:
                _export(await recount_all(store, settle=SETTLE))
                reason = None
            except StoreUnavailable as error:
                reason = f"the store is away: {error}"
                log.warning("The recount waits for the store: %s", error)
            await asyncio.sleep(every)

    try:
        await serve(count(), readiness, host=host, port=port)
    finally:
        await store.close()


def _export(result: Recount) -> None:
    metrics.RECOUNT_DIFFERENCES.labels("header").set(result.headers_differed)
    metrics.RECOUNT_DIFFERENCES.labels("inbox").set(result.inboxes_differed)
    metrics.RECOUNT_CONVERSATIONS.set(result.conversations)
    metrics.RECOUNT_FINISHED.set_to_current_time()
    log.info("%s", result)
