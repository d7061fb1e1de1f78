"""`python -m infra recount`: rebuilds projections, headers from messages and inbox entries from headers.

While people chat, projections are a moment behind; that is not an error. With `settle`, a difference counts only if two
comparisons, some seconds apart, find the same wrong content.
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

#: Conversations that are compared at once.
CHUNK = 200
#: Seconds between the two comparisons of a recount with `--every`.
SETTLE = 5.0

#: An inbox entry by (user, conversation).
Key = tuple[str, str]
K = TypeVar("K")
R = TypeVar("R")


@dataclass
class Recount:
    """The result of a recount. A healthy system without traffic has no differences."""

    conversations: int = 0
    headers_differed: int = 0
    inboxes_differed: int = 0


@dataclass
class Differences:
    """Projections that are wrong: by header the stored `last` and the newest message, by inbox entry both states."""

    headers: dict[str, tuple[Document | None, StoredMessage | None]] = field(default_factory=dict)
    inboxes: dict[Key, tuple[Document | None, InboxEntry]] = field(default_factory=dict)


async def recount_all(store: Store, *, settle: float = 0.0) -> Recount:
    """Compare, repair and count differences. Safe while workers run: it never replaces newer data by older.

    With `settle`, a difference must still be there after so many seconds to count and be repaired. Raises
    StoreUnavailable.
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
                _unchanged(differences.headers, again.headers), _unchanged(differences.inboxes, again.inboxes)
            )
        await projections.repair(differences)
        result.conversations += len(ids)
        result.headers_differed += len(differences.headers)
        result.inboxes_differed += len(differences.inboxes)
        after = ids[-1]
    return result


class Projections:
    """Compares and repairs headers and inbox entries. Every method may raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.conversations = Conversations(store)
        self._messages = Messages(store)
        self._inboxes = Inboxes(store)

    async def differences(self, ids: Collection[str]) -> Differences:
        """The projections of these conversations that are wrong now."""
        newest = await self._messages.newest(ids)
        # Entries are read before headers: then a header is at least as new as any correct entry.
        states = await self._inboxes.states(ids)
        found = Differences()
        for header in (await self.conversations.headers(ids)).values():
            message = newest.get(header.id)
            if message is not None and message.seq > header.last_seq:
                found.headers[header.id] = (header.last, message)
                header = header.with_messages([message], header.term)  # noqa: PLW2901 - the header after its repair
            elif header.last_seq > (message.seq if message is not None else 0):
                # The newest message was lost with a primary that failed; see workers/persistence.py.
                found.headers[header.id] = (header.last, message)
                continue
            if not header.last_seq:
                continue
            for user_id in header.user_ids:
                entry, state = entry_of(header, user_id), states.get((user_id, header.id))
                if (state or {"n": 0})["n"] != entry.state["n"]:
                    found.inboxes[user_id, header.id] = (state, entry)
        return found

    async def repair(self, differences: Differences) -> None:
        """Repair the differences. What a worker has written since then stays."""
        if differences.headers:
            term = await self._store.confirm_term()
            headers = await self.conversations.headers(differences.headers)
            newest = {id: message for id, (_, message) in differences.headers.items() if message is not None}
            await self.conversations.reproject(newest, headers.values(), term)
            if newest:
                # Sending a message moves the sender's own watermark.
                await self.conversations.advance(newest.values(), headers, term)
        behind, ahead = [], {}
        for key, (state, entry) in differences.inboxes.items():
            if state is None or state["v"] < entry.state["v"]:
                behind.append(entry)
            else:
                # Its version is higher than the header allows, so `$max` would keep it.
                ahead[key] = (state, entry.state)
        await self._inboxes.write(behind)
        await self._inboxes.replace(ahead)


def _unchanged(
    before: Mapping[K, tuple[Document | None, R]], now: Mapping[K, tuple[Document | None, R]]
) -> dict[K, tuple[Document | None, R]]:
    """Differences with the same wrong content as before. A projection that has changed meanwhile was only late."""
    return {key: found for key, found in now.items() if key in before and before[key][0] == found[0]}


# --- The command ------------------------------------------------------------------------------------------


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    every: Annotated[float, typer.Option(help="Repeat every so many seconds until SIGTERM; 0 = run once.", min=0)] = 0,
    port: Annotated[
        int, typer.Option(help="With --every: port of /metrics, /readyz and /healthz; 0 = no port.", min=0, max=65_535)
    ] = 0,
    host: Annotated[str, typer.Option(help="Listen address of that port.")] = "127.0.0.1",
) -> None:
    """Rebuild the newest message of every header and every inbox entry from the messages. Print how many differed.

    Needs MongoDB.
    """
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
    """Recount every so many seconds and export the results as metrics."""
    settings = load(Settings)
    logs.configure("recount", settings.log_level)
    store = Store(settings)
    reason: str | None = "the first recount has not ended yet"

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
                log.warning("The store is away; the recount is repeated in %g s: %s", every, error)
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
    log.info(
        "Recounted %d conversations: repaired %d headers and %d inbox entries.",
        result.conversations,
        result.headers_differed,
        result.inboxes_differed,
    )
