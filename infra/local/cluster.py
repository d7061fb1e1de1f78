"""The services of a production cluster on this machine, loopback only: three RabbitMQ nodes, three mongods.

Warren's processes reach RabbitMQ as they do in production: through a balancer, as users with no more rights than they
need, on a topology that was imported. All files are in one directory, which is removed at the end.
"""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
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

#: HAProxy's configurations in front of the edges and in front of the RabbitMQ nodes.
EDGE_BALANCER = Path(__file__).resolve().parents[1] / "deploy" / "haproxy.cfg"
BROKER_BALANCER = Path(__file__).with_name("rabbitmq.haproxy.cfg")

#: The balancer opens a connection to every node twice a second; those are not logged.
QUIET = "log.connection.level = error\n"


#: Prometheus's configuration: it scrapes everything here every five seconds.
SCRAPE = """\
global: {{scrape_interval: 5s}}
scrape_configs:
  - job_name: warren
    static_configs: [{{targets: {targets}}}]
"""


def rabbit_nodes(where: Path, *, monitored: bool = False) -> list[RabbitNode]:
    """Three nodes of one cluster, to be started one after the other. They share the port mapper of the first.

    `monitored` nodes answer Prometheus on ports of their own, see `metrics_ports`.
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
    """The ports on which monitored nodes answer Prometheus."""
    return [node.ports.epmd for node in nodes]


def start_nodes(nodes: Sequence[RabbitNode]) -> None:
    """Start the nodes one after the other: each joins the nodes that run when it starts.

    A node answers before its start is complete. A virtual host that is made before that never becomes ready.
    """
    for node in nodes:
        node.start()
        node.ctl("await_startup")


def stop_nodes(nodes: Sequence[RabbitNode]) -> None:
    """Kill all nodes at once, and the port mapper that they share."""
    for node in nodes:
        node.kill()
    nodes[0].mapper.stop()


def members(where: Path) -> list[Mongod]:
    """Three members of one replica set."""
    return [Mongod(where / f"mongod{number}") for number in range(1, MEMBERS + 1)]


def start_members(found: Sequence[Mongod], *, addresses: Mapping[Mongod, str] | None = None) -> None:
    """Start all members and make them a replica set with a primary; see `initiate` for `addresses`."""
    for member in found:
        member.start(alone=False)
    initiate(found, addresses=addresses)


@contextmanager
def running_cluster(directory: Path) -> Iterator["Cluster"]:
    """Start a cluster for the length of a block, and remove it with all its data afterwards.

    Removes first what earlier processes left that were killed. Raises LocalServiceError.
    """
    clusters = directory / "cluster"
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
    """Kill what still runs in a directory, by its pid files, and remove the directory."""
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
    #: Where the edges' balancer serves its statistics, host:port.
    edge_balancer_stats: str = ""
    #: Where Prometheus finds the nodes and the balancers.
    scraped: list[str] = field(default_factory=list)
    _programs: list[Program] = field(default_factory=list)

    def start(self) -> Self:
        """Start all services and import the definitions. Raises LocalServiceError; nothing runs then."""
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
        """Stop all services."""
        for program in reversed(self._programs):
            program.stop()
        for member in self.members:
            member.kill()
        if self.nodes:
            stop_nodes(self.nodes)

    def amqp_url(self, user: str) -> str:
        """The URL at which a process connects as this user, through the balancer."""
        return f"amqp://{user}:{self.passwords[user]}@{LOOPBACK}:{self.amqp_port}/"

    @property
    def management_url(self) -> str:
        """The management API through the balancer, as RabbitMQ's own first user."""
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

    def start_edge_balancer(self, port: int, edges: Sequence[int]) -> None:
        """Start the balancer that clients connect to, with edges on these ports."""
        self.edge_balancer_stats = f"{LOOPBACK}:{free_ports(0)[0]}"
        environment = {"BALANCER_LISTEN": f"{LOOPBACK}:{port}", "BALANCER_STATS": self.edge_balancer_stats}
        environment |= {f"BALANCER_EDGE_{n}": f"{LOOPBACK}:{edge}" for n, edge in enumerate(edges, start=1)}
        self._run(Haproxy(self.directory / "edge_balancer", EDGE_BALANCER, environment))
        self.scraped.append(self.edge_balancer_stats)

    def start_prometheus(self, port: int, processes: Sequence[int]) -> None:
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
        self._run(Haproxy(self.directory / "broker_balancer", BROKER_BALANCER, environment))
        self.scraped += [f"{LOOPBACK}:{stats}", *(f"{LOOPBACK}:{port}" for port in metrics_ports(self.nodes))]

    def _run(self, program: Haproxy | Prometheus) -> None:
        self._programs.append(program)
        program.run()

    def _import(self) -> None:
        """Make users, policies, queues and bindings. All nodes run by now, so that each queue gets a member on each."""
        self.passwords = {user: secrets.token_hex(MIN_PASSWORD) for user in (EDGE, WORKER, OPERATOR)}
        with httpx.Client(base_url=self.management_url, timeout=30, trust_env=False) as client:
            client.post("/api/definitions", json=definitions("/", self.passwords)).raise_for_status()
