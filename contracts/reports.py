"""Reports of edges about their sessions: commands for the presence workers that no client sends."""

from typing import Literal

from contracts.commands import Command


class SessionOpen(Command):
    """The edge has at least one socket of this user from now on.

    `epoch` identifies the edge's registration: the time of its start in milliseconds, which only increases. `version`
    orders the opens and closes of one user on one edge, so that they may arrive in any order.
    """

    name: Literal["session.open"] = "session.open"
    epoch: int
    version: int
    user_id: str
    user_name: str
    picture: str | None


class SessionClose(Command):
    """The edge has no socket of this user any more. The user goes offline after `grace_ms` without another session."""

    name: Literal["session.close"] = "session.close"
    epoch: int
    version: int
    user_id: str
    grace_ms: int


class EdgeAlive(Command):
    """The edge renews its lease. The reply says whether its sessions are still stored."""

    name: Literal["edge.alive"] = "edge.alive"
    epoch: int


class EdgeLost(Command):
    """The edge `edge_id` lost its queue: its sessions up to `epoch` are invalid. No reply is expected.

    A worker sends it when a frame finds no queue, and the edge itself after a new registration.
    """

    name: Literal["edge.lost"] = "edge.lost"
    epoch: int


AnyReport = SessionOpen | SessionClose | EdgeAlive | EdgeLost
