"""What tests of bounds share: an edge for one test, and figures on the screen."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from infra.local.stack import NO_RATE_LIMITS, Stack
from infra.local.supervisor import Process

MEGABYTE = 1 << 20


def print_figure(sentence: str) -> None:
    """Print what was measured, for docs/reliability.md."""
    print(f"\n  {sentence}")


@asynccontextmanager
async def own_edge(stack: Stack, **env: str) -> AsyncIterator[Process]:
    """An edge that no other test uses, without a rate limit."""
    edge = await stack.add_edge({**NO_RATE_LIMITS, "WARREN_DRAIN_SECONDS": "0", **env})
    try:
        yield edge
    finally:
        await stack.remove(edge)


def websocket_url(edge: Process) -> str:
    """Where an edge accepts Socket.IO over WebSocket."""
    return edge.url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
