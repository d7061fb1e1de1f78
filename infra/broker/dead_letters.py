"""Dead letters: what lies in the `….dead` queues, and the way back from there.

Looking takes nothing away. Letters are consumed without an ack and then handed back; they keep their order, even when
we die meanwhile. The broker counts that as a delivery of each, which is why a dead-letter queue has a delivery limit
out of reach. While someone looks, the letters they hold are hidden from whoever looks at the same time.

Replaying publishes a letter to where it came from, waits for the confirm, and only then removes it. A crash in
between leaves the letter where it is; replaying it again is safe, because everything that is consumed may come twice.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
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

#: Letters that one look may hold without removing them; AMQP counts no more than 65,535.
HELD = 50_000
#: Letters on their way back that wait for the broker's confirm at once.
WINDOW = 100
#: Seconds without a further letter after which the rest counts as held by somebody else.
SILENCE = 5.0
#: How often, and how many seconds apart, to look whether letters are back in their queue.
LOOKS, LOOK_INTERVAL = 200, 0.02
#: Seconds to wait for the connection that publishes.
CONNECT_LIMIT = 10.0
#: Characters of a message's body that are render unless all of it is asked for.
SHOWN_CHARACTERS = 60

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class NoSuchQueue(WarrenError):
    """Raised when someone names a queue that has no dead letters."""


@dataclass(frozen=True)
class DeadLetter:
    """One dead letter. `items` is empty when the body is no bundle of ours."""

    queue: str
    reason: str
    since: datetime | None
    attempts: int | None
    body: bytes
    items: tuple[Item, ...]

    @property
    def names(self) -> set[str]:
        """What the items in it are called: one name as a rule."""
        return {item.name for item in self.items}

    @property
    def users(self) -> set[str]:
        """Whom the items in it are about."""
        return {user for item in self.items if (user := _user_of(item)) is not None}


@dataclass(frozen=True)
class Filter:
    """Which letters are meant; what is left out does not count. `limit` takes the oldest."""

    reason: str = ""
    name: str = ""
    user: str = ""
    since: datetime | None = None
    limit: int | None = None

    def matches(self, letter: DeadLetter) -> bool:
        """Say whether a letter is meant, the limit aside."""
        if self.reason.lower() not in letter.reason.lower():
            return False
        if self.name and self.name not in letter.names:
            return False
        if self.user and self.user not in letter.users:
            return False
        return self.since is None or (letter.since is not None and letter.since >= self.since)


@dataclass
class Summary:
    """What a look at one queue found: `present` letters, of which `matched` were meant, and `unseen` not reached."""

    queue: str
    present: int = 0
    matched: int = 0
    unseen: int = 0
    undecodable: int = 0
    oldest: datetime | None = None
    reasons: Counter[str] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)

    def add(self, letter: DeadLetter) -> None:
        """Count a letter that was meant."""
        self.matched += 1
        self.undecodable += not letter.items
        self.reasons[letter.reason] += 1
        self.names.update(letter.names)
        if letter.since is not None:
            self.oldest = min(self.oldest or letter.since, letter.since)


@dataclass
class Removal:
    """What became of the letters that were meant; `error` says why it ended early, or is empty."""

    removed: int = 0
    refused: int = 0
    error: str = ""


#: Told how many more letters are done with.
Progress = Callable[[int], None]
#: Decides on one letter that was meant.
OnLetter = Callable[[DeadLetter, IncomingMessage], Awaitable[None]]


async def summarize(settings: Settings, queue: str, filter_: Filter) -> Summary:
    """Count the letters of one queue. Raises NoSuchQueue and BrokerUnavailable."""
    found = Summary(work_queue(queue))

    async def count(letter: DeadLetter, _: IncomingMessage) -> None:
        found.add(letter)

    await _look(settings, found, filter_, count)
    return found


async def summarize_all(settings: Settings) -> list[Summary]:
    """Count the letters of every queue."""
    return [await summarize(settings, queue.name, Filter()) for queue in WORK_QUEUES]


async def read(settings: Settings, queue: str, filter_: Filter) -> list[DeadLetter]:
    """The letters that are meant, oldest first; the caller bounds them."""
    letters: list[DeadLetter] = []

    async def keep(letter: DeadLetter, _: IncomingMessage) -> None:
        letters.append(letter)

    await _look(settings, Summary(work_queue(queue)), filter_, keep)
    return letters


async def purge(settings: Settings, queue: str, filter_: Filter, progress: Progress = lambda _: None) -> Removal:
    """Remove letters for good."""
    result = Removal()

    async def remove(_: DeadLetter, delivery: IncomingMessage) -> None:
        await delivery.ack()
        result.removed += 1
        progress(1)

    await _look(settings, Summary(work_queue(queue)), filter_, remove, removed=lambda: result.removed)
    return result


async def replay(
    settings: Settings, queue: str, filter_: Filter, *, raw: bool = False, progress: Progress = lambda _: None
) -> Removal:
    """Publish letters to where they came from, and remove each once the broker has confirmed its copy.

    Letters that cannot be decoded are refused and stay, unless `raw`: then they go as they are into the queue that
    they fell out of. The first trouble with the broker ends it; letters without a confirm stay.
    """
    result = Removal()
    publisher = Publisher(settings, "dead letters")
    waiting: list[tuple[DeadLetter, IncomingMessage]] = []

    async def flush() -> None:
        batch = [*waiting]
        waiting.clear()
        # Published in this order on one channel, so they arrive in it.
        sends = [publisher.publish(*_destination(letter), letter.body) for letter, _ in batch]
        for (_, delivery), outcome in zip(batch, await asyncio.gather(*sends, return_exceptions=True), strict=True):
            if outcome is None:
                await delivery.ack()
                result.removed += 1
            elif isinstance(outcome, BrokerUnavailable | PublishUnknown | Unroutable):
                result.error = str(outcome)
            else:
                raise outcome
        progress(len(batch))
        if result.error:
            raise BrokerUnavailable(result.error)

    async def send_back(letter: DeadLetter, delivery: IncomingMessage) -> None:
        if not letter.items and not raw:
            result.refused += 1
            progress(1)
            return
        waiting.append((letter, delivery))
        if len(waiting) >= min(WINDOW, settings.publish_in_flight):
            await flush()

    publishing = asyncio.create_task(publisher.link.run())
    try:
        async with asyncio.timeout(CONNECT_LIMIT):
            await publisher.link.up.wait()
        await _look(settings, Summary(work_queue(queue)), filter_, send_back, flush, lambda: result.removed)
    except TimeoutError:
        raise BrokerUnavailable("The broker cannot be reached.") from None
    except BrokerUnavailable as error:
        result.error = str(error)
    finally:
        publishing.cancel()
        await asyncio.wait([publishing])
    return result


def work_queue(name: str) -> str:
    """The queue that is meant by its own name or by that of its dead letters. Raises NoSuchQueue."""
    for queue in WORK_QUEUES:
        if name in (queue.name, dead_letter_queue(queue.name)):
            return queue.name
    known = ", ".join(queue.name for queue in WORK_QUEUES)
    raise NoSuchQueue(f"There are no dead letters of {name}: choose one of {known}.")


def moment(text: str, now: datetime) -> datetime:
    """Read `90s`, `30m`, `2h`, `3d` (that long ago) or an ISO 8601 time, UTC unless it says otherwise.

    Raises ValueError.
    """
    if ago := re.fullmatch(r"(\d{1,6})([smhd])", text):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def render(letter: DeadLetter, *, full: bool = False) -> str:
    """A letter's body for people: indented JSON with messages cut short, or the start of bytes that are none."""
    try:
        value = json.loads(letter.body)
    except ValueError:
        return _printable(repr(letter.body if full else letter.body[:200]))
    text = json.dumps(value if full else _shortened(value), indent=2, ensure_ascii=False)
    return "\n".join(_printable(line) for line in text.split("\n"))


# --- Looking ----------------------------------------------------------------------------------------------


async def _nothing() -> None:
    return None


async def _look(
    settings: Settings,
    summary: Summary,
    filter_: Filter,
    on_letter: OnLetter,
    finish: Callable[[], Awaitable[None]] = _nothing,
    removed: Callable[[], int] = lambda: 0,
) -> None:
    """Hand on the letters that lie there now and are meant; those that are not acked meanwhile go back.

    One that comes meanwhile, replayed in vain perhaps, is not looked at.
    """
    queue = dead_letter_queue(summary.queue)

    async def look(channel: Channel) -> None:
        summary.present = await channel.count(queue)
        if not summary.present:
            return
        received: asyncio.Queue[IncomingMessage] = asyncio.Queue()
        held = await channel.another()
        try:
            await held.consume(queue, received.put_nowait, prefetch=min(summary.present, HELD))
            await _hand_on(received, summary, filter_, on_letter)
            await finish()
        finally:
            # Closing, and not a nack, is what keeps their order; the broker does it a moment later.
            await held.close()
            await _until_back(channel, queue, summary.present - removed())

    await connect_once(settings, look)


async def _hand_on(
    received: "asyncio.Queue[IncomingMessage]", summary: Summary, filter_: Filter, on_letter: OnLetter
) -> None:
    handed = 0
    delivery: IncomingMessage | None = None
    for looked in range(summary.present):
        try:
            async with asyncio.timeout(SILENCE):
                delivery = await received.get()
        except TimeoutError:
            if delivery is not None and delivery.lost:
                raise BrokerUnavailable("The connection to the broker was lost.") from None
            summary.unseen = summary.present - looked
            return
        letter = _letter(summary.queue, delivery)
        if filter_.matches(letter):
            await on_letter(letter, delivery)
            handed += 1
        if filter_.limit is not None and handed >= filter_.limit:
            return


async def _until_back(channel: Channel, queue: str, number: int) -> None:
    """Wait until whoever looks next sees them again; it takes milliseconds."""
    for _ in range(LOOKS):
        if channel.is_lost or await channel.count(queue) >= number:
            return
        await asyncio.sleep(LOOK_INTERVAL)


def _letter(queue: str, delivery: IncomingMessage) -> DeadLetter:
    headers = delivery.headers
    try:
        items = tuple(decode_bundle(delivery.body))
    except DecodeError:
        items = ()
    if "x-warren-reason" in headers:
        return DeadLetter(
            queue=queue,
            reason=_printable(str(headers["x-warren-reason"])),
            since=_moment_or_none(headers.get("x-warren-first-failure")),
            attempts=_number_or_none(headers.get("x-warren-attempts")),
            body=delivery.body,
            items=items,
        )
    deaths = headers.get("x-death")
    death: dict[str, Any] = deaths[0] if isinstance(deaths, list) and deaths else {}
    reason = str(death.get("reason", "unknown"))
    return DeadLetter(
        queue=queue,
        reason=f"{reason}: its consumers died" if reason == "delivery_limit" else _printable(reason),
        since=_moment_or_none(death.get("time")),
        attempts=DELIVERY_LIMIT + 1 if reason == "delivery_limit" else None,
        body=delivery.body,
        items=items,
    )


# --- Parts ------------------------------------------------------------------------------------------------


def _destination(letter: DeadLetter) -> tuple[str, str]:
    """Exchange and key that lead where a letter came from; the default exchange for what cannot be read."""
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


def _printable(text: str) -> str:
    """Text that does nothing to a terminal: what is no printable character is written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def _shortened(value: Any) -> Any:
    """The same JSON with every long `body` cut short."""
    if isinstance(value, list):
        return [_shortened(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        name: f"{part[:SHOWN_CHARACTERS]}… ({len(part)} characters)"
        if name == "body" and isinstance(part, str) and len(part) > SHOWN_CHARACTERS
        else _shortened(part)
        for name, part in value.items()
    }
