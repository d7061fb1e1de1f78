"""Attacks with frames: floods of everything that an edge reads."""

from functools import partial

from tests.abuse.attack import Attack, End, Target
from tests.abuse.attacks.life import Attacking, Opening, lead, with_token, without_token
from tests.support.raw_tcp import RawTCP, client_frame

MEGABYTE = 1_000_000.0
REFUSED_EVENT = client_frame("text", b'421["nothing"]')


async def flood(
    target: Target,
    frame: bytes,
    rate: float,
    *,
    opening: Opening = with_token,
    connections: int = 1,
    before: bytes = b"",
) -> End:
    """Send one frame without end, at so many bytes a second and connection."""

    async def offend(attacking: Attacking) -> None:
        await attacking.send(before)
        await attacking.flood(frame, rate)

    return await lead(target, offend, opening=opening, connections=connections)


async def one_user(target: Target) -> End:
    """Send as many frames as are allowed, on as many sockets as one user may have; all are refused events."""
    token = target.token()

    async def as_one(raw: RawTCP, _: Target) -> None:
        await raw.upgrade(token)

    return await flood(target, REFUSED_EVENT, 95 * len(REFUSED_EVENT), opening=as_one, connections=20)


def large_event(size: int) -> bytes:
    """An event of so many bytes, which is no event that there is."""
    return client_frame("text", b'421["nothing","' + b"x" * (size - 17) + b'"]')


ATTACKS = {
    "pings without a token": Attack(
        "1 MB/s of empty pings, without a token",
        partial(flood, frame=client_frame("ping"), rate=MEGABYTE, opening=without_token),
    ),
    "pings": Attack("1 MB/s of pings", partial(flood, frame=client_frame("ping", b"x" * 100), rate=MEGABYTE)),
    "pongs": Attack("1 MB/s of pongs", partial(flood, frame=client_frame("pong"), rate=MEGABYTE)),
    "heartbeats": Attack("1 MB/s of Engine.IO pongs", partial(flood, frame=client_frame("text", b"3"), rate=MEGABYTE)),
    "acks": Attack("1 MB/s of acks", partial(flood, frame=client_frame("text", b"43[]"), rate=MEGABYTE)),
    "refused events": Attack("0.3 MB/s of refused events", partial(flood, frame=REFUSED_EVENT, rate=0.3 * MEGABYTE)),
    "fragments": Attack(
        "1 MB/s of empty fragments of one message",
        partial(
            flood,
            frame=client_frame("continuation", fin=False),
            rate=MEGABYTE,
            before=client_frame("text", b"4", fin=False),
        ),
    ),
    "large events": Attack("20 MB/s of events of 60 KB", partial(flood, frame=large_event(60_000), rate=20 * MEGABYTE)),
    "events over the size": Attack(
        "0.5 MB/s of events of 250 KB", partial(flood, frame=large_event(250_000), rate=0.5 * MEGABYTE)
    ),
    "large frame": Attack(
        "10 frames of 10 MB at once",
        partial(flood, frame=large_event(10_000_000), rate=5 * MEGABYTE, connections=10),
        connections=10,
    ),
    "one user": Attack("20 sockets of one user, each 95 refused events/s", one_user, connections=20),
    "many floods": Attack(
        "1 MB/s of pings on each of 20 connections",
        partial(flood, frame=client_frame("ping"), rate=MEGABYTE, opening=without_token, connections=20),
        connections=20,
    ),
}
