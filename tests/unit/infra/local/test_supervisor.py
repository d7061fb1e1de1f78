"""Supervised processes: their start, their readiness, their restarts, and their end in order."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from infra.local import supervisor
from infra.local.errors import ProcessError
from infra.local.supervisor import Process, Stage, Supervisor, restart_delay, stop_together, until_ready
from tests.support.waiting import eventually
from tests.unit.infra.local.children import child, server

#: Ignores SIGTERM.
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
#: Has a child, writes its pid, and ends as it is told to.
PARENT = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True); {then}"


@pytest_asyncio.fixture
async def supervised() -> AsyncIterator[tuple[Supervisor, list[str]]]:
    """A supervisor, and what it said."""
    said: list[str] = []
    made = Supervisor(say=lambda process, sentence: said.append(f"{process.name} {sentence}"))
    yield made, said
    await made.stop(0)


def wrote(process: Process) -> str:
    return process.log.read_text() if process.log.exists() else ""


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# --- One process ------------------------------------------------------------------------------------------


async def test_a_process_has_its_own_environment_log_and_group(tmp_path: Path) -> None:
    process = child("child", "import os; print(os.environ['WORD'], os.getpgid(0), os.getpid())", tmp_path, WORD="hi")
    process.spawn()
    assert await process.wait(10) == 0
    assert wrote(process).split() == ["hi", str(process.pid), str(process.pid)]


async def test_a_restart_keeps_the_log_and_adds_to_the_environment(tmp_path: Path) -> None:
    process = child("child", "import os; print(os.environ['WORD'], os.environ.get('MORE'))", tmp_path, WORD="hi")
    for more in (None, {"MORE": "there"}, None):
        process.spawn(more)
        await process.wait(10)
    assert wrote(process).splitlines() == ["hi None", "hi there", "hi there"]


async def test_a_running_process_is_not_started_twice(tmp_path: Path) -> None:
    process = child("child", STUBBORN, tmp_path)
    process.spawn()
    with pytest.raises(ProcessError, match="child is running already"):
        process.spawn()
    await process.kill()


async def test_a_frozen_process_hears_that_it_shall_stop(tmp_path: Path) -> None:
    process = child("child", "import time; time.sleep(60)", tmp_path)
    process.spawn()
    process.send(signal.SIGSTOP)
    assert await process.terminate(10) == -signal.SIGTERM
    assert process.how_it_ended() == "was ended by SIGTERM"


async def test_a_process_that_does_not_stop_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    process = child("child", STUBBORN, tmp_path)
    process.spawn()
    await eventually(lambda: "on" in wrote(process), sentence="it runs")
    with pytest.raises(ProcessError, match=r"child did not stop within 0 s of SIGTERM\.\nEnd of child\.jsonl:\non"):
        await process.terminate(0.1)
    await process.kill()
    assert process.exit_code == -signal.SIGKILL


@pytest.mark.parametrize("then", ["sys.exit(0)", "sys.stdin.read(); import time; time.sleep(60)"])
async def test_children_end_with_their_parent(tmp_path: Path, then: str) -> None:
    # Whether the parent ends by itself or is killed
    process = child("parent", PARENT.format(then=then), tmp_path)
    process.spawn()
    await eventually(lambda: "\n" in wrote(process), sentence="it has a child")
    if "sleep" in then:
        await process.kill()
    await process.wait(10)
    await eventually(lambda: is_gone(int(wrote(process))), sentence="the child is gone")


async def test_an_end_counts_as_its_own_unless_it_was_told_to(tmp_path: Path) -> None:
    # Given four processes
    by_itself = child("by_itself", "raise SystemExit(3)", tmp_path)
    killed_by_another = child("killed_by_another", STUBBORN, tmp_path)
    terminated, killed = (child(name, "import time; time.sleep(60)", tmp_path) for name in ("terminated", "killed"))
    for process in (by_itself, killed_by_another, terminated, killed):
        process.spawn()

    # When two end by themselves or by others, and two because they are told to
    await by_itself.wait(10)
    os.kill(killed_by_another.pid, signal.SIGKILL)
    await killed_by_another.wait(10)
    await terminated.terminate()
    await killed.kill()

    # Then the supervisor knows which
    ended = [process.name for process in (by_itself, killed_by_another, terminated, killed) if process.ended_by_itself]
    assert ended == ["by_itself", "killed_by_another"]


# --- Readiness --------------------------------------------------------------------------------------------


async def test_processes_are_ready_once_all_answer_200(
    tmp_path: Path, supervised: tuple[Supervisor, list[str]]
) -> None:
    made, _ = supervised
    for number in (1, 2):
        made.add(server(f"server-{number}", tmp_path), Stage.WORKERS)
    await made.start()
    assert all(process.is_running for process in made.processes)


async def test_everyone_who_is_late_is_named_with_reason_and_last_lines(
    tmp_path: Path, supervised: tuple[Supervisor, list[str]]
) -> None:
    # Given a process that is ready, and two that never are
    made, _ = supervised
    good = made.add(server("good", tmp_path), Stage.WORKERS)
    late = [made.add(server(name, tmp_path, 503, "the store is away"), Stage.EDGES) for name in ("late", "later")]
    for process in made.processes:
        process.spawn()
    await eventually(lambda: all("serving" in wrote(process) for process in made.processes), sentence="all serve")

    # When all are waited for
    await good.until_ready()
    with pytest.raises(ProcessError) as caught:
        await until_ready(made.processes, 1)

    # Then those two are named, each with its reason
    for process in late:
        wanted = f"{process.name} was not ready within 1 s: the store is away.\nEnd of {process.log.name}:\nserving"
        assert wanted in str(caught.value)
    assert "good" not in str(caught.value)


async def test_who_ends_before_it_is_ready_is_named_at_once(
    tmp_path: Path, supervised: tuple[Supervisor, list[str]]
) -> None:
    made, _ = supervised
    made.add(child("broken", "raise SystemExit('a setting is wrong')", tmp_path, port=1), Stage.WORKERS)
    message = r"broken ended with exit code 1 before it was ready\.\nEnd of broken\.jsonl:\na setting is wrong"
    with pytest.raises(ProcessError, match=message):
        await made.start(60)


# --- Restarts and reports ---------------------------------------------------------------------------------


async def test_a_process_that_ends_by_itself_is_restarted_and_named(
    tmp_path: Path, supervised: tuple[Supervisor, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a process that is kept running
    monkeypatch.setattr(supervisor, "RESTART_DELAY", 0.01)
    made, said = supervised
    process = made.add(server("server", tmp_path), Stage.EDGES)
    await made.start()
    keeping = asyncio.create_task(made.keep_running())

    # When it is killed
    first = process.pid
    os.kill(first, signal.SIGKILL)

    # Then it comes back, and that is said
    await eventually(lambda: process.pid != first and process.is_running, sentence="it was restarted")
    await process.until_ready()
    keeping.cancel()
    assert said == ["server was ended by SIGKILL; restarting it in 0 s."]


def test_each_failure_doubles_the_delay_up_to_a_limit() -> None:
    assert [restart_delay(failures) for failures in (1, 2, 3, 5, 6, 5000)] == [1, 2, 4, 16, 30, 30]


async def test_who_ended_by_itself_is_reported_with_the_end_of_its_log(
    tmp_path: Path, supervised: tuple[Supervisor, list[str]]
) -> None:
    made, _ = supervised
    crashed = made.add(child("crashed", "raise SystemExit('out of luck')", tmp_path), Stage.WORKERS)
    told = made.add(child("told", "import time; time.sleep(60)", tmp_path), Stage.WORKERS)
    for process in (crashed, told):
        process.spawn()
    await crashed.wait(10)
    await told.terminate()
    assert made.ended_by_themselves() == (
        "crashed ended with exit code 1, by itself.\nEnd of crashed.jsonl:\nout of luck"
    )


# --- The end ----------------------------------------------------------------------------------------------


async def test_edges_stop_before_workers(tmp_path: Path, supervised: tuple[Supervisor, list[str]]) -> None:
    made, said = supervised
    made.add(server("edge", tmp_path), Stage.EDGES)
    made.add(server("worker", tmp_path), Stage.WORKERS)
    assert [process.name for process in made.processes] == ["worker", "edge"]
    await made.start()
    await made.stop()
    assert (tmp_path / "stopped").read_text().split() == ["edge", "worker"]
    assert said == []


async def test_who_does_not_stop_is_killed_and_named(tmp_path: Path, supervised: tuple[Supervisor, list[str]]) -> None:
    made, said = supervised
    stubborn = made.add(child("stubborn", STUBBORN, tmp_path), Stage.EDGES)
    stubborn.spawn()
    await eventually(lambda: "on" in wrote(stubborn), sentence="it runs")
    await made.stop(0.1)
    assert stubborn.exit_code == -signal.SIGKILL
    assert said == ["stubborn did not stop within 0 s of SIGTERM and was killed."]


async def test_an_interrupted_stop_kills_what_is_left(tmp_path: Path, supervised: tuple[Supervisor, list[str]]) -> None:
    made, _ = supervised
    stubborn = made.add(child("stubborn", STUBBORN, tmp_path), Stage.EDGES)
    worker = made.add(child("worker", STUBBORN, tmp_path), Stage.WORKERS)
    for process in (stubborn, worker):
        process.spawn()
    await eventually(lambda: all("on" in wrote(process) for process in (stubborn, worker)), sentence="both run")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await made.stop(60)
    assert await stubborn.wait(10) == await worker.wait(10) == -signal.SIGKILL


async def test_stopping_what_was_never_started_or_has_ended_does_nothing(tmp_path: Path) -> None:
    never, ended = child("never", "", tmp_path), child("ended", "", tmp_path)
    ended.spawn()
    await ended.wait(10)
    assert await stop_together([never, ended], 1) == []
