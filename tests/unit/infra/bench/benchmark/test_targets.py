"""Targets: ratios of medians, met, missed or not measured."""

import pytest

from infra.bench.benchmark.targets import TARGETS, WARREN, Target, plain, ratio
from tests.unit.infra.bench.benchmark.samples import three_rounds


def test_a_ratio_needs_both_its_sides() -> None:
    assert ratio(3.0, 2.0) == 1.5
    assert ratio(None, 2.0) is None
    assert ratio(3.0, None) is None
    assert ratio(3.0, 0.0) is None


@pytest.mark.parametrize(("limit", "at_least", "met"), [(2.6, True, True), (2.7, True, False), (2.5, False, False)])
def test_a_target_is_judged_by_medians(limit: float, at_least: bool, met: bool) -> None:
    over_node = next(target for target in TARGETS if target.name.endswith("over (b)"))
    target = Target("ratio", over_node.value, limit, at_least)
    assert target.value(three_rounds()) == 2.6
    assert target.is_met(three_rounds()) is met


def test_a_target_that_was_not_measured_is_neither_met_nor_missed() -> None:
    assert Target("latency", plain("200/s", "delivery p50"), 12.0, at_least=False).is_met(three_rounds()) is None


def test_one_lost_message_in_any_round_misses_the_target() -> None:
    results = three_rounds()
    lost = TARGETS[-1]
    assert lost.is_met(results) is True
    results.add(WARREN, "50 %", {"complaints": 1.0})
    assert lost.is_met(results) is False
