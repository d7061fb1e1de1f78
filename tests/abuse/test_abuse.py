"""Some attacks in short: `make abuse` runs them all, for longer, and holds the acks' p99 too."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from infra.local.stack import Stack
from infra.local.tenant import Tenant
from tests.abuse import abuse_report
from tests.abuse.abuse_run import NO_DRAINING, SHORT, add_people, run_attack
from tests.abuse.attacks import ATTACKS

#: One of each kind: before the upgrade, after leaving, with frames, and with output.
IN_SHORT = ("half requests", "leaving", "pings without a token", "unread pages")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def short_stack(tenant: Tenant) -> AsyncIterator[Stack]:
    """Two edges with short deadlines."""
    deadline = str(SHORT.deadline)
    env = {"WARREN_REQUEST_TIMEOUT": deadline, "WARREN_CONNECT_TIMEOUT": deadline, **NO_DRAINING}
    async with Stack(tenant, env=env, name=f"abuse-{tenant.name}") as stack:
        await add_people(stack, SHORT)
        yield stack


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_SHORT)
async def test_bystanders_do_not_notice_an_attack(short_stack: Stack, name: str) -> None:
    outcome = await run_attack(short_stack, name, ATTACKS[name], SHORT)
    print("; ".join(abuse_report.cells_of(outcome)))
    assert outcome.complaints == []


def test_every_attack_stays_on_this_machine_and_ends_by_itself() -> None:
    assert all(attack.connections <= 3_000 for attack in ATTACKS.values())
    assert len({attack.sends for attack in ATTACKS.values()}) == len(ATTACKS)
