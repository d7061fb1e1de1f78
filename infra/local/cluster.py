"""The services of a production cluster on this machine, loopback only: three RabbitMQ nodes, three mongods.

Warren's processes reach RabbitMQ as they do in production: through a balancer, as users with no more rights than they
need, on a topology that was imported. Everything lies in one directory and goes with it.
"""

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import psutil

from infra.deploy.definitions import EDGE, MIN_PASSWORD, OPERATOR, WORKER, definitions
from infra.local.daemon import Daemon
from infra.local.epmd import PortMapper
from infra.local.mongod import Mongod, initiate, set_url
from infra.local.ports import LOOPBACK, free_ports
from infra.local.programs import Haproxy, Program, Prometheus
from infra.local.rabbitmq import Ports, RabbitNode

#: Members of a cluster and of a replica set: the least of which one can be lost.
MEMBERS = 3

#: What clients come in through, and what stands in front of RabbitMQ here.
FRONT = Path(__file__).resolve().parents[1] / "deploy" / "haproxy.cfg"
BALANCER = Path(__file__).with_name("rabbitmq.haproxy.cfg")

#: The balancer looks at every node twice a second, which is nothing to write down.
QUIET = "log.connection.level = error\n"


#: What Prometheus is told: everything here, every five seconds.
SCRAPE = """\
global: {{scrape_interval: 5s}}
scrape_configs:
  - job_name: warren
    static_configs: [{{targets: {targets}}}]
"""


def rabbit_nodes(where: Path, *, monitored: bool = False) -> list[RabbitNode]:
    """Three nodes of one cluster, to be started one after the other; the mapper of the first is all of theirs.

    `monitored` ones answer Prometheus on a port each, see `metrics_ports`.
    """
    mapper = PortMapper(where / "epmd", free_ports(0)[0])
    first = _node(where / "rabbit1", monitored, mapper=mapper)
    return [first, *(_node(where / f"rabbit{number}", monitored, peer=first) for number in range(2, MEMBERS + 1))]


def _node(
    directory: Path, monitored: bool, *, mapper: PortMapper | None = None, peer: RabbitNode | None = None
) -> RabbitNode:
    if not monitored:
        return RabbitNode(directory, mapper=mapper, cluster_with=peer)
    ports = Ports(*free_ports(0, 0, 0, 0))
    # The port that its own epmd would have is free: the nodes share one.
    configuration = f"{QUIET}prometheus.tcp.ip = {LOOPBACK}\nprometheus.tcp.port = {ports.epmd}\n"
    plugins = ["rabbitmq_prometheus"]
    return RabbitNode(
        directory, ports=ports, mapper=mapper, cluster_with=peer, configuration=configuration, plugins=plugins
    )


def metrics_ports(nodes: Sequence[RabbitNode]) -> list[int]:
    """Where monitored nodes answer Prometheus."""
    return [node.ports.epmd for node in nodes]


def start_nodes(nodes: Sequence[RabbitNode]) -> None:
    """Start every node, one after the other: each joins what is there when it starts.

    A node answers before it is done starting, and a virtual host that is made meanwhile is waited for in vain.
    """
    for node in nodes:
        node.start()
        node.ctl("await_startup")


def stop_nodes(nodes: Sequence[RabbitNode]) -> None:
    """End every node at once, and the port mapper that they share."""
    for node in nodes:
        node.kill()
    nodes[0].mapper.stop()


def members(where: Path) -> list[Mongod]:
    """Three members of one replica set."""
    return [Mongod(where / f"mongod{number}") for number in range(1, MEMBERS + 1)]


def start_members(found: Sequence[Mongod]) -> None:
    """Start every member and make them a set that has a primary."""
    for member in found:
        member.start(alone=False)
    initiate(found)


@contextmanager
def running_cluster(stack: Path) -> Iterator["Cluster"]:
    """Start a cluster, and take away all that it was afterwards.

    What a process left that was killed goes first. Raises LocalServiceError.
    """
    clusters = stack / "cluster"
    clusters.mkdir(parents=True, exist_ok=True)
    for left in clusters.iterdir():
        if not psutil.pid_exists(int(left.name)):
            clear(left)
    own = Cluster(clusters / str(os.getpid()))
    try:
        yield own.start()
    finally:
        own.stop()
        shutil.rmtree(own.directory, ignore_errors=True)


def clear(where: Path) -> None:
    """End what still runs there, by its pid file, and remove the directory."""
    for pid_file in where.rglob("*.pid"):
        with suppress(ValueError, KeyError, TypeError):  # RabbitMQ keeps a pid file of its own
            Daemon(pid_file.stem, pid_file).kill()
    shutil.rmtree(where, ignore_errors=True)


@dataclass
class Cluster:
    """Three RabbitMQ nodes behind a balancer, and a replica set of three."""

    directory: Path
    nodes: list[RabbitNode] = field(default_factory=list)
    members: list[Mongod] = field(default_factory=list)
    #: Passwords of RabbitMQ's users.
    passwords: dict[str, str] = field(default_factory=dict)
    amqp_port: int = 0
    management_port: int = 0
    #: Where the front's figures are, host:port.
    front_figures: str = ""
    #: Where Prometheus finds the nodes and the balancers.
    scraped: list[str] = field(default_factory=list)
    _programs: list[Program] = field(default_factory=list)

    def start(self) -> Self:
        """Start all of it and import the definitions. Raises LocalServiceError; nothing is then left running."""
        self.nodes, self.members = rabbit_nodes(self.directory, monitored=True), members(self.directory)
        try:
            with ThreadPoolExecutor(2) as pool:
                starts = (pool.submit(start_nodes, self.nodes), pool.submit(start_members, self.members))
            for start in starts:
                start.result()
            self._balance()
            self._import()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End all of it."""
        for program in reversed(self._programs):
            program.stop()
        for member in self.members:
            member.kill()
        if self.nodes:
            stop_nodes(self.nodes)

    def amqp_url(self, user: str) -> str:
        """Where a process connects as this user, by way of the balancer."""
        return f"amqp://{user}:{self.passwords[user]}@{LOOPBACK}:{self.amqp_port}/"

    @property
    def management_url(self) -> str:
        """The management API of whichever node answers, as RabbitMQ's own first user."""
        return f"http://{RabbitNode.user}:{RabbitNode.password}@{LOOPBACK}:{self.management_port}"

    @property
    def mongo_url(self) -> str:
        return set_url(self.members)

    def environment(self, user: str) -> dict[str, str]:
        """The settings of a process that runs as this user."""
        return {
            "WARREN_AMQP_URL": self.amqp_url(user),
            "WARREN_MANAGEMENT_URL": f"http://{user}:{self.passwords[user]}@{LOOPBACK}:{self.management_port}",
            "WARREN_MONGO_URL": self.mongo_url,
            "WARREN_DECLARE_TOPOLOGY": "false",
            "WARREN_TRUSTED_PROXIES": "1",
        }

    def open_front(self, port: int, edges: Sequence[int]) -> None:
        """Start the balancer that clients come in through, with edges on these ports."""
        self.front_figures = f"{LOOPBACK}:{free_ports(0)[0]}"
        environment = {"BALANCER_LISTEN": f"{LOOPBACK}:{port}", "BALANCER_STATS": self.front_figures}
        environment |= {f"BALANCER_EDGE_{n}": f"{LOOPBACK}:{edge}" for n, edge in enumerate(edges, start=1)}
        self._run(Haproxy(self.directory / "front", FRONT, environment))
        self.scraped.append(self.front_figures)

    def watch(self, port: int, processes: Sequence[int]) -> None:
        """Start Prometheus, which scrapes the nodes, the balancers and Warren's processes on these ports."""
        targets = [*self.scraped, *(f"{LOOPBACK}:{process}" for process in processes)]
        self._run(Prometheus(self.directory / "prometheus", port, SCRAPE.format(targets=targets)))

    def _balance(self) -> None:
        self.amqp_port, self.management_port, stats = free_ports(0, 0, 0)
        environment = {
            "AMQP_LISTEN": f"{LOOPBACK}:{self.amqp_port}",
            "MANAGEMENT_LISTEN": f"{LOOPBACK}:{self.management_port}",
            "BALANCER_STATS": f"{LOOPBACK}:{stats}",
        }
        for number, node in enumerate(self.nodes, start=1):
            environment[f"AMQP_{number}"] = f"{LOOPBACK}:{node.ports.amqp}"
            environment[f"MANAGEMENT_{number}"] = f"{LOOPBACK}:{node.ports.management}"
        self._run(Haproxy(self.directory / "balancer", BALANCER, environment))
        self.scraped += [f"{LOOPBACK}:{stats}", *(f"{LOOPBACK}:{port}" for port in metrics_ports(self.nodes))]

    def _run(self, program: Haproxy | Prometheus) -> None:
        self._programs.append(program)
        program.run()

    def _import(self) -> None:
        """Make users, policies, queues and bindings, once every node is there to have a member of each queue."""
        self.passwords = {user: secrets.token_hex(MIN_PASSWORD) for user in (EDGE, WORKER, OPERATOR)}
        with httpx.Client(base_url=self.management_url, timeout=30, trust_env=False) as client:
            client.post("/api/definitions", json=definitions("/", self.passwords)).raise_for_status()
