"""Registers the users of this edge with the presence workers, and keeps the edge's lease.

A user is *open* once a worker has confirmed that pushes for the user are routed to this edge. Only then do the user's
sockets get `session_ready`. All users are registered again, under a new epoch, when the edge has a new queue, and when
a worker says that the edge's lease has expired.

Every report carries an epoch and a version, and the session directory keeps the report with the highest pair. So a
version is drawn at the moment of the decision, never when the report is sent: timers and tasks run in any order.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from contracts.acks import LeaseRenewed
from contracts.codec import ack_outcome, decode_ok
from contracts.errors import Code, WarrenError
from contracts.models import User
from contracts.pushes import SessionReady
from contracts.reports import LeaseRenew, SessionClose, SessionOpen, SessionsDrop
from contracts.values import rfc3339, utc_datetime
from edge.costs import limits_of
from edge.packets import event_packet
from edge.relay import Relay
from edge.sockets import ConnectedUser, Socket, Sockets
from edge.unconfirmed_reports import UnconfirmedReports
from infra import metrics
from infra.backoff import backoff
from infra.clock import now_ms
from infra.settings import EdgeSettings

log = logging.getLogger(__name__)

#: Users that are registered at once when all are registered again, and sockets that get `session_ready` at once.
CHUNK = 500
#: Seconds between two chunks of `session_ready`: it spreads the snapshots that clients then take.
CHUNK_PAUSE = 0.05
#: Lease renewals without a reply after which the presence workers count as away; 15 s with the default interval.
MISSED_RENEWALS = 3
#: Users who left and are not confirmed as gone, at most. With more, all users are registered again under a new epoch,
#: which needs no report of each one who left.
MAX_GONE = 20_000
#: Outcomes that say that the service is away. Any other failure is a failure of that user's registration alone.
AWAY = frozenset({Code.UNAVAILABLE.value, Code.TIMEOUT.value})
#: How much longer the pauses are between two attempts to register a user whose registration fails alone. Each attempt
#: leaves a dead letter.
FAILED_ALONE_FACTOR = 10


@dataclass
class Registration:
    """One user of this edge, as reported to the presence workers.

    `version` orders the reports of the user. `closing` is the timer that reports the user as gone.
    """

    version: int
    open: bool = False
    opening: bool = False
    closing: asyncio.TimerHandle | None = None


class SessionRegistry:
    """Registers users with the presence workers, and sends `session_ready` to their sockets once they are open."""

    def __init__(self, edge_id: str, relay: Relay, sockets: Sockets, settings: EdgeSettings) -> None:
        self._edge_id = edge_id
        self._relay = relay
        self._sockets = sockets
        self._settings = settings
        self._registrations: dict[str, Registration] = {}
        self._last_version = 0
        self._epoch = now_ms()
        #: The highest epoch of this edge that the session directory is known to have.
        self._known_epoch = 0
        self._gone = UnconfirmedReports(relay)
        self._tasks: set[asyncio.Task[None]] = set()
        self._registering: asyncio.Task[None] | None = None
        #: Whether the session directory may have sessions of this edge. A fixed id may have some of an earlier process.
        self._may_have_sessions = bool(settings.edge_id)
        self._resyncing = False
        self._renewed_at: float | None = None
        metrics.LEASED.set_function(lambda: self.not_ready_reason is None)

    # --- Sockets ------------------------------------------------------------------------------------------

    def connected(self, socket: Socket) -> None:
        """Register the user of a new socket if necessary; send `session_ready` as soon as the user is open."""
        if socket.sid not in self._sockets.by_sid:
            return  # it has disconnected already
        registration = self._registrations.get(socket.user_id)
        if registration is not None and registration.closing is not None:
            registration.closing.cancel()
            registration.closing = None
        if registration is None:
            registration = self._registrations[socket.user_id] = Registration(self._next_version())
            self._gone.discard(socket.user_id)
        if registration.open:
            self._send_session_ready(socket)
        elif not registration.opening:
            self._spawn(self._open(socket.user_id, registration))

    def disconnected(self, user: ConnectedUser) -> None:
        """Report a user as gone `WARREN_SESSION_GRACE` seconds after the last socket closed."""
        registration = self._registrations.get(user.user_id)
        if registration is None:
            self._sockets.remove_user(user.user_id)
        elif not user.sockets and registration.closing is None:
            loop = asyncio.get_running_loop()
            registration.closing = loop.call_later(self._settings.session_grace, self._close, user.user_id)

    def _close(self, user_id: str) -> None:
        registration = self._registrations.get(user_id)
        if registration is None:
            return
        registration.closing = None
        if self._sockets.of(user_id):
            return  # a new socket has arrived, and `connected` will be called for it
        del self._registrations[user_id]
        self._sockets.remove_user(user_id)
        self._report_closed(user_id, grace_ms=0)
        if len(self._gone) > MAX_GONE:
            self.register_all_again("too many unconfirmed reports")

    def _report_closed(self, user_id: str, *, grace_ms: int) -> None:
        """Report that a user is gone, until that is confirmed or all users are registered under a new epoch."""
        self._gone.add(
            SessionClose(
                edge_id=self._edge_id,
                request=0,
                at=0,
                epoch=self._epoch,
                version=self._next_version(),
                user_id=user_id,
                grace_ms=grace_ms,
            )
        )

    async def report_all_closed(self, grace_ms: int, *, within: float) -> None:
        """Report every user as gone because the edge stops; wait up to `within` seconds for the replies.

        Presence shows a user as offline after `grace_ms` milliseconds, unless another edge has the user by then.
        """
        registrations, self._registrations = self._registrations, {}
        for user_id, registration in registrations.items():
            if registration.closing is not None:
                registration.closing.cancel()
            self._report_closed(user_id, grace_ms=grace_ms)
        await self._gone.confirmed(within=within)
        if len(self._gone):
            log.warning("%d users were not reported as gone; the edge's lease will expire.", len(self._gone))

    # --- Registration -------------------------------------------------------------------------------------

    async def _open(self, user_id: str, registration: Registration) -> None:
        """Register a user until it is confirmed, the user has no socket, or the user gets a newer version."""
        version, attempt = registration.version, 0
        registration.opening = True
        while (outcome := await self._try_to_open(user_id, registration, version)) not in (None, "ok"):
            attempt += 1
            await asyncio.sleep(backoff(attempt) * (1 if outcome in AWAY else FAILED_ALONE_FACTOR))

    async def _try_to_open(self, user_id: str, registration: Registration, version: int) -> str | None:
        """Report once that a user is here, and send `session_ready` when that is confirmed.

        Returns the outcome, or None when nothing is left to report.
        """
        sockets = self._sockets.of(user_id)
        if not self._is_current(user_id, registration, version):
            return None
        if not sockets:
            registration.opening = False
            return None
        try:
            outcome = await self._report_open(user_id, sockets[0], version)
        except Exception:
            log.exception("The registration of a user failed.")
            outcome = Code.INTERNAL.value
        if not self._is_current(user_id, registration, version):
            return None
        if outcome == "ok":
            registration.open, registration.opening = True, False
            for socket in tuple(self._sockets.of(user_id)):
                self._send_session_ready(socket)
        return outcome

    def _is_current(self, user_id: str, registration: Registration, version: int) -> bool:
        return self._registrations.get(user_id) is registration and registration.version == version

    async def _report_open(self, user_id: str, socket: Socket, version: int) -> str:
        """Report that a user is here. Returns `ok` or an error code."""
        self._may_have_sessions = True
        command = SessionOpen(
            edge_id=self._edge_id,
            request=self._relay.next_request(),
            at=now_ms(),
            epoch=self._epoch,
            version=version,
            user_id=user_id,
            user_name=socket.identity.name,
            picture=socket.identity.picture,
        )
        reply: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        # The waiting task may have been cancelled when the reply arrives.
        self._relay.send([command], [lambda ack: None if reply.done() else reply.set_result(ack)])
        return ack_outcome(await reply)

    def mark_all_unregistered(self) -> None:
        """Count every user as not open: the connection for frames is lost, and so is the edge's queue."""
        self._renewed_at = None
        for registration in self._registrations.values():
            registration.open = registration.opening = False
            registration.version = self._next_version()

    def register_all_again(self, reason: str) -> None:
        """Register every user under a new epoch, send `session_ready`, and have older epochs' sessions dropped."""
        if self._registering is not None:
            self._registering.cancel()
        self._registering = asyncio.create_task(self._register_all_again(reason))

    async def _register_all_again(self, reason: str) -> None:
        self._epoch = epoch = max(now_ms(), self._epoch + 1, self._known_epoch + 1)
        has_earlier_sessions = self._may_have_sessions
        self._gone.discard_users()
        self.mark_all_unregistered()
        # A user without a socket needs no session. One who reconnects within the grace is registered then.
        users = [item for item in self._registrations.items() if self._sockets.of(item[0])]
        if users:
            metrics.RESYNCS.labels(reason).inc()
            log.warning("Registering %d users again: %s.", len(users), reason)
        for start in range(0, len(users), CHUNK):
            await self._register(users[start : start + CHUNK])
        if epoch != self._epoch:
            return
        if has_earlier_sessions:
            # Users who left while nothing could be reported still have a session of an older epoch.
            self._gone.add(SessionsDrop(edge_id=self._edge_id, request=0, at=0, epoch=epoch - 1))
        self.renew()

    async def _register(self, users: Sequence[tuple[str, Registration]]) -> None:
        """Register users together, and repeat that while the service is away.

        Whose registration fails alone is registered on their own from then on, so that they do not keep others waiting.
        """
        # A user to whom a new socket came is being registered already.
        waiting = [(*item, item[1].version) for item in users if not item[1].opening and not item[1].open]
        for _, registration, _ in waiting:
            registration.opening = True
        attempt = 0
        while waiting:
            outcomes = await asyncio.gather(*(self._try_to_open(*item) for item in waiting))
            failed = [
                (item, outcome) for item, outcome in zip(waiting, outcomes, strict=True) if outcome not in (None, "ok")
            ]
            service_is_here = "ok" in outcomes
            waiting = []
            for (user_id, registration, version), outcome in failed:
                if outcome in AWAY and not service_is_here:
                    waiting.append((user_id, registration, version))
                elif self._is_current(user_id, registration, version):
                    log.warning("A user cannot be registered (%s) and is tried again alone.", outcome)
                    self._spawn(self._open(user_id, registration))
            if waiting:
                attempt += 1
                await asyncio.sleep(backoff(attempt))

    # --- Lease --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Renew the lease every `WARREN_LEASE_INTERVAL` seconds, until cancelled."""
        last_reason = None
        while True:
            await asyncio.sleep(self._settings.lease_interval)
            reason = self.not_ready_reason
            if reason is not None and last_reason is None:
                log.warning("New sockets wait: %s.", reason)
            last_reason = reason
            self.renew()

    @property
    def not_ready_reason(self) -> str | None:
        """Why no user can be registered now, so that new sockets wait for `session_ready`; or None."""
        if self._renewed_at is None:
            return "the presence workers have not answered yet"
        silent = time.monotonic() - self._renewed_at
        if silent > MISSED_RENEWALS * self._settings.lease_interval:
            return f"the presence workers have not answered for {silent:.0f} s"
        return None

    def renew(self) -> None:
        """Renew the edge's lease. When the reply says that the edge's sessions do not count, register all users again.

        That is so when the lease had expired, and when the directory has a higher epoch: an earlier process with the
        same fixed edge id had used it, and the clock went back since then.
        """
        epoch = self._epoch

        def on_reply(ack: str) -> None:
            try:
                renewed = decode_ok(LeaseRenewed, ack)
            except (ValueError, WarrenError):
                renewed = None
            if renewed is None:
                return
            self._renewed_at = time.monotonic()
            if renewed.known or epoch != self._epoch:
                return
            self._known_epoch = max(self._known_epoch, renewed.epoch)
            if self._registrations or renewed.epoch >= epoch:
                self.register_all_again("lease lost")

        command = LeaseRenew(edge_id=self._edge_id, request=self._relay.next_request(), at=now_ms(), epoch=epoch)
        self._relay.send([command], [on_reply])

    # --- session_ready ------------------------------------------------------------------------------------

    def resync_all(self, reason: str) -> None:
        """Send `session_ready` to every socket, a chunk at a time, so that its client takes a snapshot."""
        if self._resyncing:
            return
        self._resyncing = True
        metrics.RESYNCS.labels(reason).inc()
        log.warning("Telling %d sockets to take a snapshot: %s.", len(self._sockets.by_sid), reason)
        self._spawn(self._send_session_ready_to_all())

    async def _send_session_ready_to_all(self) -> None:
        # Gaps that are found during this pause are covered by the same snapshots.
        await asyncio.sleep(CHUNK_PAUSE)
        self._resyncing = False
        sockets = list(self._sockets.by_sid.values())
        for start in range(0, len(sockets), CHUNK):
            for socket in sockets[start : start + CHUNK]:
                registration = self._registrations.get(socket.user_id)
                if registration is not None and registration.open:
                    self._send_session_ready(socket)
            await asyncio.sleep(CHUNK_PAUSE)

    def _send_session_ready(self, socket: Socket) -> None:
        identity, settings = socket.identity, self._settings
        ready = SessionReady(
            user=User(id=identity.user_id, name=identity.name, picture=identity.picture),
            edge_id=self._edge_id,
            server_time=rfc3339(utc_datetime(now_ms())),
            limits=limits_of(settings),
        )
        socket.send(event_packet("session_ready", ready.model_dump_json()))

    def _next_version(self) -> int:
        self._last_version += 1
        return self._last_version

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
