"""Every attack in short: `make abuse` measures longer, on edges with the usual times, and holds the acks' p99 too."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from infra.local.stack import Stack
from infra.local.tenant import Tenant
from tests.abuse import report
from tests.abuse.attacks import ATTACKS
from tests.abuse.run import SHORT, run_attack


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def short_stack(tenant: Tenant) -> AsyncIterator[Stack]:
    """Two edges that wait a shorter time for what never comes."""
    async with Stack(tenant, env={**SHORT.env, "WARREN_DRAIN_SECONDS": "0"}, name=f"abuse-{tenant.name}") as stack:
        yield stack


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
async def test_bystanders_do_not_notice_an_attack(short_stack: Stack, name: str) -> None:
    attack = ATTACKS[name]
    if attack.env:
        await short_stack.restart(short_stack.edges[0], {**SHORT.env, **attack.env})
    outcome = await run_attack(short_stack, name, attack, SHORT)
    print("; ".join(report.cells_of(outcome)))
    assert outcome.complaints == []


def test_every_attack_stays_on_this_machine_and_ends_by_itself() -> None:
    assert all(attack.connections <= 3_000 for attack in ATTACKS.values())
    assert len({attack.sends for attack in ATTACKS.values()}) == len(ATTACKS)
