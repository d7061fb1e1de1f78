"""Where a message can be followed from socket to socket. By default nothing follows it, and these places do nothing.

`start` puts something behind them where WARREN_TRACES_URL is set: infra/tracing/otel.py, the only file that knows
OpenTelemetry. Who is followed is decided once, at the edge, for each client event. The trace travels in the headers of
AMQP messages, never in the contracts: a process that knows nothing of traces ignores them.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from pymongo.monitoring import CommandListener

from contracts.codec import AnyCommand, Item
from contracts.facts import AnyFact
from contracts.frames import Frame

#: Headers of an AMQP message.
AmqpHeaders = dict[str, Any]
#: Gets the JSON text of a command's ack.
OnReply = Callable[[str], None]

_NOTHING = nullcontext()


@dataclass
class Traced:
    """A command or fact that is followed, and what its next span is a child of."""

    item: Item
    context: Any


class Tracer:
    """The places, in the order in which a message passes them. Here, nobody is followed."""

    def start_commands(self, commands: Sequence[AnyCommand], on_replies: Sequence[OnReply]) -> Sequence[OnReply]:
        """An edge sends commands; what it returns is called with their acks."""
        return on_replies

    def inject_commands(self, commands: Sequence[AnyCommand]) -> AmqpHeaders | None:
        """The headers of a bundle."""
        return None

    def extract(self, headers: Mapping[str, Any], items: Sequence[Item]) -> list[Traced]:
        """Those of a bundle's commands or facts that are followed."""
        return []

    def batch_span(self, queue: str, traced: Sequence[Traced], size: int) -> AbstractContextManager[None]:
        """A worker handles a batch of so many."""
        return _NOTHING

    def inject_frame(self, traced: Sequence[Traced], edge_id: str, frame: Frame) -> AmqpHeaders | None:
        """The headers of a frame that came of a batch."""
        return None

    def inject_facts(self, traced: Sequence[Traced], facts: Sequence[AnyFact]) -> AmqpHeaders | None:
        """The headers of a bundle of facts that came of batches."""
        return None

    def delivery_span(self, headers: Mapping[str, Any]) -> AbstractContextManager[None]:
        """An edge hands out a frame that has headers."""
        return _NOTHING

    def store_listeners(self) -> list[CommandListener]:
        """What is told of each command to MongoDB."""
        return []

    def stop(self) -> None:
        """Send what was not sent yet; takes seconds at most."""
