"""Attacks with connections: before the upgrade, without a token, and after leaving."""

import json

from tests.abuse.attack import Attack, End, Target
from tests.abuse.attacks.life import Attacking, lead, with_token, without_token, without_upgrade
from tests.support.raw_tcp import client_frame

#: Seconds between two bytes of a request that drips.
DRIP = 0.5


async def silent(target: Target) -> End:
    """Open connections and send nothing."""
    return await lead(target, Attacking.hold, opening=without_upgrade, connections=3_000)


async def dripping(target: Target) -> End:
    """Send a request a header at a time."""

    async def drip(attacking: Attacking) -> None:
        await attacking.send(b"GET / HTTP/1.1\r\n")
        while not await attacking.is_closed(DRIP):
            await attacking.send(b"x: y\r\n")

    return await lead(target, drip, opening=without_upgrade, connections=500)


async def half_requests(target: Target) -> End:
    """Send nearly as many headers as are taken, and not the end of the request."""

    async def send(attacking: Attacking) -> None:
        await attacking.send(b"GET / HTTP/1.1\r\n" + b"".join(b"x: %s\r\n" % (b"y" * 150) for _ in range(99)))
        await attacking.hold()

    return await lead(target, send, opening=without_upgrade, connections=500)


async def endless_requests(target: Target) -> End:
    """Send headers without end."""

    async def send(attacking: Attacking) -> None:
        await attacking.flood(b"GET / HTTP/1.1\r\nx: " + b"y" * 50_000, 2_000_000)

    return await lead(target, send, opening=without_upgrade, connections=10)


async def no_token(target: Target) -> End:
    """Open WebSockets and show no token."""
    return await lead(target, Attacking.hold, opening=without_token, connections=500)


async def leaving(target: Target) -> End:
    """Leave the namespace, and stay; then try to connect again."""

    async def leave(attacking: Attacking) -> None:
        connect = b"40" + json.dumps({"token": target.token()}).encode()
        await attacking.send(client_frame("text", b"41") + client_frame("text", connect))
        await attacking.hold()

    return await lead(target, leave, opening=with_token, connections=50)


async def bad_tokens(target: Target) -> End:
    """Try tokens, as many as can be sent on one connection."""

    async def guess(attacking: Attacking) -> None:
        await attacking.flood(client_frame("text", b'40{"token":"' + b"x" * 200 + b'"}'), 500_000)

    return await lead(target, guess, opening=without_token, connections=10)


ATTACKS = {
    "silent": Attack("3,000 connections that send nothing", silent, connections=3_000, until_deadline=True),
    "dripping": Attack("500 requests, a header every 0.5 s", dripping, connections=500, until_deadline=True),
    "half requests": Attack(
        "500 requests of 15 KB that do not end", half_requests, connections=500, until_deadline=True
    ),
    "endless requests": Attack("10 requests with 2 MB/s of headers", endless_requests, connections=10),
    "no token": Attack("500 WebSockets that show no token", no_token, connections=500, until_deadline=True),
    "leaving": Attack("50 sockets that leave the namespace, stay, and connect again", leaving, connections=50),
    "bad tokens": Attack("10 WebSockets with 0.5 MB/s of bad tokens", bad_tokens, connections=10),
}
