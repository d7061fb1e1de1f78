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

app = typer.Typer(
    no_args_is_help=True,
    help="Operate Warren. Settings are read from WARREN_… variables; docs/operations.md says what each command needs.",
)
#: The headings of `--help`.
WATCH, REPAIR, PREPARE = "Commands to look and measure", "Commands to change and repair", "Commands to deploy"
app.add_typer(topology.app, name="topology", rich_help_panel=PREPARE)
app.add_typer(dead_letters.app, name="dead-letters", rich_help_panel=REPAIR)
app.add_typer(load.app, name="load", rich_help_panel=WATCH)
app.command("status", rich_help_panel=WATCH)(status.command)
app.command("message", rich_help_panel=WATCH)(locate_message.command)
app.command("recount", rich_help_panel=REPAIR)(recount.command)
app.command("canary", rich_help_panel=WATCH)(canary.command)
app.command("block", rich_help_panel=REPAIR)(block.block)
app.command("unblock", rich_help_panel=REPAIR)(block.unblock)
app.command("token", rich_help_panel=PREPARE)(token.command)
app.command("secrets", rich_help_panel=PREPARE)(secrets.command)
app.command("sizing", rich_help_panel=PREPARE)(sizing.command)


def main() -> None:
    """Run a command. An error that Warren raises ends it with one sentence and exit code 1."""
    try:
        app()
    except WarrenError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
