"""What a handler wants to have sent once its writes are durable."""

from dataclasses import dataclass, field

from contracts.codec import AnyCommand, encode_ok, encode_refusal
from contracts.commands import Command
from contracts.errors import Refused
from contracts.facts import AnyFact
from contracts.frames import Delivery, Reply
from contracts.pushes import PUSHES, PushName
from contracts.values import Value


@dataclass
class Effects:
    """Replies by edge, deliveries by user, facts, and the names and outcomes of what was handled."""

    replies: dict[str, list[Reply]] = field(default_factory=dict)
    deliveries: list[Delivery] = field(default_factory=list)
    facts: list[AnyFact] = field(default_factory=list)

    def reply(self, command: AnyCommand | Command, data: Value) -> None:
        """Answer a command with an ack that is ok."""
        self.reply_text(command, encode_ok(data))

    def refuse(self, command: AnyCommand | Command, refusal: Refused) -> None:
        """Answer a command with the error that it deserves."""
        self.reply_text(command, encode_refusal(refusal))

    def reply_text(self, command: AnyCommand | Command, ack: str) -> None:
        """Answer a command with an ack whose JSON text is already there."""
        reply = Reply.model_construct(request=command.request, ack=ack)
        self.replies.setdefault(command.edge_id, []).append(reply)

    def deliver(self, event: PushName, payload: Value, to: list[str], except_sid: str | None = None) -> None:
        """Push an event to every socket of these users; the payload is encoded here, once."""
        assert isinstance(payload, PUSHES[event])
        self.deliveries.append(
            Delivery.model_construct(event=event, payload=payload.model_dump_json(), to=to, except_sid=except_sid)
        )

    def add(self, other: "Effects") -> None:
        """Take over everything that another effects holds."""
        for edge_id, replies in other.replies.items():
            self.replies.setdefault(edge_id, []).extend(replies)
        self.deliveries.extend(other.deliveries)
        self.facts.extend(other.facts)
