"""`python -m infra`: what an operator does from a shell."""

import json
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from contracts.errors import WarrenError
from contracts.topology import EXCHANGES, QUEUES
from infra import broker, canary, dead, drift, management, message, recount, sizing
from infra.declare import declare_topology
from infra.deploy import secret_files
from infra.deploy.definitions import definitions, permissions
from infra.settings import EdgeSettings, Settings, load
from infra.shell import console, run
from infra.store import Store, guarded
from infra.tokens import make_token

app = typer.Typer(no_args_is_help=True, help="Operate Warren.")
topology = typer.Typer(no_args_is_help=True, help="Exchanges, queues and bindings.")
app.add_typer(topology, name="topology")
letters = typer.Typer(no_args_is_help=True, help="Messages that could not be handled.")
app.add_typer(letters, name="dead")
topology.command("check")(drift.command)
app.command("recount")(recount.command)
app.command("canary")(canary.command)
app.command("message")(message.command)
app.command("sizing")(sizing.command)
app.command("secrets")(secret_files.command)


@topology.command("apply")
def topology_apply() -> None:
    """Declare every exchange, queue and binding; repeating it changes nothing."""
    run(broker.once(load(Settings), declare_topology))
    console.print(f"Declared {len(EXCHANGES)} exchanges and {len(QUEUES)} queues.")


@topology.command("show")
def topology_show() -> None:
    """Show what `apply` declares."""
    table = Table("queue", "bound to", "arguments")
    for queue in QUEUES:
        bindings = "\n".join(f"{exchange} ← {key}" for exchange, key in queue.bindings)
        table.add_row(queue.name, bindings, "\n".join(f"{name} = {value}" for name, value in queue.arguments.items()))
    console.print(table)


@topology.command("definitions")
def topology_definitions(
    vhost: Annotated[str, typer.Option(help="Virtual host.")] = "/",
    passwords: Annotated[
        Path | None,
        typer.Option(help="Folder with one file per user, named like it, that holds the password.", file_okay=False),
    ] = None,
) -> None:
    """Print RabbitMQ definitions: users for edges, workers and operators with the least rights, and the topology."""
    files = [passwords / user.user for user in permissions()] if passwords is not None else []
    try:
        given = {file.name: file.read_text().strip() for file in files}
        sys.stdout.write(json.dumps(definitions(vhost, given), indent=2) + "\n")
    except (OSError, WarrenError) as error:
        sys.exit(str(error))


@app.command()
def status() -> None:
    """Show each queue: messages ready and unacked, consumers, and rates per second."""

    async def show() -> None:
        table = Table(
            "queue", *(f"{column}" for column in ("ready", "unacked", "consumers", "in/s", "out/s", "acked/s"))
        )
        for queue in await management.queues(load(Settings)):
            row = (queue.ready, queue.unacked, queue.consumers)
            rates = (queue.published, queue.delivered, queue.acked)
            table.add_row(queue.name, *(str(number) for number in row), *(f"{rate:.1f}" for rate in rates))
        console.print(table)

    run(show())


@app.command()
def token(
    user: str,
    name: Annotated[str | None, typer.Option(help="Shown to others.")] = None,
    ttl: Annotated[int, typer.Option(help="Seconds until it expires.", min=1)] = 86_400,
) -> None:
    """Print a token for someone. Development only: needs WARREN_DEV and WARREN_JWT_SECRET."""
    try:
        settings = load(EdgeSettings)
        if not settings.dev or settings.jwt_secret is None:
            sys.exit("Tokens are made here in development only: set WARREN_DEV=true and WARREN_JWT_SECRET.")
        sys.stdout.write(make_token(settings, user, name=name, ttl=ttl) + "\n")
    except WarrenError as error:
        sys.exit(str(error))


@app.command()
def block(user: str) -> None:
    """Forbid someone to write: their messages are refused as `forbidden`."""
    run(_set_blocked(user, True))


@app.command()
def unblock(user: str) -> None:
    """Allow someone to write again."""
    run(_set_blocked(user, False))


async def _set_blocked(user: str, blocked: bool) -> None:
    store = Store(load(Settings))
    try:
        async with guarded():
            result = await store.users.update_one({"_id": user}, {"$set": {"blocked": blocked}})
    finally:
        await store.close()
    if not result.matched_count:
        sys.exit(f"Nobody called {user} has ever been here.")
    console.print(f"{user} may {'not ' if blocked else ''}write.")


# --- Dead letters -----------------------------------------------------------------------------------------

#: Kinds of reason that `dead list` shows of one queue, and characters of each.
SHOWN_REASONS, REASON_CHARACTERS = 5, 100


def _since(text: str) -> datetime:
    try:
        return dead.moment(text, datetime.now(UTC))
    except ValueError:
        raise typer.BadParameter("use 90s, 30m, 2h, 3d, or a time such as 2026-01-31T12:00") from None


Reason = Annotated[str, typer.Option(help="Only those whose reason contains this.")]
Name = Annotated[str, typer.Option(help="Only commands or facts of this name.")]
User = Annotated[str, typer.Option(help="Only those of this user.")]
Since = Annotated[
    datetime | None, typer.Option(parser=_since, metavar="AGO|TIME", help="Only those that failed since.")
]
Limit = Annotated[int | None, typer.Option(help="Only so many, the oldest first.", min=1)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@letters.command("list")
def dead_list() -> None:
    """Show how many letters each queue has, since when, and why. Nothing is taken away."""

    async def show() -> None:
        table = Table("queue", "letters", "oldest", "reasons")
        for found in await dead.survey_all(load(Settings)):
            table.add_row(found.queue, str(found.present), _time(found.oldest), escape(_reasons(found)))
        console.print(table)

    run(show())


@letters.command("show")
def dead_show(
    queue: str,
    reason: Reason = "",
    name: Name = "",
    user: User = "",
    since: Since = None,
    limit: Annotated[int, typer.Option(help="Only so many, the oldest first.", min=1)] = 10,
    full: Annotated[bool, typer.Option("--full", help="Show messages whole.")] = False,
) -> None:
    """Show letters: why, how often tried, since when, and what is in them. Nothing is taken away."""

    async def show() -> None:
        found = await dead.read(load(Settings), queue, dead.Wanted(reason, name, user, since, limit))
        for letter in found:
            names, tried = ", ".join(sorted(letter.names)) or "undecodable", letter.attempts or "?"
            sys.stdout.write(f"{names}, failed {_time(letter.since)}, {tried} attempts: {letter.reason}\n")
            sys.stdout.write(dead.shown(letter, full=full) + "\n\n")
        if not found:
            sys.stdout.write("There are none.\n")

    run(show())


@letters.command("replay")
def dead_replay(
    queue: str,
    reason: Reason = "",
    name: Name = "",
    user: User = "",
    since: Since = None,
    limit: Limit = None,
    raw: Annotated[bool, typer.Option("--raw", help="Undecodable ones too, into their old queue.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Send letters back to where they came from; each is removed once its copy is confirmed. Repeating it is safe."""
    wanted = dead.Wanted(reason, name, user, since, limit)

    async def work(settings: Settings, wanted: dead.Wanted, progress: dead.Progress) -> dead.Removal:
        return await dead.replay(settings, queue, wanted, raw=raw, progress=progress)

    _remove(queue, wanted, work, ("Replay", "Replayed"), dry_run=dry_run, yes=yes)


@letters.command("purge")
def dead_purge(
    queue: str,
    reason: Reason = "",
    name: Name = "",
    user: User = "",
    since: Since = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Throw letters away for good."""
    wanted = dead.Wanted(reason, name, user, since, limit)

    async def work(settings: Settings, wanted: dead.Wanted, progress: dead.Progress) -> dead.Removal:
        return await dead.purge(settings, queue, wanted, progress)

    _remove(queue, wanted, work, ("Purge", "Purged"), dry_run=dry_run, yes=yes)


def _remove(
    queue: str,
    wanted: dead.Wanted,
    work: Callable[[Settings, dead.Wanted, dead.Progress], Coroutine[Any, Any, dead.Removal]],
    verbs: tuple[str, str],
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    """Count, ask, and do it to as many as were counted, with a bar."""

    async def count() -> dead.Survey:
        return await dead.survey(load(Settings), queue, wanted)

    async def do(found: dead.Survey) -> dead.Removal:
        # As many as were counted: what has come since was not agreed on.
        meant = replace(wanted, limit=found.matched)
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task(verbs[0], total=found.matched)
            return await work(load(Settings), meant, lambda number: bar.advance(task, number))

    found = run(count())
    if not found.matched:
        console.print("There are none.")
        return
    what = f"{found.matched} of {found.present} dead letters of {found.queue}"
    if dry_run:
        console.print(f"Would {verbs[0].lower()} {what}:\n{_reasons(found)}", markup=False)
        return
    if not yes:
        typer.confirm(f"{_reasons(found)}\n{verbs[0]} {what}?", abort=True)
    result = run(do(found))
    console.print(f"{verbs[1]} {result.removed} of {what}.")
    if result.refused:
        console.print(f"{result.refused} cannot be decoded and stay: look at them, then use --raw or purge.")
    if result.trouble:
        sys.exit(f"It ended early, and the others stay: {result.trouble}")


def _reasons(found: dead.Survey) -> str:
    lines = [f"{number} × {reason[:REASON_CHARACTERS]}" for reason, number in found.reasons.most_common(SHOWN_REASONS)]
    rest = len(found.reasons) - len(lines)
    lines += [f"and {rest} other reasons"] if rest else []
    lines += (
        [f"{found.unseen} could not be looked at: somebody else does, or there are too many"] if found.unseen else []
    )
    return "\n".join(lines)


def _time(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z" if moment else "?"


def main() -> None:
    """Run a command; what goes wrong in a known way is one sentence."""
    try:
        app()
    except WarrenError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
