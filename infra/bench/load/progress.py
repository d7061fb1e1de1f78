"""The progress of scenarios on a terminal."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


def progress_bar(console: Console) -> Progress:
    """A bar for each scenario: its title, how much of it is over, and how long it has taken."""
    return Progress(TextColumn("{task.description:<36}"), BarColumn(), TimeElapsedColumn(), console=console)


def advance(bar: Progress, task: TaskID, share: float) -> None:
    """Show the share of a task, 0 to 1, that is over."""
    bar.update(task, completed=share)
