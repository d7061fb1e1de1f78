"""Attacks with what every user may do: starting, searching, long messages, connecting."""

from functools import partial

from tests.abuse.attack import Attack, End, Target, person
from tests.abuse.attacks.life import Attacking, event, lead, start_conversation, with_token
from tests.support.raw_tcp import RawTCP

#: Events a second: under the rate of a user, so that only a budget refuses them. Long messages are under the limit of
#: bytes.
EVENTS, LONG_MESSAGES = 45.0, 25.0


async def ask(target: Target, name: str, payload: object) -> End:
    """Send one event again and again."""

    async def offend(attacking: Attacking) -> None:
        frame = event(name, payload)
        await attacking.flood(frame, EVENTS * len(frame))

    return await lead(target, offend)


async def long_messages(target: Target) -> End:
    """Send messages of the greatest length, in characters of four bytes."""
    conversation_id = ""

    async def start(raw: RawTCP, target: Target) -> None:
        nonlocal conversation_id
        conversation_id = await start_conversation(raw, target)

    async def offend(attacking: Attacking) -> None:
        messages = (
            {"conversation_id": conversation_id, "client_message_id": str(number), "body": "\U0001f600" * 4_000}
            for number in range(10_000)
        )
        await attacking.trickle((event("send_message", message) for message in messages), LONG_MESSAGES)

    return await lead(target, offend, opening=start)


async def come_and_go(target: Target) -> End:
    """Connect, leave at once, and connect again a second later, each time as somebody else."""

    async def leave(attacking: Attacking) -> None:
        attacking.raw.writer.transport.abort()

    return await lead(target, leave, opening=with_token, connections=50)


async def many_sockets(target: Target) -> End:
    """Open as many sockets again as one user may have."""
    token = target.token()

    async def as_one(raw: RawTCP, _: Target) -> None:
        await raw.upgrade(token)

    return await lead(target, Attacking.hold, opening=as_one, connections=40)


ATTACKS = {
    "large starts": Attack(
        "45 groups/s of 500 people",
        partial(
            ask, name="start_conversation", payload={"participant_ids": [person(number) for number in range(1, 500)]}
        ),
        allowed=True,
    ),
    "searches": Attack(
        "45 searches/s that find everybody", partial(ask, name="find_users", payload={"query": "person"}), allowed=True
    ),
    "long messages": Attack("25 messages/s of 4,000 characters, 16 KB", long_messages, allowed=True),
    "reconnects": Attack("50 users who connect and leave every second", come_and_go, connections=50, allowed=True),
    "many sockets": Attack(
        "40 sockets of one user, of which 20 are refused", many_sockets, connections=40, allowed=True
    ),
}
