"""Shows the logs of processes to people: one line for each entry, as it is written, with colours on a terminal."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.text import Text

from infra.local import log_lines
from infra.local.log_lines import LogLine
from infra.local.supervisor import Process

#: Seconds between two looks at the logs.
LOOK_EVERY = 0.1

#: Seconds without a line that count as quiet, and seconds that quiet is waited for at most.
QUIET, QUIET_LIMIT = 1.0, 5.0

#: Colours of processes' names, in turn; yellow and red are for levels.
NAME_COLOURS = ("cyan", "green", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta", "bright_blue")

#: How a level stands out; other levels stay dim.
LEVEL_STYLES = {"WARNING": "bold yellow", "ERROR": "bold red", "CRITICAL": "bold red reverse"}


class LogReader:
    """Reads what was added to a log since the last look. The file need not exist yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def read(self) -> list[LogLine]:
        """Return the lines that are complete since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as log:
            log.seek(self._position)
            complete, end, _ = log.read().rpartition(b"\n")
        self._position += len(complete + end)
        return [log_lines.parse(line) for line in complete.decode(errors="replace").split("\n")] if end else []


class LogConsole:
    """Shows the logs of some processes, and what is said about them. The logs themselves stay as they are."""

    def __init__(self, processes: Sequence[Process], console: Console | None = None) -> None:
        self._console = console or Console()
        self._width = max(len(process.name) for process in processes)
        self._colours = {
            process.name: NAME_COLOURS[number % len(NAME_COLOURS)] for number, process in enumerate(processes)
        }
        self._shown_at = time.monotonic()
        self._readers = {process.name: LogReader(process.log) for process in processes}

    async def follow(self) -> None:
        """Show new lines until cancelled."""
        try:
            while True:
                self.show_new_lines()
                await asyncio.sleep(LOOK_EVERY)
        finally:
            self.show_new_lines()

    async def until_quiet(self) -> None:
        """Wait until nobody has written for a moment: what belongs to a start comes a little after being ready."""
        deadline = time.monotonic() + QUIET_LIMIT
        while True:
            left = min(deadline, self._shown_at + QUIET) - time.monotonic()
            if left <= 0:
                return
            await asyncio.sleep(left)

    def show_new_lines(self) -> None:
        """Show all lines written since the last look, the oldest first."""
        found: list[tuple[str, str, LogLine]] = []
        for name, reader in self._readers.items():
            written = ""
            for line in reader.read():
                written = line.time or written  # plain text belongs to the line before it
                found.append((written, name, line))
        for _, name, line in sorted(found, key=lambda each: each[0]):
            self._show(name, line)

    def warn(self, process: Process, sentence: str) -> None:
        """Show what happened to a process, behind all that it wrote until then."""
        self.show_new_lines()
        self._show(process.name, LogLine(sentence, time.strftime("%Y-%m-%d %H:%M:%S"), "WARNING"))

    def say(self, text: str) -> None:
        """Show a text of our own, behind all that processes wrote until then."""
        self.show_new_lines()
        self._print(Text(text))

    def _show(self, name: str, line: LogLine) -> None:
        self._shown_at = time.monotonic()
        text = Text.assemble(
            (name.ljust(self._width), self._colours[name]),
            (f" {line.time_of_day:8} ", "dim"),
            (f"{line.level:7} ", LEVEL_STYLES.get(line.level, "dim")),
            (line.message, LEVEL_STYLES.get(line.level, "")),
        )
        self._print(text)

    def _print(self, text: Text) -> None:
        # Where the terminal or the pipe is gone (rich then raises SystemExit), the processes are still to be stopped.
        with suppress(OSError, SystemExit):
            self._console.print(text, soft_wrap=True)
