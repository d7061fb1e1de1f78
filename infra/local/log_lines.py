"""Log lines as people read them: a process writes JSON, and plain text while it has not set up its log."""

import json
from dataclasses import dataclass
from typing import Any

#: What every line of ours has; the rest is shown behind the message.
USUAL_FIELDS = {"time", "level", "logger", "message", "process", "exc_info"}


@dataclass(frozen=True)
class LogLine:
    """One line of a log; plain text is a message without time and level."""

    message: str
    #: `2026-01-31 12:30:00,123`.
    time: str = ""
    level: str = ""

    @property
    def time_of_day(self) -> str:
        """The time without date and milliseconds."""
        return self.time[11:19]

    @property
    def text(self) -> str:
        """The line in one piece."""
        return " ".join(part for part in (self.time, self.level, self.message) if part)


def parse(line: str) -> LogLine:
    """Read one line of a log; what is no entry in JSON is plain text."""
    try:
        fields = json.loads(line)
    except ValueError:
        return LogLine(_printable(line))
    if not isinstance(fields, dict) or "message" not in fields:
        return LogLine(_printable(line))
    return LogLine(_message(fields), _printable(str(fields.get("time", ""))), _printable(str(fields.get("level", ""))))


def _message(fields: dict[str, Any]) -> str:
    """The message, further fields behind it, and a traceback below it."""
    further = [f"{name}={value}" for name, value in fields.items() if name not in USUAL_FIELDS]
    message = _printable(" ".join([str(fields["message"]), *further]))
    traceback = str(fields.get("exc_info") or "").splitlines()
    return "\n".join([message, *(f"    {_printable(line)}" for line in traceback)])


def _printable(text: str) -> str:
    """Spell out control characters: a client may have chosen part of the text, and must not control a terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
