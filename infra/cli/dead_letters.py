"""`python -m infra dead-letters`: look at messages that could not be handled, send them back, or remove them."""

import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from infra.broker import dead_letters
from infra.broker.dead_letters import Filter, Summary
from infra.cli.console import console, run
from infra.settings import Settings, load

app = typer.Typer(no_args_is_help=True, help="Messages that could not be handled.")

#: Kinds of reason that `dead list` shows of one queue, and characters of each.
SHOWN_REASONS, REASON_CHARACTERS = 5, 100


def _since(text: str) -> datetime:
    try:
        return dead_letters.moment(text, datetime.now(UTC))
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


@app.command("list")
def list_letters() -> None:
    """Show how many letters each queue has, since when, and why. Nothing is taken away."""

    async def show() -> None:
        table = Table("queue", "letters", "oldest", "reasons")
        for found in await dead_letters.summarize_all(load(Settings)):
            table.add_row(found.queue, str(found.present), _time(found.oldest), escape(_reasons(found)))
        console.print(table)

    run(show())


@app.command("show")
def show_letters(
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
        found = await dead_letters.read(load(Settings), queue, Filter(reason, name, user, since, limit))
        for letter in found:
            names, tried = ", ".join(sorted(letter.names)) or "undecodable", letter.attempts or "?"
            sys.stdout.write(f"{names}, failed {_time(letter.since)}, {tried} attempts: {letter.reason}\n")
            sys.stdout.write(dead_letters.render(letter, full=full) + "\n\n")
        if not found:
            sys.stdout.write("There are none.\n")

    run(show())


@app.command("replay")
def replay_letters(
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
    filter_ = Filter(reason, name, user, since, limit)

    async def work(settings: Settings, filter_: Filter, progress: dead_letters.Progress) -> dead_letters.Removal:
        return await dead_letters.replay(settings, queue, filter_, raw=raw, progress=progress)

    _remove(queue, filter_, work, ("Replay", "Replayed"), dry_run=dry_run, yes=yes)


@app.command("purge")
def purge_letters(
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
    filter_ = Filter(reason, name, user, since, limit)

    async def work(settings: Settings, filter_: Filter, progress: dead_letters.Progress) -> dead_letters.Removal:
        return await dead_letters.purge(settings, queue, filter_, progress)

    _remove(queue, filter_, work, ("Purge", "Purged"), dry_run=dry_run, yes=yes)


def _remove(
    queue: str,
    filter_: Filter,
    work: Callable[[Settings, Filter, dead_letters.Progress], Coroutine[Any, Any, dead_letters.Removal]],
    verbs: tuple[str, str],
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    """Count, ask, and do it to as many as were counted, with a bar."""

    async def count() -> Summary:
        return await dead_letters.summarize(load(Settings), queue, filter_)

    async def do(found: Summary) -> dead_letters.Removal:
        # As many as were counted: what has come since was not agreed on.
        meant = replace(filter_, limit=found.matched)
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
    if result.error:
        sys.exit(f"It ended early, and the others stay: {result.error}")


def _reasons(found: Summary) -> str:
    lines = [f"{number} × {reason[:REASON_CHARACTERS]}" for reason, number in found.reasons.most_common(SHOWN_REASONS)]
    rest = len(found.reasons) - len(lines)
    lines += [f"and {rest} other reasons"] if rest else []
    lines += (
        [f"{found.unseen} could not be looked at: somebody else does, or there are too many"] if found.unseen else []
    )
    return "\n".join(lines)


def _time(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z" if moment else "?"
