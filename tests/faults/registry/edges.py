"""Faults of edges: killed, stopped, frozen, or killed with a thousand clients."""

import asyncio
import time

from tests.faults.context import DOWN, Context, Fault
from tests.faults.reconnect_storm import reconnect_storm
from tests.faults.registry.workers import STALLED, freeze
from tests.faults.symptoms import Symptom

EDGE_LOST = Symptom('warren_presence_edges_dropped_total{reason="no queue"}', "has no queue: its sessions")
DRAINING = Symptom("warren_edge_draining", "Draining", becomes=1)


async def kill_edge(context: Context) -> None:
    """SIGKILL an edge."""
    edge = context.rng.choice(context.stack.edges)
    context.edge_killed_at = time.monotonic()
    await context.stack.kill(edge)
    await asyncio.sleep(DOWN)
    await context.stack.restart(edge)


async def stop_edge(context: Context) -> None:
    """SIGTERM an edge, which drains its sockets."""
    await context.stack.restart(context.rng.choice(context.stack.edges))


async def freeze_edge(context: Context) -> None:
    """Freeze an edge: its sockets stay open and get no answer."""
    await freeze(context, context.rng.choice(context.stack.edges))


async def kill_crowded_edge(context: Context) -> None:
    """A thousand more clients lose their edge at once, and reconnect to the others at once."""
    edge = context.stack.edges[0]
    others = [other.url for other in context.stack.edges[1:]]

    async def kill() -> None:
        context.edge_killed_at = time.monotonic()
        await context.stack.kill(edge)

    context.notes.append(await reconnect_storm(edge.url, others, context.stack.token, kill))
    context.left_at = time.monotonic()
    await context.stack.restart(edge)


FAULTS = (
    Fault("kill-edge", "SIGKILL to an edge", kill_edge, (EDGE_LOST,)),
    Fault("stop-edge", "SIGTERM to an edge, then a start", stop_edge, (DRAINING,)),
    Fault("freeze-edge", "SIGSTOP to an edge for 20 s", freeze_edge, (STALLED,)),
    Fault("reconnect-storm", "SIGKILL to an edge with 1,000 more clients", kill_crowded_edge, (EDGE_LOST,), edges=3),
)
