"""The short version of `make faults`: four faults in one Warren, with nothing lost and all counts right."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from infra.local.paths import ROOT
from tests.faults.environment import private_directory, single_nodes
from tests.faults.fault_run import Pace, Warren, fresh_warren, run_fault
from tests.faults.registry import FAULTS

#: What each fault needs to happen and to be judged, and no more.
PACE = Pace(load=8.0, baseline=2.0, steady=3.0)
#: Seconds after which an edge reports that a user is gone; nobody waits for more.
GRACE = 1.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def warren() -> AsyncIterator[Warren]:
    """A Warren whose every part may break; it must recover from one fault before the next begins."""
    async with (
        private_directory() as where,
        single_nodes(where) as environment,
        fresh_warren(environment, "faults", env={"WARREN_SESSION_GRACE": f"{GRACE:g}"}) as warren,
    ):
        yield warren


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", ["kill-persistence", "kill-edge", "restart-rabbitmq", "kill-mongod"])
async def test_nothing_is_lost_and_service_recovers(warren: Warren, name: str) -> None:
    outcome = await run_fault(FAULTS[name], warren, pace=PACE, seed=1, grace=GRACE)

    assert outcome.verdict.complaints == []
    assert outcome.recovered_after is not None, "service did not recover in time"
    assert outcome.missing_symptoms == []
    assert outcome.verdict.sent == outcome.verdict.acked == outcome.verdict.stored > 100


def test_the_runbook_has_every_fault() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    assert [name for name in FAULTS if f"`{name}`" not in runbook] == []


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.symptoms])
def test_a_runbook_entry_names_the_symptoms_that_runs_look_for(name: str) -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    entries = [" ".join(entry.split()) for entry in runbook.split("\n### ")]
    (entry,) = (entry for entry in entries if f"`{name}`" in entry.partition("**Symptom:**")[0])
    assert [symptom.name for symptom in FAULTS[name].symptoms if symptom.name not in entry] == []
    assert [symptom.log for symptom in FAULTS[name].symptoms if symptom.log not in entry] == []
