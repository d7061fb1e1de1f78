"""Erlang's port mapper, started and stopped here. Erlang by itself would start one and leave it running."""

import socket
from dataclasses import dataclass
from pathlib import Path

from infra.local.daemon import Daemon, tail, wait_until
from infra.local.errors import LocalServiceError
from infra.local.ports import LOOPBACK


@dataclass(frozen=True)
class PortMapper:
    """One epmd on a port of its own, so that our nodes do not see other Erlang systems on this machine.

    Nodes of one cluster on one machine have to share it.
    """

    directory: Path
    port: int

    @property
    def _daemon(self) -> Daemon:
        return Daemon("epmd", self.directory / "epmd.pid")

    def start(self) -> None:
        """Start epmd and wait until it listens; nothing happens if it already does."""
        if self._daemon.find():
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        log = self.directory / "epmd.log"
        self._daemon.spawn(["/usr/bin/env", "epmd", "-address", LOOPBACK, "-port", str(self.port)], log=log)
        if not wait_until(self.is_running, seconds=10, alive=lambda: self._daemon.find() is not None):
            self.stop()
            raise LocalServiceError(f"epmd did not start on port {self.port}:\n{tail(log)}")

    def is_running(self) -> bool:
        """Say whether our epmd runs and takes connections."""
        if self._daemon.find() is None:
            return False
        with socket.socket() as probe:
            return probe.connect_ex((LOOPBACK, self.port)) == 0

    def stop(self) -> None:
        """Kill epmd."""
        self._daemon.kill()  # it keeps nothing
