"""What an attack is, what it is aimed at, and how it ended. `attacks/__init__.py` lists them all.

To add one: write a coroutine that takes a `Target` and returns an `End`, and give it a name in that list. It runs in a
process of its own, so that it takes no time of the bystanders' measurement; it stops by itself after
`target.seconds`, and holds no more connections than its entry says.
"""

import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

import jwt

#: What became of one connection: closed by the edge, answered with a refusal, or neither when the attack ended.
How = Literal["closed", "answered", "open"]


def person(number: int) -> str:
    """The id of a user who has connected once, and whom attackers can find."""
    return f"person-{number}"


@dataclass(frozen=True)
class Target:
    """Where the attack is aimed. It can be written as JSON."""

    port: int
    #: The secret that tokens are signed with: an attacker has tokens of their own.
    secret: str
    #: Seconds that the attack lasts.
    seconds: float
    host: str = "127.0.0.1"

    def token(self, user_id: str | None = None) -> str:
        """A token that is good for an hour, by default of a user whom nobody knows."""
        user_id = user_id or f"mallory-{secrets.token_hex(5)}"
        return jwt.encode({"sub": user_id, "exp": int(time.time()) + 3_600}, self.secret, algorithm="HS256")


@dataclass
class End:
    """How the attack ended for the attacker. It can be written as JSON."""

    sent_bytes: int = 0
    connections: int = 0
    most_open: int = 0
    #: Of the connections that ended, and of those that had not when the attack ended.
    hows: dict[How, int] = field(default_factory=lambda: {"closed": 0, "answered": 0, "open": 0})
    #: Seconds from a connection's first offence until it was answered or closed: the longest, open ones included.
    slowest: float = 0.0

    def note(self, how: How, seconds: float) -> None:
        """Count a connection."""
        self.hows[how] += 1
        self.slowest = max(self.slowest, seconds)


@dataclass(frozen=True)
class Attack:
    """One entry of the list."""

    #: What is sent, for the table.
    sends: str
    run: Callable[[Target], Awaitable[End]]
    #: Connections that it holds at once, at most.
    connections: int = 1
    #: Whether all that it sends is allowed: then nothing needs to be answered or closed.
    allowed: bool = False
    #: Whether only a deadline of the edge ends it: then it must last longer than that.
    until_deadline: bool = False
