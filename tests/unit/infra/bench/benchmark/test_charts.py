"""The charts: the same figures give the same files."""

from pathlib import Path

from infra.bench.benchmark import charts
from infra.bench.benchmark.results import Results
from tests.unit.infra.bench.benchmark.samples import full


def test_charts_are_drawn_alike_each_time_without_date_or_script(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    files = charts.draw(full(), tmp_path)
    assert [file.name for file in files] == ["throughput.svg", "latency.svg", "cpu.svg", "edges.svg"]
    for file, again in zip(files, charts.draw(full(), tmp_path / "again"), strict=True):
        text = file.read_text()
        assert text == again.read_text()
        assert "<script" not in text
        assert "Generated" not in text


def test_a_chart_without_figures_is_not_drawn(tmp_path: Path) -> None:
    assert charts.draw(Results(), tmp_path) == []
