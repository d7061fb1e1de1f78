"""The faults that `make faults` knows."""

from tests.faults.registry import FAULTS
from tests.faults.registry.mix import MIXABLE, MIXED


def test_what_is_mixed_exists_and_runs_on_single_nodes() -> None:
    assert set(FAULTS) >= MIXABLE
    assert {FAULTS[name].environment for name in MIXABLE} == {"single nodes"}
    assert len(MIXABLE) >= MIXED


def test_every_fault_but_the_mix_has_symptoms() -> None:
    assert [name for name, fault in FAULTS.items() if not fault.symptoms] == ["mix"]
