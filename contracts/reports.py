"""Reports of edges about their sessions and leases: commands for the presence workers that no client sends."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from contracts.commands import Command
from contracts.values import MAX_NAME, MAX_PICTURE, Counter, UserId

#: Milliseconds that a closed session may keep its user online.
MAX_GRACE_MS = 3_600_000


class SessionOpen(Command):
    """The edge has at least one socket of this user from now on.

    `epoch` identifies the edge's registration: the time of its start in milliseconds, which only increases. `version`
    orders the opens and closes of one user on one edge, so that they may arrive in any order.
    """

    name: Literal["session.open"] = "session.open"
    epoch: Counter
    version: Counter
    user_id: UserId
    user_name: Annotated[str, StringConstraints(max_length=MAX_NAME)]
    picture: Annotated[str, StringConstraints(max_length=MAX_PICTURE)] | None


class SessionClose(Command):
    """The edge has no socket of this user any more. The user goes offline after `grace_ms` without another session."""

    name: Literal["session.close"] = "session.close"
    epoch: Counter
    version: Counter
    user_id: UserId
    grace_ms: Annotated[int, Field(ge=0, le=MAX_GRACE_MS)]


class LeaseRenew(Command):
    """The edge renews its lease. The reply says whether its sessions are still stored."""

    name: Literal["lease.renew"] = "lease.renew"
    epoch: Counter


class SessionsDrop(Command):
    """Drops the sessions of the edge `edge_id` up to `epoch`.

    A worker sends it when a frame finds no queue, with the `request` 0: no reply is expected. The edge itself sends it
    after it has registered its users under a new epoch, and repeats it until it is answered.
    """

    name: Literal["sessions.drop"] = "sessions.drop"
    epoch: Counter


AnyReport = SessionOpen | SessionClose | LeaseRenew | SessionsDrop
