"""The schedule measures all that the targets need, alternates its rounds, and ends in time."""

from collections import Counter

from infra.bench.benchmark import schedule
from infra.bench.benchmark.targets import NODE, TARGETS, WARREN
from tests.unit.infra.bench.benchmark.samples import full


def test_the_schedule_measures_what_the_targets_ask_for() -> None:
    assert [target.name for target in TARGETS if target.value(full()) is None] == []


def test_rounds_alternate_and_long_parts_are_measured_once() -> None:
    first, second, third = schedule.rounds(3, schedule.PARTS, schedule.STARTS)
    assert [job.part for job in second if job.part in schedule.ONCE] == []
    assert [(job.part, job.system) for job in second] == [(job.part, job.system) for job in reversed(third)]
    assert Counter(job.part for job in first)["idle"] > 0


def test_a_part_of_the_schedule_can_be_run() -> None:
    (jobs,) = schedule.rounds(1, ["main"], [WARREN, NODE])
    assert [(job.part, job.system) for job in jobs] == [("main", WARREN), ("main", NODE)]


def test_the_schedule_ends_in_under_half_an_hour() -> None:
    jobs = [job for jobs in schedule.rounds(schedule.ROUNDS, schedule.PARTS, schedule.STARTS) for job in jobs]
    assert sum(job.seconds for job in jobs) < 28 * 60
