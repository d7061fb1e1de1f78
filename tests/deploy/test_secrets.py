"""`python -m infra secrets`: made up once, kept, and the same password on both sides of every door."""

import base64
import hashlib
import json
import stat
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from infra.cli import secrets
from infra.deploy.definitions import AUTOSCALER, EDGE, OPERATOR, WORKER, WeakPassword


def write(folder: Path, **changes: object) -> Path:
    given = {"broker": "rabbitmq", "mongo": "mongodb:27017", "mongo_url": None, "jwt_secret": True}
    secrets.write(folder, **(given | changes))  # type: ignore[arg-type]
    return folder


def read(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_rabbitmq_knows_the_passwords_that_processes_log_in_with(secrets: Path) -> None:
    definitions = json.loads((secrets / "rabbitmq" / "definitions.json").read_text())
    hashes = {user["name"]: base64.b64decode(user["password_hash"]) for user in definitions["users"]}
    for folder, user in (("edge", EDGE), ("worker", WORKER), ("topology", OPERATOR), ("operator", OPERATOR)):
        address = urlsplit((secrets / folder / "WARREN_AMQP_URL").read_text())
        assert (address.username, address.hostname, address.path) == (user, "rabbitmq", "/warren")
        assert address.password is not None
        salt, digest = hashes[user][:4], hashes[user][4:]
        assert hashlib.sha256(salt + address.password.encode()).digest() == digest
    assert {entry["vhost"] for entry in definitions["permissions"]} == {"warren"}


def test_nobody_has_more_than_it_needs(secrets: Path) -> None:
    names = {folder.name: {file.name for file in folder.iterdir()} for folder in secrets.iterdir()}
    assert names["edge"] == {"WARREN_AMQP_URL", "WARREN_JWT_SECRET"}
    assert names["worker"] == {"WARREN_AMQP_URL", "WARREN_MONGO_URL"}
    assert names["topology"] == {"WARREN_AMQP_URL"}
    assert names["recount"] == {"WARREN_MONGO_URL"}
    assert names["canary"] == {"WARREN_MONGO_URL", "WARREN_JWT_SECRET"}
    assert names["autoscaler"] == {"host"}
    assert f"//{AUTOSCALER}:" in (secrets / "autoscaler" / "host").read_text()
    assert names["mongodb"] == {"root-password", "user-password", "keyfile"}


def test_running_it_again_changes_no_password(tmp_path: Path) -> None:
    before = read(write(tmp_path / "s"))
    after = read(write(tmp_path / "s"))
    # Its hashes have new salt.
    for files in (before, after):
        files.pop("rabbitmq/definitions.json")
    assert after == before


def test_a_new_address_is_taken_over(tmp_path: Path) -> None:
    before = read(write(tmp_path / "s"))
    after = read(write(tmp_path / "s", broker="warren-rabbitmq.warren.svc", mongo_url="mongodb+srv://u:p@somewhere/"))
    assert after["worker/WARREN_MONGO_URL"] == after["operator/WARREN_MONGO_URL"] == "mongodb+srv://u:p@somewhere/"
    assert after["edge/WARREN_AMQP_URL"] == before["edge/WARREN_AMQP_URL"].replace(
        "@rabbitmq", "@warren-rabbitmq.warren.svc"
    )
    assert after["autoscaler/host"].endswith("@warren-rabbitmq.warren.svc:15672/warren")


def test_only_its_owner_can_enter_the_folder(secrets: Path) -> None:
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700


def test_a_password_of_ones_own_is_taken_quoted_and_must_be_strong(tmp_path: Path) -> None:
    folder = write(tmp_path / "s")
    (folder / "passwords" / EDGE).write_text("a/b@c:d e?f#0123456789\n")
    write(folder)
    assert "amqp://warren-edge:a%2Fb%40c%3Ad%20e%3Ff%230123456789@" in read(folder)["edge/WARREN_AMQP_URL"]
    (folder / "passwords" / EDGE).write_text("short")
    with pytest.raises(WeakPassword, match=EDGE):
        write(folder)


def test_a_secret_for_tokens_is_left_out_where_keys_come_from_elsewhere(tmp_path: Path) -> None:
    assert [name for name in read(write(tmp_path / "s", jwt_secret=False)) if "JWT" in name] == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("not a folder")
    with pytest.raises(secrets.UnwritableFolder, match="s: "):
        write(tmp_path / "s")
