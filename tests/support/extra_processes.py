"""More edges and workers beside a stack's own, for the length of a block: the stack is afterwards as it was."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from infra.local.stack import Stack, WorkerKind
from infra.local.supervisor import Process


@asynccontextmanager
async def extra_edge(stack: Stack, env: Mapping[str, str] | None = None) -> AsyncIterator[Process]:
    """One more edge. It closes its sockets at once when it stops, unless `env` says otherwise."""
    edge = await stack.add_edge({"WARREN_DRAIN_SECONDS": "0", **(env or {})})
    try:
        yield edge
    finally:
        await stack.remove(edge)


@asynccontextmanager
async def extra_worker(stack: Stack, kind: WorkerKind, env: Mapping[str, str] | None = None) -> AsyncIterator[Process]:
    """One more worker of a kind."""
    worker = await stack.add_worker(kind, env)
    try:
        yield worker
    finally:
        await stack.remove(worker)
