"""A renewal of an edge's lease waits behind a backlog: the edge must not be dropped for it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
from typing_extensions import override

from contracts.codec import Item
from contracts.reports import SessionOpen
from contracts.topology import PRESENCE
from infra.store.sessions import SessionDirectory
from tests.support.runner_bench import Bench
from tests.support.sample_commands import alive, opened
from tests.support.waiting import eventually
from workers import presence as presence_module
from workers import runner as runner_module
from workers.effects import Effects
from workers.presence import Presence, sweep
from workers.publishing import EffectsPublisher
from workers.routing import Router
from workers.runner import Runner

#: Seconds: of a lease, and from one check to the next.
LEASE, INTERVAL = 1.0, 0.02


class Judged(Presence):
    """Presence that is slow with opens until it may go on, and notes its checks of leases and what it drops."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.store)
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.checks = 0
        self.sweeps = 0
        self.renewals = 0
        self.dropped: list[str] = []

    @override
    async def __call__(self, items: Sequence[Item]) -> Effects:
        if isinstance(items[0], SessionOpen):
            await self.may_go_on.wait()
        else:
            self.renewals += len(items)
        return await super().__call__(items)

    @override
    async def set_due_offline(self) -> Effects:
        self.sweeps += 1
        return await super().set_due_offline()

    @override
    async def drop_expired_edges(self, lease_seconds: float) -> None:
        self.checks += 1
        await super().drop_expired_edges(lease_seconds)

    @override
    async def drop_edge(self, edge_id: str, epoch: int, *, grace_ms: int, reason: str) -> None:
        self.dropped.append(edge_id)


@asynccontextmanager
async def consumed(bench: Bench, presence: Presence) -> AsyncIterator[None]:
    """The presence queue is consumed, one item at a time, and leases are checked."""
    publisher = EffectsPublisher(bench.publisher, Router(SessionDirectory(bench.store), "presence"))
    settings = bench.settings.model_copy(update={"batch_size": 1})
    runner = Runner(PRESENCE, presence, publisher=publisher, settings=settings)
    sweeping = sweep(
        presence,
        publisher.publish_frames,
        one_term=bench.store.one_term,
        lease_seconds=LEASE,
        consuming=runner.link.up.is_set,
        behind=lambda: runner.is_behind,
    )
    tasks = [asyncio.create_task(work) for work in (runner.link.run(), runner.run(), sweeping)]
    yield
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_backlog_of_opens_costs_no_edge_its_lease(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence_module, "SWEEP_INTERVAL", INTERVAL)
    monkeypatch.setattr(runner_module, "BEHIND_LIMIT", LEASE / 10)
    # Given a worker that keeps up, so that it checks leases, and an edge with a session
    presence = Judged(bench)
    await Presence(bench.store)([opened("ada")])
    async with consumed(bench, presence):
        await eventually(lambda: presence.checks, sentence="leases are checked")
        await bench.publish(alive())
        await eventually(lambda: presence.renewals == 1, sentence="the lease is renewed")
        checks = presence.checks
        await eventually(lambda: presence.checks > checks + 1, sentence="leases are checked again")
        presence.dropped.clear()
        # When opens keep the worker busy for longer than a lease, and a renewal waits behind them
        presence.may_go_on.clear()
        await bench.publish(opened("bob"))
        await bench.publish(alive())
        directory = SessionDirectory(bench.store)
        await eventually(lambda: directory.expired_leases(LEASE), sentence="the lease has expired in the store")
        sweeps = presence.sweeps
        await eventually(lambda: presence.sweeps > sweeps + 3, sentence="sweeps go on")
        # Then the edge is not dropped, neither now nor when the worker comes to the renewal
        assert presence.dropped == []
        presence.may_go_on.set()
        await eventually(lambda: presence.renewals == 2, sentence="the second renewal is handled")
        assert presence.dropped == []
