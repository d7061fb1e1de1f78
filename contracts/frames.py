"""What an edge must hand out: replies to its own commands, and pushes to the sockets of users.

A worker sends one frame per edge and batch. Payloads travel as finished JSON text: encoded once by the worker,
and put on the sockets by the edge without being looked into.
"""

from contracts.pushes import PushName
from contracts.values import Value


class Reply(Value):
    """The answer to the command that the edge numbered `request`; `ack` is the JSON text of the whole ack."""

    request: int
    ack: str


class Push(Value):
    """One push to every socket of each of the users, except the socket `except_sid`."""

    event: PushName
    payload: str
    to: list[str]
    except_sid: str | None = None


class Frame(Value):
    """Everything one batch has for one edge.

    `number` counts, from 1 and without a gap, the frames that `source` (one worker process) made for this edge:
    an edge that misses one knows that pushes were lost, and tells its clients to take a snapshot.
    """

    source: str
    number: int
    replies: list[Reply]
    pushes: list[Push]
