"""SessionRegistry: tells the presence workers whom this edge holds, and keeps the edge's lease.

A user is *open* once a worker has confirmed that deliveries for them are routed here; only then do their sockets
get `session_ready`. Everything is registered again, under a new epoch, whenever the edge got a new queue or was
told that its lease was taken.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from contracts.acks import LeaseRenewed, Nothing, SessionOpened
from contracts.codec import decode_ok
from contracts.errors import WarrenError
from contracts.models import User
from contracts.pushes import Limits, SessionReady
from contracts.reports import EdgeAlive, EdgeLost, SessionClose, SessionOpen
from contracts.values import MAX_BODY_CHARACTERS, rfc3339, utc_datetime
from edge.packets import event_packet
from edge.relay import Relay
from edge.sockets import LocalUser, Socket, Sockets
from infra import metrics
from infra.backoff import backoff
from infra.settings import EdgeSettings

log = logging.getLogger(__name__)

#: Users that are registered at a time after a broker loss, and sockets told at a time to take a snapshot.
CHUNK = 500
#: Seconds between two chunks of `session_ready`, so that snapshots do not come all at once.
CHUNK_PAUSE = 0.05
#: Signs of life without an answer after which the presence workers count as away: 15 s by default.
MISSED_RENEWALS = 3
#: How often a user's leaving is reported before that is left to the next registration.
CLOSE_ATTEMPTS = 10


@dataclass
class Session:
    """What the presence workers know, or are being told, of one user on this edge."""

    version: int
    open: bool = False
    opening: bool = False
    closing: asyncio.TimerHandle | None = None


class SessionRegistry:
    """Registers users, and tells their sockets when they can be routed to."""

    def __init__(self, edge_id: str, relay: Relay, sockets: Sockets, settings: EdgeSettings) -> None:
        self._edge_id = edge_id
        self._relay = relay
        self._sockets = sockets
        self._settings = settings
        self._sessions: dict[str, Session] = {}
        self._versions = 0
        self._epoch = _now_ms()
        self._tasks: set[asyncio.Task[None]] = set()
        self._registering: asyncio.Task[None] | None = None
        self._registered = False
        self._resyncing = False
        self._renewed_at: float | None = None
        metrics.LEASED.set_function(lambda: self.not_ready_reason is None)

    # --- Sockets come and go ------------------------------------------------------------------------------

    def connected(self, socket: Socket) -> None:
        """A socket was accepted: it is told `session_ready` as soon as its user is open."""
        if socket.sid not in self._sockets.by_sid:
            return  # it is gone already
        session = self._sessions.get(socket.user_id)
        if session is not None and session.closing is not None:
            session.closing.cancel()
            session.closing = None
        if session is None:
            session = self._sessions[socket.user_id] = Session(self._next_version())
        if session.open:
            self._tell_ready(socket)
        elif not session.opening:
            self._spawn(self._open(socket.user_id, session))

    def disconnected(self, user: LocalUser) -> None:
        """A user's socket closed; when it was the last, they are gone after the grace."""
        session = self._sessions.get(user.user_id)
        if user.sockets or session is None or session.closing is not None:
            return
        loop = asyncio.get_running_loop()
        session.closing = loop.call_later(self._settings.session_grace, self._close, user.user_id)

    def _close(self, user_id: str) -> None:
        self._sockets.forget(user_id)
        if self._sessions.pop(user_id, None) is not None:
            self._spawn(self._report_closed(user_id, grace_ms=0))

    async def _report_closed(self, user_id: str, *, grace_ms: int) -> None:
        """Report that a user is gone. What a lost broker keeps from being reported, registering anew makes good."""
        version, epoch = self._next_version(), self._epoch
        for attempt in range(1, CLOSE_ATTEMPTS + 1):
            command = SessionClose(
                edge_id=self._edge_id,
                request=self._relay.next_request(),
                at=_now_ms(),
                epoch=epoch,
                version=version,
                user_id=user_id,
                grace_ms=grace_ms,
            )
            if decode_ok(Nothing, await self._ask(command)) is not None or epoch != self._epoch:
                return
            await asyncio.sleep(backoff(attempt))

    async def close_all(self, grace_ms: int, *, limit: float) -> None:
        """Report everyone as gone, within `limit` seconds: the edge is about to end."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            if session.closing is not None:
                session.closing.cancel()
        reports = [asyncio.create_task(self._report_closed(user_id, grace_ms=grace_ms)) for user_id in sessions]
        if reports:
            _, late = await asyncio.wait(reports, timeout=limit)
            if late:
                log.warning("%d users were not reported as gone; their lease will lapse.", len(late))

    # --- Registration -------------------------------------------------------------------------------------

    async def _open(self, user_id: str, session: Session) -> None:
        """Register a user until that is confirmed, they have no socket left, or they are registered anew."""
        version, attempt = session.version, 0
        session.opening = True
        while session.version == version and (sockets := self._sockets.of(user_id)):
            if await self._ask_open(user_id, sockets[0], version) and session.version == version:
                session.open = True
                for socket in self._sockets.of(user_id):
                    self._tell_ready(socket)
                break
            attempt += 1
            await asyncio.sleep(backoff(attempt))
        if session.version == version:
            session.opening = False

    async def _ask_open(self, user_id: str, socket: Socket, version: int) -> bool:
        command = SessionOpen(
            edge_id=self._edge_id,
            request=self._relay.next_request(),
            at=_now_ms(),
            epoch=self._epoch,
            version=version,
            user_id=user_id,
            user_name=socket.identity.name,
            picture=socket.identity.picture,
        )
        return decode_ok(SessionOpened, await self._ask(command)) is not None

    async def _ask(self, command: SessionOpen | SessionClose) -> str:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        # Whoever asked may be gone when the answer comes.
        self._relay.send([command], [lambda ack: None if answer.done() else answer.set_result(ack)])
        return await answer

    def lost(self) -> None:
        """Nothing reaches this edge any more: nobody is open until registered again."""
        self._renewed_at = None
        for session in self._sessions.values():
            session.open = session.opening = False
            session.version = self._next_version()

    def register_all(self, reason: str) -> None:
        """Register every user under a new epoch, tell all sockets, and drop what an older epoch left behind."""
        if self._registering is not None:
            self._registering.cancel()
        self._registering = asyncio.create_task(self._register_all(reason))

    async def _register_all(self, reason: str) -> None:
        self._epoch = epoch = max(_now_ms(), self._epoch + 1)
        self.lost()
        # Who has no socket left needs no session; should they come back within the grace, they get one then.
        users = [(user_id, session) for user_id, session in self._sessions.items() if self._sockets.of(user_id)]
        if users:
            metrics.RESYNCS.labels(reason).inc()
            log.warning("Registering %d users again: %s.", len(users), reason)
        for start in range(0, len(users), CHUNK):
            opens = []
            for user_id, session in users[start : start + CHUNK]:
                opens.append(self._open(user_id, session))
            await asyncio.gather(*opens)
        if epoch != self._epoch:
            return
        if self._registered:
            # Whoever left while we could not say so is still registered under an older epoch.
            self._relay.tell(EdgeLost(edge_id=self._edge_id, request=0, at=_now_ms(), epoch=epoch - 1))
        self._registered = True
        self.renew()

    # --- Lease --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Renew the lease until cancelled."""
        told = None
        while True:
            await asyncio.sleep(self._settings.lease_interval)
            reason = self.not_ready_reason
            if reason is not None and told is None:
                log.warning("New sockets wait: %s.", reason)
            told = reason
            self.renew()

    @property
    def not_ready_reason(self) -> str | None:
        """Why nobody new can be registered, so that sockets would wait for their `session_ready`; or None."""
        if self._renewed_at is None:
            return "the presence workers have not answered yet"
        silent = time.monotonic() - self._renewed_at
        if silent > MISSED_RENEWALS * self._settings.lease_interval:
            return f"the presence workers have not answered for {silent:.0f} s"
        return None

    def renew(self) -> None:
        """Give a sign of life; when the answer is that we were dropped, register everyone again."""
        epoch = self._epoch

        def on_reply(ack: str) -> None:
            try:
                renewed = decode_ok(LeaseRenewed, ack)
            except (ValueError, WarrenError):
                renewed = None
            if renewed is None:
                return
            self._renewed_at = time.monotonic()
            if not renewed.known and epoch == self._epoch and self._sessions:
                self.register_all("lease lost")

        command = EdgeAlive(edge_id=self._edge_id, request=self._relay.next_request(), at=_now_ms(), epoch=epoch)
        self._relay.send([command], [on_reply])

    # --- session_ready ------------------------------------------------------------------------------------

    def resync(self, reason: str) -> None:
        """Tell every socket to take a snapshot, a chunk at a time."""
        if self._resyncing:
            return
        self._resyncing = True
        metrics.RESYNCS.labels(reason).inc()
        log.warning("Telling %d sockets to take a snapshot: %s.", len(self._sockets.by_sid), reason)
        self._spawn(self._tell_all_ready())

    async def _tell_all_ready(self) -> None:
        # What else is missing comes to light meanwhile, and is covered by the same snapshot.
        await asyncio.sleep(CHUNK_PAUSE)
        self._resyncing = False
        sockets = list(self._sockets.by_sid.values())
        for start in range(0, len(sockets), CHUNK):
            for socket in sockets[start : start + CHUNK]:
                session = self._sessions.get(socket.user_id)
                if session is not None and session.open:
                    self._tell_ready(socket)
            await asyncio.sleep(CHUNK_PAUSE)

    def _tell_ready(self, socket: Socket) -> None:
        identity, settings = socket.identity, self._settings
        ready = SessionReady(
            user=User(id=identity.user_id, name=identity.name, picture=identity.picture),
            edge_id=self._edge_id,
            server_time=rfc3339(utc_datetime(_now_ms())),
            limits=Limits(
                max_body_characters=MAX_BODY_CHARACTERS,
                max_event_bytes=settings.max_event_bytes,
                events_per_second=int(settings.rate_limit),
                burst=settings.rate_burst,
            ),
        )
        socket.send(event_packet("session_ready", ready.model_dump_json()))

    def _next_version(self) -> int:
        self._versions += 1
        return self._versions

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _now_ms() -> int:
    return int(time.time() * 1000)
