"""RabbitMQ definitions from contracts/topology.py: users with no more rights than they need, and what they work with.

Three users, as a process of its kind runs as each:

    warren-edge       publishes commands; declares, binds and consumes `edge.…` queues; sees nothing else
    warren-worker     consumes the work queues; publishes facts, frames, dead letters and commands; declares nothing
    warren-operator   declares all of it, and looks after the dead letters

Limits are there twice, made from the same values: as arguments, which a queue is born with and keeps, and as policies,
which may be changed while it lives. RabbitMQ takes the lower of two numbers, so a policy can tighten a limit at once.

RabbitMQ checks three regular expressions per user: *configure* (declare, delete), *write* (publish to an exchange,
bind a queue) and *read* (consume a queue, bind to an exchange).
"""

import base64
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from contracts.errors import WarrenError
from contracts.topology import (
    COMMANDS,
    DEAD,
    DEAD_QUEUES,
    EXCHANGES,
    FACTS,
    FRAMES,
    QUEUES,
    TYPING,
    WORK_QUEUES,
    Queue,
    edge_queue,
)

EDGE, WORKER, OPERATOR = "warren-edge", "warren-worker", "warren-operator"
#: Characters that a password must have at least.
MIN_PASSWORD = 16
#: The default exchange, as permissions call it: the operator's way to put back what cannot be read.
DEFAULT_EXCHANGE = "amq.default"
#: Queues that edges make up themselves: `contracts.topology.edge_queue`.
EDGE_QUEUES = r"edge\..*"


#: Arguments that a policy may say too, without their `x-`; a dead letter's key is each queue's own.
POLICY_KEYS = frozenset(
    {
        "delivery-limit",
        "dead-letter-exchange",
        "dead-letter-strategy",
        "overflow",
        "max-length",
        "max-length-bytes",
        "message-ttl",
    }
)
#: Replicated queues are led by whichever node leads the fewest, not by the one that they were declared on.
SPREAD = {"queue-leader-locator": "balanced"}
#: Of the policies that match a queue, RabbitMQ applies the one with the highest; an operator's own may be above ours.
POLICY_PRIORITY = 0


class WeakPassword(WarrenError):
    """Raised when a user's password is missing or short; the text names the user."""


@dataclass(frozen=True)
class Permissions:
    """What one user may do in our virtual host, as RabbitMQ's regular expressions."""

    user: str
    configure: str
    write: str
    read: str
    #: Rights in the management API: only operators ask it anything.
    tags: tuple[str, ...] = ()


def permissions() -> list[Permissions]:
    """The least that each kind of process needs."""
    exchanges = [exchange.name for exchange in EXCHANGES]
    queues = [queue.name for queue in QUEUES]
    consumed = [queue.name for queue in (*WORK_QUEUES, TYPING)]
    return [
        Permissions(EDGE, _only((), EDGE_QUEUES), _only([COMMANDS], EDGE_QUEUES), _only([FRAMES], EDGE_QUEUES)),
        Permissions(WORKER, _only(()), _only([FACTS, FRAMES, DEAD, COMMANDS]), _only(consumed)),
        Permissions(
            OPERATOR,
            _only([*exchanges, *queues]),
            _only([*exchanges, *queues, DEFAULT_EXCHANGE]),
            # A queue with a dead-letter exchange is declared by those only who may read it; it is bound likewise.
            _only([*exchanges, *queues]),
            ("monitoring",),
        ),
    ]


@dataclass(frozen=True)
class Policy:
    """Limits of the queues whose names match a pattern, as RabbitMQ's policies say them."""

    name: str
    pattern: str
    definition: dict[str, Any]


def policies() -> list[Policy]:
    """The limits of each kind of queue, which an operator may tighten while Warren runs."""
    return [
        Policy("warren-work", _only(queue.name for queue in WORK_QUEUES), SPREAD | _limits(WORK_QUEUES)),
        Policy("warren-dead", _only(queue.name for queue in DEAD_QUEUES), SPREAD | _limits(DEAD_QUEUES)),
        Policy("warren-typing", _only([TYPING.name]), _limits([TYPING])),
        Policy("warren-edges", _only((), EDGE_QUEUES), _limits([edge_queue("any", 0)])),
    ]


def _limits(queues: Iterable[Queue]) -> dict[str, Any]:
    """What all of these queues have as an argument that a policy may say too."""
    limits = [{name.removeprefix("x-"): value for name, value in queue.arguments.items()} for queue in queues]
    return {
        name: value
        for name, value in limits[0].items()
        if name in POLICY_KEYS and all(other.get(name) == value for other in limits)
    }


def definitions(vhost: str, passwords: Mapping[str, str]) -> dict[str, Any]:
    """Everything to import into RabbitMQ. A user without a password gets none, and cannot log in with one."""
    users = permissions()
    return {
        "vhosts": [{"name": vhost}],
        "users": [
            {
                "name": user.user,
                "password_hash": _hash(user.user, passwords[user.user]) if user.user in passwords else "",
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": ",".join(user.tags),
            }
            for user in users
        ],
        "permissions": [
            {"user": user.user, "vhost": vhost, "configure": user.configure, "write": user.write, "read": user.read}
            for user in users
        ],
        "topic_permissions": [],
        "policies": [
            {
                "vhost": vhost,
                "name": policy.name,
                "pattern": policy.pattern,
                # Not by type: RabbitMQ tells quorum from classic queues here only since 3.12.
                "apply-to": "queues",
                "definition": policy.definition,
                "priority": POLICY_PRIORITY,
            }
            for policy in policies()
        ],
        "exchanges": [
            {
                "name": exchange.name,
                "vhost": vhost,
                "type": "direct",
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": {},
            }
            for exchange in EXCHANGES
        ],
        "queues": [
            {
                "name": queue.name,
                "vhost": vhost,
                "durable": queue.durable,
                "auto_delete": False,
                "arguments": queue.arguments,
            }
            for queue in (*DEAD_QUEUES, *WORK_QUEUES, TYPING)
        ],
        "bindings": [
            {
                "source": exchange,
                "vhost": vhost,
                "destination": queue.name,
                "destination_type": "queue",
                "routing_key": key,
                "arguments": {},
            }
            for queue in QUEUES
            for exchange, key in queue.bindings
        ],
    }


def _only(names: Iterable[str], *patterns: str) -> str:
    """A regular expression for these names and nothing else; RabbitMQ's own anchors are ours to write."""
    parts = [*(re.escape(name) for name in names), *patterns]
    return f"^({'|'.join(parts)})$" if parts else "^$"


def _hash(user: str, password: str) -> str:
    """A salted hash as RabbitMQ keeps it. Raises WeakPassword."""
    if len(password) < MIN_PASSWORD:
        raise WeakPassword(f"The password of {user} must have at least {MIN_PASSWORD} characters.")
    salt = os.urandom(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
