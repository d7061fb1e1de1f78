"""Exchanges, queues and bindings as values. Names are chosen to be read in RabbitMQ's console.

Declares and runs unchanged on RabbitMQ 3.10 to 4.3. `infra/broker/declare.py` is the only place that turns these
values into calls to a broker.
"""

from dataclasses import dataclass, field
from typing import Any

COMMANDS = "warren.commands"
FACTS = "warren.facts"
FRAMES = "warren.frames"
DEAD = "warren.dead"

#: Redeliveries after which the broker itself gives a message up: its consumers die on it.
DELIVERY_LIMIT = 10
#: The same for dead letters, out of reach: a look at them counts as a delivery, and RabbitMQ from 4.0 on drops
#: a message after 20 of them where no limit is set.
DEAD_DELIVERY_LIMIT = 1_000_000_000
#: Messages and bytes that a work queue holds before it refuses more; the publisher is told.
WORK_QUEUE_MAX_LENGTH = 1_000_000
WORK_QUEUE_MAX_BYTES = 1 << 30
#: Milliseconds that a typing notice is worth something, and how many may wait.
TYPING_TTL_MS = 5_000
TYPING_MAX_LENGTH = 5_000
#: Bytes of frames that wait for one edge before the oldest are dropped; the edge notices the gap.
EDGE_QUEUE_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Exchange:
    """A direct, durable exchange."""

    name: str


@dataclass(frozen=True)
class Queue:
    """A queue with its arguments, and the (exchange, key) pairs that it is bound with."""

    name: str
    bindings: tuple[tuple[str, str], ...]
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    durable: bool = True
    exclusive: bool = False
    #: Whether its consumers write the same documents. The broker then fills one of them before it gives another any:
    #: those who take turns halve each other's batches, and race.
    fill_one_consumer_first: bool = False


def dead_letter_queue(queue: str) -> str:
    """The name of the queue that keeps what fell out of another."""
    return f"{queue}.dead"


def _work_queue(name: str, *bindings: tuple[str, str], fill_one_consumer_first: bool = False) -> Queue:
    return Queue(
        name,
        bindings,
        {
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": DEAD,
            "x-dead-letter-routing-key": name,
            # Needs reject-publish; without it a dead letter could be lost on its way.
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
            "x-max-length": WORK_QUEUE_MAX_LENGTH,
            "x-max-length-bytes": WORK_QUEUE_MAX_BYTES,
        },
        fill_one_consumer_first=fill_one_consumer_first,
    )


def _dead_queue(name: str) -> Queue:
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": DEAD_DELIVERY_LIMIT}
    return Queue(dead_letter_queue(name), ((DEAD, name),), arguments)


def edge_queue(edge_id: str, epoch: int) -> Queue:
    """The queue of one edge for one broker connection; it goes when the connection does."""
    return Queue(
        f"edge.{edge_id}.{epoch}",
        ((FRAMES, edge_id),),
        {"x-max-length-bytes": EDGE_QUEUE_MAX_BYTES, "x-overflow": "drop-head"},
        durable=False,
        exclusive=True,
    )


EXCHANGES = (Exchange(COMMANDS), Exchange(FACTS), Exchange(FRAMES), Exchange(DEAD))

PERSISTENCE = _work_queue(
    "persistence", (COMMANDS, "start_conversation"), (COMMANDS, "send_message"), fill_one_consumer_first=True
)
UNREAD = _work_queue("unread", (COMMANDS, "message_seen"), (FACTS, "message.stored"), fill_one_consumer_first=True)
PRESENCE = _work_queue(
    "presence",
    (COMMANDS, "session.open"),
    (COMMANDS, "session.close"),
    (COMMANDS, "edge.alive"),
    (COMMANDS, "edge.lost"),
)
HISTORY = _work_queue(
    "history",
    (COMMANDS, "list_conversations"),
    (COMMANDS, "list_messages"),
    (COMMANDS, "find_users"),
    (COMMANDS, "get_presence"),
)
#: Best effort by design: short, transient messages, and the oldest goes first.
TYPING = Queue(
    "typing",
    ((COMMANDS, "typing"),),
    {"x-message-ttl": TYPING_TTL_MS, "x-max-length": TYPING_MAX_LENGTH, "x-overflow": "drop-head"},
)

WORK_QUEUES = (PERSISTENCE, UNREAD, PRESENCE, HISTORY)
DEAD_QUEUES = tuple(_dead_queue(queue.name) for queue in WORK_QUEUES)
#: Queues of which every node of a cluster has a copy.
REPLICATED_QUEUES = (*WORK_QUEUES, *DEAD_QUEUES)
QUEUES = (*WORK_QUEUES, TYPING, *DEAD_QUEUES)
