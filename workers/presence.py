"""Presence: the session directory, who is online, edges' leases, and typing."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence

from contracts.acks import LeaseRenewed, Nothing, SessionOpened
from contracts.codec import Item
from contracts.commands import Typing
from contracts.errors import StoreUnavailable, not_found
from contracts.pushes import TypingByOther
from contracts.reports import EdgeAlive, EdgeLost, SessionClose, SessionOpen
from infra import metrics
from infra.store.client import Store
from infra.store.conversations import Conversations
from infra.store.operations import Document
from infra.store.sessions import SessionDirectory
from infra.store.users import Users
from workers.effects import Effects
from workers.views import presence_view, user_view
from workers.visibility import may_see, viewers

log = logging.getLogger(__name__)

#: Milliseconds that users of an edge without a queue stay online: a short broker loss is no absence.
LOST_GRACE_MS = 10_000
#: Seconds between two looks at leases and planned absences.
SWEEP_INTERVAL = 1.0


class Presence:
    """The handler of the presence queue, and the rules that the sweep applies."""

    def __init__(self, store: Store) -> None:
        self._sessions = SessionDirectory(store)
        self._users = Users(store)
        self._conversations = Conversations(store)

    async def __call__(self, items: Sequence[Item]) -> Effects:
        effects = Effects()
        alive = [item for item in items if isinstance(item, EdgeAlive)]
        opens = [item for item in items if isinstance(item, SessionOpen)]
        closes = [item for item in items if isinstance(item, SessionClose)]
        if alive:
            known = await self._sessions.renew_leases(alive)
            for sign in alive:
                effects.reply(sign, LeaseRenewed.model_construct(known=known[sign.edge_id]))
        for lost in {(item.edge_id, item.epoch) for item in items if isinstance(item, EdgeLost)}:
            await self.drop_edge(*lost, grace_ms=LOST_GRACE_MS, reason="no queue")
        if opens or closes:
            await self._sessions.add_leases({command.edge_id: command.epoch for command in opens})
            await self._sessions.record([*opens, *closes])
        if opens:
            arrived = await self._users.set_online(opens)
            await self._announce(arrived, effects)
            for command in opens:
                user = user_view(command.user_id, {"name": command.user_name, "picture": command.picture})
                effects.reply(command, SessionOpened.model_construct(user=user))
        if closes:
            for close in closes:
                effects.reply(close, Nothing())
            grace = {close.user_id: close.grace_ms for close in closes}
            await self._schedule_offline(grace)
            effects.extend(await self.announce_offline())
        return effects

    async def drop_edge(self, edge_id: str, epoch: int, *, grace_ms: int, reason: str) -> None:
        """Forget an edge's sessions; who is connected nowhere else goes offline after the grace."""
        users = await self._sessions.drop_sessions(edge_id, epoch)
        metrics.EDGES_DROPPED.labels(reason).inc()
        log.warning("Dropped %d sessions of edge %s up to epoch %d: %s.", len(users), edge_id, epoch, reason)
        await self._schedule_offline(dict.fromkeys(users, grace_ms))

    async def drop_expired_edges(self, lease_seconds: float) -> None:
        """Forget the sessions of every edge that gave no sign of life for a lease."""
        for edge_id, epoch in (await self._sessions.expired_leases(lease_seconds)).items():
            await self.drop_edge(edge_id, epoch, grace_ms=0, reason="lease")

    async def announce_offline(self) -> Effects:
        """Set offline whoever's planned absence is due and who is connected nowhere; tell those who share."""
        effects = Effects()
        due = await self._users.due_offline()
        if not due:
            return effects
        connected = {session.user_id for session in await self._sessions.locate(due)}
        await self._users.cancel_offline(connected)
        gone = await self._users.set_offline([user_id for user_id in due if user_id not in connected])
        await self._announce([user["_id"] for user in gone], effects, {user["_id"]: user for user in gone})
        return effects

    async def _schedule_offline(self, grace_ms: dict[str, int]) -> None:
        if not grace_ms:
            return
        connected = {session.user_id for session in await self._sessions.locate(grace_ms.keys())}
        await self._users.schedule_offline({user: grace for user, grace in grace_ms.items() if user not in connected})

    async def _announce(
        self, user_ids: Collection[str], effects: Effects, users: dict[str, Document] | None = None
    ) -> None:
        """Tell everyone who shares a conversation with these users whether they are online."""
        if not user_ids:
            return
        users = users if users is not None else await self._users.find(user_ids)
        audience: dict[str, set[str]] = defaultdict(set)
        for header in await self._conversations.conversations_of(user_ids):
            members = set(header.user_ids)
            for user_id in members & set(user_ids):
                audience[user_id].update(viewers(header))
        for user_id, told in audience.items():
            presence = presence_view(user_id, users.get(user_id))
            effects.push("presence_updated", presence, sorted(told - {user_id}))


class TypingNotices:
    """The handler of the typing queue: best effort, stores nothing."""

    def __init__(self, store: Store) -> None:
        self._conversations = Conversations(store)

    async def __call__(self, items: Sequence[Item]) -> Effects:
        effects = Effects()
        commands = [item for item in items if isinstance(item, Typing)]
        headers = await self._conversations.headers({command.payload.conversation_id for command in commands})
        for command in commands:
            header = headers.get(command.payload.conversation_id)
            if header is None or not may_see(header, command.user_id):
                effects.refuse(command, not_found())
                continue
            effects.reply(command, Nothing())
            notice = TypingByOther.model_construct(
                conversation_id=header.id, user_id=command.user_id, typing=command.payload.typing
            )
            others = [user_id for user_id in viewers(header) if user_id != command.user_id]
            effects.push("typing", notice, others)
        return effects


async def sweep(
    presence: Presence,
    send: Callable[[Effects], Awaitable[bool]],
    *,
    lease_seconds: float,
    consuming: Callable[[], bool],
) -> None:
    """Look after leases and planned absences until cancelled.

    A lease is judged only after this worker itself has consumed, and reached the store, for a whole lease
    without a break: before that, an edge's sign of life may still wait in the queue.
    """
    healthy_since: float | None = None
    while True:
        await asyncio.sleep(SWEEP_INTERVAL)
        if not consuming():
            healthy_since = None
            continue
        try:
            effects = await presence.announce_offline()
            if healthy_since is None:
                healthy_since = time.monotonic()
            if time.monotonic() - healthy_since > lease_seconds:
                await presence.drop_expired_edges(lease_seconds)
        except StoreUnavailable as error:
            healthy_since = None
            log.warning("The sweep waits for the store: %s", error)
            continue
        await send(effects)
