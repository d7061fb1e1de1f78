"""Programs that end with the process that started them, however that one ends."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from infra.local.daemon import wait_until
from infra.local.paths import ROOT
from infra.local.supervisor import LAUNCHER, Process

#: Starts a process, writes its pid, and waits to be killed.
STARTER = """
import os, pathlib, sys, time
from infra.local.supervisor import Process
process = Process("child", ["sleep", "60"], dict(os.environ), 0, pathlib.Path(sys.argv[1]))
process.spawn()
print(process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can do this")
def test_a_process_ends_when_the_one_that_started_it_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTER, str(tmp_path / "log")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        child = psutil.Process(int(starter.stdout.readline()))
        # Given that the program itself runs, as the process that was started
        assert wait_until(lambda: child.name() == "sleep", seconds=10)
        starter.send_signal(signal.SIGKILL)
    assert wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, seconds=10)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can do this")
def test_nothing_runs_for_a_parent_that_is_gone_already() -> None:
    command = [sys.executable, "-I", "-S", str(LAUNCHER), "1", "echo", "here"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "echo is not run: its parent 1 is gone.\n"


async def test_a_program_that_cannot_be_run_is_named_in_the_log(tmp_path: Path) -> None:
    process = Process("child", [str(tmp_path / "nothing")], {}, 0, tmp_path / "log")
    process.spawn()
    assert await process.wait(10) == 1
    assert process.log.read_text() == f"{tmp_path / 'nothing'} cannot be run: No such file or directory\n"
