"""`python -m tests.run_with_rabbitmq4`: the tests that talk to a broker, against RabbitMQ 4 instead of the system's.

One node of version 4 is the broker of all tests; those that break or reconfigure brokers start further ones of the
same version. MongoDB is the usual one.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from infra.local import rabbitmq4_root
from infra.local.errors import LocalServiceError
from infra.local.install import SCRIPTS
from infra.local.paths import STACK
from infra.local.rabbitmq import RabbitNode

ROOT = Path(__file__).resolve().parents[1]
#: What is run unless something else is asked for. `test_local_services` has its own view of which broker there is.
TESTS = (
    "tests/integration",
    "tests/e2e",
    "tests/faults/test_faults.py",
    "--ignore=tests/integration/test_local_services.py",
)


def main(
    pytest: Annotated[list[str] | None, typer.Argument(help="Arguments of pytest, instead of the usual tests.")] = None,
    khepri: Annotated[bool, typer.Option(help="Keep queues and bindings in Khepri, the default from 4.2 on.")] = False,
) -> None:
    """Run the broker-facing tests against RabbitMQ 4 and end as pytest does."""
    try:
        os.environ[SCRIPTS] = str(rabbitmq4_root.scripts())
        with tempfile.TemporaryDirectory(prefix="node-", dir=STACK / "rabbitmq4") as directory:
            node = RabbitNode(Path(directory))
            try:
                sys.exit(_run(node.start(), pytest or list(TESTS), khepri=khepri))
            finally:
                node.stop()
    except LocalServiceError as error:
        sys.exit(str(error))


def _run(node: RabbitNode, arguments: list[str], *, khepri: bool) -> int:
    if khepri:
        node.ctl("enable_feature_flag", "--opt-in", "khepri_db")
    print(f"RabbitMQ {node.ctl('version').strip()}{', with Khepri' if khepri else ''}", flush=True)
    environment = {"WARREN_AMQP_URL": node.amqp_url, "WARREN_MANAGEMENT_URL": node.management_url}
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=False).returncode


if __name__ == "__main__":
    typer.run(main)
