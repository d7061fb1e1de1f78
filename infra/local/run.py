"""`make run`: the whole of Warren in one terminal, with services of its own unless they are given."""

import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import httpx
import typer

from infra.local.daemon import wait_until
from infra.local.errors import LocalServiceError
from infra.local.group import Group, Part
from infra.local.ports import LOOPBACK, is_free
from infra.local.services import STACK, Services, using_services

ROOT = STACK.parent
WORKERS = ("persistence", "unread", "presence", "history")

#: Seconds until every process has to be ready.
READY_LIMIT = 25.0

#: Seconds that edges, and then workers, get to stop before they are killed.
STOP_LIMIT = 5.0

#: Seconds within which a stopping edge moves its sockets away: on one machine a slow spread serves nobody.
DRAIN_SECONDS = 2

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: Settings that say how tokens are checked; with none of them given, a secret is made up and kept.
TOKEN_SETTINGS = ("WARREN_JWT_SECRET", "WARREN_JWT_PUBLIC_KEY", "WARREN_JWT_JWKS_URL")

BANNER = """
Warren is up; Ctrl-C stops it.

  Page      http://127.0.0.1:{edge_port}/
  Console   {services.management_url}
  Token     curl -X POST http://127.0.0.1:{edge_port}/dev/token \\
              -H 'content-type: application/json' -d '{{"user_id":"ada","name":"Ada"}}'

In another terminal, for `python -m infra …` and for more workers or edges by hand:

  . {environment} && {python} -m infra token ada
"""


def main(
    edge_port: Annotated[int, typer.Option(help="Port of the first edge; the second takes the next.")] = 8001,
    worker_port: Annotated[int, typer.Option(help="Port of the first worker's health; the others follow.")] = 8011,
) -> None:
    """Run two edges and one worker of each kind until Ctrl-C or SIGTERM, then stop them in order."""
    os.chdir(ROOT)  # where `python -m` finds the packages
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    ports = (edge_port, edge_port + 1)
    # The page at either edge knows both, so that it can move when one goes.
    addresses = json.dumps([f"http://{LOOPBACK}:{port}" for port in ports])
    edges = [
        Part(f"edge-{port}", "edge", port, {"WARREN_EDGE_PORT": str(port), "WARREN_DEV_EDGES": addresses})
        for port in ports
    ]
    workers = [
        Part(kind, f"workers {kind}", port, {"WARREN_WORKER_PORT": str(port)})
        for port, kind in enumerate(WORKERS, start=worker_port)
    ]
    try:
        run(edges, workers)
    except LocalServiceError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("Warren is stopped.")


def run(edges: list[Part], workers: list[Part], stack: Path = STACK) -> None:
    """Run these parts until KeyboardInterrupt, which is raised again once all of them are stopped.

    Raises LocalServiceError when a port is taken, when a part is not ready in time, or when a whole group ends.
    """
    for part in (*edges, *workers):
        if not is_free(part.port):
            raise LocalServiceError(
                f"Port {part.port} is taken: stop what listens there, "
                "or choose others with `python -m infra.local.run --edge-port … --worker-port …`."
            )
    with using_services(stack) as services:
        environment = prepare_environment(services, stack)
        declare_topology(environment)
        keep_running(edges, workers, environment, stack, up=lambda: typer.echo(banner(services, edges[0].port, stack)))


def keep_running(
    edges: list[Part], workers: list[Part], environment: dict[str, str], stack: Path, *, up: Callable[[], None]
) -> NoReturn:
    """Start workers, then edges; call `up` once all are ready; run until KeyboardInterrupt, then stop them in order.

    Raises KeyboardInterrupt again, or LocalServiceError when a part is not ready in time or a whole group ends.
    """
    groups: list[Group] = []
    try:
        groups += [Group(workers, environment, stack / "logs")]
        groups += [Group(edges, environment, stack / "logs")]
        wait_until_ready(groups)
        up()
        while all(group.is_running() for group in groups):
            time.sleep(0.5)
        raise LocalServiceError("A group of processes ended as a whole; the lines above say why.")
    finally:
        # A second Ctrl-C changes nothing: the order below takes a few seconds and has limits of its own.
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        typer.echo("Stopping: edges, then workers, then the services started here.")
        for group in reversed(groups):
            group.stop(STOP_LIMIT)


def prepare_environment(services: Services, stack: Path) -> dict[str, str]:
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
        environment["WARREN_JWT_SECRET"] = kept_secret(stack / "jwt_secret")
    write_environment(stack / "environment", environment)
    return environment


def write_environment(file: Path, environment: dict[str, str]) -> None:
    """Write settings as a shell reads them with `.`, for its owner only."""
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()]
    write_private(file, "".join(lines))


def kept_secret(file: Path) -> str:
    """Return the secret in `file`, made up when it is first asked for; tokens then outlive a restart."""
    if not file.exists():
        write_private(file, secrets.token_urlsafe(48))
    return file.read_text().strip()


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    file.touch(mode=0o600)
    file.write_text(text)


def declare_topology(environment: dict[str, str]) -> None:
    """Have exchanges and queues declared. Raises LocalServiceError with what was said when that fails."""
    command = [sys.executable, "-m", "infra", "topology", "apply"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LocalServiceError(f"The topology could not be declared:\n{done.stdout}{done.stderr}")


def wait_until_ready(groups: list[Group]) -> None:
    """Wait for every part's /readyz. Raises LocalServiceError naming one that is late, with the end of its log."""
    deadline = time.monotonic() + READY_LIMIT
    for group in groups:
        for part in group.parts:
            left = max(0.0, deadline - time.monotonic())
            if not wait_until(partial(is_ready, part), seconds=left, alive=group.is_running):
                raise LocalServiceError(
                    f"{part.name} was not ready within {READY_LIMIT:.0f} s; it last said:\n{group.last_words(part)}"
                )


def is_ready(part: Part) -> bool:
    """Ask a part whether it can serve."""
    try:
        return httpx.get(f"http://{LOOPBACK}:{part.port}/readyz", timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def banner(services: Services, edge_port: int, stack: Path) -> str:
    """What a person in front of the terminal wants to know first."""
    environment, python = os.path.relpath(stack / "environment"), os.path.relpath(sys.executable)
    return BANNER.format(services=services, edge_port=edge_port, environment=environment, python=python)


if __name__ == "__main__":
    typer.run(main)
