"""The panels of Warren's Grafana dashboard, as values: health, load, latency, and which users are affected.

Metrics of queues are RabbitMQ's own metrics per object (`prometheus.return_per_object_metrics = true`); all others are
in infra/metrics.py. A test checks every metric and label.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from contracts.topology import EDGE_QUEUE_MAX_BYTES, TYPING, WORK_QUEUES

_WORK = "|".join(queue.name for queue in (*WORK_QUEUES, TYPING))
#: Selectors of RabbitMQ's queues: work queues and typing, dead-letter queues, and edges' queues.
WORK, DEAD, EDGES = f'queue=~"{_WORK}"', 'queue=~".+[.]dead"', 'queue=~"edge[.].+"'


@dataclass(frozen=True)
class Query:
    """A PromQL expression, and the legend of its lines."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Number:
    """A panel with one current number. `bad` are the values at which it turns yellow and red.

    With `falling`, lower values are worse. `none` is shown without data.
    """

    title: str
    description: str
    query: Query
    bad: tuple[float, float]
    unit: str = "short"
    falling: bool = False
    none: str = "none"


@dataclass(frozen=True)
class Chart:
    """A panel with lines over time."""

    title: str
    description: str
    queries: Sequence[Query]
    unit: str = "short"
    #: The value that is drawn as a limit, or None.
    limit: float | None = None


@dataclass(frozen=True)
class Row:
    """A row of panels that answer one question."""

    title: str
    panels: Sequence[Number | Chart]


def quantiles(metric: str, by: str, *levels: float) -> list[Query]:
    """Quantiles of a histogram over one minute, for each value of the labels `by`."""
    names = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return [
        Query(
            f"histogram_quantile({level}, sum by (le, {by}) (rate({metric}_bucket[1m])))", f"{names} p{level * 100:g}"
        )
        for level in levels
    ]


def mean(metric: str, by: str) -> Query:
    """The mean of a histogram over one minute, for each value of the label `by`."""
    parts = (f"sum by ({by}) (rate({metric}_{part}[1m]))" for part in ("sum", "count"))
    return Query(" / ".join(parts), f"{{{{{by}}}}}")


def rate(metric: str, by: str, selector: str = "") -> Query:
    """A counter's rate per second over one minute, for each value of the label `by`."""
    return Query(f"sum by ({by}) (rate({metric}{selector}[1m]))", f"{{{{{by}}}}}")


ROWS = (
    Row(
        "Is it healthy?",
        [
            Number(
                "Messages through",
                "Share of the canary's rounds in which the message was acked, delivered and seen.",
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
                "Time from sending at one edge to arrival at the other, measured by the canary.",
                Query(
                    'histogram_quantile(0.99, sum by (le) (rate(warren_canary_seconds_bucket{step="delivery"}[5m])))'
                ),
                (0.25, 1),
                "s",
                none="no canary",
            ),
            Number(
                "Alerts",
                "Warren's alerts that are firing.",
                Query('count(ALERTS{alertstate="firing", alertname=~"Warren.+"}) or vector(0)'),
                (1, 1),
            ),
            Number(
                "Processes down",
                "Processes that Prometheus cannot scrape.",
                Query("count(up == 0) or vector(0)"),
                (1, 2),
            ),
            Number(
                "Broker connections down",
                "Connections of Warren's processes to RabbitMQ that are down.",
                Query("count(warren_broker_up == 0) or vector(0)"),
                (1, 2),
            ),
            Number(
                "Store failures",
                "Attempts to handle a batch that failed because MongoDB was away, per second.",
                Query("sum(rate(warren_worker_store_failures_total[1m])) or vector(0)"),
                (0.01, 0.1),
            ),
            Number(
                "Dead letters",
                "Dead-lettered messages: see `python -m infra dead-letters list`.",
                Query(f"sum(rabbitmq_queue_messages{{{DEAD}}})"),
                (1, 100),
                none="?",
            ),
            Number(
                "Wrong projections",
                "Projections that the last recount found different from the messages.",
                Query("sum(warren_recount_differences)"),
                (1, 10),
                none="no recount",
            ),
        ],
    ),
    Row(
        "How loaded is it?",
        [
            Chart(
                "Connections",
                "Sockets of each edge.",
                [Query("warren_edge_sockets and on (instance) warren_edge_sockets_max > 0", "{{instance}}")],
            ),
            Chart(
                "Edges: share of the socket limit",
                "At 1, an edge refuses further sockets.",
                [Query("warren_edge_sockets / (warren_edge_sockets_max > 0)", "{{instance}}")],
                "percentunit",
                0.85,
            ),
            Chart(
                "Client events", "Events of clients, per second.", [rate("warren_edge_events_total", "event")], "reqps"
            ),
            Chart(
                "Queues: ready",
                "Messages that wait for a worker. Near 0 is healthy.",
                [Query(f"sum by (queue) (rabbitmq_queue_messages_ready{{{WORK}}})", "{{queue}}")],
                limit=1_000,
            ),
            Chart(
                "Queues: unacked",
                "Messages that workers hold. A constant value above 0 means that a worker is stalled.",
                [Query(f"sum by (queue) (rabbitmq_queue_messages_unacked{{{WORK}}})", "{{queue}}")],
            ),
            Chart(
                "Queues: consumers",
                "Workers that consume the queue.",
                [Query(f"sum by (queue) (rabbitmq_queue_consumers{{{WORK}}})", "{{queue}}")],
            ),
            Chart(
                "Queues: age",
                "Time from an edge's publish to the start of the batch. No data without workers.",
                quantiles("warren_worker_queue_seconds", "worker", 0.5, 0.99),
                "s",
                2,
            ),
            Chart(
                "Frames that wait for an edge",
                f"Bytes. Above {EDGE_QUEUE_MAX_BYTES >> 20} MiB, the oldest frames are dropped.",
                [Query(f"sum by (queue) (rabbitmq_queue_messages_bytes{{{EDGES}}})", "{{queue}}")],
                "bytes",
                EDGE_QUEUE_MAX_BYTES / 2,
            ),
            Chart(
                "Commands without a reply",
                "By edge. Grows when workers are away.",
                [Query("warren_edge_pending_replies and on (instance) warren_edge_sockets_max > 0", "{{instance}}")],
            ),
            Chart(
                "CPU",
                "Share of one core, by process. At 1, a process is at its limit: start another of its kind.",
                [Query("rate(process_cpu_seconds_total[1m])", "{{job}} {{instance}}")],
                "percentunit",
                0.9,
            ),
            Chart(
                "Memory",
                "Resident memory, by process.",
                [Query("process_resident_memory_bytes", "{{job}} {{instance}}")],
                "bytes",
            ),
            Chart(
                "RabbitMQ: memory",
                "Share of its limit. At 1, RabbitMQ blocks publishers.",
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
                "Time from sending to the ack and to the delivery, and from marking as seen to the ack.",
                quantiles("warren_canary_seconds", "step", 0.5, 0.99),
                "s",
                1,
            ),
            Chart(
                "Acks, p99",
                "Time from a client's event to its ack, at the edge.",
                quantiles("warren_edge_ack_seconds", "event", 0.99),
                "s",
                1,
            ),
            Chart(
                "Publish to confirm",
                "Time from publish to RabbitMQ's confirm.",
                quantiles("warren_broker_confirm_seconds", "exchange", 0.5, 0.99),
                "s",
                0.5,
            ),
            Chart(
                "Batches: handled and sent, p99",
                "`handle`: decide and store. `send`: look up sessions and publish frames.",
                quantiles("warren_worker_batch_seconds", "worker, part", 0.99),
                "s",
                0.5,
            ),
            Chart(
                "MongoDB operations",
                "Time of one operation, by process.",
                quantiles("warren_store_seconds", "instance", 0.5, 0.99),
                "s",
                0.25,
            ),
            Chart(
                "Frames at the edge, p99",
                "Time to decode one frame and queue its pushes. Meanwhile the edge does nothing else.",
                quantiles("warren_edge_frame_seconds", "instance", 0.99),
                "s",
                0.1,
            ),
            Chart(
                "Batch sizes",
                "Commands and facts in one batch, mean. At WARREN_BATCH_SIZE, the worker is overloaded.",
                [mean("warren_worker_batch_items", "worker")],
            ),
            Chart(
                "Bundle sizes",
                "Commands in one AMQP message, mean. Grows when confirms are slow.",
                [mean("warren_broker_bundle_items", "instance")],
            ),
            Chart(
                "Races and stalls",
                "Inserts that were repeated because another worker took the seq, and stalls of a process.",
                [
                    Query("sum(rate(warren_worker_seq_retries_total[1m]))", "seq retries"),
                    Query("sum by (instance) (rate(warren_process_stalls_total[5m]) > 0)", "stalls {{instance}}"),
                ],
            ),
        ],
    ),
    Row(
        "Which users are affected?",
        [
            Chart(
                "Acks that are not ok",
                "By event and error code, per second.",
                [
                    Query(
                        'sum by (event, outcome) (rate(warren_edge_acks_total{outcome!="ok"}[1m]))',
                        "{{event}} {{outcome}}",
                    )
                ],
                "reqps",
            ),
            Chart("Connections by outcome", "Per second.", [rate("warren_edge_connects_total", "outcome")], "cps"),
            Chart("Disconnections by reason", "Per second.", [rate("warren_edge_disconnects_total", "reason")], "cps"),
            Chart(
                "Pushes",
                "Pushes that were queued for sockets, by event, per second.",
                [rate("warren_edge_deliveries_total", "event")],
                "reqps",
            ),
            Chart(
                "Lost pushes",
                "Frames for edges without a queue, evicted sockets, and resyncs of all clients.",
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
                "By exchange and outcome. `refused`: the queue is full. `unknown`: the connection was lost.",
                [
                    Query(
                        'sum by (exchange, outcome) (rate(warren_broker_published_total{outcome!="confirmed"}[1m]))',
                        "{{exchange}} {{outcome}}",
                    )
                ],
            ),
            Chart(
                "Canary: failed rounds",
                "Failed rounds by cause, and wrong unread counts.",
                [
                    rate("warren_canary_rounds_total", "outcome", '{outcome!="ok"}'),
                    Query("sum by (user) (rate(warren_canary_wrong_counts_total[1m]))", "wrong count {{user}}"),
                ],
            ),
            Chart(
                "Edges dropped",
                "Edges whose sessions were dropped, by reason.",
                [Query("sum by (reason) (increase(warren_presence_edges_dropped_total[5m]))", "{{reason}}")],
            ),
            Chart(
                "Dead-lettered",
                "Commands and facts that were dead-lettered, per second.",
                [rate("warren_worker_dead_letters_total", "queue")],
            ),
        ],
    ),
)


def queries() -> Iterator[str]:
    """Every expression of the dashboard."""
    for row in ROWS:
        for panel in row.panels:
            yield from [panel.query.expr] if isinstance(panel, Number) else [query.expr for query in panel.queries]
