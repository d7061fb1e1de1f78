"""Attacks with output: what an edge writes, and the attacker does not read."""

import json

from tests.abuse.attack import Attack, End, Target
from tests.abuse.attacks.life import Attacking, event, lead, start_conversation, with_token, without_token
from tests.support.raw_tcp import RawTCP, client_frame

#: Messages of a page, and of the conversation.
PAGE = 50


async def unread_pongs(target: Target) -> End:
    """Ping within the budget and do not read."""

    async def ping(attacking: Attacking) -> None:
        frame = client_frame("ping", b"x" * 125)
        await attacking.flood(frame, 95 * len(frame))

    return await lead(target, ping, opening=with_token, reads=False)


async def unread_pages(target: Target) -> End:
    """Ask for pages of long messages within the rate, and read none."""
    ask = b""

    async def write(raw: RawTCP, target: Target) -> None:
        nonlocal ask
        conversation_id = await start_conversation(raw, target)
        for number in range(PAGE):
            message = {"conversation_id": conversation_id, "client_message_id": str(number), "body": "x" * 4_000}
            await raw.send(event("send_message", message))
        ask = event("list_messages", {"conversation_id": conversation_id, "limit": PAGE})

    async def read_nothing(attacking: Attacking) -> None:
        await attacking.flood(ask, 40 * len(ask))

    return await lead(target, read_nothing, opening=write, reads=False)


async def unread_refusals(target: Target) -> End:
    """Connect to namespaces that are not there, and do not read."""

    async def connect(attacking: Attacking) -> None:
        await attacking.flood(client_frame("text", b"40/" + b"x" * 1_000 + b","), 90_000)

    return await lead(target, connect, opening=without_token, reads=False)


async def connects(target: Target) -> End:
    """Connect again and again on one transport."""

    async def connect(attacking: Attacking) -> None:
        packet = b"40" + json.dumps({"token": target.token()}).encode()
        await attacking.flood(client_frame("text", packet), 1_000_000)

    return await lead(target, connect, opening=with_token)


ATTACKS = {
    "unread pongs": Attack("95 pings/s of 125 bytes, nothing read", unread_pongs, allowed=True),
    "unread pages": Attack("40 requests/s for 50 messages of 4,000 characters, nothing read", unread_pages),
    "unread refusals": Attack("90 connects/s to foreign namespaces, nothing read", unread_refusals, allowed=True),
    "connects": Attack("1 MB/s of connect packets on one connection", connects),
}
