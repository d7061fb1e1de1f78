"""Keeps order: messages of one socket to one conversation are stored in the order in which they were sent.

A lane has at most one group of messages in flight. Messages that arrive meanwhile wait, and leave together as the next
group, in one AMQP message. So one worker stores a whole group in order, however many workers compete.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from contracts.commands import SendMessage
from edge.relay import OnReply, Relay

#: Messages in one group at most.
MAX_GROUP = 50


@dataclass(slots=True)
class Lane:
    """The messages of one socket to one conversation."""

    in_flight: int = 0
    waiting: list[tuple[SendMessage, OnReply]] = field(default_factory=list)


class Lanes:
    """All lanes of an edge. A lane exists while it has messages; each socket's limit of events in flight bounds it."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._lanes: dict[tuple[str, str], Lane] = {}

    def send(self, command: SendMessage, on_reply: OnReply) -> None:
        """Send a message after all earlier messages of its lane."""
        key = (command.sid, command.payload.conversation_id)
        lane = self._lanes.setdefault(key, Lane())
        lane.waiting.append((command, on_reply))
        if not lane.in_flight:
            self._send_group(key, lane)

    def _send_group(self, key: tuple[str, str], lane: Lane) -> None:
        group, lane.waiting = lane.waiting[:MAX_GROUP], lane.waiting[MAX_GROUP:]
        lane.in_flight = len(group)
        commands = [command for command, _ in group]
        self._relay.send(commands, [self._on_reply(key, lane, on_reply) for _, on_reply in group])

    def _on_reply(self, key: tuple[str, str], lane: Lane, on_reply: OnReply) -> Callable[[str], None]:
        def replied(ack: str) -> None:
            on_reply(ack)
            lane.in_flight -= 1
            if lane.in_flight:
                return
            if lane.waiting:
                self._send_group(key, lane)
            else:
                self._lanes.pop(key, None)

        return replied
