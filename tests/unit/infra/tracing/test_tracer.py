"""Without a collector a tracer does nothing, and costs nothing."""

from contracts.frames import Frame
from infra.tracing.tracer import Traced, Tracer
from tests.support.answers import Answers
from tests.support.sample_commands import send


def test_a_tracer_without_a_collector_lets_everything_pass() -> None:
    # Given a message on its whole way
    tracer, answers = Tracer(), Answers()
    command = send("ada", "c1", "m1")
    frame = Frame(source="w", number=1, replies=[], pushes=[])
    reply = answers.of(1)

    # Then nothing is added to it anywhere
    assert tracer.start_commands([command], [reply]) == [reply]
    assert tracer.inject_commands([command]) is None
    assert tracer.extract({"x-warren-traces": "anything"}, [command]) == []
    traced = [Traced(command, None)]
    assert tracer.inject_frame(traced, "e", frame) is None
    assert tracer.inject_facts(traced, []) is None
    assert tracer.store_listeners() == []
    with tracer.batch_span("persistence", [], 1), tracer.delivery_span({}):
        pass
    tracer.stop()
