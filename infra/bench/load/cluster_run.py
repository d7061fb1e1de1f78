"""Puts load on a cluster through its edges, as its clients do: without access to its broker, store or processes."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.console import Console

from contracts.values import MAX_LIMIT
from infra.backoff import backoff
from infra.bench.histories import Header, Stored, StoredMessage
from infra.bench.load import scenarios
from infra.bench.load.conversations import connect_groups
from infra.bench.load.figures import TrafficFigures
from infra.bench.load.light_client import CallFailed, Client, Conversation
from infra.bench.load.progress import advance, progress_bar
from infra.bench.load.system import SystemUnderTest
from infra.bench.load.users import Users

#: Seconds of warm-up before the measured stretch.
WARM_UP = 3.0
#: Seconds that reading all conversations may take.
READ_LIMIT = 60.0
#: Conversations that are read at the same time.
READING_AT_ONCE = 20
#: Pages of a user's list in which a conversation is looked for; it is on the first, unless the user is very busy.
MAX_LIST_PAGES = 10
#: Seconds that a run may take beyond its measured stretch: each of its parts has a limit, and this is their sum.
OVERHEAD = (
    scenarios.CONNECT_ALL_LIMIT + WARM_UP + 2 * scenarios.DRAIN_LIMIT + scenarios.SETTLE_LIMIT + 2 * READ_LIMIT + 10.0
)


@dataclass(frozen=True)
class ClusterRun:
    """What to do to a cluster. The users talk in pairs, each with a neighbour in their order."""

    edge_urls: tuple[str, ...]
    #: An even number of users.
    users: Users
    #: Messages a second in all; 0 = as many as `in_flight` allows.
    rate: float
    #: Messages that are sent and not done at any time; only heeded where `rate` is 0.
    in_flight: int
    #: Lengths of the measured stretch, and of the one before it in which messages are sent already.
    seconds: float
    warm_up: float = WARM_UP


async def run_on_cluster(console: Console, run: ClusterRun) -> TrafficFigures:
    """Send messages, show the progress, read the messages back as clients, and compare them with the acks.

    Ends within `run.seconds` + `OVERHEAD` seconds. Raises ConnectFailed, CallFailed or TimeoutError.
    """
    system = SystemUnderTest(
        "cluster", run.edge_urls, run.users.make_token, pids=dict, read_store=read_as_clients, may_reconnect=True
    )
    pairs = list(zip(run.users.ids[::2], run.users.ids[1::2], strict=True))
    if run.rate:
        title, scenario = f"{run.rate:g}/s", partial(scenarios.latency, rate=run.rate)
    else:
        title, scenario = f"{run.in_flight} in flight", partial(scenarios.throughput, in_flight=run.in_flight)
    bar = progress_bar(console)
    task = bar.add_task(f"{title}, {len(run.users.ids)} people", total=1.0)
    with bar:
        async with asyncio.timeout(run.seconds + OVERHEAD):
            return await scenario(
                system,
                partial(advance, bar, task),
                title=title,
                seconds=run.seconds,
                warm_up=run.warm_up,
                connect=partial(connect_groups, system, pairs),
            )


async def read_as_clients(conversations: Sequence[Conversation]) -> Stored:
    """What `list_messages` and `list_conversations` answer the clients about their conversations.

    Messages from before the run are left out. Retries while an answer is a retryable error. Raises CallFailed, or
    TimeoutError after `READ_LIMIT` seconds.
    """
    gate = asyncio.Semaphore(READING_AT_ONCE)

    async def read(conversation: Conversation) -> tuple[list[StoredMessage], Header, dict[str, int]]:
        async with gate:
            return await _messages(conversation), *await _header(conversation)

    try:
        async with asyncio.timeout(READ_LIMIT):
            found = await asyncio.gather(*map(read, conversations))
    except TimeoutError:
        raise TimeoutError(f"the messages could not be read back within {READ_LIMIT:.0f} s") from None
    return Stored(
        [message for messages, _, _ in found for message in messages],
        {header.conversation_id: header for _, header, _ in found},
        {(user_id, header.conversation_id): count for _, header, unread in found for user_id, count in unread.items()},
    )


async def _messages(conversation: Conversation) -> list[StoredMessage]:
    """Every message after the newest from before the run, page by page."""
    client, messages, after = conversation.clients[0], list[StoredMessage](), conversation.base_seq
    while True:
        payload = {"conversation_id": conversation.id, "after_seq": after, "limit": MAX_LIMIT}
        page = await _ask(client, "list_messages", payload)
        messages += [
            StoredMessage(
                message["id"], conversation.id, message["seq"], message["sender_id"], message["client_message_id"]
            )
            for message in page["messages"]
        ]
        if not page["has_more"] or not page["messages"]:
            return messages
        after = page["messages"][-1]["seq"]


async def _header(conversation: Conversation) -> tuple[Header, dict[str, int]]:
    """A conversation's header, empty where no list has it, and the unread count of each of its clients."""
    header, unread = Header(conversation.id, base_seq=conversation.base_seq), dict[str, int]()
    read: dict[str, int] = {}
    for client in conversation.clients:
        if found := await _listed(client, conversation.id):
            unread[client.user_id] = found["unread_count"]
            last_id = found["last_message"]["id"] if found["last_message"] else ""
            # A large group shows its first participants only, but each client its own watermark.
            read |= {person["user"]["id"]: person["last_read_seq"] for person in found["participants"]}
            read[client.user_id] = found["last_read_seq"]
            header = Header(conversation.id, found["last_seq"], last_id, read, conversation.base_seq)
    return header, unread


async def _listed(client: Client, conversation_id: str) -> dict[str, Any] | None:
    """A conversation as a client's list shows it, newest activity first."""
    cursor = None
    for _ in range(MAX_LIST_PAGES):
        page = await _ask(client, "list_conversations", {"limit": MAX_LIMIT, **({"cursor": cursor} if cursor else {})})
        for conversation in page["conversations"]:
            if conversation["id"] == conversation_id:
                found: dict[str, Any] = conversation
                return found
        cursor = page["next_cursor"]
        if cursor is None:
            break
    return None


async def _ask(client: Client, event: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Ask until the answer is no retryable error; the caller limits the time."""
    attempt = 0
    while True:
        try:
            return await client.call(event, payload)
        except CallFailed as error:
            if not error.retryable:
                raise
        except TimeoutError:
            pass
        attempt += 1
        await asyncio.sleep(backoff(attempt))
