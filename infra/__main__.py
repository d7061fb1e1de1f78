"""`python -m infra`: the operator's commands. Each command is a module of `infra/cli/`."""

import sys

import typer

from contracts.errors import WarrenError
from infra.cli import (
    block,
    canary,
    dead_letters,
    load,
    locate_message,
    recount,
    secrets,
    sizing,
    status,
    token,
    topology,
)

app = typer.Typer(no_args_is_help=True, help="Operate Warren.")
app.add_typer(topology.app, name="topology")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(load.app, name="load")
app.command("status")(status.command)
app.command("message")(locate_message.command)
app.command("recount")(recount.command)
app.command("canary")(canary.command)
app.command("block")(block.block)
app.command("unblock")(block.unblock)
app.command("token")(token.command)
app.command("secrets")(secrets.command)
app.command("sizing")(sizing.command)


def main() -> None:
    """Run a command. An error that Warren raises ends it with one sentence and exit code 1."""
    try:
        app()
    except WarrenError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
