"""Connects clients and starts the conversations that they share."""

import asyncio
from collections.abc import Sequence

from infra.bench.load.light_client import Client, Conversation
from infra.bench.load.system import SystemUnderTest

#: Conversations that are set up at the same time.
SETUP_AT_ONCE = 50


async def connect_pairs(
    system: SystemUnderTest, count: int, user_prefix: str = "pair", size: int = 2
) -> list[Conversation]:
    """Connect `count` pairs of new users, or groups of `size`, and start their conversations.

    `user_prefix` begins the user ids; no other run on the same store may have used it. Raises as `connect_groups`.
    """
    groups = [[f"{user_prefix}-{number}-{member}" for member in range(size)] for number in range(count)]
    return await connect_groups(system, groups)


async def connect_groups(system: SystemUnderTest, groups: Sequence[Sequence[str]]) -> list[Conversation]:
    """Connect these users and start a conversation in each group; neighbours in a group are on neighbouring edges.

    Raises ConnectFailed or CallFailed, with every socket closed.
    """
    edges = system.edge_urls
    conversations = [
        Conversation(
            tuple(
                Client(edges[(number + member) % len(edges)], user_id, system.make_token)
                for member, user_id in enumerate(user_ids)
            )
        )
        for number, user_ids in enumerate(groups)
    ]
    gate = asyncio.Semaphore(SETUP_AT_ONCE)

    async def set_up(conversation: Conversation) -> None:
        async with gate:
            await asyncio.gather(*(client.start() for client in conversation.clients))
            await start_conversation(conversation)

    try:
        async with asyncio.TaskGroup() as group:
            for conversation in conversations:
                group.create_task(set_up(conversation))
    except BaseExceptionGroup as failed:
        await disconnect(conversations)
        raise failed.exceptions[0] from None
    except BaseException:
        await disconnect(conversations)
        raise
    return conversations


async def connect_everyone(system: SystemUnderTest, side: int, user_prefix: str = "everyone") -> list[Conversation]:
    """Connect two sides of `side` users; each talks with each on the other, so `side` squared conversations."""
    pairs = await connect_pairs(system, side, user_prefix)
    others = [Conversation((one.clients[0], two.clients[1])) for one in pairs for two in pairs if one is not two]
    try:
        for conversation in others:
            await start_conversation(conversation)
    except BaseException:
        await disconnect(pairs)
        raise
    return pairs + others


async def start_conversation(conversation: Conversation) -> None:
    """Let the first of its clients, all connected, start a conversation. Raises CallFailed or TimeoutError."""
    first, *others = conversation.clients
    started = await first.call("start_conversation", {"participant_ids": [other.user_id for other in others]})
    conversation.id = started["conversation"]["id"]
    # The bare echo has no `last_seq`: its conversations are always new.
    conversation.base_seq = started["conversation"].get("last_seq", 0)


async def disconnect(conversations: Sequence[Conversation]) -> None:
    """Close every socket."""
    clients = {client for conversation in conversations for client in conversation.clients}
    await asyncio.gather(*(client.stop() for client in clients))
