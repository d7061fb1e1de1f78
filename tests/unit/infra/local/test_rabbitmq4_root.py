"""RabbitMQ 4 from a Debian root."""

from pathlib import Path

import pytest

from infra.local import rabbitmq4_root
from infra.local.errors import LocalServiceError


def test_rabbitmq_4_needs_roots_rights_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(LocalServiceError, match="takes root's rights: use sudo"):
        rabbitmq4_root.scripts(tmp_path)


def test_programs_of_the_root_see_our_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a root in which nothing can be run
    monkeypatch.setattr("os.geteuid", lambda: 0)
    (tmp_path / "rabbitmq4" / "root").mkdir(parents=True)
    with pytest.raises(LocalServiceError, match="RabbitMQ 4 cannot be run from its root"):
        rabbitmq4_root.scripts(tmp_path)
    # Then the script that was tried mounts our directory, where nodes keep their data
    assert f"for seen in {tmp_path} " in (tmp_path / "rabbitmq4" / "bin" / "rabbitmqctl").read_text()
