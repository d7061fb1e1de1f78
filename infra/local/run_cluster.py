"""`make cluster`: Warren as in production, in one terminal and on loopback only.

Three RabbitMQ nodes, three mongods, three edges behind HAProxy, two of each worker, and Prometheus. All data goes when
it ends.
"""

import os
from typing import Annotated

import typer

from infra.deploy.definitions import EDGE, OPERATOR, WORKER
from infra.local import foreground
from infra.local.cluster import MEMBERS, Cluster, running_cluster
from infra.local.foreground import DRAIN_SECONDS, until_interrupted, use_environment, write_environment
from infra.local.paths import LOGS, STACK
from infra.local.ports import free_ports
from infra.local.stack import WORKER_KINDS, edge_process, worker_process

#: Workers of each kind.
EACH = 2

BANNER = """
The cluster is up; Ctrl-C stops it.

  Page        http://127.0.0.1:{front}/      (HAProxy in front of edges on {edges})
  RabbitMQ    {management}      (nodes on {nodes})
  MongoDB     {mongo}
  Prometheus  http://127.0.0.1:{prometheus}/
  Token       curl -X POST http://127.0.0.1:{front}/dev/token \\
                -H 'content-type: application/json' -d '{{"user_id":"ada","name":"Ada"}}'
  Logs        {logs}

In another terminal, for `python -m infra …` as an operator:

  {use}
"""


def main(
    port: Annotated[int, typer.Option(help="Port that clients come in through; another one if it is taken.")] = 8000,
    prometheus_port: Annotated[int, typer.Option(help="Port of Prometheus; another one if it is taken.")] = 9090,
) -> None:
    """Run a whole cluster until Ctrl-C or SIGTERM, then stop it in order."""
    with until_interrupted("The cluster"):
        typer.echo(f"Starting {MEMBERS} RabbitMQ nodes and {MEMBERS} mongods; this takes half a minute.")
        with running_cluster(STACK) as cluster:
            run(cluster, port, prometheus_port)


def run(cluster: Cluster, port: int, prometheus_port: int) -> None:
    """Run Warren on it. Raises KeyboardInterrupt, or LocalServiceError."""
    port, prometheus_port, *ports = free_ports(port, prometheus_port, *[0] * (MEMBERS + EACH * len(WORKER_KINDS)))
    environment = {
        "WARREN_DEV": "true",
        "WARREN_DRAIN_SECONDS": str(DRAIN_SECONDS),
        "WARREN_JWT_SECRET": os.urandom(32).hex(),
        **{name: value for name, value in os.environ.items() if name.startswith("WARREN_")},
    }
    as_edge = {**os.environ, **environment, **cluster.environment(EDGE)}
    as_worker = {**os.environ, **environment, **cluster.environment(WORKER)}
    edges = [edge_process(f"edge-{number}", own, as_edge, LOGS) for number, own in enumerate(ports[:MEMBERS], start=1)]
    kinds = [(kind, number) for kind in WORKER_KINDS for number in range(1, EACH + 1)]
    workers = [
        worker_process(kind, f"{kind}-{number}", own, as_worker, LOGS)
        for (kind, number), own in zip(kinds, ports[MEMBERS:], strict=True)
    ]
    cluster.start_edge_balancer(port, [edge.port for edge in edges])
    cluster.start_prometheus(prometheus_port, [process.port for process in (*edges, *workers)])
    file = cluster.directory / "environment"
    write_environment(file, {**environment, **cluster.environment(OPERATOR)})
    banner = BANNER.format(
        front=port,
        edges=", ".join(str(edge.port) for edge in edges),
        management=cluster.management_url,
        nodes=", ".join(str(node.ports.amqp) for node in cluster.nodes),
        mongo=cluster.mongo_url,
        prometheus=prometheus_port,
        logs=os.path.relpath(LOGS),
        use=use_environment(file, "topology check"),
    )
    foreground.run(edges, workers, banner)


if __name__ == "__main__":
    typer.run(main)
