"""`make cluster`: Warren as in production, in one terminal and on loopback only.

Three RabbitMQ nodes, three mongods, three edges behind HAProxy, two of each worker, and Prometheus. All data goes when
it ends.
"""

import os
import signal
import sys
from typing import Annotated

import typer

from infra.deploy.definitions import EDGE, OPERATOR, WORKER
from infra.local.cluster import MEMBERS, Cluster, running_cluster
from infra.local.errors import LocalServiceError
from infra.local.group import Part
from infra.local.ports import free_ports
from infra.local.run import DRAIN_SECONDS, ROOT, STOP_SIGNALS, WORKERS, keep_running, write_environment
from infra.local.services import STACK

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

In another terminal, for `python -m infra …` as an operator:

  . {environment} && {python} -m infra topology check
"""


def main(
    port: Annotated[int, typer.Option(help="Port that clients come in through; another one if it is taken.")] = 8000,
    prometheus_port: Annotated[int, typer.Option(help="Port of Prometheus; another one if it is taken.")] = 9090,
) -> None:
    """Run a whole cluster until Ctrl-C or SIGTERM, then stop it in order."""
    os.chdir(ROOT)  # where `python -m` finds the packages
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    typer.echo(f"Starting {MEMBERS} RabbitMQ nodes and {MEMBERS} mongods; this takes half a minute.")
    try:
        with running_cluster(STACK) as cluster:
            run(cluster, port, prometheus_port)
    except LocalServiceError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("The cluster is stopped.")


def run(cluster: Cluster, port: int, prometheus_port: int) -> None:
    """Start Warren on it and wait for KeyboardInterrupt. Raises LocalServiceError."""
    port, prometheus_port, *ports = free_ports(port, prometheus_port, *[0] * (MEMBERS + EACH * len(WORKERS)))
    environment = {
        "WARREN_DEV": "true",
        "WARREN_DRAIN_SECONDS": str(DRAIN_SECONDS),
        "WARREN_JWT_SECRET": os.urandom(32).hex(),
        **{name: value for name, value in os.environ.items() if name.startswith("WARREN_")},
    }
    edges = [
        Part(f"edge-{number}", "edge", own, {**cluster.environment(EDGE), "WARREN_EDGE_PORT": str(own)})
        for number, own in enumerate(ports[:MEMBERS], start=1)
    ]
    kinds = [(kind, number) for kind in WORKERS for number in range(1, EACH + 1)]
    workers = [
        Part(
            f"{kind}-{number}", f"workers {kind}", own, {**cluster.environment(WORKER), "WARREN_WORKER_PORT": str(own)}
        )
        for (kind, number), own in zip(kinds, ports[MEMBERS:], strict=True)
    ]
    cluster.open_front(port, [edge.port for edge in edges])
    cluster.watch(prometheus_port, [part.port for part in (*edges, *workers)])
    file = cluster.directory / "environment"
    write_environment(file, {**environment, **cluster.environment(OPERATOR)})

    def up() -> None:
        typer.echo(
            BANNER.format(
                front=port,
                edges=", ".join(str(edge.port) for edge in edges),
                management=cluster.management_url,
                nodes=", ".join(str(node.ports.amqp) for node in cluster.nodes),
                mongo=cluster.mongo_url,
                prometheus=prometheus_port,
                environment=os.path.relpath(file),
                python=os.path.relpath(sys.executable),
            )
        )

    keep_running(edges, workers, environment, cluster.directory, up=up)


if __name__ == "__main__":
    typer.run(main)
