"""Presence: the session directory, who is online, edges' leases, and typing."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

from contracts.acks import LeaseRenewed, Nothing, SessionOpened
from contracts.codec import Item
from contracts.commands import Typing
from contracts.errors import StoreUnavailable, not_found
from contracts.pushes import TypingByOther
from contracts.reports import EdgeAlive, EdgeLost, SessionClose, SessionOpen
from infra import metrics
from infra.store.client import Store
from infra.store.conversations import Conversations
from infra.store.sessions import SessionDirectory
from infra.store.users import Users
from workers.effects import Effects
from workers.views import presence_view, user_view
from workers.visibility import may_see, viewers

log = logging.getLogger(__name__)

#: Milliseconds that users of an edge without a queue stay online: a short broker loss is no absence.
LOST_GRACE_MS = 10_000
#: Milliseconds that a user stays online whose open arrived after its close: the next open may be on its way.
LATE_OPEN_GRACE_MS = 5_000
#: Seconds between two parts of the check of everyone who is online, and users in one part.
RECONCILE_INTERVAL, RECONCILED = 10.0, 5_000
#: Seconds between two looks at leases and planned absences.
SWEEP_INTERVAL = 1.0


class Presence:
    """The handler of the presence queue, and the rules that the sweep applies."""

    def __init__(self, store: Store) -> None:
        self._sessions = SessionDirectory(store)
        self._users = Users(store)
        self._conversations = Conversations(store)
        self._reconciled_up_to = ""
        self._suspects: set[str] = set()

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
            await self._users.store_profiles(opens)
            connected = await self._sessions.connected({command.user_id for command in opens})
            await self._announce(await self._users.set_online(connected), effects)
            for command in opens:
                user = user_view(command.user_id, {"name": command.user_name, "picture": command.picture})
                effects.reply(command, SessionOpened.model_construct(user=user))
        for close in closes:
            effects.reply(close, Nothing())
        # Also of those who opened: who closed before they were set online had no plan then.
        grace = dict.fromkeys((command.user_id for command in opens), LATE_OPEN_GRACE_MS)
        grace |= {close.user_id: close.grace_ms for close in closes}
        await self._schedule_offline(grace)
        if closes:
            effects.extend(await self.announce_offline())
        return effects

    async def drop_edge(self, edge_id: str, epoch: int, *, grace_ms: int, reason: str) -> None:
        """Forget an edge's sessions; who is connected nowhere else goes offline after the grace.

        Absences are planned before the sessions go, so that whoever repeats this finds the same users again.
        """
        users = await self._sessions.drop(edge_id, epoch)
        await self._schedule_offline(dict.fromkeys(users, grace_ms))
        await self._sessions.remove(edge_id, epoch)
        metrics.EDGES_DROPPED.labels(reason).inc()
        log.warning("Dropped %d sessions of edge %s up to epoch %d: %s.", len(users), edge_id, epoch, reason)

    async def drop_expired_edges(self, lease_seconds: float) -> None:
        """Forget the sessions of every edge that gave no sign of life for a lease."""
        for edge_id, epoch in (await self._sessions.expired_leases(lease_seconds)).items():
            await self.drop_edge(edge_id, epoch, grace_ms=0, reason="lease")

    async def announce_offline(self) -> Effects:
        """Set offline whoever's planned absence is due and who is connected nowhere; tell those who share."""
        effects = Effects()
        plans = await self._users.due_offline()
        if not plans:
            return effects
        connected = await self._sessions.connected(plans)
        await self._users.cancel_offline({user: plan for user, plan in plans.items() if user in connected})
        gone = await self._users.set_offline({user: plan for user, plan in plans.items() if user not in connected})
        await self._announce(gone, effects)
        return effects

    async def announce_again(self) -> Effects:
        """Announce users whose last change was perhaps not announced, or in the wrong order."""
        effects = Effects()
        await self._announce(await self._users.take_unannounced(), effects)
        return effects

    async def reconcile(self) -> None:
        """Plan the absence of users who are online for two looks, with no session and no plan; a part at a time.

        A healthy system has none: each one is a mistake, and is counted.
        """
        part = await self._users.online_without_plan(self._reconciled_up_to, RECONCILED)
        self._reconciled_up_to = part[-1] if len(part) == RECONCILED else ""
        stranded = set(part) - await self._sessions.connected(part)
        confirmed = stranded & self._suspects
        self._suspects = (self._suspects - set(part)) | (stranded - confirmed)
        if confirmed:
            metrics.PRESENCE_CORRECTIONS.inc(len(confirmed))
            log.error("%d users were online without a session; their absence is planned now.", len(confirmed))
            await self._schedule_offline(dict.fromkeys(confirmed, 0))

    async def _schedule_offline(self, grace_ms: Mapping[str, int]) -> None:
        if not grace_ms:
            return
        connected = await self._sessions.connected(grace_ms)
        await self._users.schedule_offline({user: grace for user, grace in grace_ms.items() if user not in connected})

    async def _announce(self, user_ids: Collection[str], effects: Effects) -> None:
        """Tell everyone who shares a conversation with these users whether they are online."""
        if not user_ids:
            return
        audiences = await self._conversations.audiences(user_ids)
        # Read last: what is announced is the newest that there is.
        users = await self._users.find(user_ids)
        for user_id, audience in audiences.items():
            if audience:
                effects.push("presence_updated", presence_view(user_id, users.get(user_id)), sorted(audience))
        effects.after_sending.append(partial(self._users.announced, users))


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
    one_term: Callable[[], AbstractAsyncContextManager[object]],
    lease_seconds: float,
    consuming: Callable[[], bool],
) -> None:
    """Look after leases and planned absences until cancelled.

    A lease is judged only after this worker itself has consumed, and reached the store, for a whole lease
    without a break: before that, an edge's sign of life may still wait in the queue.
    """
    healthy_since: float | None = None
    reconcile_at = time.monotonic() + RECONCILE_INTERVAL
    while True:
        await asyncio.sleep(SWEEP_INTERVAL)
        if not consuming():
            healthy_since = None
            continue
        try:
            async with one_term():
                effects = await presence.announce_offline()
                effects.extend(await presence.announce_again())
                if healthy_since is None:
                    healthy_since = time.monotonic()
                if time.monotonic() - healthy_since > lease_seconds:
                    await presence.drop_expired_edges(lease_seconds)
                if time.monotonic() > reconcile_at:
                    await presence.reconcile()
                    reconcile_at = time.monotonic() + RECONCILE_INTERVAL
            # What is not sent is announced again by a later sweep.
            await send(effects)
        except StoreUnavailable as error:
            healthy_since = None
            log.warning("The sweep waits for the store: %s", error)
