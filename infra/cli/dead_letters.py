"""`python -m infra dead-letters`: list, show, replay and purge messages that could not be handled."""

import json
import re
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from infra.broker import dead_letters
from infra.broker.dead_letters import DeadLetter, LetterFilter, Removal, Summary, printable
from infra.cli.console import console, run
from infra.settings import Settings, load

app = typer.Typer(
    no_args_is_help=True, help="List, show, replay and purge messages that could not be handled. Needs RabbitMQ."
)

#: Different reasons that are shown of one queue, and characters of each.
SHOWN_REASONS, REASON_CHARACTERS = 5, 100
#: Characters of a message's `body` that are shown without `--full`, and bytes of what is not JSON.
SHOWN_CHARACTERS, SHOWN_BYTES = 60, 200

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_since(text: str, now: datetime) -> datetime:
    """Read a time before `now` as `90s`, `30m`, `2h` or `3d`, or an ISO 8601 time, in UTC when it has no zone.

    Raises ValueError.
    """
    if ago := re.fullmatch(r"(\d{1,6})([smhd])", text):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _since(text: str) -> datetime:
    try:
        return parse_since(text, datetime.now(UTC))
    except ValueError:
        raise typer.BadParameter("use 90s, 30m, 2h, 3d, or a time such as 2026-01-31T12:00") from None


Queue = Annotated[str, typer.Argument(help="A work queue, such as `persistence`, or its dead-letter queue.")]
Reason = Annotated[str, typer.Option(help="Only letters whose reason contains this text.")]
Name = Annotated[str, typer.Option(help="Only commands or facts of this name, such as `send_message`.")]
User = Annotated[str, typer.Option(help="Only letters of this user.")]
Since = Annotated[
    datetime | None, typer.Option(parser=_since, metavar="AGO|TIME", help="Only letters that failed since then.")
]
Limit = Annotated[int | None, typer.Option(help="At most this many letters, the oldest first.", min=1)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


@app.command("list")
def list_letters() -> None:
    """Show how many letters each queue has, the oldest, and the reasons. Removes nothing."""

    async def show() -> None:
        table = Table("queue", "letters", "oldest", "reasons")
        for summary in await dead_letters.summarize_all(load(Settings)):
            table.add_row(summary.queue, str(summary.present), _time(summary.oldest), escape(_reasons(summary)))
        console.print(table)

    run(show())


@app.command("show")
def show_letters(
    queue: Queue,
    reason: Reason = "",
    name: Name = "",
    user: User = "",
    since: Since = None,
    limit: Annotated[int, typer.Option(help="At most this many letters, the oldest first.", min=1)] = 10,
    full: Annotated[bool, typer.Option("--full", help="Show message bodies whole.")] = False,
) -> None:
    """Show letters with their reason, number of attempts, time and content. Removes nothing."""

    async def show() -> None:
        letters = await dead_letters.read(load(Settings), queue, LetterFilter(reason, name, user, since, limit))
        for letter in letters:
            names, attempts = ", ".join(sorted(letter.names)) or "undecodable", letter.attempts or "?"
            sys.stdout.write(f"{names}, failed {_time(letter.since)}, {attempts} attempts: {letter.reason}\n")
            sys.stdout.write(render(letter, full=full) + "\n\n")
        if not letters:
            sys.stdout.write("There are none.\n")

    run(show())


@app.command("replay")
def replay_letters(
    queue: Queue,
    reason: Reason = "",
    name: Name = "",
    user: User = "",
    since: Since = None,
    limit: Limit = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Also replay letters that cannot be decoded, to their work queue.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Send letters back to where they came from. Each is removed once its copy is confirmed. Repeating it is safe."""
    letter_filter = LetterFilter(reason, name, user, since, limit)

    async def work(settings: Settings, selected: LetterFilter, progress: dead_letters.Progress) -> Removal:
        return await dead_letters.replay(settings, queue, selected, raw=raw, progress=progress)

    _remove(queue, letter_filter, work, ("Replay", "Replayed"), dry_run=dry_run, yes=yes)


@app.command("purge")
def purge_letters(
    queue: Queue,
    reason: Reason = "",
    name: Name = "",
    user: User = "",
    since: Since = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Delete letters for good."""
    letter_filter = LetterFilter(reason, name, user, since, limit)

    async def work(settings: Settings, selected: LetterFilter, progress: dead_letters.Progress) -> Removal:
        return await dead_letters.purge(settings, queue, selected, progress)

    _remove(queue, letter_filter, work, ("Purge", "Purged"), dry_run=dry_run, yes=yes)


def _remove(
    queue: str,
    letter_filter: LetterFilter,
    work: Callable[[Settings, LetterFilter, dead_letters.Progress], Coroutine[Any, Any, Removal]],
    verbs: tuple[str, str],
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    """Count the letters, ask for confirmation, and process as many as were counted, with a progress bar."""

    async def count() -> Summary:
        return await dead_letters.summarize(load(Settings), queue, letter_filter)

    async def process(summary: Summary) -> Removal:
        # Only as many as were counted: newer letters were not confirmed by the operator.
        selected = replace(letter_filter, limit=summary.matched)
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task(verbs[0], total=summary.matched)
            return await work(load(Settings), selected, lambda number: bar.advance(task, number))

    summary = run(count())
    if not summary.matched:
        console.print("There are none.")
        return
    what = f"{summary.matched} of {summary.present} dead letters of {summary.queue}"
    if dry_run:
        console.print(f"Would {verbs[0].lower()} {what}:\n{_reasons(summary)}", markup=False)
        return
    if not yes:
        typer.confirm(f"{_reasons(summary)}\n{verbs[0]} {what}?", abort=True)
    result = run(process(summary))
    console.print(f"{verbs[1]} {result.removed} of {what}.")
    if result.refused:
        console.print(f"{result.refused} cannot be decoded and stay: look at them, then use --raw or purge.")
    if result.error:
        sys.exit(f"It ended early, and the others stay: {result.error}")


def render(letter: DeadLetter, *, full: bool = False) -> str:
    """A letter's body for a terminal: indented JSON with long message bodies cut, or bytes that are not JSON."""
    try:
        value = json.loads(letter.body)
    except ValueError:
        return printable(repr(letter.body if full else letter.body[:SHOWN_BYTES]))
    text = json.dumps(value if full else _shortened(value), indent=2, ensure_ascii=False)
    return "\n".join(printable(line) for line in text.split("\n"))


def _shortened(value: Any) -> Any:
    """The same JSON with every long `body` cut."""
    if isinstance(value, list):
        return [_shortened(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        name: f"{part[:SHOWN_CHARACTERS]}… ({len(part)} characters)"
        if name == "body" and isinstance(part, str) and len(part) > SHOWN_CHARACTERS
        else _shortened(part)
        for name, part in value.items()
    }


def _reasons(summary: Summary) -> str:
    shown = summary.reasons.most_common(SHOWN_REASONS)
    lines = [f"{number} × {reason[:REASON_CHARACTERS]}" for reason, number in shown]
    if rest := len(summary.reasons) - len(lines):
        lines.append(f"and {rest} other reasons")
    if summary.not_read:
        lines.append(f"{summary.not_read} could not be read: another reader holds them, or there are too many")
    return "\n".join(lines)


def _time(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z" if moment else "?"
