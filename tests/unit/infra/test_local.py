"""Processes on this machine: found by id and start time, ended only if they are ours, missed in one sentence."""

import json
import os
import shutil
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.local import install, process, rabbitmq4
from infra.local.process import Daemon, LocalServiceError, free_ports, is_free
from infra.local.run import kept_secret, prepare_environment
from infra.local.services import Services, ensure_services, running_services, stop_services

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
    assert process.wait_until(lambda: "ready" in log.read_text(), seconds=5)
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
    assert process.wait_until(lambda: bool(parent.children()), seconds=5)
    child = parent.children()[0]
    daemon.kill()
    assert process.wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, seconds=5)


def test_a_taken_port_is_replaced_and_no_port_is_given_twice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not is_free(port)
        ports = free_ports(port, port, 0)
    assert port not in ports
    assert len(set(ports)) == len(ports)


def test_a_machine_without_mongod_gets_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LocalServiceError, match=r"No mongod was found: .*WARREN_MONGO_URL") as caught:
        install.mongod()
    assert "\n" not in str(caught.value)


def test_a_machine_without_rabbitmq_and_apt_gets_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(install, "SCRIPT_DIRECTORIES", ())
    with pytest.raises(LocalServiceError, match=r"RabbitMQ is not installed .*WARREN_AMQP_URL") as caught:
        install.rabbitmq_scripts()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("WARREN_AMQP_URL", "amqp://ada:secret@127.0.0.1:{}/"),
        ("WARREN_MONGO_URL", "mongodb://ada:secret@127.0.0.1:{}/"),
    ],
)
def test_a_given_service_that_does_not_answer_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, url: str
) -> None:
    port = free_ports(0)[0]
    monkeypatch.setenv("WARREN_AMQP_URL", "")
    monkeypatch.setenv(variable, url.format(port))
    with pytest.raises(
        LocalServiceError, match=rf"{variable} is set, but no \w+ answers at 127.0.0.1:{port}\."
    ) as caught:
        ensure_services(tmp_path)
    assert "secret" not in str(caught.value)
    assert running_services(tmp_path) == []


def test_stopping_where_nothing_was_started_does_nothing(tmp_path: Path) -> None:
    assert stop_services(tmp_path) is False


def test_given_settings_win_and_the_rest_is_written_down_for_its_owner_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    services = Services("amqp://here", "http://here", "mongodb://here", started_by_us=True)
    monkeypatch.setenv("WARREN_MONGO_DATABASE", "it's mine")
    monkeypatch.delenv("WARREN_JWT_SECRET", raising=False)
    environment = prepare_environment(services, tmp_path)
    assert environment["WARREN_AMQP_URL"] == "amqp://here"
    assert environment["WARREN_MONGO_DATABASE"] == "it's mine"
    assert environment["WARREN_JWT_SECRET"] == kept_secret(tmp_path / "jwt_secret")
    for name in ("environment", "jwt_secret"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


# --- RabbitMQ 4 -------------------------------------------------------------------------------------------


def test_rabbitmq_4_needs_roots_rights_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(LocalServiceError, match="takes root's rights: use sudo"):
        rabbitmq4.scripts(tmp_path)


def test_another_rabbitmq_is_used_when_its_scripts_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(install.SCRIPTS, str(tmp_path))
    assert install.rabbitmq_scripts() == tmp_path
