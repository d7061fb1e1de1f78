"""Declares every metric. Labels have a bounded set of values: never a user, a socket or a conversation."""

from prometheus_client import Counter, Gauge, Histogram

#: Buckets in seconds: of what users wait for, and of steps inside a process.
_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SHORT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500)

# --- Every process ----------------------------------------------------------------------------------------
STALLS = Counter(
    "warren_process_stalls_total", "Times that the process stalled: frozen, without processor time, or blocked."
)

# --- Edge -------------------------------------------------------------------------------------------------
SOCKETS = Gauge("warren_edge_sockets", "Connected sockets.")
SOCKETS_MAX = Gauge("warren_edge_sockets_max", "Limit of sockets on this edge.")
USERS = Gauge("warren_edge_users", "Users with at least one socket on this edge.")
CONNECTS = Counter("warren_edge_connects_total", "Connections by outcome.", ["outcome"])
DISCONNECTS = Counter("warren_edge_disconnects_total", "Closed sockets by reason.", ["reason"])
EVENTS = Counter("warren_edge_events_total", "Client events by name.", ["event"])
ACKS = Counter("warren_edge_acks_total", "Acks by event and outcome (ok or an error code).", ["event", "outcome"])
ACK_SECONDS = Histogram("warren_edge_ack_seconds", "Time from a client's event to its ack.", ["event"], buckets=_FAST)
BAD_PACKETS = Counter("warren_edge_bad_packets_total", "Packets that closed their socket, by reason.", ["reason"])
PENDING = Gauge("warren_edge_pending_replies", "Commands that wait for their reply.")
OVERDUE = Counter("warren_edge_overdue_replies_total", "Commands without a reply in time, by name.", ["command"])
RESENT = Counter(
    "warren_edge_resent_commands_total",
    "Commands sent again because they or their replies may be lost with a broken connection.",
)
DELIVERED = Counter("warren_edge_deliveries_total", "Pushes that were queued for a socket, by event.", ["event"])
FRAME_SECONDS = Histogram(
    "warren_edge_frame_seconds",
    "Time to deliver one frame: decode it, resolve its replies, and queue its pushes for sockets.",
    buckets=_SHORT,
)
KEY_FETCHES = Counter(
    "warren_edge_key_fetches_total", "Fetches of the key set that tokens are verified with, by outcome.", ["outcome"]
)
TRANSPORTS = Gauge(
    "warren_edge_transports", "Open connections, by kind: http (before or without an upgrade) or websocket.", ["kind"]
)
CLOSED_CONNECTIONS = Counter(
    "warren_edge_closed_connections_total", "Connections that were closed because they were over a limit.", ["limit"]
)
SLOW_SOCKETS = Counter("warren_edge_slow_sockets_total", "Sockets that were evicted because their client did not read.")
RESYNCS = Counter(
    "warren_edge_resyncs_total", "Times that all clients were told to take a snapshot, by reason.", ["reason"]
)
LEASED = Gauge(
    "warren_edge_leased", "1 while the presence workers renew the lease, so that new sockets get session_ready."
)
DRAINING = Gauge("warren_edge_draining", "1 while the edge drains its sockets.")

# --- Broker -----------------------------------------------------------------------------------------------
BROKER_UP = Gauge("warren_broker_up", "1 while the connection is up.", ["connection"])
BROKER_BLOCKED = Gauge(
    "warren_broker_blocked", "1 while the broker blocks the connection because of an alarm.", ["connection"]
)
BROKER_RECONNECTS = Counter(
    "warren_broker_connection_losses_total", "Lost connections and failed attempts to connect.", ["connection"]
)
PUBLISHED = Counter(
    "warren_broker_published_total", "Messages published, by exchange and outcome.", ["exchange", "outcome"]
)
CONFIRM_SECONDS = Histogram(
    "warren_broker_confirm_seconds", "Time from publish to the broker's confirm.", ["exchange"], buckets=_FAST
)
BUNDLE_ITEMS = Histogram("warren_broker_bundle_items", "Commands in one AMQP message.", buckets=_SIZES)

# --- Store ------------------------------------------------------------------------------------------------
STORE_UP = Gauge("warren_store_up", "1 while the driver knows a primary of the store.", ["database"])
STORE_SECONDS = Histogram("warren_store_seconds", "Time of one store operation.", buckets=_FAST)

# --- Workers ----------------------------------------------------------------------------------------------
BATCH_ITEMS = Histogram("warren_worker_batch_items", "Commands and facts in one batch.", ["worker"], buckets=_SIZES)
BATCH_SECONDS = Histogram(
    "warren_worker_batch_seconds",
    "Time of one part of a batch: `handle` (decide and store) or `send` (look up sessions and publish frames).",
    ["worker", "part"],
    buckets=_FAST,
)
ITEMS = Counter(
    "warren_worker_items_total", "Commands and facts that were handled, by name and outcome.", ["name", "outcome"]
)
QUEUE_SECONDS = Histogram(
    "warren_worker_queue_seconds",
    "Time from the edge's publish to the start of the batch.",
    ["worker"],
    buckets=_FAST,
)
REQUEUED = Counter(
    "warren_worker_requeues_total",
    "Times that a worker requeued its messages because the store was away, by queue.",
    ["queue"],
)
REDELIVERED = Counter(
    "warren_worker_redelivered_total",
    "Messages that the broker delivered again because they were not acked.",
    ["queue"],
)
DEAD_LETTERS = Counter(
    "warren_worker_dead_letters_total", "Commands and facts that were dead-lettered, by queue.", ["queue"]
)
STORE_FAILURES = Counter(
    "warren_worker_store_failures_total",
    "Attempts to handle a batch that failed because the store was away.",
    ["worker"],
)
UNROUTABLE = Counter("warren_worker_unroutable_frames_total", "Frames for an edge without a queue.")
REPEATED_FACTS = Counter("warren_worker_repeated_facts_total", "Facts that this worker handled more than once.")
SEQ_RETRIES = Counter(
    "warren_worker_seq_retries_total", "Inserts that were repeated because another worker took the seq."
)
FRAMES_DROPPED = Counter(
    "warren_worker_frames_dropped_total", "Frames that could not be published and were dropped; 0 is healthy."
)
PRESENCE_CORRECTIONS = Counter(
    "warren_worker_presence_corrections_total",
    "Users who were online without a session and were corrected; 0 is healthy.",
)
EDGES_DROPPED = Counter(
    "warren_presence_edges_dropped_total",
    "Drops of an edge's sessions: it has no queue, its lease expired, or it registered its users under a new epoch.",
    ["reason"],
)

# --- Operator commands: `python -m infra canary` and `python -m infra recount --every` ----------------------
CANARY_ROUNDS = Counter(
    "warren_canary_rounds_total",
    "Rounds of the two synthetic users, by outcome (ok or what failed).",
    ["outcome"],
)
CANARY_SECONDS = Histogram(
    "warren_canary_seconds",
    "Time of a round's steps: from sending to the ack, from sending to the delivery, and from marking to the ack.",
    ["step"],
    buckets=_FAST,
)
CANARY_SOCKETS = Gauge(
    "warren_canary_sockets", "1 while a synthetic user is connected and has session_ready.", ["user"]
)
CANARY_WRONG_COUNTS = Counter(
    "warren_canary_wrong_counts_total", "Unread counts of a synthetic user that were wrong.", ["user"]
)
RECOUNT_CONVERSATIONS = Gauge("warren_recount_conversations", "Conversations that the last recount compared.")
RECOUNT_DIFFERENCES = Gauge(
    "warren_recount_differences",
    "Projections that differed from the messages in the last recount, and were repaired.",
    ["projection"],
)
RECOUNT_FINISHED = Gauge(
    "warren_recount_finished_timestamp_seconds", "Unix time at which the last recount ended; 0 before the first."
)

# These labels are rare. They start at 0, because a rate does not see the first increment of a new series.
for _reason in ("new queue", "lease lost", "missing frames", "undecodable frame", "too many unconfirmed reports"):
    RESYNCS.labels(_reason)
for _outcome in ("ok", "failed"):
    KEY_FETCHES.labels(_outcome)
for _reason in ("no queue", "lease", "new epoch"):
    EDGES_DROPPED.labels(_reason)
for _limit in (
    "frames",
    "bytes",
    "events",
    "request bytes",
    "request timeout",
    "response timeout",
    "pending connections",
):
    CLOSED_CONNECTIONS.labels(_limit)
