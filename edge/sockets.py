"""The sockets that are connected to this edge, by sid and by user. Plain dictionaries; nothing here awaits."""

import asyncio
from dataclasses import dataclass, field

from edge.auth import Identity
from edge.engine import EngineSocket
from edge.limits import TokenBucket
from infra import metrics


@dataclass(eq=False, slots=True)
class Socket:
    """One authenticated socket. `in_flight` counts its events without an ack; `expiry` is its token's timer."""

    sid: str
    engine: EngineSocket
    identity: Identity
    in_flight: int = 0
    expiry: asyncio.TimerHandle | None = None

    @property
    def user_id(self) -> str:
        return self.identity.user_id

    def send(self, text: str) -> None:
        """Queue Engine.IO text for the socket. A socket whose buffer is full is evicted; its client reconnects."""
        if not self.engine.put(text):
            metrics.SLOW_SOCKETS.inc()
            self.engine.evict("it does not read what is sent to it")


@dataclass(eq=False, slots=True)
class ConnectedUser:
    """A user with sockets on this edge, or whose last socket closed less than `WARREN_SESSION_GRACE` seconds ago."""

    user_id: str
    bucket: TokenBucket
    #: Events over the rate that are answered; beyond them, the socket is closed.
    excess: TokenBucket
    sockets: list[Socket] = field(default_factory=list)


class Sockets:
    """All sockets of this edge. A user's rate limit is shared by all sockets of the user."""

    def __init__(self, *, rate: float, burst: int, excess_rate: float = 0, excess_burst: int = 0) -> None:
        self._rate, self._burst = rate, burst
        self._excess_rate, self._excess_burst = excess_rate, excess_burst
        self.by_sid: dict[str, Socket] = {}
        self.users: dict[str, ConnectedUser] = {}

    def add(self, socket: Socket) -> ConnectedUser:
        """Add a socket, and its user when it is the first one."""
        user = self.users.get(socket.user_id)
        if user is None:
            user = self.users[socket.user_id] = ConnectedUser(
                socket.user_id,
                TokenBucket(self._rate, self._burst),
                TokenBucket(self._excess_rate, self._excess_burst),
            )
        user.sockets.append(socket)
        self.by_sid[socket.sid] = socket
        self._count()
        return user

    def remove(self, sid: str) -> Socket | None:
        """Remove a socket; its user stays until `remove_user`."""
        socket = self.by_sid.pop(sid, None)
        if socket is not None:
            self.users[socket.user_id].sockets.remove(socket)
            self._count()
        return socket

    def remove_user(self, user_id: str) -> None:
        """Remove a user who has no socket."""
        user = self.users.get(user_id)
        if user is not None and not user.sockets:
            del self.users[user_id]
            self._count()

    def of(self, user_id: str) -> list[Socket]:
        """The sockets of a user on this edge."""
        user = self.users.get(user_id)
        return user.sockets if user is not None else []

    def _count(self) -> None:
        metrics.SOCKETS.set(len(self.by_sid))
        metrics.USERS.set(len(self.users))
