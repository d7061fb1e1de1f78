"""RabbitMQ definitions from contracts/topology.py: users with no more rights than they need, and what they work with.

Three users, as a process of its kind runs as each:

    warren-edge       publishes commands; declares, binds and consumes `edge.…` queues; sees nothing else
    warren-worker     consumes the work queues; publishes facts, frames, dead letters and commands; declares nothing
    warren-operator   declares all of it, and looks after the dead letters

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
from contracts.topology import COMMANDS, DEAD, DEAD_QUEUES, EXCHANGES, FACTS, FRAMES, QUEUES, TYPING, WORK_QUEUES

EDGE, WORKER, OPERATOR = "warren-edge", "warren-worker", "warren-operator"
#: Characters that a password must have at least.
MIN_PASSWORD = 16
#: The default exchange, as permissions call it: the operator's way to put back what cannot be read.
DEFAULT_EXCHANGE = "amq.default"
#: Queues that edges make up themselves: `contracts.topology.edge_queue`.
EDGE_QUEUES = r"edge\..*"


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
        "policies": [],
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
