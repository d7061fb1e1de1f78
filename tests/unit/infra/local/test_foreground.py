"""Processes in the foreground: a banner when they are ready, and an end in order at Ctrl-C."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psutil

from infra.local.daemon import wait_until
from infra.local.foreground import write_environment
from infra.local.paths import ROOT

PROGRAM = """
import pathlib, sys
from infra.local import foreground, log_console
from tests.unit.infra.local.children import server
log_console.QUIET = 0.1
directory = pathlib.Path(sys.argv[1])
with foreground.until_interrupted("It"):
    foreground.run([server("edge", directory)], [server("worker", directory, int(sys.argv[2]), "not yet")], "BANNER")
"""


def start(directory: Path, status: int = 200) -> subprocess.Popen[str]:
    with (directory / "screen").open("w") as shown:
        command = [sys.executable, "-c", PROGRAM, str(directory), str(status)]
        return subprocess.Popen(command, cwd=ROOT, stdout=shown, stderr=shown, text=True)


def test_ctrl_c_stops_edges_then_workers_and_leaves_nothing(tmp_path: Path) -> None:
    running, shown = start(tmp_path), tmp_path / "screen"
    try:
        # Given processes that are ready: the banner is the last thing on the screen
        assert wait_until(lambda: "BANNER" in shown.read_text(), seconds=20)
        assert shown.read_text().endswith("BANNER\n")
        children = psutil.Process(running.pid).children()
        assert len(children) == 2
        # When Ctrl-C comes twice, then the second changes nothing
        running.send_signal(signal.SIGINT)
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 0
    finally:
        running.kill()
        running.wait()
    assert [process for process in children if process.is_running()] == []
    assert (tmp_path / "stopped").read_text().split() == ["edge", "worker"]
    assert shown.read_text().endswith(
        "Stopping: edges, then workers, then the services started here.\nIt is stopped.\n"
    )


def test_a_process_that_ends_is_named_and_comes_back(tmp_path: Path) -> None:
    # Given processes that run
    running, shown = start(tmp_path), tmp_path / "screen"
    try:
        assert wait_until(lambda: "BANNER" in shown.read_text(), seconds=20)

        # When one is killed
        before = {process.pid for process in psutil.Process(running.pid).children()}
        os.kill(min(before), signal.SIGKILL)
        # Then that is said, and another takes its place
        assert wait_until(lambda: "was ended by SIGKILL; restarting it in 1 s." in shown.read_text(), seconds=20)
        assert wait_until(
            lambda: len({process.pid for process in psutil.Process(running.pid).children()} - before) == 1, seconds=20
        )
    finally:
        running.terminate()
        assert running.wait(20) == 0


def test_a_start_that_is_interrupted_stops_what_runs(tmp_path: Path) -> None:
    running, shown = start(tmp_path, 503), tmp_path / "screen"
    try:
        assert wait_until(lambda: shown.read_text().count("serving") == 2, seconds=20)
        running.send_signal(signal.SIGHUP)
        assert running.wait(20) == 0
    finally:
        running.kill()
        running.wait()
    assert "BANNER" not in shown.read_text()
    assert sorted((tmp_path / "stopped").read_text().split()) == ["edge", "worker"]


def test_settings_are_written_as_a_shell_reads_them_for_their_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "environment"
    write_environment(file, {"WARREN_MONGO_DATABASE": "it's mine"})
    read = subprocess.run(
        ["sh", "-c", f'. {file}; printf %s "$WARREN_MONGO_DATABASE"'], capture_output=True, text=True, check=True
    )
    assert read.stdout == "it's mine"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
