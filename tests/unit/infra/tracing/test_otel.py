"""OpenTelemetry's tracer: one trace from the event to its pushes, and headers of others do no harm."""

from collections.abc import Iterator, Sequence

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from contracts.codec import Item
from contracts.commands import SendMessage
from contracts.facts import MessageStored
from contracts.frames import Frame, Push, Reply
from contracts.ids import message_id
from contracts.reports import LeaseRenew
from infra.settings import Settings
from infra.tracing.otel import HEADER, OpenTelemetryTracer
from infra.tracing.tracer import AmqpHeaders, Traced
from tests.support.answers import Answers
from tests.support.collector import Collector, running_collector
from tests.support.sample_commands import send


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of OpenTelemetry's own."""
    for name in ("OTEL_TRACES_SAMPLER", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SERVICE_NAME", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


def message(number: int) -> SendMessage:
    """A message by its number."""
    return send("ada", "c1", f"m{number}").model_copy(update={"request": number, "edge_id": "e"})


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as collector:
        yield collector


def tracer_to(collector: Collector, ratio: float = 1.0) -> OpenTelemetryTracer:
    settings = Settings(traces_url=collector.url, traces_sample_ratio=ratio)
    return OpenTelemetryTracer(settings, "test", "test-1")


@pytest.fixture
def tracer(collector: Collector) -> OpenTelemetryTracer:
    """A tracer that traces every event."""
    return tracer_to(collector)


def spans(tracer: OpenTelemetryTracer, collector: Collector) -> dict[str, Span]:
    """Stop, and return all spans by name, each name being there once."""
    tracer.stop()
    found = {span.name: span for _, _, span in collector.spans}
    assert len(found) == len(collector.spans)
    return found


def injected(tracer: OpenTelemetryTracer, *commands: SendMessage) -> AmqpHeaders:
    """The headers of a bundle of commands whose spans have just started."""
    answers = Answers()
    tracer.start_commands(commands, [answers.of(command.request) for command in commands])
    headers = tracer.inject_commands(commands)
    assert headers is not None
    return headers


def of_worker(tracer: OpenTelemetryTracer, headers: AmqpHeaders, items: Sequence[Item], queue: str) -> list[Traced]:
    """What a worker has of a bundle after it has handled it."""
    traced = tracer.extract(headers, items)
    with tracer.batch_span(queue, traced, len(items)):
        pass
    return traced


# --- One trace --------------------------------------------------------------------------------------------


def test_one_trace_leads_from_the_event_to_the_count_of_its_reader(
    tracer: OpenTelemetryTracer, collector: Collector
) -> None:
    # Given a message that an edge sends, a worker stores, and another counts
    answers, command = Answers(), message(1)
    (on_reply,) = tracer.start_commands([command], [answers.of(1)])
    headers = tracer.inject_commands([command])
    assert headers is not None
    stored = of_worker(tracer, headers, [command], "persistence")
    id = message_id("c1", "ada", "m1")
    frame = Frame(
        source="w",
        number=1,
        replies=[Reply(request=1, ack="{}")],
        pushes=[Push(event="new_message", payload=f'{{"message":{{"id":"{id}"}}}}', to=["bob"])],
    )
    to_edge = tracer.inject_frame(stored, "e", frame)
    fact = MessageStored(conversation_id="c1", seq=1, sender_id="ada", sender_was_behind=False)
    to_unread = tracer.inject_facts(stored, [fact])
    assert to_edge is not None
    assert to_unread is not None

    # When the edge delivers, the fact is counted, and the sender gets the ack
    with tracer.delivery_span(to_edge):
        pass
    of_worker(tracer, to_unread, [fact], "unread")
    on_reply('{"ok":true}')

    # Then each is a child of what led to it
    found = spans(tracer, collector)
    assert set(found) == {"send_message", "persistence batch", "deliver reply new_message", "unread batch"}
    assert len({span.trace_id for span in found.values()}) == 1
    parents = {
        "persistence batch": "send_message",
        "deliver reply new_message": "persistence batch",
        "unread batch": "persistence batch",
    }
    for child, parent in parents.items():
        assert found[child].parent_span_id == found[parent].span_id, child
    assert found["send_message"].parent_span_id == b""
    assert answers.acks == {1: ['{"ok":true}']}


def test_no_span_tells_who_or_what(tracer: OpenTelemetryTracer, collector: Collector) -> None:
    command = message(1)
    of_worker(tracer, injected(tracer, command), [command], "persistence")
    tracer.stop()
    text = " ".join(str(span) for _, _, span in collector.spans)
    assert "ada" not in text
    assert "hello" not in text


def test_an_event_that_was_refused_is_an_error(tracer: OpenTelemetryTracer, collector: Collector) -> None:
    answers = Answers()
    replies = tracer.start_commands([message(1), message(2)], [answers.of(1), answers.of(2)])
    replies[0]('{"ok":false,"error":{"code":"forbidden"}}')
    replies[1]('{"ok":true,"data":{}}')
    tracer.stop()
    codes = [span.status.code for _, _, span in collector.spans]
    assert codes == [Status.STATUS_CODE_ERROR, Status.STATUS_CODE_UNSET]


def test_other_traces_of_a_batch_are_linked_to_it(tracer: OpenTelemetryTracer, collector: Collector) -> None:
    # Given a batch of three messages, each with a trace of its own, and one without
    commands = [message(number) for number in (1, 2, 3)]
    traced = of_worker(tracer, injected(tracer, *commands), [*commands, message(4)], "persistence")
    assert [each.item for each in traced] == commands
    tracer.stop()

    # Then the batch's span is of the first, and the others have one that links to it and back
    batch = next(span for _, _, span in collector.spans if span.name == "persistence batch")
    others = [span for _, _, span in collector.spans if span.name == "persistence send_message"]
    assert len(others) == 2
    assert {link.span_id for span in others for link in span.links} == {batch.span_id}
    assert {link.trace_id for link in batch.links} == {span.trace_id for span in others}
    assert len({span.trace_id for span in (batch, *others)}) == 3


# --- What is not traced -----------------------------------------------------------------------------------


def test_a_share_of_nothing_traces_nothing(collector: Collector) -> None:
    tracer, answers = tracer_to(collector, ratio=0.0), Answers()
    replies = [answers.of(number) for number in range(50)]
    assert list(tracer.start_commands([message(number) for number in range(50)], replies)) == replies
    assert tracer.inject_commands([message(number) for number in range(50)]) is None
    assert spans(tracer, collector) == {}


def test_what_edges_report_by_themselves_is_not_traced(tracer: OpenTelemetryTracer, collector: Collector) -> None:
    answers = Answers()
    report, reply = LeaseRenew(edge_id="e", request=1, at=0, epoch=1), answers.of(1)
    assert list(tracer.start_commands([report], [reply])) == [reply]
    assert tracer.inject_commands([report]) is None
    assert spans(tracer, collector) == {}


def test_a_command_that_is_sent_again_belongs_to_its_trace_only_the_first_time(
    tracer: OpenTelemetryTracer, collector: Collector
) -> None:
    command = message(1)
    injected(tracer, command)
    assert tracer.inject_commands([command]) is None
    tracer.stop()


def test_a_frame_and_facts_that_carry_nothing_of_a_trace_have_no_headers(
    tracer: OpenTelemetryTracer, collector: Collector
) -> None:
    command = message(1)
    traced = of_worker(tracer, injected(tracer, command), [command], "persistence")
    frame = Frame(source="w", number=1, replies=[Reply(request=1, ack="{}")], pushes=[])
    other_fact = MessageStored(conversation_id="c2", seq=1, sender_id="ada", sender_was_behind=False)
    assert tracer.inject_frame(traced, "another edge", frame) is None
    assert tracer.inject_facts(traced, [other_fact]) is None
    tracer.stop()


PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        7,
        b"bytes",
        ",,,=,",
        "0",
        "0=",
        "0=nonsense",
        "0=00-00000000000000000000000000000000-0000000000000000-01",
        f"5={PARENT}",
        f"-1={PARENT}",
        f"²={PARENT}",
        f"x={PARENT}",
        f"={PARENT}",
    ],
)
def test_headers_that_are_nothing_of_ours_are_ignored(
    tracer: OpenTelemetryTracer, collector: Collector, value: object
) -> None:
    headers = {} if value is None else {HEADER: value}
    assert tracer.extract(headers, [message(1)]) == []
    with tracer.batch_span("persistence", [], 1):
        pass
    tracer.stop()
    assert collector.spans == []


def test_a_header_of_another_process_is_carried_on(tracer: OpenTelemetryTracer, collector: Collector) -> None:
    of_worker(tracer, {HEADER: f"0={PARENT}"}, [message(1)], "persistence")
    (span,) = spans(tracer, collector).values()
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (PARENT.split("-")[1], PARENT.split("-")[2])


def test_a_span_of_a_batch_that_fails_says_so(tracer: OpenTelemetryTracer, collector: Collector) -> None:
    command = message(1)
    traced = tracer.extract(injected(tracer, command), [command])
    with pytest.raises(ValueError, match="poison"), tracer.batch_span("persistence", traced, 1):
        raise ValueError("poison")
    (span,) = spans(tracer, collector).values()
    assert span.status.code == Status.STATUS_CODE_ERROR
