"""The short version of `make faults`: four faults, each on a fresh Warren, with nothing lost and all counts right."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from infra.local.stack import ROOT
from tests.faults import ground
from tests.faults.faults import FAULTS
from tests.faults.ground import Ground
from tests.faults.run import run_fault

#: Least seconds of load for each.
SECONDS = 12.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def common_ground() -> AsyncIterator[Ground]:
    """A broker and a store that may be broken: no other test uses them."""
    async with ground.directory() as where, ground.single(where) as common:
        yield common


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", ["kill-persistence", "kill-edge", "restart-rabbitmq", "kill-mongod"])
async def test_nothing_is_lost_and_service_comes_back(common_ground: Ground, name: str) -> None:
    outcome = await run_fault(FAULTS[name], common_ground, seconds=SECONDS, seed=1)

    assert outcome.verdict.complaints == []
    assert outcome.whole_after is not None, "service was not whole again in time"
    assert outcome.not_shown == []
    assert outcome.verdict.sent == outcome.verdict.acked == outcome.verdict.stored > 100


def test_every_fault_is_in_the_table_of_what_to_do() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    assert [name for name in FAULTS if f"`{name}`" not in runbook] == []
    # And each entry tells the metrics and the log lines that name the fault, which the runs look for
    entries = [" ".join(entry.split()) for entry in runbook.split("\n### ")]
    for name, fault in FAULTS.items():
        (entry,) = (
            (entry for entry in entries if f"`{name}`" in entry.partition("**Symptom:**")[0]) if fault.signs else ("",)
        )
        for sign in fault.signs:
            assert sign.name in entry, name
            assert sign.log in entry, (name, sign.log)
