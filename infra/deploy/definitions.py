"""RabbitMQ definitions from contracts/topology.py: users with the least rights, the topology, and policies.

There is one user for each kind of process:

    warren-edge       publishes commands; declares, binds and consumes `edge.…` queues; has no other rights
    warren-worker     consumes the work queues; publishes facts, frames, dead letters and commands; declares nothing
    warren-operator   declares the topology, and reads, replays and purges dead letters
    warren-autoscaler sees the lengths of queues in the management API; has no other right

Limits are defined twice from the same values: as arguments, which a queue keeps from its declaration, and as policies,
which can be changed at any time. RabbitMQ applies the lower of two numbers, so a policy can tighten a limit at once.

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

EDGE, WORKER, OPERATOR, AUTOSCALER = "warren-edge", "warren-worker", "warren-operator", "warren-autoscaler"
#: Minimal number of characters of a password.
MIN_PASSWORD = 16
#: The name of the default exchange in permissions. Operators replay letters that cannot be decoded through it.
DEFAULT_EXCHANGE = "amq.default"
#: Names of the queues that edges declare: `contracts.topology.edge_queue`.
EDGE_QUEUES = r"edge\..*"

#: Arguments that a policy can set too, without their prefix `x-`. The dead-letter key differs for each queue.
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
#: A new quorum queue gets its leader on the node with the fewest leaders, and not on the node that declares it.
SPREAD = {"queue-leader-locator": "balanced"}
#: RabbitMQ applies the matching policy with the highest priority: an operator's own policy may override these.
POLICY_PRIORITY = 0


class WeakPassword(WarrenError):
    """Raised when a user's password is too short; the text names the user."""


@dataclass(frozen=True)
class Permissions:
    """One user's rights in the virtual host, as RabbitMQ's regular expressions."""

    user: str
    configure: str
    write: str
    read: str
    #: Rights in the management API, which no edge or worker uses.
    tags: tuple[str, ...] = ()


def permissions() -> list[Permissions]:
    """The least rights for each kind of process."""
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
            # RabbitMQ requires the right to read for declaring a queue with a dead-letter exchange, and for binding.
            _only([*exchanges, *queues]),
            ("monitoring",),
        ),
        Permissions(AUTOSCALER, _only(()), _only(()), _only(()), ("management",)),
    ]


@dataclass(frozen=True)
class Policy:
    """A RabbitMQ policy: limits of the queues whose names match a pattern."""

    name: str
    pattern: str
    definition: dict[str, Any]


def policies() -> list[Policy]:
    """The limits of each kind of queue. An operator may tighten them while Warren runs."""
    return [
        Policy("warren-work", _only(queue.name for queue in WORK_QUEUES), SPREAD | _limits(WORK_QUEUES)),
        Policy("warren-dead", _only(queue.name for queue in DEAD_QUEUES), SPREAD | _limits(DEAD_QUEUES)),
        Policy("warren-typing", _only([TYPING.name]), _limits([TYPING])),
        Policy("warren-edges", _only((), EDGE_QUEUES), _limits([edge_queue("any", 0)])),
    ]


def _limits(queues: Iterable[Queue]) -> dict[str, Any]:
    """The arguments of `POLICY_KEYS` with the same value in all of these queues."""
    limits = [{name.removeprefix("x-"): value for name, value in queue.arguments.items()} for queue in queues]
    return {
        name: value
        for name, value in limits[0].items()
        if name in POLICY_KEYS and all(other.get(name) == value for other in limits)
    }


def definitions(vhost: str, passwords: Mapping[str, str]) -> dict[str, Any]:
    """The definitions to import. A user without a password in `passwords` cannot log in with one. Raises
    WeakPassword."""
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
                # Not by queue type, which policies support only since RabbitMQ 3.12.
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
    """A regular expression that matches exactly these names and patterns. RabbitMQ adds no anchors by itself."""
    parts = [*(re.escape(name) for name in names), *patterns]
    return f"^({'|'.join(parts)})$" if parts else "^$"


def _hash(user: str, password: str) -> str:
    """A salted hash in RabbitMQ's format (SHA-256 with a salt of 4 bytes). Raises WeakPassword."""
    if len(password) < MIN_PASSWORD:
        raise WeakPassword(f"The password of {user} must have at least {MIN_PASSWORD} characters.")
    salt = os.urandom(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
