"""HAProxy and Prometheus on this machine, loopback only: one configuration, one directory, one process each."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import httpx

from infra.local import install
from infra.local.daemon import Daemon, tail, wait_until
from infra.local.errors import LocalServiceError
from infra.local.ports import LOOPBACK

#: Seconds that one may take to answer, and to stop by itself before it is killed.
START_LIMIT, STOP_LIMIT = 20.0, 5.0


class Program:
    """One background process that is ready once it answers at `probe_url`."""

    def __init__(self, directory: Path, name: str, probe_url: str) -> None:
        self.directory = directory.resolve()
        self.name = name
        self.probe_url = probe_url
        self._daemon = Daemon(name, self.directory / f"{name}.pid")

    def start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it and wait until it answers. Raises LocalServiceError with the end of its log."""
        program, log = install.program(self.name), self.directory / f"{self.name}.log"
        self._daemon.spawn([str(program), *arguments], log=log, env={**os.environ, **environment})
        if not wait_until(self.answers, seconds=START_LIMIT, alive=lambda: self._daemon.find() is not None):
            self.stop()
            raise LocalServiceError(f"{self.name} did not start (limit {START_LIMIT:.0f} s):\n{tail(log)}")

    def answers(self) -> bool:
        """Say whether it answers over HTTP within two seconds."""
        try:
            return httpx.get(self.probe_url, timeout=2, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        """Stop it; what takes too long is killed."""
        self._daemon.stop(STOP_LIMIT)


class Haproxy(Program):
    """HAProxy with one configuration, which takes its addresses from the environment."""

    def __init__(self, directory: Path, configuration: Path, environment: Mapping[str, str]) -> None:
        """Describe it; each of our configurations serves its statistics at BALANCER_STATS."""
        super().__init__(directory, "haproxy", f"http://{environment['BALANCER_STATS']}/metrics")
        self._configuration = configuration
        self._environment = dict(environment)

    def run(self) -> Self:
        """Start it in the foreground of its own session, so that the pid we know is that of the process that serves."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.start(["-db", "-f", str(self._configuration.resolve())], self._environment)
        return self


class Prometheus(Program):
    """Prometheus with its data in `directory`, and with a configuration that is given as text."""

    def __init__(self, directory: Path, port: int, configuration: str) -> None:
        super().__init__(directory, "prometheus", f"http://{LOOPBACK}:{port}/-/ready")
        self.port = port
        self._configuration = configuration

    def run(self) -> Self:
        """Start it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.directory / "prometheus.yml"
        file.write_text(self._configuration)
        where = [f"--config.file={file}", f"--storage.tsdb.path={self.directory / 'data'}"]
        self.start([*where, f"--web.listen-address={LOOPBACK}:{self.port}", "--log.level=warn"], {})
        return self
