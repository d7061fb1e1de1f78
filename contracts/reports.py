"""What edges report of their sessions: commands to the presence workers that no client sends."""

from typing import Literal

from contracts.commands import Command


class SessionOpen(Command):
    """An edge holds at least one socket of this user from now on.

    `epoch` is the edge's registration (milliseconds, grows); `version` orders the opens and closes of one user
    on one edge, so that they may arrive in any order.
    """

    name: Literal["session.open"] = "session.open"
    epoch: int
    version: int
    user_id: str
    user_name: str
    picture: str | None


class SessionClose(Command):
    """An edge holds no socket of this user any more. Offline is announced `grace_ms` later, if still so."""

    name: Literal["session.close"] = "session.close"
    epoch: int
    version: int
    user_id: str
    grace_ms: int


class EdgeAlive(Command):
    """The edge renews its lease. The reply says whether its sessions are still known."""

    name: Literal["edge.alive"] = "edge.alive"
    epoch: int


class EdgeLost(Command):
    """A frame for this edge found no queue: its sessions up to `epoch` are worth nothing.

    `edge_id` is the edge that was lost, and nobody waits for a reply.
    """

    name: Literal["edge.lost"] = "edge.lost"
    epoch: int


AnyReport = SessionOpen | SessionClose | EdgeAlive | EdgeLost
