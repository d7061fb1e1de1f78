"""Sizing: it gives back what was measured, and more of anything never needs less."""

from itertools import pairwise

import pytest
from typer.testing import CliRunner

from infra.__main__ import app
from infra.bench import scaling_document
from infra.cli.sizing import FULL, LIGHT, Demand, Run, cells, plan, rows, spent


@pytest.mark.parametrize("run", [LIGHT, FULL], ids=lambda run: run.name)
def test_a_measured_run_comes_out_as_it_went_in(run: Run) -> None:
    cost = spent(run.rate)
    # A closed loop sends in bursts, so its edges bundled more than they would have for people who do not wait.
    assert cost["persistence"] * 1000 == pytest.approx(run.persistence, rel=0.15)
    assert cost["MongoDB"] * 1000 == pytest.approx(run.mongodb, rel=0.15)
    assert cost["edges"] * 1000 >= run.edges * 0.95


def test_more_messages_never_need_less() -> None:
    plans = [plan(Demand(60 * rate, rate)) for rate in (10, 100, 1_000, 3_000, 10_000)]
    for less, more in pairwise(plans):
        assert less.edges <= more.edges
        assert less.persistence <= more.persistence
        assert less.rabbitmq_cores <= more.rabbitmq_cores
        assert less.mongodb_cores <= more.mongodb_cores


def test_more_recipients_need_more() -> None:
    pairs, groups = (plan(Demand(100_000, 2_000, size)) for size in (2, 50))
    assert groups.mongodb_cores > 2 * pairs.mongodb_cores
    assert groups.unread > pairs.unread


def test_cells_are_as_few_as_a_broker_allows() -> None:
    assert cells(scaling_document.demand(1_000_000)) == 1
    number = cells(scaling_document.demand(100_000_000))
    assert number > 10
    assert cells(scaling_document.demand(100_000_000).split(number)) == 1


def test_nothing_is_ever_needed_less_than_twice() -> None:
    tiny = {part: needed for part, needed, _ in rows(Demand(1, 0.1))}
    assert [tiny[f"{kind} workers"] for kind in ("persistence", "unread", "presence", "history")] == ["2"] * 4
    assert tiny["edges"] == "2"


def test_the_command_prints_what_the_page_says() -> None:
    printed = CliRunner().invoke(app, ["sizing", "--users", "1000000"])
    assert printed.exit_code == 0
    for part, needed, _ in rows(scaling_document.demand(1_000_000)):
        assert part in printed.output
        assert needed in printed.output
