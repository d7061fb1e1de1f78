"""`python -m infra topology`: declares, shows, checks and exports exchanges, queues and bindings."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from contracts.errors import WarrenError
from contracts.topology import EXCHANGES, QUEUES
from infra.broker.declare import declare_topology
from infra.broker.link import connect_once
from infra.cli import topology_check
from infra.cli.console import console, run
from infra.deploy.definitions import definitions, permissions
from infra.settings import Settings, load

app = typer.Typer(no_args_is_help=True, help="Declare, show, check and export exchanges, queues and bindings.")
app.command("check")(topology_check.command)


@app.command()
def apply() -> None:
    """Declare every exchange, queue and binding. Repeating it changes nothing. Needs RabbitMQ."""
    run(connect_once(load(Settings), declare_topology))
    console.print(f"Declared {len(EXCHANGES)} exchanges and {len(QUEUES)} queues.")


@app.command()
def show() -> None:
    """Show the queues that `apply` declares, with their bindings and arguments."""
    table = Table("queue", "bound to", "arguments")
    for queue in QUEUES:
        bindings = "\n".join(f"{exchange} ← {key}" for exchange, key in queue.bindings)
        table.add_row(queue.name, bindings, "\n".join(f"{name} = {value}" for name, value in queue.arguments.items()))
    console.print(table)


@app.command("definitions")
def print_definitions(
    vhost: Annotated[str, typer.Option(help="Virtual host.")] = "/",
    passwords: Annotated[
        Path | None,
        typer.Option(
            help="Folder with one file per user: its name is the user's, its content the password.", file_okay=False
        ),
    ] = None,
) -> None:
    """Print RabbitMQ definitions to import: the topology, limits, and users with the least rights."""
    files = [passwords / user.user for user in permissions()] if passwords is not None else []
    try:
        given = {file.name: file.read_text().strip() for file in files}
        sys.stdout.write(json.dumps(definitions(vhost, given), indent=2) + "\n")
    except (OSError, WarrenError) as error:
        sys.exit(str(error))
