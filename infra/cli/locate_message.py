"""`python -m infra message`: where one message is now, from never seen to read by everybody.

It looks in the order in which a message travels, the queue first: what left one place since it was looked at is found
in the next.

What waits in the queue is counted, and not looked into. A quorum queue takes each look for a delivery, after eleven of
which it gives a message up, and it hides from its workers what someone looks at. No look there is harmless.
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
    """Bundles in the persistence queue: `ready` is exact, what its workers hold is up to 5 s old."""

    ready: int
    unacked: int
    consumers: int


@dataclass(frozen=True)
class Reader:
    """A participant of the conversation, as seen from one message."""

    user_id: str
    #: Edges that hold a socket of theirs now, each with its last sign of life.
    edges: dict[str, datetime | None]
    #: Their watermark, and when it last moved.
    read_seq: int
    read_at: datetime | None


@dataclass
class Copy:
    """One sender's message of that id: stored if it has a seq, and the dead letters that hold it or its count."""

    sender_id: str
    seq: int | None = None
    sent_at: datetime | None = None
    readers: list[Reader] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)


@dataclass(frozen=True)
class Findings:
    """All that can be found out; several senders may have chosen the same id."""

    conversation_exists: bool
    waiting: Waiting
    copies: list[Copy]
    #: Dead letters of persistence that cannot be read: it may be in one of them.
    undecodable: int


async def find(settings: Settings, conversation_id: str, client_message_id: str) -> Findings:
    """Look for a message of any participant. Raises BrokerUnavailable and StoreUnavailable."""
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
                    _note(letter, (copy for copy in copies.values() if copy.seq == item.seq))
    for letter in letters:
        for item in letter.items:
            if _is_it(item, conversation_id, client_message_id):
                _note(letter, [copies.setdefault(item.user_id, Copy(item.user_id))])
    undecodable = sum(not letter.items for letter in letters)
    return Findings(header is not None, waiting, list(copies.values()), undecodable)


async def _waiting(settings: Settings) -> Waiting:
    ready = 0

    async def count(channel: Channel) -> None:
        nonlocal ready
        ready = await channel.count_ready(PERSISTENCE.name)

    await connect_once(settings, count)
    status = {queue.name: queue for queue in await management.queues(settings)}[PERSISTENCE.name]
    return Waiting(ready, status.unacked, status.consumers)


async def _stored(store: Store, header: Header, client_message_id: str) -> dict[str, Copy]:
    """By sender: what is stored, and how far it got."""
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
    seen_at = await directory.edges_seen_at({session.edge_id for session in sessions})
    edges: dict[str, dict[str, datetime | None]] = {}
    for session in sessions:
        edges.setdefault(session.user_id, {})[session.edge_id] = seen_at.get(session.edge_id)
    watermarks = {user_id: header.watermark(user_id) for user_id in header.user_ids}
    return [Reader(user_id, edges.get(user_id, {}), read.seq, read.at) for user_id, read in watermarks.items()]


# --- Telling ----------------------------------------------------------------------------------------------


def told(findings: Findings) -> Iterator[str]:
    """What was found, in sentences. Bodies are never shown."""
    for copy in findings.copies:
        if copy.seq is not None and copy.sent_at is not None:
            yield f"Stored: {copy.sender_id}'s, as number {copy.seq}, at {rfc3339(copy.sent_at)}."
            yield from (f"  {_read(reader, copy.seq)}; {_reached(reader)}." for reader in copy.readers)
        for letter in copy.letters:
            since = rfc3339(letter.since) if letter.since else "an unknown time"
            what = "Its unread counts are" if letter.queue == UNREAD.name else f"{copy.sender_id}'s is"
            yield f"{what} among the dead letters of {letter.queue} since {since}: {letter.reason}"
    if findings.copies:
        return
    waiting = findings.waiting
    if waiting.ready or waiting.unacked:
        yield (
            f"Not stored. It may be waiting in {PERSISTENCE.name}, which has {waiting.ready} bundles ready and "
            f"{waiting.unacked} with its {waiting.consumers} workers; ask again when that has moved."
        )
    elif not findings.conversation_exists:
        yield "Never seen: there is no such conversation, and nothing waits in the queue."
    else:
        yield (
            "Never seen: it is neither stored nor waiting. It never came, was refused (its sender was told), or is "
            "still on its way at an edge, for some seconds at most."
        )
    if findings.undecodable:
        yield f"{findings.undecodable} dead letters of {PERSISTENCE.name} cannot be read; it may be in one of them."


def _read(reader: Reader, seq: int) -> str:
    if reader.read_seq < seq:
        return f"{reader.user_id} has not read it"
    when = f", last at {rfc3339(reader.read_at)}" if reader.read_at else ""
    return f"{reader.user_id} has read up to {reader.read_seq}{when}"


def _reached(reader: Reader) -> str:
    if not reader.edges:
        return "not connected, gets it with the next snapshot"
    places = (f"{edge} (seen {rfc3339(seen) if seen else 'never'})" for edge, seen in sorted(reader.edges.items()))
    return f"connected to {', '.join(places)}"


def _is_it(item: Item, conversation_id: str, client_message_id: str) -> TypeGuard[SendMessage]:
    if not isinstance(item, SendMessage):
        return False
    return (item.payload.conversation_id, item.payload.client_message_id) == (conversation_id, client_message_id)


def _note(letter: DeadLetter, copies: Iterable[Copy]) -> None:
    for copy in copies:
        if letter not in copy.letters:
            copy.letters.append(letter)


def command(
    conversation: Annotated[str, typer.Argument(help="The conversation's id.")],
    client_message_id: Annotated[str, typer.Argument(help="The id that its sender chose for it.")],
) -> None:
    """Tell where a message is: never seen, waiting, put aside and why, or stored, and then who has read it."""
    for sentence in told(run(find(load(Settings), conversation, client_message_id))):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
