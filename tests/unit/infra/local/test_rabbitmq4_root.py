"""RabbitMQ 4 from a Debian root."""

from pathlib import Path

import pytest

from infra.local import rabbitmq4_root
from infra.local.errors import LocalServiceError


def test_rabbitmq_4_needs_roots_rights_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(LocalServiceError, match="takes root's rights: use sudo"):
        rabbitmq4_root.scripts(tmp_path)
