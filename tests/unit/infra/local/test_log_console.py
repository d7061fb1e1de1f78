"""What `make run` shows of its processes."""

import asyncio
import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typing_extensions import override

from infra.local import log_console
from infra.local.log_console import LogConsole, LogReader
from infra.local.supervisor import Process


def process(name: str, directory: Path) -> Process:
    return Process(name, [], {}, 0, directory / f"{name}.jsonl")


def write(process: Process, *entries: tuple[str, str, str]) -> None:
    with process.log.open("a") as log:
        for time, level, message in entries:
            entry = {"time": f"2026-01-31 {time},000", "level": level, "message": message}
            log.write(json.dumps(entry) + "\n")


def screen(*processes: Process, terminal: bool = False) -> tuple[LogConsole, io.StringIO]:
    written = io.StringIO()
    shown = Console(file=written, force_terminal=terminal, color_system="standard" if terminal else None, width=40)
    return LogConsole(processes, shown), written


def test_a_reader_returns_complete_lines_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    reader = LogReader(log)
    assert reader.read() == []
    log.write_bytes(b"one\ntwo\nthr")
    assert [line.message for line in reader.read()] == ["one", "two"]
    with log.open("ab") as file:
        file.write(b"ee\n")
    assert [line.message for line in reader.read()] == ["three"]
    assert reader.read() == []


def test_lines_of_all_processes_are_shown_in_the_order_of_their_time(tmp_path: Path) -> None:
    # Given two processes that log in turn
    edge, worker = process("edge-8001", tmp_path), process("unread", tmp_path)
    shown, written = screen(worker, edge)
    write(worker, ("10:00:00", "INFO", "first"), ("10:00:02", "WARNING", "third, and longer than the screen is wide"))
    write(edge, ("10:00:01", "INFO", "second"))

    # When new lines are shown, then they come by their time, each once
    shown.show_new_lines()
    shown.show_new_lines()
    assert written.getvalue().splitlines() == [
        "unread    10:00:00 INFO    first",
        "edge-8001 10:00:01 INFO    second",
        "unread    10:00:02 WARNING third, and longer than the screen is wide",
    ]


def test_names_have_colours_and_warnings_stand_out_on_a_terminal(tmp_path: Path) -> None:
    edge, worker = process("edge", tmp_path), process("worker", tmp_path)
    shown, written = screen(edge, worker, terminal=True)
    write(edge, ("10:00:00", "INFO", "usual"), ("10:00:01", "WARNING", "unusual"))
    write(worker, ("10:00:02", "INFO", "usual"))
    shown.show_new_lines()
    first, warning, last = written.getvalue().splitlines()
    assert first.startswith("\x1b[36medge")
    assert last.startswith("\x1b[32mworker")
    assert "\x1b[1;33munusual" in warning
    assert "\x1b" not in first[first.index("usual") :]


def test_what_happens_to_a_process_comes_behind_its_last_words(tmp_path: Path) -> None:
    edge = process("edge", tmp_path)
    shown, written = screen(edge)
    write(edge, ("10:00:00", "ERROR", "last words"))
    shown.warn(edge, "ended with exit code 1; restarting it in 1 s.")
    shown.say("Stopping.")
    last_words, warning, own = written.getvalue().splitlines()
    assert last_words == "edge 10:00:00 ERROR   last words"
    assert warning.endswith("WARNING ended with exit code 1; restarting it in 1 s.")
    assert own == "Stopping."


@pytest.mark.parametrize(("quiet", "limit"), [(0.05, 60), (60, 0.05)])
async def test_quiet_comes_once_nobody_writes_or_after_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: float, limit: float
) -> None:
    monkeypatch.setattr(log_console, "QUIET", quiet)
    monkeypatch.setattr(log_console, "QUIET_LIMIT", limit)
    edge = process("edge", tmp_path)
    shown, _ = screen(edge)
    write(edge, ("10:00:00", "INFO", "a line"))
    shown.show_new_lines()
    await asyncio.wait_for(shown.until_quiet(), 10)


def test_a_pipe_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    class Gone(io.StringIO):
        @override
        def write(self, _: str) -> int:
            raise OSError

    edge = process("edge", tmp_path)
    write(edge, ("10:00:00", "INFO", "unread"))
    shown = LogConsole([edge], Console(file=Gone()))
    shown.show_new_lines()
    shown.say("Stopping.")
