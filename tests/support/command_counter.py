"""Counts the commands that a driver sends to MongoDB: what a batch costs the store."""

from pymongo import monitoring
from typing_extensions import override


class CommandCounter(monitoring.CommandListener):
    """Counts commands to the store, those of the driver's own housekeeping left out."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        #: `w` of every write.
        self.concerns: list[int | str] = []

    @override
    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Note a command."""
        if event.command_name not in ("hello", "ping", "endSessions", "createIndexes"):
            self.commands.append(event.command_name)
        if "writeConcern" in event.command:
            self.concerns.append(event.command["writeConcern"]["w"])

    @override
    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing more to note."""

    @override
    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing more to note."""

    def take(self) -> list[str]:
        """What was counted since the last call."""
        taken, self.commands = self.commands, []
        return taken
