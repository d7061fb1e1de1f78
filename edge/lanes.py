"""Order: what one socket sends into one conversation is stored in the order in which it was sent.

A lane has at most one group of messages on its way. What comes meanwhile waits, and leaves together as the next
group: in one AMQP message, so that one worker stores it in order, however many workers compete.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from contracts.commands import SendMessage
from edge.relay import OnReply, Relay

#: Messages of one lane that travel together at most.
GROUP = 50


@dataclass(slots=True)
class Lane:
    """One socket's way into one conversation."""

    on_their_way: int = 0
    waiting: list[tuple[SendMessage, OnReply]] = field(default_factory=list)


class Lanes:
    """All lanes of an edge; an idle lane costs nothing. Bounded by each socket's events in flight."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._lanes: dict[tuple[str, str], Lane] = {}

    def send(self, command: SendMessage, on_reply: OnReply) -> None:
        """Send a message after everything that its lane was given before."""
        key = (command.sid, command.payload.conversation_id)
        lane = self._lanes.setdefault(key, Lane())
        lane.waiting.append((command, on_reply))
        if not lane.on_their_way:
            self._depart(key, lane)

    def _depart(self, key: tuple[str, str], lane: Lane) -> None:
        group, lane.waiting = lane.waiting[:GROUP], lane.waiting[GROUP:]
        lane.on_their_way = len(group)
        commands = [command for command, _ in group]
        self._relay.send(commands, [self._arrival(key, lane, on_reply) for _, on_reply in group])

    def _arrival(self, key: tuple[str, str], lane: Lane, on_reply: OnReply) -> Callable[[str], None]:
        def arrived(ack: str) -> None:
            on_reply(ack)
            lane.on_their_way -= 1
            if lane.on_their_way:
                return
            if lane.waiting:
                self._depart(key, lane)
            else:
                self._lanes.pop(key, None)

        return arrived
