"""Counts the commands that a driver sends to MongoDB, and what it reads: what a batch costs the store."""

from collections import Counter
from typing import Any

from pymongo import monitoring
from typing_extensions import override


class CommandCounter(monitoring.CommandListener):
    """Counts commands to the store, those of the driver's own housekeeping left out."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        #: `w` of every write.
        self.concerns: list[int | str] = []
        self._reads: Counter[str] = Counter()

    @override
    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Note a command."""
        if event.command_name not in ("hello", "ping", "endSessions", "createIndexes"):
            self.commands.append(event.command_name)
        if "writeConcern" in event.command:
            self.concerns.append(event.command["writeConcern"]["w"])

    @override
    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Note the documents that came."""
        cursor = event.reply.get("cursor")
        if not isinstance(cursor, dict):
            return
        documents: list[dict[str, Any]] = cursor.get("firstBatch") or cursor.get("nextBatch") or []
        self._reads[str(cursor["ns"]).partition(".")[2]] += len(documents)
        self._reads["participants"] += sum(len(document.get("participants", ())) for document in documents)

    @override
    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing more to note."""

    def take(self) -> list[str]:
        """What was counted since the last call."""
        taken, self.commands = self.commands, []
        return taken

    def take_reads(self) -> Counter[str]:
        """The documents read by collection, and the `participants` in them, since the last call."""
        taken, self._reads = self._reads, Counter()
        return taken
