"""Background processes: found by pid and start time, and ended only if they are ours."""

import fcntl
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.local.daemon import Daemon, wait_until

SHELL = shutil.which("sh") or "/bin/sh"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon("sleeper", tmp_path / "sleeper.pid")
    yield daemon
    daemon.kill()


def spawn(daemon: Daemon, script: str) -> psutil.Process:
    daemon.spawn([SHELL, "-c", script], log=daemon.pid_file.with_suffix(".log"))
    found = daemon.find()
    assert found is not None
    return found


def test_a_daemon_is_found_by_whoever_has_its_pid_file(daemon: Daemon) -> None:
    started = spawn(daemon, "exec sleep 60")
    assert Daemon("the same", daemon.pid_file).find() == started


def test_a_pid_that_the_system_has_given_to_another_is_left_alone(daemon: Daemon) -> None:
    # Given a pid file whose process is long gone and whose number now belongs to this very test
    daemon.pid_file.write_text(json.dumps({"pid": os.getpid(), "started": psutil.Process().create_time() - 3600}))
    # When it is ended every way there is, then this test goes on
    daemon.signal(signal.SIGKILL)
    daemon.stop(seconds=1)
    daemon.kill()
    assert daemon.find() is None


def test_stopping_ends_a_process_that_ignores_being_asked(daemon: Daemon) -> None:
    stubborn = spawn(daemon, "trap '' TERM; echo ready; while :; do sleep 1; done")
    log = daemon.pid_file.with_suffix(".log")
    assert wait_until(lambda: "ready" in log.read_text(), seconds=5)
    daemon.stop(seconds=0.2)
    assert daemon.find() is None
    assert not stubborn.is_running()


def test_stopping_ends_a_process_that_is_paused(daemon: Daemon) -> None:
    spawn(daemon, "exec sleep 60")
    daemon.signal(signal.SIGSTOP)
    daemon.stop(seconds=5)
    assert daemon.find() is None


def test_killing_ends_the_children_too(daemon: Daemon) -> None:
    parent = spawn(daemon, "sleep 60 & wait")
    assert wait_until(lambda: bool(parent.children()), seconds=5)
    child = parent.children()[0]
    daemon.kill()
    assert wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, seconds=5)


def test_a_lock_of_whoever_started_us_does_not_outlive_us_in_it(daemon: Daemon, tmp_path: Path) -> None:
    # Given a lock on a file that programs inherit
    with (tmp_path / "lock").open("w") as ours:
        fcntl.flock(ours, fcntl.LOCK_EX)
        os.set_inheritable(ours.fileno(), True)
        spawn(daemon, "exec sleep 60")
    # Then it is free once we have closed it, while the process runs
    with (tmp_path / "lock").open("w") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert daemon.find() is not None


def test_only_the_process_itself_counts_as_listening(daemon: Daemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        spawn(daemon, "exec sleep 60")
        assert not daemon.listens(port)
    daemon.kill()
    program = f"import socket, time; server = socket.create_server(('127.0.0.1', {port})); time.sleep(60)"
    daemon.spawn([sys.executable, "-c", program], log=daemon.pid_file.with_suffix(".log"))
    assert wait_until(lambda: daemon.listens(port), seconds=10)
    daemon.kill()
    assert not daemon.listens(port)
