"""`topology`: shows what would be declared, and prints definitions with hashes instead of passwords."""

import base64
import hashlib
import json
from pathlib import Path

import pytest

from contracts.topology import EXCHANGES, QUEUES
from infra.deploy.definitions import AUTOSCALER, EDGE, OPERATOR, WORKER, WeakPassword, definitions
from tests.support.operator_commands import operate


def test_every_queue_is_shown_with_its_bindings_and_arguments() -> None:
    shown = operate("topology", "show")
    assert shown.exit_code == 0
    for queue in QUEUES:
        assert queue.name in shown.output
        for exchange, key in queue.bindings:
            assert f"{exchange} ← {key}" in shown.output
        for name, value in queue.arguments.items():
            assert f"{name} = {value}" in shown.output


def test_without_passwords_nobody_can_log_in(tmp_path: Path) -> None:
    printed = operate("topology", "definitions", "--vhost", "chat")
    value = json.loads(printed.output)
    assert {user["name"] for user in value["users"]} == {EDGE, WORKER, OPERATOR, AUTOSCALER}
    assert {user["password_hash"] for user in value["users"]} == {""}
    assert [vhost["name"] for vhost in value["vhosts"]] == ["chat"]
    assert len(value["exchanges"]) == len(EXCHANGES)
    assert len(value["queues"]) == len(QUEUES)


def test_passwords_come_from_files_and_leave_as_salted_hashes(tmp_path: Path) -> None:
    for user in (EDGE, WORKER, OPERATOR, AUTOSCALER):
        (tmp_path / user).write_text("a password of some length\n")
    printed = operate("topology", "definitions", "--passwords", str(tmp_path))
    assert "a password" not in printed.output
    hashes = [base64.b64decode(user["password_hash"]) for user in json.loads(printed.output)["users"]]
    assert len(set(hashes)) == 4
    for salted in hashes:
        assert salted[4:] == hashlib.sha256(salted[:4] + b"a password of some length").digest()


def test_a_weak_or_missing_password_is_refused_by_its_user(tmp_path: Path) -> None:
    with pytest.raises(WeakPassword, match=WORKER):
        definitions("/", {WORKER: "short"})
    (tmp_path / EDGE).write_text("a password of some length")
    printed = operate("topology", "definitions", "--passwords", str(tmp_path))
    assert printed.exit_code == 1
    assert WORKER in printed.output
    assert "password_hash" not in printed.output
