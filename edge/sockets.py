"""Who is connected here: users and their sockets. Plain dictionaries, nothing awaits."""

import asyncio
from dataclasses import dataclass, field

from edge.auth import Identity
from edge.limits import TokenBucket
from edge.server import EngineSocket
from infra import metrics


@dataclass(eq=False, slots=True)
class Socket:
    """One authenticated socket."""

    sid: str
    engine: EngineSocket
    identity: Identity
    in_flight: int = 0
    expiry: asyncio.TimerHandle | None = None

    @property
    def user_id(self) -> str:
        return self.identity.user_id

    def send(self, text: str) -> None:
        """Put finished Engine.IO text on the socket; one that does not read is cut off and reconnects."""
        if not self.engine.put(text):
            metrics.SLOW_SOCKETS.inc()
            self.engine.evict("does not read what is sent to it")


@dataclass(eq=False, slots=True)
class LocalUser:
    """A user with sockets on this edge, or whose last one closed a moment ago."""

    user_id: str
    bucket: TokenBucket
    sockets: list[Socket] = field(default_factory=list)


class Sockets:
    """Both ways between users and sockets."""

    def __init__(self, *, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self.by_sid: dict[str, Socket] = {}
        self.users: dict[str, LocalUser] = {}

    def add(self, socket: Socket) -> LocalUser:
        """Register a socket."""
        user = self.users.get(socket.user_id)
        if user is None:
            user = self.users[socket.user_id] = LocalUser(socket.user_id, TokenBucket(self._rate, self._burst))
        user.sockets.append(socket)
        self.by_sid[socket.sid] = socket
        self._count()
        return user

    def remove(self, sid: str) -> Socket | None:
        """Forget a socket; its user stays until `forget`."""
        socket = self.by_sid.pop(sid, None)
        if socket is not None:
            self.users[socket.user_id].sockets.remove(socket)
            self._count()
        return socket

    def forget(self, user_id: str) -> None:
        """Forget a user who has no socket left."""
        user = self.users.get(user_id)
        if user is not None and not user.sockets:
            del self.users[user_id]
            self._count()

    def of(self, user_id: str) -> list[Socket]:
        """A user's sockets here."""
        user = self.users.get(user_id)
        return user.sockets if user is not None else []

    def _count(self) -> None:
        metrics.SOCKETS.set(len(self.by_sid))
        metrics.USERS.set(len(self.users))
