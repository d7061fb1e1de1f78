"""Programs of services: found, or missed in one sentence."""

from pathlib import Path

import pytest

from infra.local import install
from infra.local.errors import LocalServiceError


def test_a_machine_without_mongod_gets_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LocalServiceError, match=r"No mongod was found: .*WARREN_MONGO_URL") as caught:
        install.mongod()
    assert "\n" not in str(caught.value)


def test_a_machine_without_rabbitmq_and_apt_gets_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(install, "SCRIPT_DIRECTORIES", ())
    with pytest.raises(LocalServiceError, match=r"RabbitMQ is not installed .*WARREN_AMQP_URL") as caught:
        install.rabbitmq_scripts()
    assert "\n" not in str(caught.value)


def test_another_rabbitmq_is_used_when_its_scripts_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(install.SCRIPTS, str(tmp_path))
    assert install.rabbitmq_scripts() == tmp_path
