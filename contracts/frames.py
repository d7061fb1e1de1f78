"""Frames: what an edge has to deliver, replies to its commands and pushes to sockets of users.

A worker sends one frame per edge and batch. Acks and payloads are JSON text: the worker encodes them once, and the edge
writes them to sockets without parsing them.
"""

from contracts.pushes import PushName
from contracts.values import Value


class Reply(Value):
    """The reply to the command that the edge numbered `request`. `ack` is the JSON text of the whole ack."""

    request: int
    ack: str


class Push(Value):
    """An event for every socket of the users in `to`, except the socket `except_sid`. `payload` is JSON text."""

    event: PushName
    payload: str
    to: list[str]
    except_sid: str | None = None


class Frame(Value):
    """Everything that one batch has for one edge.

    `number` counts, from 1 and without a gap, the frames of `source` (one consumer of a worker process) for this edge.
    When a number is missing, the edge knows that pushes were lost, and tells its clients to take a snapshot.
    """

    source: str
    number: int
    replies: list[Reply]
    pushes: list[Push]
