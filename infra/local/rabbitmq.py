"""A private RabbitMQ node on this machine, loopback only, with everything it writes in one directory."""

import hashlib
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

import httpx

from infra.local import install
from infra.local.daemon import Daemon, tail, wait_until
from infra.local.epmd import PortMapper
from infra.local.errors import LocalServiceError
from infra.local.ports import LOOPBACK, free_ports

#: Seconds a node may take from start to answering AMQP and HTTP.
START_LIMIT = 60.0

#: Seconds a node may take to stop by itself before it is killed.
STOP_LIMIT = 10.0

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"

CONFIGURATION = """\
listeners.tcp.local = 127.0.0.1:{ports.amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {ports.management}
log.console = false
log.file = rabbit.log
log.file.level = warning
# A laptop's share of memory and disk, and little work while idle (milliseconds).
vm_memory_high_watermark.absolute = 2GiB
disk_free_limit.absolute = 256MiB
raft.wal_max_size_bytes = 67108864
collect_statistics_interval = 5000
"""


class Ports(NamedTuple):
    """The loopback ports of one node; `epmd` goes unused where nodes share a PortMapper."""

    amqp: int
    management: int
    distribution: int
    epmd: int


class RabbitNode:
    """One RabbitMQ node whose data, logs, configuration and cookie live in `directory`.

    A second object on the same directory and ports, in any process, controls the same node. Ports are fixed for the
    object's life, so a node that is killed and started again is found by its clients where it was.
    """

    def __init__(
        self,
        directory: Path,
        *,
        ports: Ports | None = None,
        mapper: PortMapper | None = None,
        cluster_with: "RabbitNode | None" = None,
        configuration: str = "",
        plugins: Sequence[str] = (),
    ) -> None:
        """Describe a node; nothing runs before `start`. `configuration` is appended to its rabbitmq.conf.

        `plugins` are enabled in addition to the management plugin.

        `ports` default to free ones. A node without `mapper` starts and ends its own epmd. `cluster_with` names a node
        with a shared `mapper` that runs when this one first starts: this one then joins it.
        """
        if cluster_with is not None and cluster_with.owns_mapper:
            raise ValueError("nodes of one cluster need a shared PortMapper")
        self.directory = directory.resolve()
        self.ports: Ports = ports or Ports(*free_ports(0, 0, 0, 0))
        self.peer = cluster_with
        self._configuration = configuration
        self._plugins = ("rabbitmq_management", *plugins)
        shared = cluster_with.mapper if cluster_with else mapper
        self.owns_mapper: bool = shared is None
        self.mapper: PortMapper = shared or PortMapper(self.directory, self.ports.epmd)
        self._daemon = Daemon("RabbitMQ", self.directory / "rabbitmq.pid")

    #: RabbitMQ's own first user, which it admits over loopback only.
    user = password = "guest"  # noqa: S105

    @property
    def name(self) -> str:
        """The Erlang node name, one per directory."""
        return f"warren-{hashlib.sha256(bytes(self.directory)).hexdigest()[:8]}@localhost"

    @property
    def amqp_url(self) -> str:
        return f"amqp://{self.user}:{self.password}@{LOOPBACK}:{self.ports.amqp}/"

    @property
    def management_url(self) -> str:
        """The management API and console, with user and password."""
        return f"http://{self.user}:{self.password}@{LOOPBACK}:{self.ports.management}"

    @property
    def log(self) -> Path:
        return self.directory / "log" / "rabbit.log"

    def start(self, seconds: float = START_LIMIT) -> Self:
        """Start the node and wait until AMQP and the management API answer; a running node is left as it is.

        Raises LocalServiceError, with the end of the log, when it does not answer in time; nothing is then left.
        """
        if self.is_running():
            return self
        scripts = install.rabbitmq_scripts()
        self._write_files()
        try:
            self.mapper.start()
            output = self.directory / "log" / "output.log"
            self._daemon.spawn([str(scripts / "rabbitmq-server")], env=self._environment(), log=output)
            if not wait_until(self.answers, seconds=seconds, alive=self.is_running):
                raise LocalServiceError(
                    f"RabbitMQ did not start (limit {seconds:.0f} s):\n{tail(output)}\n{tail(self.log)}"
                )
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self, seconds: float = STOP_LIMIT) -> None:
        """Stop the node in order; after `seconds` it is killed."""
        self.resume()
        if self.answers():
            # RabbitMQ's statistics and its application controller wait 5 s for each other unless they are parted first.
            with suppress(LocalServiceError):
                self.ctl("eval", "gen_event:delete_handler(rabbit_event, rabbit_mgmt_db_handler, stop).", seconds=3)
        self._daemon.stop(seconds)
        self._stop_own_mapper()

    def kill(self) -> None:
        """Kill the node and its children (SIGKILL), as a crash would."""
        self._daemon.kill()
        self._stop_own_mapper()

    def pause(self) -> None:
        """Freeze the node (SIGSTOP): connections stay open and nothing is answered."""
        self._daemon.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen node go on (SIGCONT)."""
        self._daemon.signal(signal.SIGCONT)

    def is_running(self) -> bool:
        """Say whether the node's process lives, whether or not it answers."""
        return self._daemon.find() is not None

    def answers(self) -> bool:
        """Say whether AMQP and the management API of this node both answer, asking each for at most two seconds.

        What another process answers on its ports does not count.
        """
        listens = self._daemon.listens(self.ports.amqp) and self._daemon.listens(self.ports.management)
        return listens and speaks_amqp(LOOPBACK, self.ports.amqp) and self._management_answers()

    def ctl(self, *arguments: str, seconds: float = 60.0) -> str:
        """Run rabbitmqctl on this node and return what it prints.

        Raises LocalServiceError with its output when it fails, when the node does not run, or after `seconds`.
        """
        if not self.mapper.is_running():  # rabbitmqctl would leave an epmd of its own behind
            raise LocalServiceError(f"RabbitMQ in {self.directory} is not running.")
        command = [str(install.rabbitmq_scripts() / "rabbitmqctl"), "--quiet", *arguments]
        try:
            done = subprocess.run(
                command, env=self._environment(), capture_output=True, text=True, check=False, timeout=seconds
            )
        except subprocess.TimeoutExpired as error:
            raise LocalServiceError(f"rabbitmqctl {arguments[0]} took more than {seconds:.0f} s.") from error
        if done.returncode:
            raise LocalServiceError(f"rabbitmqctl {arguments[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def _management_answers(self) -> bool:
        try:
            found = httpx.get(f"{self.management_url}/api/vhosts", timeout=2, trust_env=False)
        except httpx.HTTPError:
            return False
        return found.is_success

    def _stop_own_mapper(self) -> None:
        if self.owns_mapper:
            self.mapper.stop()

    def _write_files(self) -> None:
        self.directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        (self.directory / "log").mkdir(exist_ok=True)
        configuration = CONFIGURATION.format(ports=self.ports) + self._configuration
        if self.peer is not None:
            configuration += "cluster_formation.peer_discovery_backend = classic_config\n"
            for number, node in enumerate((self.peer, self), start=1):
                configuration += f"cluster_formation.classic_config.nodes.{number} = {node.name}\n"
        (self.directory / "rabbitmq.conf").write_text(configuration)
        (self.directory / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].\n")
        (self.directory / "inetrc").write_text('{host, {127,0,0,1}, ["localhost"]}.\n{lookup, [file, native]}.\n')
        cookie = self.directory / ".erlang.cookie"
        if not cookie.exists():
            cookie.touch(mode=0o600)
            cookie.write_text(self.peer.cookie if self.peer else secrets.token_hex(16))

    @property
    def cookie(self) -> str:
        """The secret that nodes of one cluster share; exists once the node was started."""
        return (self.directory / ".erlang.cookie").read_text()

    def _environment(self) -> dict[str, str]:
        """Return the whole environment of the node and of rabbitmqctl, free of the system's own RabbitMQ settings."""
        loopback_only = "-kernel inet_dist_use_interface {127,0,0,1}"
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.directory),  # Erlang reads its cookie from here
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(self.mapper.port),
            "ERL_INETRC": str(self.directory / "inetrc"),  # localhost is found whatever the machine's own files say
            "ERL_ZFLAGS": "-start_epmd false",  # ours is the only one; another would be left behind
            "ERL_CRASH_DUMP": str(self.directory / "log" / "erl_crash.dump"),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_DIST_PORT": str(self.ports.distribution),
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "no-environment-file"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_SCHEMA_DIR": str(self.directory / "schema"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": loopback_only,
            "RABBITMQ_CTL_ERL_ARGS": loopback_only,
            # Schedulers bound to cores fight with the processes they share a laptop with.
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
            # The script then becomes the Erlang machine, so that the pid we hold is the node's own.
            "RUNNING_UNDER_SYSTEMD": "true",
        }


def speaks_amqp(host: str, port: int, seconds: float = 2.0) -> bool:
    """Say whether an AMQP 0-9-1 server answers; `seconds` bounds each step."""
    try:
        with socket.create_connection((host, port), timeout=seconds) as probe:
            probe.sendall(PROTOCOL_HEADER)
            return probe.recv(1) == b"\x01"  # a method frame: connection.start
    except OSError:
        return False
