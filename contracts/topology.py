"""Exchanges, queues and bindings as values. Their names are meant to be read in RabbitMQ's management pages.

The same topology works on RabbitMQ 3.10 to 4.3. Only `infra/broker/declare.py` declares it.
"""

from dataclasses import dataclass, field
from typing import Any

COMMANDS = "warren.commands"
FACTS = "warren.facts"
FRAMES = "warren.frames"
DEAD = "warren.dead"

#: Redeliveries after which the broker dead-letters a message by itself, because its consumers keep dying.
DELIVERY_LIMIT = 10
#: The same for dead-letter queues, out of reach. Reading a letter counts as a delivery, and since 4.0 RabbitMQ drops a
#: message after 20 deliveries when no limit is set.
DEAD_DELIVERY_LIMIT = 1_000_000_000
#: Messages and bytes in a work queue above which it refuses more; the publisher gets a nack.
WORK_QUEUE_MAX_LENGTH = 1_000_000
WORK_QUEUE_MAX_BYTES = 1 << 30
#: Milliseconds after which a typing message expires, and messages in the queue.
TYPING_TTL_MS = 5_000
TYPING_MAX_LENGTH = 5_000
#: Bytes of frames in one edge's queue above which the oldest are dropped; the edge detects the gap.
EDGE_QUEUE_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Exchange:
    """A direct, durable exchange."""

    name: str


@dataclass(frozen=True)
class Queue:
    """A queue with its arguments, and its bindings as (exchange, key) pairs."""

    name: str
    bindings: tuple[tuple[str, str], ...]
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    durable: bool = True
    exclusive: bool = False
    #: Whether the broker fills one consumer before it sends to the next. For consumers that write the same documents:
    #: if they took turns, each would get smaller batches, and they would race.
    fill_one_consumer_first: bool = False


def dead_letter_queue(queue: str) -> str:
    """The name of a work queue's dead-letter queue."""
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
            # Requires reject-publish. With the default strategy, dead letters can be lost.
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


def edge_queue(edge_id: str, connected_at: int) -> Queue:
    """The queue of one edge for one broker connection, made at `connected_at` (milliseconds); it ends with it."""
    return Queue(
        f"edge.{edge_id}.{connected_at}",
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
    (COMMANDS, "lease.renew"),
    (COMMANDS, "sessions.drop"),
)
HISTORY = _work_queue(
    "history",
    (COMMANDS, "list_conversations"),
    (COMMANDS, "list_messages"),
    (COMMANDS, "list_participants"),
    (COMMANDS, "get_users"),
    (COMMANDS, "get_presence"),
)
#: Apart from `history`, so that a slow search delays no other read.
SEARCH = _work_queue("search", (COMMANDS, "find_users"))
#: Best effort by design: transient messages that expire soon, and the oldest are dropped first.
TYPING = Queue(
    "typing",
    ((COMMANDS, "typing"),),
    {"x-message-ttl": TYPING_TTL_MS, "x-max-length": TYPING_MAX_LENGTH, "x-overflow": "drop-head"},
)

WORK_QUEUES = (PERSISTENCE, UNREAD, PRESENCE, HISTORY, SEARCH)
DEAD_QUEUES = tuple(_dead_queue(queue.name) for queue in WORK_QUEUES)
#: Quorum queues, which RabbitMQ replicates to several nodes of a cluster.
REPLICATED_QUEUES = (*WORK_QUEUES, *DEAD_QUEUES)
QUEUES = (*WORK_QUEUES, TYPING, *DEAD_QUEUES)
