"""`python -m infra secrets FOLDER`: writes every secret of a deployment as files, one folder for each reader.

    passwords/    warren-edge, warren-worker, …                      RabbitMQ's users; no process reads them
    rabbitmq/     definitions.json                                   RabbitMQ imports it at start
    mongodb/      root-password, user-password, keyfile              for a MongoDB that the deployment runs itself
    edge/         WARREN_AMQP_URL, WARREN_JWT_SECRET                 WARREN_SECRETS_DIR of edges
    worker/       WARREN_AMQP_URL, WARREN_MONGO_URL                  WARREN_SECRETS_DIR of workers
    topology/     WARREN_AMQP_URL                                    … of the job `infra topology apply`
    recount/      WARREN_MONGO_URL                                   … of `infra recount`
    canary/       WARREN_MONGO_URL, WARREN_JWT_SECRET                … of `infra canary`
    operator/     all of them, and WARREN_MANAGEMENT_URL             … of people who run other commands of `infra`
    autoscaler/   host                                               KEDA reads it; it may only look at queues
    grafana/      admin-password

Passwords are generated once and kept. Files that depend on them are written on every run. So a second run changes no
password, and applies a new address or a new topology.
"""

import json
import secrets
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from contracts.errors import WarrenError
from infra.cli.console import console
from infra.deploy.definitions import AUTOSCALER, EDGE, OPERATOR, WORKER, definitions, permissions

#: Random bytes of a password. It is written as hexadecimal digits, which need no quoting in any URL.
PASSWORD_BYTES = 24
#: MongoDB's user for workers and operators; infra/deploy/mongodb/prepare.js creates it.
MONGO_USER = "warren"
#: The virtual host of RabbitMQ.
VHOST = "warren"


class UnwritableFolder(WarrenError):
    """Raised when a file cannot be written; the text names it."""


def write(folder: Path, *, broker: str, mongo_url: str | None, mongo: str, jwt_secret: bool) -> None:
    """Write all files. Raises UnwritableFolder.

    `broker` is RabbitMQ's host, `mongo` MongoDB's host and port. A `mongo_url` replaces `mongo` and is written
    unchanged. Without `jwt_secret`, edges get no secret and need a public key or a key set.
    """
    try:
        # The folder protects the files. The files are readable by everybody, because containers run as other users.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        passwords = {user.user: _once(folder / "passwords" / user.user) for user in permissions()}
        _write(folder / "rabbitmq" / "definitions.json", json.dumps(definitions(VHOST, passwords), indent=2) + "\n")
        logins = {user: f"{user}:{quote(password, safe='')}" for user, password in passwords.items()}
        amqp = {user: f"amqp://{login}@{broker}:5672/{VHOST}" for user, login in logins.items()}
        management = {user: f"http://{login}@{broker}:15672" for user, login in logins.items()}
        if mongo_url is None:
            _once(folder / "mongodb" / "root-password")
            _once(folder / "mongodb" / "keyfile")
            password = _once(folder / "mongodb" / "user-password")
            mongo_url = f"mongodb://{MONGO_USER}:{quote(password, safe='')}@{mongo}/?replicaSet=warren&authSource=admin"
        _write(folder / "edge" / "WARREN_AMQP_URL", amqp[EDGE])
        _write(folder / "worker" / "WARREN_AMQP_URL", amqp[WORKER])
        _write(folder / "worker" / "WARREN_MONGO_URL", mongo_url)
        _write(folder / "topology" / "WARREN_AMQP_URL", amqp[OPERATOR])
        _write(folder / "recount" / "WARREN_MONGO_URL", mongo_url)
        _write(folder / "canary" / "WARREN_MONGO_URL", mongo_url)
        _write(folder / "operator" / "WARREN_AMQP_URL", amqp[OPERATOR])
        _write(folder / "operator" / "WARREN_MANAGEMENT_URL", management[OPERATOR])
        _write(folder / "operator" / "WARREN_MONGO_URL", mongo_url)
        if jwt_secret:
            secret = _once(folder / "edge" / "WARREN_JWT_SECRET")
            _write(folder / "canary" / "WARREN_JWT_SECRET", secret)
            _write(folder / "operator" / "WARREN_JWT_SECRET", secret)
        _write(folder / "autoscaler" / "host", f"{management[AUTOSCALER]}/{VHOST}")
        _once(folder / "grafana" / "admin-password")
    except OSError as error:
        raise UnwritableFolder(f"{error.filename or folder}: {error.strerror}") from None


def _once(file: Path) -> str:
    """The password in a file, which is generated the first time."""
    if not file.exists():
        _write(file, secrets.token_hex(PASSWORD_BYTES))
    return file.read_text().strip()


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(mode=0o755, exist_ok=True)
    file.write_text(text)
    file.chmod(0o644)


def command(
    folder: Annotated[Path, typer.Argument(help="Folder to write to; created if missing.", file_okay=False)],
    broker: Annotated[str, typer.Option(help="Host of RabbitMQ.")] = "rabbitmq",
    mongo: Annotated[str, typer.Option(help="Host and port of the deployment's own MongoDB.")] = "mongodb:27017",
    mongo_url: Annotated[str | None, typer.Option(help="URL of another MongoDB, with user and password.")] = None,
    jwt_secret: Annotated[
        bool, typer.Option("--jwt-secret/--no-jwt-secret", help="Generate a secret for HS256 tokens.")
    ] = True,
) -> None:
    """Write every secret of a deployment as files. Existing passwords are kept."""
    write(folder, broker=broker, mongo_url=mongo_url, mongo=mongo, jwt_secret=jwt_secret)
    console.print(f"The secrets are in {folder}. Keep a backup of it that only you can read.")
