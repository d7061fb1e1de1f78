"""What an operator sees on one page, as values: is it healthy, how full is it, what is slow, for whom.

Queues are read from RabbitMQ's own metrics per object (`prometheus.return_per_object_metrics = true`); the rest is of
infra/metrics.py. A test holds every name and label against what there is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from contracts.topology import EDGE_QUEUE_MAX_BYTES, TYPING, WORK_QUEUES

_WORK = "|".join(queue.name for queue in (*WORK_QUEUES, TYPING))
#: Selectors of RabbitMQ's queues: those that workers consume, their dead letters, and those of edges.
WORK, DEAD, EDGES = f'queue=~"{_WORK}"', 'queue=~".+[.]dead"', 'queue=~"edge[.].+"'


@dataclass(frozen=True)
class Query:
    """PromQL, and what its lines are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Number:
    """One number for now; `bad` is where it turns yellow and red, rising or falling."""

    title: str
    asks: str
    query: Query
    bad: tuple[float, float]
    unit: str = "short"
    falling: bool = False
    none: str = "none"


@dataclass(frozen=True)
class Chart:
    """Lines over time, and a sentence that says what to make of them."""

    title: str
    says: str
    queries: Sequence[Query]
    unit: str = "short"
    #: Where a line becomes a worry, or None.
    limit: float | None = None


@dataclass(frozen=True)
class Row:
    """One question, and what answers it."""

    title: str
    panels: Sequence[Number | Chart]


def quantiles(metric: str, by: str, *levels: float) -> list[Query]:
    """Quantiles of a histogram over a minute, for each value of a label."""
    names = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return [
        Query(
            f"histogram_quantile({level}, sum by (le, {by}) (rate({metric}_bucket[1m])))", f"{names} p{level * 100:g}"
        )
        for level in levels
    ]


def mean(metric: str, by: str) -> Query:
    """The mean of a histogram over a minute, for each value of a label."""
    parts = (f"sum by ({by}) (rate({metric}_{part}[1m]))" for part in ("sum", "count"))
    return Query(" / ".join(parts), f"{{{{{by}}}}}")


def rate(metric: str, by: str, selector: str = "") -> Query:
    """A counter's rate a second over a minute, for each value of a label."""
    return Query(f"sum by ({by}) (rate({metric}{selector}[1m]))", f"{{{{{by}}}}}")


ROWS = (
    Row(
        "Is it healthy?",
        [
            Number(
                "Messages through",
                "Share of the canary's messages that were acked, delivered at the other edge and seen.",
                Query(
                    'sum(rate(warren_canary_rounds_total{outcome="ok"}[1m]))'
                    " / sum(rate(warren_canary_rounds_total[1m]))"
                ),
                (0.999, 0.95),
                "percentunit",
                falling=True,
                none="no canary",
            ),
            Number(
                "Delivery, p99",
                "From sending at one edge to arrival at the other, as the canary measures it.",
                Query(
                    'histogram_quantile(0.99, sum by (le) (rate(warren_canary_seconds_bucket{step="delivery"}[5m])))'
                ),
                (0.25, 1),
                "s",
                none="no canary",
            ),
            Number(
                "Alerts",
                "Warren's alerts that fire now.",
                Query('count(ALERTS{alertstate="firing", alertname=~"Warren.+"}) or vector(0)'),
                (1, 1),
            ),
            Number(
                "Silent processes",
                "Processes that Prometheus cannot reach.",
                Query("count(up == 0) or vector(0)"),
                (1, 2),
            ),
            Number(
                "Lost broker links",
                "Connections to RabbitMQ that are down now.",
                Query("count(warren_broker_up == 0) or vector(0)"),
                (1, 2),
            ),
            Number(
                "Store failures",
                "Batches a second that wait because MongoDB does not answer.",
                Query("sum(rate(warren_worker_store_failures_total[1m])) or vector(0)"),
                (0.01, 0.1),
            ),
            Number(
                "Dead letters",
                "Messages put aside: `python -m infra dead-letters list`.",
                Query(f"sum(rabbitmq_queue_messages{{{DEAD}}})"),
                (1, 100),
                none="?",
            ),
            Number(
                "Drift",
                "Projections that the last recount found wrong.",
                Query("sum(warren_recount_differences)"),
                (1, 10),
                none="no recount",
            ),
        ],
    ),
    Row(
        "How full is it?",
        [
            Chart(
                "Connections",
                "Sockets of each edge.",
                [Query("warren_edge_sockets and on (instance) warren_edge_sockets_max > 0", "{{instance}}")],
            ),
            Chart(
                "Edges, share of their sockets",
                "At 1 an edge takes nobody any more.",
                [Query("warren_edge_sockets / (warren_edge_sockets_max > 0)", "{{instance}}")],
                "percentunit",
                0.85,
            ),
            Chart("Events in", "What clients ask, a second.", [rate("warren_edge_events_total", "event")], "reqps"),
            Chart(
                "Queues: ready",
                "Bundles that wait for a worker. Near 0 is healthy.",
                [Query(f"sum by (queue) (rabbitmq_queue_messages_ready{{{WORK}}})", "{{queue}}")],
                limit=1_000,
            ),
            Chart(
                "Queues: unacked",
                "Bundles that workers hold. Still and not 0: a worker stands still.",
                [Query(f"sum by (queue) (rabbitmq_queue_messages_unacked{{{WORK}}})", "{{queue}}")],
            ),
            Chart(
                "Queues: consumers",
                "Workers that are connected.",
                [Query(f"sum by (queue) (rabbitmq_queue_consumers{{{WORK}}})", "{{queue}}")],
            ),
            Chart(
                "Queues: age",
                "From an edge's publish to the start of the batch, as workers see it; silent where nobody consumes.",
                quantiles("warren_worker_queue_seconds", "worker", 0.5, 0.99),
                "s",
                2,
            ),
            Chart(
                "Frames waiting for an edge",
                f"Bytes; over {EDGE_QUEUE_MAX_BYTES >> 20} MiB the oldest are dropped.",
                [Query(f"sum by (queue) (rabbitmq_queue_messages_bytes{{{EDGES}}})", "{{queue}}")],
                "bytes",
                EDGE_QUEUE_MAX_BYTES / 2,
            ),
            Chart(
                "Commands without a reply yet",
                "Of each edge. Grows when workers are away.",
                [Query("warren_edge_pending_replies and on (instance) warren_edge_sockets_max > 0", "{{instance}}")],
            ),
            Chart(
                "Processor",
                "Of one core, by process. At 1 it is the limit: start another of its kind.",
                [Query("rate(process_cpu_seconds_total[1m])", "{{job}} {{instance}}")],
                "percentunit",
                0.9,
            ),
            Chart(
                "Memory",
                "Resident, by process.",
                [Query("process_resident_memory_bytes", "{{job}} {{instance}}")],
                "bytes",
            ),
            Chart(
                "RabbitMQ's memory",
                "Share of what it allows itself; at 1 it stops reading from who publishes.",
                [
                    Query(
                        "rabbitmq_process_resident_memory_bytes / rabbitmq_resident_memory_limit_bytes", "{{instance}}"
                    )
                ],
                "percentunit",
                0.8,
            ),
        ],
    ),
    Row(
        "What is slow?",
        [
            Chart(
                "Canary, end to end",
                "ack and delivery from sending; seen from marking.",
                quantiles("warren_canary_seconds", "step", 0.5, 0.99),
                "s",
                1,
            ),
            Chart(
                "Acks, p99",
                "From a client's event to its ack, at the edge.",
                quantiles("warren_edge_ack_seconds", "event", 0.99),
                "s",
                1,
            ),
            Chart(
                "Publish to confirm",
                "How long RabbitMQ takes to say that it has it.",
                quantiles("warren_broker_confirm_seconds", "exchange", 0.5, 0.99),
                "s",
                0.5,
            ),
            Chart(
                "Batches: handled and sent, p99",
                "handle: decide and store; send: look up sessions and publish frames.",
                quantiles("warren_worker_batch_seconds", "worker, part", 0.99),
                "s",
                0.5,
            ),
            Chart(
                "Store",
                "One operation of MongoDB, by process.",
                quantiles("warren_store_seconds", "instance", 0.5, 0.99),
                "s",
                0.25,
            ),
            Chart(
                "Frames at the edge, p99",
                "Reading one frame and putting it onto sockets: nothing else happens there meanwhile.",
                quantiles("warren_edge_frame_seconds", "instance", 0.99),
                "s",
                0.1,
            ),
            Chart(
                "Batch sizes",
                "Commands and facts in one batch, mean. Large is efficient; at the limit it is overload.",
                [mean("warren_worker_batch_items", "worker")],
            ),
            Chart(
                "Bundle sizes",
                "Commands in one AMQP message, mean: grows when confirms are slow.",
                [mean("warren_broker_bundle_items", "instance")],
            ),
            Chart(
                "Races and stalls",
                "Inserts repeated because of another worker; stalls of a process.",
                [
                    Query("sum(rate(warren_worker_seq_retries_total[1m]))", "seq retries"),
                    Query("sum by (instance) (rate(warren_process_stalls_total[5m]) > 0)", "stalls {{instance}}"),
                ],
            ),
        ],
    ),
    Row(
        "For whom?",
        [
            Chart(
                "Acks that are not ok",
                "By event and code.",
                [
                    Query(
                        'sum by (event, outcome) (rate(warren_edge_acks_total{outcome!="ok"}[1m]))',
                        "{{event}} {{outcome}}",
                    )
                ],
                "reqps",
            ),
            Chart("Connections by outcome", "A second.", [rate("warren_edge_connects_total", "outcome")], "cps"),
            Chart("Disconnections by reason", "A second.", [rate("warren_edge_disconnects_total", "reason")], "cps"),
            Chart("Pushes", "By event, a second.", [rate("warren_edge_deliveries_total", "event")], "reqps"),
            Chart(
                "Pushes that did not arrive",
                "Frames for an edge that is gone; sockets cut off as they did not read; snapshots asked of everybody.",
                [
                    Query("sum(rate(warren_worker_unroutable_frames_total[1m]))", "unroutable frames"),
                    Query(
                        "sum by (instance) (rate(warren_edge_slow_sockets_total[1m]) > 0)", "slow sockets {{instance}}"
                    ),
                    Query("sum by (reason) (rate(warren_edge_resyncs_total[1m]))", "resyncs: {{reason}}"),
                ],
            ),
            Chart(
                "Published, not confirmed",
                "By exchange and outcome: refused is a full queue, unknown a lost connection.",
                [
                    Query(
                        'sum by (exchange, outcome) (rate(warren_broker_published_total{outcome!="confirmed"}[1m]))',
                        "{{exchange}} {{outcome}}",
                    )
                ],
            ),
            Chart(
                "The canary's troubles",
                "Rounds that failed, by why.",
                [
                    rate("warren_canary_rounds_total", "outcome", '{outcome!="ok"}'),
                    Query("sum by (user) (rate(warren_canary_wrong_counts_total[1m]))", "wrong count {{user}}"),
                ],
            ),
            Chart(
                "Edges given up",
                "By reason: their users count as gone.",
                [Query("sum by (reason) (increase(warren_presence_edges_dropped_total[5m]))", "{{reason}}")],
            ),
            Chart(
                "Put aside",
                "Commands and facts a second that went to the dead letters.",
                [rate("warren_worker_dead_letters_total", "queue")],
            ),
        ],
    ),
)


def queries() -> Iterator[str]:
    """Every expression on the page."""
    for row in ROWS:
        for panel in row.panels:
            yield from [panel.query.expr] if isinstance(panel, Number) else [query.expr for query in panel.queries]
