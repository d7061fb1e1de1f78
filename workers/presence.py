"""Presence: keeps the session directory and the edges' leases, and pushes who is online and who is typing."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

from contracts.acks import LeaseRenewed, Nothing, SessionOpened
from contracts.codec import Item
from contracts.commands import Typing
from contracts.errors import Code, Refused, StoreUnavailable, not_found
from contracts.pushes import TypingByOther
from contracts.reports import LeaseRenew, SessionClose, SessionOpen, SessionsDrop
from infra import metrics
from infra.store.client import Store
from infra.store.conversations import Conversations
from infra.store.sessions import SessionChange, SessionDirectory
from infra.store.users import Profile, Users
from workers.effects import Effects
from workers.views import presence_view, user_view
from workers.visibility import viewers, visible_header

log = logging.getLogger(__name__)

#: Milliseconds that users stay online after `sessions.drop`, so that a short outage of the broker does not show.
DROP_GRACE_MS = 10_000
#: Milliseconds that a user stays online whose open arrived after the close: the next open may follow.
LATE_OPEN_GRACE_MS = 5_000
#: Seconds between two steps of the check of all online users, and users in one step.
RECONCILE_INTERVAL, RECONCILE_USERS = 10.0, 5_000
#: Seconds between two checks of leases and of users who are due to go offline.
SWEEP_INTERVAL = 1.0


class Presence:
    """The handler of the presence queue. `sweep` calls its other methods regularly."""

    def __init__(self, store: Store) -> None:
        self._sessions = SessionDirectory(store)
        self._users = Users(store)
        self._conversations = Conversations(store)
        self._reconciled_up_to = ""
        self._suspects: set[str] = set()

    async def __call__(self, items: Sequence[Item]) -> Effects:
        effects = Effects()
        renewals = [item for item in items if isinstance(item, LeaseRenew)]
        opens = [item for item in items if isinstance(item, SessionOpen)]
        closes = [item for item in items if isinstance(item, SessionClose)]
        if renewals:
            leases = await self._sessions.renew_leases(_newest_epochs(renewals))
            for renewal in renewals:
                lease = leases[renewal.edge_id]
                effects.reply(renewal, LeaseRenewed.model_construct(known=lease.known, epoch=lease.epoch))
        drops = [item for item in items if isinstance(item, SessionsDrop)]
        # An edge expects a reply, and drops what it registered before; a worker reports that an edge has no queue.
        reasons = {(drop.edge_id, drop.epoch): "new epoch" if drop.request else "no queue" for drop in drops}
        for (edge_id, epoch), reason in reasons.items():
            await self.drop_edge(edge_id, epoch, grace_ms=DROP_GRACE_MS, reason=reason)
        for drop in drops:
            if drop.request:
                effects.reply(drop, Nothing())
        if opens or closes:
            await self._sessions.add_leases(_newest_epochs(opens))
            await self._sessions.record([*map(session_change, opens), *map(session_change, closes)])
        if opens:
            profiles = [Profile(command.user_id, command.user_name, command.picture) for command in opens]
            await self._users.store_profiles(profiles)
            connected = await self._sessions.connected({command.user_id for command in opens})
            await self._push_presence(await self._users.set_online(connected), effects)
            for command in opens:
                user = user_view(command.user_id, {"name": command.user_name, "picture": command.picture})
                effects.reply(command, SessionOpened.model_construct(user=user))
        for close in closes:
            effects.reply(close, Nothing())
        # Also of users who opened: when the close came first, they were not online yet and nothing was scheduled.
        grace = dict.fromkeys((command.user_id for command in opens), LATE_OPEN_GRACE_MS)
        grace |= {close.user_id: close.grace_ms for close in closes}
        await self._schedule_offline(grace)
        if closes:
            effects.extend(await self.set_due_offline())
        return effects

    async def drop_edge(self, edge_id: str, epoch: int, *, grace_ms: int, reason: str) -> None:
        """Drop an edge's sessions up to an epoch. Users without another session go offline after `grace_ms`.

        Users are scheduled before the sessions are removed, so that a repetition after a crash finds the same users.
        """
        users = await self._sessions.drop(edge_id, epoch)
        await self._schedule_offline(dict.fromkeys(users, grace_ms))
        await self._sessions.remove(edge_id, epoch)
        metrics.EDGES_DROPPED.labels(reason).inc()
        log.warning("Dropped %d sessions of edge %s up to epoch %d: %s.", len(users), edge_id, epoch, reason)

    async def drop_expired_edges(self, lease_seconds: float) -> None:
        """Drop the sessions of every edge that has not renewed its lease for `lease_seconds`."""
        for edge_id, epoch in (await self._sessions.expired_leases(lease_seconds)).items():
            await self.drop_edge(edge_id, epoch, grace_ms=0, reason="lease")

    async def set_due_offline(self) -> Effects:
        """Set users offline who are due and have no session. Returns the pushes for those who may see them."""
        effects = Effects()
        due = await self._users.due_offline()
        if not due:
            return effects
        connected = await self._sessions.connected(due)
        await self._users.cancel_offline({user: id for user, id in due.items() if user in connected})
        gone = await self._users.set_offline({user: id for user, id in due.items() if user not in connected})
        await self._push_presence(gone, effects)
        return effects

    async def push_again(self) -> Effects:
        """Push the presence of users whose last change may not have been pushed, or in the wrong order."""
        effects = Effects()
        await self._push_presence(await self._users.take_unpushed(), effects)
        return effects

    async def reconcile(self) -> None:
        """Schedule users who are online in two checks without a session and without a schedule; a part at a time.

        A healthy system has no such users: each one is an error, and is counted.
        """
        part = await self._users.online_without_schedule(self._reconciled_up_to, RECONCILE_USERS)
        self._reconciled_up_to = part[-1] if len(part) == RECONCILE_USERS else ""
        stranded = set(part) - await self._sessions.connected(part)
        confirmed = stranded & self._suspects
        self._suspects = (self._suspects - set(part)) | (stranded - confirmed)
        if confirmed:
            metrics.PRESENCE_CORRECTIONS.inc(len(confirmed))
            log.error("%d users were online without a session; they go offline now.", len(confirmed))
            await self._schedule_offline(dict.fromkeys(confirmed, 0))

    async def _schedule_offline(self, grace_ms: Mapping[str, int]) -> None:
        if not grace_ms:
            return
        connected = await self._sessions.connected(grace_ms)
        await self._users.schedule_offline({user: grace for user, grace in grace_ms.items() if user not in connected})

    async def _push_presence(self, user_ids: Collection[str], effects: Effects) -> None:
        """Push the users' presence to everybody who may see a conversation with them."""
        if not user_ids:
            return
        audiences = await self._conversations.audiences(user_ids)
        # Read last, so that the newest presence is pushed.
        users = await self._users.find(user_ids)
        for user_id, audience in audiences.items():
            if audience:
                effects.push("presence_updated", presence_view(user_id, users.get(user_id)), sorted(audience))
        effects.after_frames.append(partial(self._users.mark_pushed, users))


def session_change(report: SessionOpen | SessionClose) -> SessionChange:
    """The change of the session directory that an edge reports."""
    opens = isinstance(report, SessionOpen)
    return SessionChange(report.user_id, report.edge_id, report.epoch, report.version, opens)


def _newest_epochs(reports: Sequence[LeaseRenew] | Sequence[SessionOpen]) -> dict[str, int]:
    """The highest epoch of each edge in these reports, by edge id."""
    epochs: dict[str, int] = {}
    for report in reports:
        epochs[report.edge_id] = max(report.epoch, epochs.get(report.edge_id, 0))
    return epochs


class TypingNotices:
    """The handler of the typing queue. Best effort: it stores nothing."""

    def __init__(self, store: Store) -> None:
        self._conversations = Conversations(store)
        self._users = Users(store)

    async def __call__(self, items: Sequence[Item]) -> Effects:
        effects = Effects()
        commands = [item for item in items if isinstance(item, Typing)]
        headers, blocked = await asyncio.gather(
            self._conversations.headers({command.payload.conversation_id for command in commands}),
            self._users.blocked({command.user_id for command in commands}),
        )
        for command in commands:
            header = visible_header(headers, command.payload.conversation_id, command.user_id)
            if header is None:
                effects.refuse(command, not_found())
                continue
            if command.user_id in blocked:
                effects.refuse(command, Refused(Code.FORBIDDEN, "You are not allowed to send typing notices."))
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
    publish: Callable[[Effects], Awaitable[bool]],
    *,
    one_term: Callable[[], AbstractAsyncContextManager[object]],
    lease_seconds: float,
    consuming: Callable[[], bool],
    behind: Callable[[], bool],
) -> None:
    """Every second, set users offline who are due, and drop edges whose lease has expired; until cancelled.

    Leases are checked only after this worker has consumed its queue, kept up with it and reached the store for
    `lease_seconds` without interruption. Before that, an edge's renewal may still be in the queue.
    """
    healthy_since: float | None = None
    reconcile_at = time.monotonic() + RECONCILE_INTERVAL
    while True:
        await asyncio.sleep(SWEEP_INTERVAL)
        if not consuming():
            healthy_since = None
            continue
        if behind():
            healthy_since = None
        try:
            async with one_term():
                effects = await presence.set_due_offline()
                effects.extend(await presence.push_again())
                if healthy_since is None:
                    healthy_since = time.monotonic()
                if time.monotonic() - healthy_since > lease_seconds:
                    await presence.drop_expired_edges(lease_seconds)
                if time.monotonic() > reconcile_at:
                    await presence.reconcile()
                    reconcile_at = time.monotonic() + RECONCILE_INTERVAL
            # What is not sent is pushed again by a later sweep.
            await publish(effects)
        except StoreUnavailable as error:
            healthy_since = None
            log.warning("The store is away; the sweep of leases waits for it: %s", error)
