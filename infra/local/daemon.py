"""Background processes that outlive the command that started them. Each is known by its pid and its start time."""

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

#: Seconds by which two readings of one process's start time may differ (the clock may be adjusted between them).
SAME_START = 2.0

#: Seconds between two looks at something that is waited for.
POLL = 0.05


class Daemon:
    """One background process, known by a pid file that also holds its start time.

    Any Python process given the same pid file can find, signal and end it. A pid that the system has since given
    to another program is never touched.
    """

    def __init__(self, name: str, pid_file: Path) -> None:
        self.name = name
        self.pid_file = pid_file

    def spawn(self, argv: list[str], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        """Start `argv` in a session of its own, with no input and all output appended to `log`.

        It inherits no other file: one that is locked by whoever started us would stay locked as long as it runs.
        """
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            argv[0],
            argv,
            os.environ if env is None else env,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                *((os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in _inheritable_descriptors()),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE],
        )
        self.pid_file.write_text(json.dumps({"pid": pid, "started": psutil.Process(pid).create_time()}))

    def find(self) -> psutil.Process | None:
        """Return the live process, or None if it was never started or has ended."""
        try:
            noted = json.loads(self.pid_file.read_text())
            process = psutil.Process(noted["pid"])
            same = abs(process.create_time() - noted["started"]) < SAME_START
        except (FileNotFoundError, psutil.NoSuchProcess):
            return None
        return process if same and not _has_ended(process) else None

    def listens(self, port: int) -> bool:
        """Say whether this very process listens on a TCP port, and not another that has taken it."""
        process = self.find()
        if process is None:
            return False
        with suppress(psutil.Error):  # it may end while we look
            sockets = process.net_connections("tcp")
            return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in sockets)
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process has ended."""
        if process := self.find():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def stop(self, seconds: float) -> None:
        """End the process with SIGTERM, then with SIGKILL (its children too) once `seconds` have passed."""
        self.signal(signal.SIGCONT)  # a paused process cannot hear SIGTERM
        self.signal(signal.SIGTERM)
        if not wait_until(lambda: self.find() is None, seconds=seconds):
            self.kill()

    def kill(self) -> None:
        """End the process and its children with SIGKILL and wait until they are gone."""
        process = self.find()
        if process is None:
            return
        family = [process]
        with suppress(psutil.NoSuchProcess):
            family += process.children(recursive=True)
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        wait_until(lambda: all(map(_has_ended, family)), seconds=5)


def _inheritable_descriptors() -> list[int]:
    """Files besides standard input and outputs that a program started from here would inherit."""
    found = []
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # the directory itself is closed by now
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
    return found


def _has_ended(process: psutil.Process) -> bool:
    """Say whether a process is gone or a zombie; a zombie of our own is collected."""
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return False
        with suppress(psutil.TimeoutExpired):
            process.wait(0)
    except psutil.NoSuchProcess:
        pass
    return True


def wait_until(ready: Callable[[], bool], *, seconds: float, alive: Callable[[], bool] = lambda: True) -> bool:
    """Ask `ready` until it says yes; return False when the time is over or `alive` says no."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline or not alive():
            return False
        time.sleep(POLL)
    return True


def tail(log: Path, lines: int = 12) -> str:
    """Return the last lines of a log, to be shown in an error."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else "(no log)"
