"""Dead letters: reads the `….dead` queues, and replays or purges what is in them.

Reading removes nothing. Letters are consumed without an ack, and then the channel is closed: the broker requeues them
in their order, also when this process dies. The broker counts each read as a delivery, so dead-letter queues have a
delivery limit out of reach. While one reader holds letters, another one does not see them.

A replay publishes a letter to the exchange and key that it came from, waits for the confirm, and then acks the letter.
A crash in between leaves the letter in its queue. Replaying it again is safe, because every consumer is idempotent.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from contracts.codec import Item, decode_bundle
from contracts.commands import ClientCommand, Command
from contracts.errors import BrokerUnavailable, DecodeError, PublishUnknown, Unroutable, WarrenError
from contracts.reports import SessionClose, SessionOpen
from contracts.topology import COMMANDS, DELIVERY_LIMIT, FACTS, WORK_QUEUES, dead_letter_queue
from infra.broker.channel import Channel, IncomingMessage
from infra.broker.link import connect_once
from infra.broker.publisher import Publisher
from infra.settings import Settings

#: Letters that one read holds unacked at most. AMQP's prefetch count is a 16-bit number.
MAX_HELD = 50_000
#: Replayed letters that wait for the broker's confirm at once.
REPLAY_WINDOW = 100
#: Seconds without another letter after which the remaining ones count as held by another reader.
IDLE_LIMIT = 5.0
#: How often, and how many seconds apart, to check whether letters are back in their queue.
REQUEUE_CHECKS, REQUEUE_INTERVAL = 200, 0.02
#: Seconds to wait for the connection that publishes.
CONNECT_LIMIT = 10.0


class NoSuchQueue(WarrenError):
    """Raised when a name is not that of a work queue, nor of its dead-letter queue."""


@dataclass(frozen=True)
class DeadLetter:
    """One dead letter. `items` is empty when the body cannot be decoded.

    `since` is the time of the first failure and `attempts` the number of tries, both None when unknown.
    """

    queue: str
    reason: str
    since: datetime | None
    attempts: int | None
    body: bytes
    items: tuple[Item, ...]

    @property
    def names(self) -> set[str]:
        """The names of its commands or facts; a bundle nearly always holds items of one name."""
        return {item.name for item in self.items}

    @property
    def users(self) -> set[str]:
        """The users that its items belong to: senders, and users of sessions."""
        return {user for item in self.items if (user := _user_of(item)) is not None}


@dataclass(frozen=True)
class LetterFilter:
    """Selects dead letters. A criterion at its default matches every letter.

    `reason` is part of a letter's reason, in any case of letters. `limit` keeps the oldest letters that match.
    """

    reason: str = ""
    name: str = ""
    user: str = ""
    since: datetime | None = None
    limit: int | None = None

    def matches(self, letter: DeadLetter) -> bool:
        """Whether a letter meets every criterion but the limit."""
        if self.reason.lower() not in letter.reason.lower():
            return False
        if self.name and self.name not in letter.names:
            return False
        if self.user and self.user not in letter.users:
            return False
        return self.since is None or (letter.since is not None and letter.since >= self.since)


@dataclass
class Summary:
    """What one read of a queue found.

    `present` letters were in the queue, `matched` of them met the filter, and `not_read` could not be read. The other
    fields count the letters that matched.
    """

    queue: str
    present: int = 0
    matched: int = 0
    not_read: int = 0
    undecodable: int = 0
    oldest: datetime | None = None
    reasons: Counter[str] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)

    def add(self, letter: DeadLetter) -> None:
        """Count a letter that matched."""
        self.matched += 1
        self.undecodable += not letter.items
        self.reasons[letter.reason] += 1
        self.names.update(letter.names)
        if letter.since is not None:
            self.oldest = min(self.oldest or letter.since, letter.since)


@dataclass
class Removal:
    """How many matching letters were removed, and how many refused because they cannot be decoded.

    `error` says why the work ended early; it is empty when the work was finished.
    """

    removed: int = 0
    refused: int = 0
    error: str = ""


#: Called with the number of letters that were processed since the last call.
Progress = Callable[[int], None]
#: Handles one letter that matched; it may ack the message.
OnLetter = Callable[[DeadLetter, IncomingMessage], Awaitable[None]]


async def summarize(settings: Settings, queue: str, letter_filter: LetterFilter) -> Summary:
    """Summarize the letters of one queue that match. Raises NoSuchQueue and BrokerUnavailable."""
    found = Summary(work_queue(queue))

    async def count(letter: DeadLetter, _: IncomingMessage) -> None:
        found.add(letter)

    await _read_letters(settings, found, letter_filter, count)
    return found


async def summarize_all(settings: Settings) -> list[Summary]:
    """Summarize the letters of every queue. Raises BrokerUnavailable."""
    return [await summarize(settings, queue.name, LetterFilter()) for queue in WORK_QUEUES]


async def read(settings: Settings, queue: str, letter_filter: LetterFilter) -> list[DeadLetter]:
    """The letters that match, oldest first. Set the filter's limit to bound them. Raises as `summarize` does."""
    letters: list[DeadLetter] = []

    async def keep(letter: DeadLetter, _: IncomingMessage) -> None:
        letters.append(letter)

    await _read_letters(settings, Summary(work_queue(queue)), letter_filter, keep)
    return letters


async def purge(
    settings: Settings, queue: str, letter_filter: LetterFilter, progress: Progress = lambda _: None
) -> Removal:
    """Remove the letters that match, for good. Raises as `summarize` does."""
    result = Removal()

    async def remove(_: DeadLetter, message: IncomingMessage) -> None:
        await message.ack()
        result.removed += 1
        progress(1)

    await _read_letters(settings, Summary(work_queue(queue)), letter_filter, remove, removed=lambda: result.removed)
    return result


async def replay(
    settings: Settings,
    queue: str,
    letter_filter: LetterFilter,
    *,
    raw: bool = False,
    progress: Progress = lambda _: None,
) -> Removal:
    """Publish each matching letter to the exchange and key that it came from, and remove it after the confirm.

    Letters that cannot be decoded are refused and stay. With `raw` they are published unchanged to the work queue that
    they were dead-lettered from. The first broker error ends the replay: the result names it in `error`, and letters
    without a confirm stay. Raises NoSuchQueue, and BrokerUnavailable when there is no connection.
    """
    result = Removal()
    publisher = Publisher(settings, "dead letters")
    waiting: list[tuple[DeadLetter, IncomingMessage]] = []

    async def flush() -> None:
        batch = [*waiting]
        waiting.clear()
        # Published in this order on one channel, so they are enqueued in it.
        sends = [publisher.publish(*_destination(letter), letter.body) for letter, _ in batch]
        for (_, message), outcome in zip(batch, await asyncio.gather(*sends, return_exceptions=True), strict=True):
            if outcome is None:
                await message.ack()
                result.removed += 1
            elif isinstance(outcome, BrokerUnavailable | PublishUnknown | Unroutable):
                result.error = str(outcome)
            else:
                raise outcome
        progress(len(batch))
        if result.error:
            raise BrokerUnavailable(result.error)

    async def replay_one(letter: DeadLetter, message: IncomingMessage) -> None:
        if not letter.items and not raw:
            result.refused += 1
            progress(1)
            return
        waiting.append((letter, message))
        if len(waiting) >= min(REPLAY_WINDOW, settings.publish_in_flight):
            await flush()

    publishing = asyncio.create_task(publisher.link.run())
    try:
        async with asyncio.timeout(CONNECT_LIMIT):
            await publisher.link.up.wait()
        await _read_letters(
            settings, Summary(work_queue(queue)), letter_filter, replay_one, flush, lambda: result.removed
        )
    except TimeoutError:
        raise BrokerUnavailable("The broker cannot be reached.") from None
    except BrokerUnavailable as error:
        result.error = str(error)
    finally:
        publishing.cancel()
        await asyncio.wait([publishing], timeout=CONNECT_LIMIT)
    return result


def work_queue(name: str) -> str:
    """The work queue of this name, or whose dead-letter queue has this name. Raises NoSuchQueue."""
    for queue in WORK_QUEUES:
        if name in (queue.name, dead_letter_queue(queue.name)):
            return queue.name
    known = ", ".join(queue.name for queue in WORK_QUEUES)
    raise NoSuchQueue(f"{name} has no dead-letter queue: choose one of {known}.")


# --- Reading ----------------------------------------------------------------------------------------------


async def _nothing() -> None:
    return None


async def _read_letters(
    settings: Settings,
    summary: Summary,
    letter_filter: LetterFilter,
    on_letter: OnLetter,
    finish: Callable[[], Awaitable[None]] = _nothing,
    removed: Callable[[], int] = lambda: 0,
) -> None:
    """Read the letters that are in the queue now and call `on_letter` with those that match.

    Afterwards `finish` is called, and letters that were not acked go back to the queue; `removed` says how many were
    acked. Letters that arrive meanwhile, for example replayed ones that failed again, are not read.
    """
    queue = dead_letter_queue(summary.queue)

    async def work(channel: Channel) -> None:
        summary.present = await channel.count_ready(queue)
        if not summary.present:
            return
        received: asyncio.Queue[IncomingMessage] = asyncio.Queue()
        consuming = await channel.open_another()
        try:
            await consuming.consume(queue, received.put_nowait, prefetch=min(summary.present, MAX_HELD))
            await _handle_received(received, summary, letter_filter, on_letter)
            await finish()
        finally:
            # A nack would change the order of the letters. Closing the channel keeps it.
            await consuming.close()
            await _wait_until_requeued(channel, queue, summary.present - removed())

    await connect_once(settings, work)


async def _handle_received(
    received: "asyncio.Queue[IncomingMessage]", summary: Summary, letter_filter: LetterFilter, on_letter: OnLetter
) -> None:
    matched = 0
    message: IncomingMessage | None = None
    for number in range(summary.present):
        try:
            async with asyncio.timeout(IDLE_LIMIT):
                message = await received.get()
        except TimeoutError:
            if message is not None and message.will_be_redelivered:
                raise BrokerUnavailable("The connection to the broker was lost.") from None
            summary.not_read = summary.present - number
            return
        letter = _letter(summary.queue, message)
        if letter_filter.matches(letter):
            await on_letter(letter, message)
            matched += 1
        if letter_filter.limit is not None and matched >= letter_filter.limit:
            return


async def _wait_until_requeued(channel: Channel, queue: str, number: int) -> None:
    """Wait until the next reader sees the letters again. The broker requeues them some milliseconds after the close."""
    for _ in range(REQUEUE_CHECKS):
        if channel.is_closed or await channel.count_ready(queue) >= number:
            return
        await asyncio.sleep(REQUEUE_INTERVAL)


def _letter(queue: str, message: IncomingMessage) -> DeadLetter:
    amqp_headers = message.amqp_headers
    try:
        items = tuple(decode_bundle(message.body))
    except DecodeError:
        items = ()
    if "x-warren-reason" in amqp_headers:
        return DeadLetter(
            queue=queue,
            reason=printable(str(amqp_headers["x-warren-reason"])),
            since=_moment_or_none(amqp_headers.get("x-warren-first-failure")),
            attempts=_number_or_none(amqp_headers.get("x-warren-attempts")),
            body=message.body,
            items=items,
        )
    deaths = amqp_headers.get("x-death")
    death: dict[str, Any] = deaths[0] if isinstance(deaths, list) and deaths else {}
    reason = str(death.get("reason", "unknown"))
    return DeadLetter(
        queue=queue,
        reason=f"{reason}: its consumers died" if reason == "delivery_limit" else printable(reason),
        since=_moment_or_none(death.get("time")),
        attempts=DELIVERY_LIMIT + 1 if reason == "delivery_limit" else None,
        body=message.body,
        items=items,
    )


# --- Parts ------------------------------------------------------------------------------------------------


def _destination(letter: DeadLetter) -> tuple[str, str]:
    """The exchange and key that a letter is replayed to: the default exchange when it cannot be decoded."""
    if not letter.items:
        return "", letter.queue
    first = letter.items[0]
    return (COMMANDS if isinstance(first, Command) else FACTS), first.name


def _user_of(item: Item) -> str | None:
    if isinstance(item, ClientCommand | SessionOpen | SessionClose):
        return item.user_id
    return None if isinstance(item, Command) else item.sender_id


def _moment_or_none(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    try:
        return datetime.fromisoformat(str(value)) if value else None
    except ValueError:
        return None


def _number_or_none(value: object) -> int | None:
    return value if isinstance(value, int) else None


def printable(text: str) -> str:
    """Text that is safe on a terminal: characters that are not printable are written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
