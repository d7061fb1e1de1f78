"""`python -m infra secrets FOLDER`: every secret of a deployment as files, one folder for each who reads it.

    passwords/    warren-edge, warren-worker, warren-operator        RabbitMQ's users; kept by whoever deploys
    rabbitmq/     definitions.json                                   what RabbitMQ imports when it starts
    mongodb/      root-password, user-password, keyfile              for a MongoDB of one's own
    edge/         WARREN_AMQP_URL, WARREN_JWT_SECRET                 a folder for WARREN_SECRETS_DIR
    worker/       WARREN_AMQP_URL, WARREN_MONGO_URL                  the same
    operator/     WARREN_AMQP_URL, WARREN_MANAGEMENT_URL, …          the same, for `python -m infra`
    autoscaler/   host                                               for KEDA
    grafana/      admin-password

What was made up once is kept, and what follows from it is written anew: running it again changes no password, and
takes a new address or a new topology over.
"""

import json
import secrets
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from contracts.errors import WarrenError
from infra.cli.console import console
from infra.deploy.definitions import EDGE, OPERATOR, WORKER, definitions, permissions

#: Random bytes of a password, written as hexadecimal digits: they need no quoting in an address, whoever reads it.
PASSWORD_BYTES = 24
#: MongoDB's user for workers and operators; made by infra/deploy/mongodb/prepare.js.
MONGO_USER = "warren"
#: The virtual host of RabbitMQ.
VHOST = "warren"


class UnwritableFolder(WarrenError):
    """Raised when secrets cannot be written; the text names the file."""


def write(folder: Path, *, broker: str, mongo_url: str | None, mongo: str, jwt_secret: bool) -> None:
    """Write all of it. Raises UnwritableFolder.

    `broker` and `mongo` are hosts, the latter with its port; with a `mongo_url` of somebody else's MongoDB that is
    written as it is. Without `jwt_secret` edges get none, and check tokens with a public key or a key set instead.
    """
    try:
        # The folder protects what is in it. The files themselves can be read by all: a container sees its own alone.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        passwords = {user.user: _once(folder / "passwords" / user.user) for user in permissions()}
        _write(folder / "rabbitmq" / "definitions.json", json.dumps(definitions(VHOST, passwords), indent=2) + "\n")
        logins = {user: f"{user}:{quote(password, safe='')}" for user, password in passwords.items()}
        amqp = {user: f"amqp://{login}@{broker}:5672/{VHOST}" for user, login in logins.items()}
        management = f"http://{logins[OPERATOR]}@{broker}:15672"
        if mongo_url is None:
            _once(folder / "mongodb" / "root-password")
            _once(folder / "mongodb" / "keyfile")
            password = _once(folder / "mongodb" / "user-password")
            mongo_url = f"mongodb://{MONGO_USER}:{quote(password, safe='')}@{mongo}/?replicaSet=warren&authSource=admin"
        _write(folder / "edge" / "WARREN_AMQP_URL", amqp[EDGE])
        _write(folder / "worker" / "WARREN_AMQP_URL", amqp[WORKER])
        _write(folder / "worker" / "WARREN_MONGO_URL", mongo_url)
        _write(folder / "operator" / "WARREN_AMQP_URL", amqp[OPERATOR])
        _write(folder / "operator" / "WARREN_MANAGEMENT_URL", management)
        _write(folder / "operator" / "WARREN_MONGO_URL", mongo_url)
        if jwt_secret:
            _write(folder / "operator" / "WARREN_JWT_SECRET", _once(folder / "edge" / "WARREN_JWT_SECRET"))
        _write(folder / "autoscaler" / "host", f"{management}/{VHOST}")
        _once(folder / "grafana" / "admin-password")
    except OSError as error:
        raise UnwritableFolder(f"{error.filename or folder}: {error.strerror}") from None


def _once(file: Path) -> str:
    """The password in a file; made up the first time."""
    if not file.exists():
        _write(file, secrets.token_hex(PASSWORD_BYTES))
    return file.read_text().strip()


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(mode=0o755, exist_ok=True)
    file.write_text(text)
    file.chmod(0o644)


def command(
    folder: Annotated[Path, typer.Argument(help="Where to; made if it is not there.", file_okay=False)],
    broker: Annotated[str, typer.Option(help="Host of RabbitMQ.")] = "rabbitmq",
    mongo: Annotated[str, typer.Option(help="Host and port of a MongoDB of one's own.")] = "mongodb:27017",
    mongo_url: Annotated[str | None, typer.Option(help="Address of another MongoDB, with user and password.")] = None,
    jwt_secret: Annotated[bool, typer.Option("--jwt-secret/--no-jwt-secret", help="Make a secret for tokens.")] = True,
) -> None:
    """Write every secret of a deployment as files: those that are there stay as they are."""
    write(folder, broker=broker, mongo_url=mongo_url, mongo=mongo, jwt_secret=jwt_secret)
    console.print(f"The secrets are in {folder}: keep a copy of it where only you can read it.")
