"""Processes that start and stop together, under a honcho manager of their own."""

import multiprocessing
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import psutil
from honcho.manager import Manager
from honcho.printer import Printer

from infra.local.daemon import tail

#: Runs a program again whenever it ends, until the group is told to stop. The program's name is not in this shell's own
#: arguments, so that whoever ends "the unread worker" by name does not end what would start it again.
SUPERVISED = """
trap 'exit 0' TERM
while :; do
    "$PROGRAM" -m $ARGUMENTS
    echo "$NAME ended with status $?; it starts again in 5 s."
    sleep 5
done
"""


@dataclass(frozen=True)
class Part:
    """One process of Warren: `python -m <arguments>`, ready once its port answers /readyz."""

    name: str
    arguments: str
    port: int
    environment: dict[str, str] = field(default_factory=dict)


class Recorder(Printer):  # type: ignore[misc]  # honcho has no types
    """Prints what the processes say, and keeps it in one log each."""

    def __init__(self, logs: Path) -> None:
        super().__init__(sys.stdout)
        self.logs = logs

    def write(self, message: Any) -> None:
        super().write(message)
        line = message.data if isinstance(message.data, bytes) else message.data.encode()
        with (self.logs / f"{message.name}.log").open("ab") as log:
            log.write(line)


class Group:
    """Running parts of one kind. What they say goes to this terminal and to a log each in `logs`.

    A part that ends is started again after five seconds, and both are said by name.
    """

    def __init__(self, parts: list[Part], environment: dict[str, str], logs: Path) -> None:
        """Start them; `environment` and each part's own come on top of ours."""
        logs.mkdir(parents=True, exist_ok=True)
        for part in parts:
            (logs / f"{part.name}.log").unlink(missing_ok=True)
        self.parts = parts
        self.logs = logs
        self._manager = multiprocessing.get_context("fork").Process(target=_manage, args=(parts, environment, logs))
        self._manager.start()

    def last_words(self, part: Part) -> str:
        """The end of a part's log."""
        return tail(self.logs / f"{part.name}.log")

    def is_running(self) -> bool:
        return self._manager.is_alive()

    def stop(self, seconds: float) -> None:
        """Tell every process to stop, wait, and kill what is left after `seconds`."""
        if not self._manager.is_alive():
            return
        family = psutil.Process(self._manager.pid).children(recursive=True)
        self._manager.terminate()
        self._manager.join(seconds)
        if self._manager.is_alive():
            self._manager.kill()
            self._manager.join()
        for process in family:
            with suppress(psutil.NoSuchProcess):  # the usual case; a pid given away since is not signalled
                process.kill()


def _manage(parts: list[Part], environment: dict[str, str], logs: Path) -> NoReturn:
    """Run a group's manager, in a session of its own: Ctrl-C shall reach only the one who knows the order."""
    os.setsid()
    manager = Manager(Recorder(logs))
    for part in parts:
        supervised = {"NAME": part.name, "PROGRAM": sys.executable, "ARGUMENTS": part.arguments}
        manager.add_process(part.name, SUPERVISED, env={**os.environ, **environment, **part.environment, **supervised})
    _end_with_parent()
    manager.loop()
    sys.exit(manager.returncode)


def _end_with_parent() -> None:
    """Look once a second whether the process above us was killed, and stop in order if it was."""
    parent = os.getppid()

    def look(*_: object) -> None:
        if os.getppid() != parent:
            signal.raise_signal(signal.SIGTERM)

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, 1, 1)
