"""Traces with OpenTelemetry, exported over OTLP/HTTP. No other module imports OpenTelemetry.

    send_message                    edge A: from the event to its ack
    └─ persistence batch            the worker that stores it; other traces of the batch link to it
       ├─ mongodb find, insert …    each command to MongoDB
       ├─ deliver reply             edge A
       ├─ deliver new_message       edge B
       └─ unread batch
          ├─ mongodb find, update …
          └─ deliver unread_updated edge B

The span of a batch belongs to the trace of its first traced item. Every other traced item gets a span of its own,
linked to the batch's span. No span contains a user id or a message body.
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

#: The AMQP header with the trace contexts: `key=traceparent`, separated by commas. The key is an item's position in a
#: bundle, or the names of what a frame contains. Source of `traceparent`: W3C Trace Context.
HEADER = "x-warren-traces"
TRACEPARENT = "traceparent"
#: Milliseconds between two exports, and the time limit of one. When the collector is away, spans are dropped.
EXPORT_INTERVAL_MS, EXPORT_LIMIT_MS = 1_000, 2_000

_propagator = TraceContextTextMapPropagator()


class OpenTelemetryTracer(Tracer):
    """Starts a trace for a sample of client events, and continues every trace that a message carries.

    The exporter and the SDK read OpenTelemetry's standard variables. A setting of Warren takes precedence when it is
    set; its default does not.
    """

    def __init__(self, settings: Settings, service: str, instance: str) -> None:
        self._sample_ratio, sampler = _sampling(settings)
        named = Resource.create({"service.name": f"warren {service}", "service.instance.id": instance})
        self._provider = TracerProvider(sampler=sampler, resource=named.merge(OTELResourceDetector().detect()))
        exporter = OTLPSpanExporter(_endpoint(settings), timeout=EXPORT_LIMIT_MS / 1000)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                exporter, schedule_delay_millis=EXPORT_INTERVAL_MS, export_timeout_millis=EXPORT_LIMIT_MS
            )
        )
        self._tracer = self._provider.get_tracer("warren")
        self._contexts: dict[int, Context] = {}

    # --- The sender's edge --------------------------------------------------------------------------------

    @override
    def start_commands(self, commands: Sequence[AnyCommand], on_replies: Sequence[OnReply]) -> Sequence[OnReply]:
        return [self._start_command(command, reply) for command, reply in zip(commands, on_replies, strict=True)]

    def _start_command(self, command: AnyCommand, on_reply: OnReply) -> OnReply:
        if not isinstance(command, ClientCommand) or random.random() >= self._sample_ratio:  # noqa: S311 - a sample
            return on_reply
        span = self._tracer.start_span(command.name, context=Context(), kind=SpanKind.SERVER)
        if not span.is_recording():
            return on_reply
        span.set_attribute("warren.edge", command.edge_id)
        self._contexts[command.request] = trace.set_span_in_context(span, Context())
        return partial(self._end_command, command.request, span, on_reply)

    def _end_command(self, request: int, span: Span, on_reply: OnReply, ack: str) -> None:
        self._contexts.pop(request, None)
        if ack_outcome(ack) != "ok":
            span.set_status(StatusCode.ERROR)
        span.end()
        on_reply(ack)

    @override
    def inject_commands(self, commands: Sequence[AnyCommand]) -> AmqpHeaders | None:
        """Each context is injected once: a command that is sent again belongs to the same trace only the first time."""
        found = ((index, self._contexts.pop(command.request, None)) for index, command in enumerate(commands))
        return _inject([(str(index), context) for index, context in found if context is not None])

    # --- Workers ------------------------------------------------------------------------------------------

    @override
    def extract(self, amqp_headers: Mapping[str, Any], items: Sequence[Item]) -> list[Traced]:
        """Ignores keys that are not the position of an item."""
        found = [(int(key), context) for key, context in _extract(amqp_headers) if key.isdecimal()]
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
        return _inject([(key, each.context) for each in traced if (key := _contents(each.item, edge_id, frame))])

    @override
    def inject_facts(self, traced: Sequence[Traced], facts: Sequence[AnyFact]) -> AmqpHeaders | None:
        """The context of a fact is that of the command that it follows from."""
        found: dict[int, Context] = {}
        for each in traced:
            for index, fact in enumerate(facts):
                if isinstance(each.item, SendMessage) and _may_follow_from(fact, each.item):
                    found.setdefault(index, each.context)
        return _inject([(str(index), context) for index, context in found.items()])

    @override
    def store_listeners(self) -> list[CommandListener]:
        return [_StoreListener(self._tracer)]

    # --- Edges that deliver -------------------------------------------------------------------------------

    @override
    def delivery_span(self, amqp_headers: Mapping[str, Any]) -> AbstractContextManager[None]:
        return self._delivery_span(amqp_headers)

    @contextmanager
    def _delivery_span(self, amqp_headers: Mapping[str, Any]) -> Iterator[None]:
        spans = [
            self._tracer.start_span(f"deliver {key}", context, SpanKind.CONSUMER)
            for key, context in _extract(amqp_headers)
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
    """Starts a span for each command to MongoDB while a batch's span is current."""

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
    """The collector's URL for traces; with None, the exporter reads OTEL_EXPORTER_OTLP_ENDPOINT."""
    return None if settings.traces_url is None else f"{settings.traces_url.rstrip('/')}/v1/traces"


def _sampling(settings: Settings) -> tuple[float, Sampler | None]:
    """The ratio of client events to start a span for, and the sampler of these spans; None means OTEL_TRACES_SAMPLER.

    Warren applies its own ratio before it makes a span, because that costs next to nothing.
    """
    if "traces_sample_ratio" in settings.model_fields_set or not os.environ.get("OTEL_TRACES_SAMPLER"):
        return settings.traces_sample_ratio, DEFAULT_ON
    return 1.0, None


# --- Trace contexts in AMQP headers -----------------------------------------------------------------------


def _contents(item: Item, edge_id: str, frame: Frame) -> str:
    """What a frame contains for a command or fact: `reply`, found by its number, and pushes, found by the id in
    them."""
    names: dict[str, None] = {}
    if isinstance(item, Command) and item.edge_id == edge_id and any(r.request == item.request for r in frame.replies):
        names["reply"] = None
    id = _id_in_pushes(item)
    names |= {push.event: None for push in frame.pushes if id and f'"{id}"' in push.payload}
    return " ".join(names)


def _id_in_pushes(item: Item) -> str | None:
    if isinstance(item, SendMessage):
        return message_id(item.payload.conversation_id, item.user_id, item.payload.client_message_id)
    return item.conversation_id if isinstance(item, MessageStored) else None


def _may_follow_from(fact: AnyFact, command: SendMessage) -> bool:
    """Whether the command may have caused the fact. Commands of one sender to one conversation are not told apart."""
    return (fact.conversation_id, fact.sender_id) == (command.payload.conversation_id, command.user_id)


def _inject(contexts: Sequence[tuple[str, Context]]) -> AmqpHeaders | None:
    parts = []
    for key, context in contexts:
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, context)
        parts.append(f"{key}={carrier[TRACEPARENT]}")
    return {HEADER: ",".join(parts)} if parts else None


def _extract(amqp_headers: Mapping[str, Any]) -> Iterator[tuple[str, Context]]:
    for part in str(amqp_headers.get(HEADER, "")).split(","):
        key, _, parent = part.partition("=")
        context = _propagator.extract({TRACEPARENT: parent}, Context())
        if trace.get_current_span(context).get_span_context().is_valid:
            yield key, context
