from pathlib import Path

import pytest

from infra.cli.secrets import write


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `python -m infra secrets` wrote."""
    folder = tmp_path_factory.mktemp("deploy") / "secrets"
    write(folder, broker="rabbitmq", mongo="mongodb:27017", mongo_url=None, jwt_secret=True)
    return folder
