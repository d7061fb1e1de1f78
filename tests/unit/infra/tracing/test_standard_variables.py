"""Tracing heeds OpenTelemetry's own variables, and Warren's settings win over them."""

import os
import sys
from collections.abc import Iterator

import pytest

from contracts.commands import SendMessage, SendMessagePayload
from infra import tracing
from infra.settings import Settings, SettingsError, load
from infra.tracing.tracer import Tracer
from tests.support.collector import Collector, running_collector

#: Enough to tell a share of a half from all and from none, by 12 standard deviations.
EVENTS = 600


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a setting nor a tracer of this process's own."""
    for name in [name for name in os.environ if name.startswith(("WARREN_", "OTEL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(tracing, "current", Tracer())


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector on a port of its own."""
    with running_collector() as collector:
        yield collector


def send() -> None:
    """Start an edge's tracer, send events, get their acks, and stop: then every span was sent."""
    tracing.start(load(Settings), "edge", "edge-1")
    for request in range(EVENTS):
        payload = SendMessagePayload(conversation_id="g" * 32, client_message_id=f"m{request}", body="hello")
        command = SendMessage(edge_id="edge-1", request=request, at=0, user_id="ada", sid="s", payload=payload)
        (on_reply,) = tracing.current.start_commands([command], [lambda ack: None])
        on_reply('{"ok":true}')
    tracing.current.stop()


def test_without_a_collector_nothing_is_traced() -> None:
    tracing.start(load(Settings), "edge", "edge-1")
    assert type(tracing.current) is Tracer


def test_the_standard_endpoint_turns_traces_on(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20key")
    monkeypatch.setenv("WARREN_TRACES_SAMPLE_RATIO", "1")
    send()
    assert len(collector.spans) == EVENTS
    assert {headers["authorization"] for headers in collector.headers} == {"Bearer key"}


@pytest.mark.parametrize(
    ("endpoint", "switch", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SDK_DISABLED", "true"),
        ("WARREN_TRACES_URL", "OTEL_SDK_DISABLED", "true"),
    ],
)
def test_the_standard_switches_turn_traces_off(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, switch: str, value: str
) -> None:
    monkeypatch.setenv(endpoint, "http://127.0.0.1:1")
    monkeypatch.setenv(switch, value)
    tracing.start(load(Settings), "edge", "edge-1")
    assert type(tracing.current) is Tracer


def test_warrens_collector_wins(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1/v1/traces")
    monkeypatch.setenv("WARREN_TRACES_URL", collector.url)
    monkeypatch.setenv("WARREN_TRACES_SAMPLE_RATIO", "1")
    send()
    assert len(collector.spans) == EVENTS


@pytest.mark.parametrize(
    ("sampler", "argument", "share"),
    [
        ("always_on", "", 1),
        ("always_off", "", 0),
        ("parentbased_traceidratio", "0.5", 0.5),
        ("traceidratio", "0.5", 0.5),
    ],
)
def test_the_standard_sampler_decides_where_warrens_share_is_not_set(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, sampler: str, argument: str, share: float
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    send()
    assert abs(len(collector.spans) - share * EVENTS) <= (0 if share in (0, 1) else EVENTS / 4)


def test_warrens_share_wins_over_the_standard_sampler(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    monkeypatch.setenv("WARREN_TRACES_URL", collector.url)
    monkeypatch.setenv("WARREN_TRACES_SAMPLE_RATIO", "1")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    send()
    assert len(collector.spans) == EVENTS


def test_a_process_has_its_own_name_unless_the_standard_variables_give_another(
    monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    monkeypatch.setenv("WARREN_TRACES_URL", collector.url)
    monkeypatch.setenv("WARREN_TRACES_SAMPLE_RATIO", "1")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging")
    send()
    monkeypatch.setenv("OTEL_SERVICE_NAME", "chat")
    send()
    own, given = collector.resources[0], collector.resources[-1]
    assert (own["service.name"], own["service.instance.id"]) == ("warren edge", "edge-1")
    assert (given["service.name"], given["service.instance.id"]) == ("chat", "edge-1")
    assert own["deployment.environment.name"] == given["deployment.environment.name"] == "staging"


def test_a_process_without_the_extra_refuses_only_its_own_setting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "infra.tracing.otel", None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    tracing.start(load(Settings), "edge", "edge-1")
    assert "warren[otel] is not installed" in caplog.text
    monkeypatch.setenv("WARREN_TRACES_URL", "http://127.0.0.1:1")
    with pytest.raises(SettingsError, match="WARREN_TRACES_URL needs warren"):
        tracing.start(load(Settings), "edge", "edge-1")
