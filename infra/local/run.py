"""`make run`: all of Warren in one terminal, with services of its own unless they are given."""

import asyncio
import json
import os
import secrets
from pathlib import Path
from typing import Annotated

import typer

from infra.local import foreground
from infra.local.errors import LocalServiceError
from infra.local.foreground import DRAIN_SECONDS, until_interrupted, use_environment, write_environment, write_private
from infra.local.paths import LOGS, STACK
from infra.local.ports import LOOPBACK, is_free
from infra.local.services import Services, using_services
from infra.local.stack import WORKER_KINDS, declare_topology, edge_process, worker_process

#: Settings that say how tokens are checked; with none of them given, a secret is made up and kept.
TOKEN_SETTINGS = ("WARREN_JWT_SECRET", "WARREN_JWT_PUBLIC_KEY", "WARREN_JWT_JWKS_URL")

BANNER = """
Warren is up; Ctrl-C stops it.

  Page      http://127.0.0.1:{edge_port}/
  Console   {services.management_url}
  Token     curl -X POST http://127.0.0.1:{edge_port}/dev/token \\
              -H 'content-type: application/json' -d '{{"user_id":"ada","name":"Ada"}}'
  Logs      {logs}

In another terminal, for `python -m infra …` and for more workers or edges by hand:

  {use}
"""


def main(
    edge_port: Annotated[int, typer.Option(help="Port of the first edge; the second takes the next.")] = 8001,
    worker_port: Annotated[int, typer.Option(help="Port of the first worker's health; the others follow.")] = 8011,
) -> None:
    """Run two edges and one worker of each kind until Ctrl-C or SIGTERM, then stop them in order."""
    edge_ports = [edge_port, edge_port + 1]
    worker_ports = list(range(worker_port, worker_port + len(WORKER_KINDS)))
    with until_interrupted("Warren"):
        refuse_taken(edge_ports + worker_ports)
        typer.echo("Starting RabbitMQ and MongoDB, unless they run.")
        with using_services() as services:
            run(services, edge_ports, worker_ports)


def run(services: Services, edge_ports: list[int], worker_ports: list[int]) -> None:
    """Run Warren on these services and ports. Raises KeyboardInterrupt, or LocalServiceError."""
    environment = prepare_environment(services, STACK)
    inherited = {**os.environ, **environment}
    # The page at either edge knows both, so that it can move when one goes.
    addresses = json.dumps([f"http://{LOOPBACK}:{port}" for port in edge_ports])
    edges = [
        edge_process(f"edge-{port}", port, {**inherited, "WARREN_DEV_EDGES": addresses}, LOGS) for port in edge_ports
    ]
    workers = [
        worker_process(kind, kind, port, inherited, LOGS) for kind, port in zip(WORKER_KINDS, worker_ports, strict=True)
    ]
    asyncio.run(declare_topology(inherited, LOGS))
    banner = BANNER.format(
        services=services,
        edge_port=edge_ports[0],
        logs=os.path.relpath(LOGS),
        use=use_environment(STACK / "environment", "token ada"),
    )
    foreground.run(edges, workers, banner)


def refuse_taken(ports: list[int]) -> None:
    """Raise LocalServiceError when something listens on one of these ports already."""
    for port in ports:
        if not is_free(port):
            raise LocalServiceError(
                f"Port {port} is taken: stop what listens there, "
                "or choose others with `make run ARGS='--edge-port … --worker-port …'`."
            )


def prepare_environment(services: Services, directory: Path) -> dict[str, str]:
    """Return the settings of every process, given ones first, and write them down for other terminals."""
    environment = {
        "WARREN_AMQP_URL": services.amqp_url,
        "WARREN_MANAGEMENT_URL": services.management_url,
        "WARREN_MONGO_URL": services.mongo_url,
        "WARREN_MONGO_DATABASE": "warren",
        "WARREN_DRAIN_SECONDS": str(DRAIN_SECONDS),
        "WARREN_DEV": "true",
    }
    environment |= {name: value for name, value in os.environ.items() if name.startswith("WARREN_")}
    if not any(name in environment for name in TOKEN_SETTINGS):
        environment["WARREN_JWT_SECRET"] = kept_secret(directory / "jwt_secret")
    write_environment(directory / "environment", environment)
    return environment


def kept_secret(file: Path) -> str:
    """Return the secret in `file`, made up when it is first asked for; tokens then outlive a restart."""
    if not file.exists():
        write_private(file, secrets.token_urlsafe(48))
    return file.read_text().strip()


if __name__ == "__main__":
    typer.run(main)
