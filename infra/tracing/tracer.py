"""The tracer's interface: the points of a message's way at which a span starts, or a trace context is injected.

Here all methods do nothing. `infra.tracing.start` replaces the tracer by the one in infra/tracing/otel.py when tracing
is configured. The edge decides once, for each client event, whether to start a trace. Trace contexts travel in the
headers of AMQP messages and not in the contracts, so a process without tracing ignores them.
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
#: Called with the JSON text of a command's ack.
OnReply = Callable[[str], None]

_NO_SPAN = nullcontext()


@dataclass
class Traced:
    """A traced command or fact, and the trace context of which its next span is a child."""

    item: Item
    context: Any


class Tracer:
    """Traces nothing. The methods are in the order in which a message reaches them."""

    def start_commands(self, commands: Sequence[AnyCommand], on_replies: Sequence[OnReply]) -> Sequence[OnReply]:
        """Start the spans of commands that an edge sends. Returns the callbacks to call with their acks."""
        return on_replies

    def inject_commands(self, commands: Sequence[AnyCommand]) -> AmqpHeaders | None:
        """The AMQP headers with the trace contexts of a bundle's commands; None when no command is traced."""
        return None

    def extract(self, amqp_headers: Mapping[str, Any], items: Sequence[Item]) -> list[Traced]:
        """The traced items of a bundle, with their trace contexts."""
        return []

    def batch_span(self, queue: str, traced: Sequence[Traced], size: int) -> AbstractContextManager[None]:
        """The span of a batch of `size` items while its handler runs. Updates the contexts in `traced`."""
        return _NO_SPAN

    def inject_frame(self, traced: Sequence[Traced], edge_id: str, frame: Frame) -> AmqpHeaders | None:
        """The AMQP headers with the trace contexts of what a frame contains."""
        return None

    def inject_facts(self, traced: Sequence[Traced], facts: Sequence[AnyFact]) -> AmqpHeaders | None:
        """The AMQP headers with the trace contexts of a bundle of facts."""
        return None

    def delivery_span(self, amqp_headers: Mapping[str, Any]) -> AbstractContextManager[None]:
        """The spans of the replies and pushes in a frame while an edge delivers it."""
        return _NO_SPAN

    def store_listeners(self) -> list[CommandListener]:
        """Listeners of the MongoDB driver that start a span for each command."""
        return []

    def stop(self) -> None:
        """Export the remaining spans; blocks for a few seconds at most."""
