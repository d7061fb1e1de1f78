"""`python -m infra message`: finds out where one message is, from never received to read by everybody.

It checks the places in the order in which a message passes them, the queue first. So a message that moves on during the
search is found in the next place.

Messages in the queue are counted and not read. A quorum queue counts every read as a delivery and dead-letters a
message after too many of them, and while a message is read, workers do not get it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, TypeGuard

import typer

from contracts.codec import Item
from contracts.commands import SendMessage
from contracts.facts import MessageStored
from contracts.ids import message_id
from contracts.topology import PERSISTENCE, UNREAD
from contracts.values import rfc3339
from infra.broker import dead_letters, management
from infra.broker.channel import Channel
from infra.broker.dead_letters import DeadLetter, LetterFilter
from infra.broker.link import connect_once
from infra.cli.console import console, run
from infra.settings import Settings, load
from infra.store.client import Store
from infra.store.conversations import Conversations, Header
from infra.store.messages import Messages
from infra.store.sessions import SessionDirectory


@dataclass(frozen=True)
class Waiting:
    """Bundles in the persistence queue: `ready` is current, `unacked` and `consumers` are up to 5 s old."""

    ready: int
    unacked: int
    consumers: int


@dataclass(frozen=True)
class Reader:
    """A participant other than the sender."""

    user_id: str
    #: The edges that the user is connected to, with the time of each edge's last lease renewal.
    edges: dict[str, datetime | None]
    #: The user's watermark, and when it last moved.
    read_seq: int
    read_at: datetime | None


@dataclass
class Copy:
    """One sender's message with that id: stored if it has a seq. `letters` hold the message, or the fact of it."""

    sender_id: str
    seq: int | None = None
    sent_at: datetime | None = None
    readers: list[Reader] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)


@dataclass(frozen=True)
class Location:
    """Where a message is. Several senders may have chosen the same client message id."""

    conversation_exists: bool
    waiting: Waiting
    copies: list[Copy]
    #: Dead letters of persistence that cannot be decoded: the message may be in one of them.
    undecodable: int


async def find(settings: Settings, conversation_id: str, client_message_id: str) -> Location:
    """Find a message of any participant. Raises BrokerUnavailable and StoreUnavailable."""
    waiting = await _waiting(settings)
    letters = await dead_letters.read(settings, PERSISTENCE.name, LetterFilter())
    store = Store(settings)
    try:
        header = (await Conversations(store).headers([conversation_id])).get(conversation_id)
        copies = await _stored(store, header, client_message_id) if header else {}
    finally:
        await store.close()
    if copies:
        for letter in await dead_letters.read(
            settings, UNREAD.name, LetterFilter(name=MessageStored.model_fields["name"].default)
        ):
            for item in letter.items:
                if isinstance(item, MessageStored) and item.conversation_id == conversation_id:
                    _add_letter(letter, (copy for copy in copies.values() if copy.seq == item.seq))
    for letter in letters:
        for item in letter.items:
            if _is_message(item, conversation_id, client_message_id):
                _add_letter(letter, [copies.setdefault(item.user_id, Copy(item.user_id))])
    undecodable = sum(not letter.items for letter in letters)
    return Location(header is not None, waiting, list(copies.values()), undecodable)


async def _waiting(settings: Settings) -> Waiting:
    ready = 0

    async def count(channel: Channel) -> None:
        nonlocal ready
        ready = await channel.count_ready(PERSISTENCE.name)

    await connect_once(settings, count)
    status = {queue.name: queue for queue in await management.queues(settings)}[PERSISTENCE.name]
    return Waiting(ready, status.unacked, status.consumers)


async def _stored(store: Store, header: Header, client_message_id: str) -> dict[str, Copy]:
    """The stored messages with this client message id, by sender."""
    ids = [message_id(header.id, user_id, client_message_id) for user_id in header.user_ids]
    messages = await Messages(store).by_id(ids)
    if not messages:
        return {}
    readers = await _readers(SessionDirectory(store), header)
    return {
        message.sender_id: Copy(
            message.sender_id,
            message.seq,
            message.sent_at,
            [reader for reader in readers if reader.user_id != message.sender_id],
        )
        for message in messages.values()
    }


async def _readers(directory: SessionDirectory, header: Header) -> list[Reader]:
    sessions = await directory.locate(header.user_ids)
    renewed_at = await directory.leases_renewed_at({session.edge_id for session in sessions})
    edges: dict[str, dict[str, datetime | None]] = {}
    for session in sessions:
        edges.setdefault(session.user_id, {})[session.edge_id] = renewed_at.get(session.edge_id)
    watermarks = {user_id: header.watermark(user_id) for user_id in header.user_ids}
    return [Reader(user_id, edges.get(user_id, {}), read.seq, read.at) for user_id, read in watermarks.items()]


# --- Output -----------------------------------------------------------------------------------------------


def describe(location: Location) -> Iterator[str]:
    """A location in sentences. Message bodies are never shown."""
    for copy in location.copies:
        if copy.seq is not None and copy.sent_at is not None:
            yield f"Stored: message {copy.seq} of the conversation, by {copy.sender_id}, at {rfc3339(copy.sent_at)}."
            yield from (f"  {_read(reader, copy.seq)}; {_reached(reader)}." for reader in copy.readers)
        for letter in copy.letters:
            since = rfc3339(letter.since) if letter.since else "an unknown time"
            what = "The fact of it" if letter.queue == UNREAD.name else f"The message by {copy.sender_id}"
            yield f"{what} is in the dead letters of {letter.queue} since {since}: {letter.reason}"
    if location.copies:
        return
    waiting = location.waiting
    if waiting.ready or waiting.unacked:
        yield (
            f"Not stored. It may be waiting in {PERSISTENCE.name}, which has {waiting.ready} bundles ready and "
            f"{waiting.unacked} with its {waiting.consumers} workers; run this again when they have been handled."
        )
    elif not location.conversation_exists:
        yield "Never received: the conversation does not exist, and nothing waits in the queue."
    else:
        yield (
            "Never received: it is neither stored nor waiting. It was not sent, or it was refused and its sender has "
            "the error, or an edge still has it, for some seconds at most."
        )
    if location.undecodable:
        yield f"{location.undecodable} dead letters of {PERSISTENCE.name} cannot be decoded; it may be in one of them."


def _read(reader: Reader, seq: int) -> str:
    if reader.read_seq < seq:
        return f"{reader.user_id} has not read it"
    when = f", last at {rfc3339(reader.read_at)}" if reader.read_at else ""
    return f"{reader.user_id} has read up to {reader.read_seq}{when}"


def _reached(reader: Reader) -> str:
    if not reader.edges:
        return "not connected; gets the message with the next snapshot"
    places = (
        f"{edge} (lease renewed {rfc3339(renewed) if renewed else 'never'})"
        for edge, renewed in sorted(reader.edges.items())
    )
    return f"connected to {', '.join(places)}"


def _is_message(item: Item, conversation_id: str, client_message_id: str) -> TypeGuard[SendMessage]:
    if not isinstance(item, SendMessage):
        return False
    return (item.payload.conversation_id, item.payload.client_message_id) == (conversation_id, client_message_id)


def _add_letter(letter: DeadLetter, copies: Iterable[Copy]) -> None:
    for copy in copies:
        if letter not in copy.letters:
            copy.letters.append(letter)


def command(
    conversation: Annotated[str, typer.Argument(help="Id of the conversation.")],
    client_message_id: Annotated[str, typer.Argument(help="Id that the sender's client gave to the message.")],
) -> None:
    """Find a message: never received, waiting, dead-lettered and why, or stored and read by whom.

    Needs RabbitMQ, its management API, and MongoDB.
    """
    for sentence in describe(run(find(load(Settings), conversation, client_message_id))):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
