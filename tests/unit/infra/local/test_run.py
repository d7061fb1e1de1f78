"""The settings that `make run` gives to its processes."""

import stat
from pathlib import Path

import pytest

from infra.local.run import kept_secret, prepare_environment
from infra.local.services import Services


def test_given_settings_win_and_the_rest_is_written_down_for_its_owner_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    services = Services("amqp://here", "http://here", "mongodb://here", started_by_us=True)
    monkeypatch.setenv("WARREN_MONGO_DATABASE", "it's mine")
    monkeypatch.delenv("WARREN_JWT_SECRET", raising=False)
    environment = prepare_environment(services, tmp_path)
    assert environment["WARREN_AMQP_URL"] == "amqp://here"
    assert environment["WARREN_MONGO_DATABASE"] == "it's mine"
    assert environment["WARREN_JWT_SECRET"] == kept_secret(tmp_path / "jwt_secret")
    for name in ("environment", "jwt_secret"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
