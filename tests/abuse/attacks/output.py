"""Attacks with output: what an edge writes, and the attacker does not read."""

import json

from tests.abuse.attack import Attack, End, Target
from tests.abuse.attacks.life import Attacking, lead, with_token, without_token
from tests.support.raw_tcp import client_frame


async def unread_pongs(target: Target) -> End:
    """Ping within the budget and do not read."""

    async def ping(attacking: Attacking) -> None:
        frame = client_frame("ping", b"x" * 125)
        await attacking.flood(frame, 95 * len(frame))

    return await lead(target, ping, opening=with_token, reads=False)


async def unread_acks(target: Target) -> End:
    """Ask within the rate, and do not read the answers."""

    async def ask(attacking: Attacking) -> None:
        frame = client_frame("text", b'421["list_conversations"]')
        await attacking.flood(frame, 45 * len(frame))

    return await lead(target, ask, opening=with_token, reads=False)


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
    "unread acks": Attack("45 events/s, no ack read", unread_acks, allowed=True),
    "unread refusals": Attack("90 connects/s to foreign namespaces, nothing read", unread_refusals, allowed=True),
    "connects": Attack("1 MB/s of connect packets on one connection", connects),
}
