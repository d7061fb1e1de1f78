"""Traces by OpenTelemetry, sent over OTLP/HTTP: the only file that knows it.

    send_message                    edge A: from the event to its ack
    └─ persistence batch            the worker that stored it; linked from the other traces of the batch
       ├─ mongodb find, insert …    each command to the store
       ├─ deliver reply             edge A
       ├─ deliver new_message       edge B
       └─ unread batch
          ├─ mongodb find, update …
          └─ deliver unread_updated edge B

A batch belongs to the trace of the first that is followed in it; each other has a span of its own for it, with a link
there. No span names a user, or shows what was said.
"""

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Sampler
from opentelemetry.trace import Link, Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from typing_extensions import override

from contracts.codec import AnyCommand, Item, ack_outcome
from contracts.commands import ClientCommand, Command, SendMessage
from contracts.facts import AnyFact, MessageStored
from contracts.frames import Frame
from contracts.ids import message_id
from infra.settings import Settings
from infra.tracing.tracer import AmqpHeaders, OnReply, Traced, Tracer

#: The AMQP header: for each that is followed, `what=traceparent`, by commas; the traceparent is W3C's.
HEADER = "x-warren-traces"
TRACEPARENT = "traceparent"
#: Milliseconds that spans wait for each other, and that sending them may take; a collector that is away costs nothing
#: but spans.
DELAY_MS, SEND_LIMIT_MS = 1_000, 2_000

_propagator = TraceContextTextMapPropagator()


class OpenTelemetryTracer(Tracer):
    """Follows a share of all client events, and whatever comes with a trace.

    The exporter and the SDK read OpenTelemetry's own variables. A setting of Warren's wins over them where it is set;
    its default does not.
    """

    def __init__(self, settings: Settings, service: str, instance: str) -> None:
        self._share, sampler = _sampling(settings)
        named = Resource.create({"service.name": f"warren {service}", "service.instance.id": instance})
        self._provider = TracerProvider(sampler=sampler, resource=named.merge(OTELResourceDetector().detect()))
        exporter = OTLPSpanExporter(_endpoint(settings), timeout=SEND_LIMIT_MS / 1000)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, schedule_delay_millis=DELAY_MS, export_timeout_millis=SEND_LIMIT_MS)
        )
        self._tracer = self._provider.get_tracer("warren")
        self._asking: dict[int, Context] = {}

    # --- At the edge that was asked -----------------------------------------------------------------------

    @override
    def start_commands(self, commands: Sequence[AnyCommand], on_replies: Sequence[OnReply]) -> Sequence[OnReply]:
        return [self._follow(command, reply) for command, reply in zip(commands, on_replies, strict=True)]

    def _follow(self, command: AnyCommand, on_reply: OnReply) -> OnReply:
        if not isinstance(command, ClientCommand) or random.random() >= self._share:  # noqa: S311 - a sample
            return on_reply
        span = self._tracer.start_span(command.name, context=Context(), kind=SpanKind.SERVER)
        if not span.is_recording():
            return on_reply
        span.set_attribute("warren.edge", command.edge_id)
        self._asking[command.request] = trace.set_span_in_context(span, Context())
        return partial(self._answered, command.request, span, on_reply)

    def _answered(self, request: int, span: Span, on_reply: OnReply, ack: str) -> None:
        self._asking.pop(request, None)
        if ack_outcome(ack) != "ok":
            span.set_status(StatusCode.ERROR)
        span.end()
        on_reply(ack)

    @override
    def inject_commands(self, commands: Sequence[AnyCommand]) -> AmqpHeaders | None:
        """Take along the contexts of those that are asked here."""
        found = ((index, self._asking.pop(command.request, None)) for index, command in enumerate(commands))
        return _headers([(str(index), context) for index, context in found if context is not None])

    # --- At a worker --------------------------------------------------------------------------------------

    @override
    def extract(self, headers: Mapping[str, Any], items: Sequence[Item]) -> list[Traced]:
        """Find them again at the other end."""
        found = [(int(what), context) for what, context in _contexts(headers) if what.isdecimal()]
        return [Traced(items[index], context) for index, context in found if index < len(items)]

    @override
    def batch_span(self, queue: str, traced: Sequence[Traced], size: int) -> AbstractContextManager[None]:
        return self._batch_span(queue, traced, size) if traced else super().batch_span(queue, traced, size)

    @contextmanager
    def _batch_span(self, queue: str, traced: Sequence[Traced], size: int) -> Iterator[None]:
        first, *others = traced
        batch = self._tracer.start_span(
            f"{queue} batch",
            context=first.context,
            kind=SpanKind.CONSUMER,
            links=[Link(trace.get_current_span(other.context).get_span_context()) for other in others],
            attributes={"messaging.system": "rabbitmq", "messaging.batch.message_count": size},
        )
        to_batch = [Link(batch.get_span_context())]
        spans = [
            self._tracer.start_span(f"{queue} {other.item.name}", other.context, SpanKind.CONSUMER, links=to_batch)
            for other in others
        ]
        for each, span in zip(traced, (batch, *spans), strict=True):
            each.context = trace.set_span_in_context(span, Context())
        try:
            with trace.use_span(batch, end_on_exit=True):
                yield
        finally:
            for span in spans:
                span.end()

    @override
    def inject_frame(self, traced: Sequence[Traced], edge_id: str, frame: Frame) -> AmqpHeaders | None:
        return _headers([(what, each.context) for each in traced if (what := _part(each.item, edge_id, frame))])

    @override
    def inject_facts(self, traced: Sequence[Traced], facts: Sequence[AnyFact]) -> AmqpHeaders | None:
        """Take along the context of the command that a fact came of."""
        found: dict[int, Context] = {}
        for each in traced:
            for index, fact in enumerate(facts):
                if isinstance(each.item, SendMessage) and _came_of(fact, each.item):
                    found.setdefault(index, each.context)
        return _headers([(str(index), context) for index, context in found.items()])

    @override
    def store_listeners(self) -> list[CommandListener]:
        return [_StoreListener(self._tracer)]

    # --- At the edges that get something ------------------------------------------------------------------

    @override
    def delivery_span(self, headers: Mapping[str, Any]) -> AbstractContextManager[None]:
        return self._delivery_span(headers)

    @contextmanager
    def _delivery_span(self, headers: Mapping[str, Any]) -> Iterator[None]:
        spans = [
            self._tracer.start_span(f"deliver {what}", context, SpanKind.CONSUMER)
            for what, context in _contexts(headers)
        ]
        try:
            yield
        finally:
            for span in spans:
                span.end()

    @override
    def stop(self) -> None:
        self._provider.shutdown()


class _StoreListener(CommandListener):
    """A span for each command to MongoDB that a followed batch sends."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self._spans: dict[int, Span] = {}

    @override
    def started(self, event: CommandStartedEvent) -> None:
        if not trace.get_current_span().is_recording():
            return
        name = event.command_name
        span = self._tracer.start_span(f"mongodb {name}", kind=SpanKind.CLIENT)
        span.set_attributes(
            {"db.system.name": "mongodb", "db.operation.name": name, "db.namespace": event.database_name}
        )
        if isinstance(collection := event.command.get(name), str):
            span.set_attribute("db.collection.name", collection)
        self._spans[event.request_id] = span

    @override
    def succeeded(self, event: CommandSucceededEvent) -> None:
        if (span := self._spans.pop(event.request_id, None)) is not None:
            span.end()

    @override
    def failed(self, event: CommandFailedEvent) -> None:
        if (span := self._spans.pop(event.request_id, None)) is not None:
            span.set_status(StatusCode.ERROR)
            span.end()


# --- Settings ---------------------------------------------------------------------------------------------


def _endpoint(settings: Settings) -> str | None:
    """Where to send traces; None leaves that to the exporter, which reads OTEL_EXPORTER_OTLP_ENDPOINT."""
    return None if settings.traces_url is None else f"{settings.traces_url.rstrip('/')}/v1/traces"


def _sampling(settings: Settings) -> tuple[float, Sampler | None]:
    """The share of client events to start a span for, and what decides about that span; None: OTEL_TRACES_SAMPLER.

    A share is decided before a span is made, which costs next to nothing.
    """
    if "traces_share" in settings.model_fields_set or not os.environ.get("OTEL_TRACES_SAMPLER"):
        return settings.traces_share, DEFAULT_ON
    return 1.0, None


# --- What belongs to what ---------------------------------------------------------------------------------


def _part(item: Item, edge_id: str, frame: Frame) -> str:
    """What a frame has of a command or fact: its reply, by its number, and pushes about it, by the id in them."""
    parts: dict[str, None] = {}
    if isinstance(item, Command) and item.edge_id == edge_id and any(r.request == item.request for r in frame.replies):
        parts["reply"] = None
    made = _made(item)
    parts |= {push.event: None for push in frame.pushes if made and f'"{made}"' in push.payload}
    return " ".join(parts)


def _made(item: Item) -> str | None:
    if isinstance(item, SendMessage):
        return message_id(item.payload.conversation_id, item.user_id, item.payload.client_message_id)
    return item.conversation_id if isinstance(item, MessageStored) else None


def _came_of(fact: AnyFact, command: SendMessage) -> bool:
    """Whether a fact may be of this command: of several by one sender in one batch, each counts as all."""
    return (fact.conversation_id, fact.sender_id) == (command.payload.conversation_id, command.user_id)


def _headers(contexts: Sequence[tuple[str, Context]]) -> AmqpHeaders | None:
    parts = []
    for what, context in contexts:
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, context)
        parts.append(f"{what}={carrier[TRACEPARENT]}")
    return {HEADER: ",".join(parts)} if parts else None


def _contexts(headers: Mapping[str, Any]) -> Iterator[tuple[str, Context]]:
    for part in str(headers.get(HEADER, "")).split(","):
        what, _, parent = part.partition("=")
        context = _propagator.extract({TRACEPARENT: parent}, Context())
        if trace.get_current_span(context).get_span_context().is_valid:
            yield what, context
