"""Dead letters as workers write them, and what is in the queues of a broker."""

from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.codec import Item, encode_bundle
from contracts.commands import SendMessage
from contracts.topology import DEAD
from infra.broker import dead_letters
from infra.broker.channel import Channel
from infra.broker.dead_letters import LetterFilter
from infra.broker.link import connect_once
from infra.broker.publisher import Publisher
from infra.settings import WorkerSettings


async def dead_letter(
    publisher: Publisher, *items: Item, queue: str = "persistence", reason: str = "ValueError: no", ago: float = 60
) -> None:
    """Put one letter aside as a worker does."""
    await dead_letter_bytes(publisher, encode_bundle(items), queue=queue, reason=reason, ago=ago)


async def dead_letter_bytes(
    publisher: Publisher, body: bytes, *, queue: str = "persistence", reason: str = "undecodable: v", ago: float = 60
) -> None:
    """Put one letter with any bytes aside as a worker does."""
    headers = {
        "x-warren-queue": queue,
        "x-warren-reason": reason,
        "x-warren-first-failure": (datetime.now(UTC) - timedelta(seconds=ago)).isoformat(),
        "x-warren-attempts": 3,
    }
    await publisher.publish(DEAD, queue, body, amqp_headers=headers)


async def message_ids(settings: WorkerSettings, **wanted: Any) -> list[str]:
    """The messages among the letters that match, oldest first."""
    letters = await dead_letters.read(settings, "persistence", LetterFilter(**wanted))
    return [
        item.payload.client_message_id for letter in letters for item in letter.items if isinstance(item, SendMessage)
    ]


async def count_ready(settings: WorkerSettings, queue: str) -> int:
    """Messages that wait in a queue."""
    counts: list[int] = []

    async def count(channel: Channel) -> None:
        counts.append(await channel.count_ready(queue))

    await connect_once(settings, count)
    return counts[0]


async def has(settings: WorkerSettings, queue: str, number: int) -> bool:
    """Whether so many messages wait in a queue."""
    return await count_ready(settings, queue) == number
