"""What a handler returns: everything that has to be sent once its writes are durable."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from contracts.codec import AnyCommand, encode_ok, encode_refusal
from contracts.commands import Command
from contracts.errors import Refused
from contracts.facts import AnyFact
from contracts.frames import Push, Reply
from contracts.pushes import PUSHES, PushName
from contracts.values import Value


@dataclass
class Effects:
    """Replies by edge id, pushes, and facts, each in the order in which they have to leave."""

    replies: dict[str, list[Reply]] = field(default_factory=dict)
    pushes: list[Push] = field(default_factory=list)
    facts: list[AnyFact] = field(default_factory=list)
    #: Called once every frame is confirmed, and before the batch is acked. They may raise StoreUnavailable; then the
    #: frames are sent again, and these are called again.
    after_frames: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def reply(self, command: AnyCommand | Command, data: Value) -> None:
        """Answer a command with an ack that is ok."""
        self._reply(command, encode_ok(data))

    def refuse(self, command: AnyCommand | Command, refusal: Refused) -> None:
        """Answer a command with an ack that carries an error."""
        self._reply(command, encode_refusal(refusal))

    def push(self, event: PushName, payload: Value, to: list[str], except_sid: str | None = None) -> None:
        """Push an event to every socket of these users but `except_sid`. The payload is encoded once, here."""
        assert isinstance(payload, PUSHES[event])
        self.pushes.append(
            Push.model_construct(event=event, payload=payload.model_dump_json(), to=to, except_sid=except_sid)
        )

    def extend(self, other: "Effects") -> None:
        """Append everything in `other`."""
        for edge_id, replies in other.replies.items():
            self.replies.setdefault(edge_id, []).extend(replies)
        self.pushes.extend(other.pushes)
        self.facts.extend(other.facts)
        self.after_frames.extend(other.after_frames)

    def _reply(self, command: AnyCommand | Command, ack: str) -> None:
        reply = Reply.model_construct(request=command.request, ack=ack)
        self.replies.setdefault(command.edge_id, []).append(reply)
