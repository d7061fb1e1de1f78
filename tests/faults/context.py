"""What a fault gets: the parts that it may break, the traffic, and a place for what it observes."""

import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Literal

from infra.local.stack import Stack, WorkerKind
from infra.local.tenant import Tenant
from tests.faults.chat_traffic import ChatTraffic
from tests.faults.environment import Environment
from tests.faults.recovery import NORMAL_AT_LEAST, recovered_at
from tests.faults.symptoms import Symptom
from tests.faults.visits import Visitor

#: Seconds that a killed process stays down: what a supervisor takes to notice.
DOWN = 3.0
#: Seconds that something is frozen, blocked, or lost from a cluster.
FROZEN = 20.0
#: Seconds until a user is offline who disconnected, and until all users are offline whose edge was killed.
OFFLINE_AFTER_CLOSE, OFFLINE_AFTER_EDGE = 10.0, 30.0


@dataclass
class Context:
    """One run as its fault sees it."""

    stack: Stack
    tenant: Tenant
    environment: Environment
    traffic: ChatTraffic
    rng: random.Random
    #: What a fault reports in words, next to the table.
    notes: list[str] = field(default_factory=list)
    #: Seconds up to which an ack was normal before the fault.
    normal_latency: float = NORMAL_AT_LEAST
    #: What the fault observed and must not happen.
    complaints: list[str] = field(default_factory=list)
    #: Symptoms that operators must see, next to the fault's own.
    symptoms: list[Symptom] = field(default_factory=list)
    #: When an edge was killed, or a user of the fault's own disconnected, monotonic seconds.
    edge_killed_at: float = -math.inf
    left_at: float = -math.inf
    #: Users whom the fault itself lets come and go.
    groups: list[list[Visitor]] = field(default_factory=list)
    #: What the fault needs until the run is over.
    held: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def connected(self) -> set[str]:
        """Every user who is connected now."""
        return self.traffic.connected | {
            visitor.user_id for group in self.groups for visitor in group if visitor.is_connected
        }

    @property
    def presence_due(self) -> float:
        """When everybody's presence must be right, monotonic seconds."""
        groups = [visitor.left_at for group in self.groups for visitor in group]
        left_at = max(self.left_at, self.traffic.visits.left_at, *groups)
        return max(left_at + OFFLINE_AFTER_CLOSE, self.edge_killed_at + OFFLINE_AFTER_EDGE)

    def expect_recovery_without(self, part: str, since: float) -> None:
        """Complain unless service has recovered since then, although a part is still down."""
        traffic, now = self.traffic, time.monotonic()
        moment = recovered_at(traffic.sent, traffic.probes, ended=since, now=now, normal=self.normal_latency)
        if moment is None:
            self.complaints.append(f"service did not recover without {part}")
        else:
            self.notes.append(f"recovered {moment - since:.1f} s after the loss, without {part}")


Inject = Callable[[Context], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """One row of the table. The fault ends when `inject` returns: every part runs again, working or not."""

    name: str
    #: What happens, for `--list`.
    description: str
    inject: Inject
    #: What operators see; docs/runbook.md names each.
    symptoms: tuple[Symptom, ...]
    environment: Literal[
        "single nodes", "broker cluster", "replica set", "broker behind proxy", "member behind proxy"
    ] = "single nodes"
    edges: int = 2
    #: Workers, where it needs others than the usual ones.
    workers: Mapping[WorkerKind, int] = field(default_factory=dict)
