"""`python -m infra.bench.benchmark`: measures Warren and its peers in turn, prints the report, draws the charts.

Only a whole run, without options, writes docs/benchmarks; anything less is only printed. The exit code is 1 if a system
could not be measured, or the checker has a complaint about Warren. The report shows which targets are missed.
"""

import gc
import json
import time
from typing import Annotated

import typer
import uvloop
from picows import WSError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from contracts.errors import WarrenError
from infra.bench.benchmark import charts, report
from infra.bench.benchmark.machine import describe
from infra.bench.benchmark.measurements import RunningSystem, wait_until_idle
from infra.bench.benchmark.results import Results
from infra.bench.benchmark.schedule import PARTS, ROUNDS, STARTS, TITLES, Job, rounds
from infra.bench.benchmark.targets import TARGETS, complaints
from infra.bench.load.light_client import CallFailed
from infra.bench.load.usage import raise_file_limit
from infra.local.errors import LocalServiceError
from infra.local.paths import ROOT
from infra.local.tenant import local_services

FOLDER = ROOT / "docs" / "benchmarks"
RESULTS = FOLDER / "results.json"
#: Errors that end the measurements on one start of a system; the others go on.
FAILURES = (LocalServiceError, CallFailed, WarrenError, OSError, WSError, TimeoutError)
#: Width of the report where there is no terminal, characters.
WIDTH = 170

app = typer.Typer(help=__doc__, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def bench(
    only: Annotated[list[str] | None, typer.Option(help=f"Part to run; repeatable: {', '.join(PARTS)}.")] = None,
    systems: Annotated[list[str] | None, typer.Option(help=f"System to run; repeatable: {', '.join(STARTS)}.")] = None,
    repeat: Annotated[int, typer.Option("--rounds", help="Rounds.", min=1)] = ROUNDS,
    redraw: Annotated[bool, typer.Option(help="Measure nothing; print and draw docs/benchmarks/results.json.")] = False,
) -> None:
    """Measure all systems, or some."""
    console = Console() if Console().is_terminal else Console(width=WIDTH)
    if redraw:
        _publish(console, Results.from_json(json.loads(RESULTS.read_text())["results"]))
        return
    for given, known in ((only or [], PARTS), (systems or [], STARTS)):
        if unknown := set(given) - set(known):
            raise typer.BadParameter(f"{', '.join(unknown)}: there are {', '.join(known)}")
    raise_file_limit()
    started = time.monotonic()
    schedule = rounds(repeat, only or PARTS, systems or STARTS)
    results, failures = uvloop.run(_run(console, schedule))
    if only or systems or repeat != ROUNDS or failures:
        report.show(console, results)
    else:
        RESULTS.write_text(_document(results, time.monotonic() - started))
        # Read back, because the file has rounded figures and the page must show the same.
        _publish(console, Results.from_json(results.as_json()))
    for failure in failures:
        console.print(failure, style="red", markup=False)
    if failures or complaints(results):
        raise typer.Exit(1)


async def _run(console: Console, schedule: list[list[Job]]) -> tuple[Results, list[str]]:
    """Do all jobs; return the results, and a sentence for each job that failed."""
    results, failures = Results(), list[str]()
    bar = Progress(
        TextColumn("{task.description:<58}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(), console=console
    )
    async with local_services():
        with bar:
            task = bar.add_task("starting", total=sum(job.seconds for jobs in schedule for job in jobs))
            for number, jobs in enumerate(schedule, start=1):
                for job in jobs:
                    name = f"round {number} of {len(schedule)} · {TITLES[job.system]}"
                    before = bar.tasks[task].completed
                    try:
                        await _do(job, results, bar, task, name)
                    except* FAILURES as group:
                        reason = group.exceptions[0]
                        failures.append(f"{name}, {job.part}: {type(reason).__name__}: {reason}")
                    bar.update(task, completed=before + job.seconds)
                    gc.collect()
    return results, failures


async def _do(job: Job, results: Results, bar: Progress, task: TaskID, name: str) -> None:
    """Start a system, measure, stop it."""
    bar.update(task, description=f"{name} · starting")
    async with job.start() as (system, processes):
        done = bar.tasks[task].completed + job.seconds - sum(measurement.seconds for measurement in job.measurements)
        running = RunningSystem(system, processes, progress=lambda _: None)
        for measurement in job.measurements:

            def advance(share: float, done: float = done, seconds: float = measurement.seconds) -> None:
                bar.update(task, completed=done + share * seconds)

            bar.update(task, description=f"{name} · {measurement.name}", completed=done)
            running.progress = advance
            if measurement.prepare is not None:
                await measurement.prepare(running)
            await wait_until_idle(running)
            results.add(job.system, measurement.name, await measurement.measure(running))
            done += measurement.seconds


def _publish(console: Console, results: Results) -> None:
    """Print the tables, draw the charts, and write the figures into the page."""
    report.show(console, results)
    report.write(results, FOLDER / "README.md")
    for file in charts.draw(results, FOLDER):
        console.print(f"Drawn: {file.relative_to(ROOT)}")


def _document(results: Results, seconds: float) -> str:
    targets = [
        {"target": target.name, "limit": target.limit, "value": target.value(results), "met": target.is_met(results)}
        for target in TARGETS
    ]
    machine = {**describe(), "minutes": round(seconds / 60, 1)}
    return json.dumps({"machine": machine, "targets": targets, "results": results.as_json()}, indent=1) + "\n"


if __name__ == "__main__":
    app()
