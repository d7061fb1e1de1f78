"""Services that are given, and services that do not run."""

from pathlib import Path

import pytest

from infra.local.errors import LocalServiceError
from infra.local.ports import free_ports
from infra.local.services import ensure_services, running_services, stop_services


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("WARREN_AMQP_URL", "amqp://ada:secret@127.0.0.1:{}/"),
        ("WARREN_MONGO_URL", "mongodb://ada:secret@127.0.0.1:{}/"),
    ],
)
def test_a_given_service_that_does_not_answer_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, url: str
) -> None:
    port = free_ports(0)[0]
    monkeypatch.setenv("WARREN_AMQP_URL", "")
    monkeypatch.setenv(variable, url.format(port))
    with pytest.raises(
        LocalServiceError, match=rf"{variable} is set, but no \w+ answers at 127.0.0.1:{port}\."
    ) as caught:
        ensure_services(tmp_path)
    assert "secret" not in str(caught.value)
    assert running_services(tmp_path) == []


def test_stopping_where_nothing_was_started_does_nothing(tmp_path: Path) -> None:
    assert stop_services(tmp_path) is False
