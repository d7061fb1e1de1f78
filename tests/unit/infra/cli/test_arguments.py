"""What operators may mistype: each command says what is wrong, and does nothing."""

import gc
from pathlib import Path

import pytest
import typer

from infra.__main__ import app
from tests.support.operator_commands import operate

#: Addresses at which nothing answers, so that a command that gets there fails in a moment.
NOWHERE = {
    "WARREN_AMQP_URL": "amqp://guest:secret-of-the-broker@127.0.0.1:1/",
    "WARREN_MANAGEMENT_URL": "http://guest:secret-of-the-broker@127.0.0.1:1",
    "WARREN_MONGO_URL": "mongodb://ada:secret-of-the-store@127.0.0.1:1/",
    "WARREN_MONGO_TIMEOUT_MS": "100",
}


def commands() -> list[list[str]]:
    """Every command, with the group that it is in."""
    groups: list[list[str]] = []

    def visit(command: object, path: list[str]) -> None:
        inner = getattr(command, "commands", None)
        if inner is None:
            groups.append(path)
        else:
            for name, each in inner.items():
                visit(each, [*path, name])

    visit(typer.main.get_command(app), [])
    return groups


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_explains_itself_and_each_of_its_options(command: list[str]) -> None:
    shown = operate(*command, "--help")
    assert shown.exit_code == 0
    assert f"Usage: root {' '.join(command)}" in shown.output


@pytest.mark.parametrize("arguments", [[], ["topology"], ["dead-letters"]], ids=" ".join)
def test_without_a_command_the_commands_are_shown(arguments: list[str]) -> None:
    shown = operate(*arguments)
    assert shown.exit_code == 2
    assert "Commands" in shown.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("nonsense", "No such command 'nonsense'"),
        ("topology nonsense", "No such command 'nonsense'"),
        ("status now", "unexpected extra argument"),
        ("status --now", "No such option: --now"),
        ("block", "Missing argument 'user'"),
        ("unblock", "Missing argument 'user'"),
        ("block ada bob", "unexpected extra argument"),
        ("message c1", "Missing argument 'client_message_id'"),
        ("token", "Missing argument 'user'"),
        ("token ada --ttl 0", "--ttl"),
        ("token ada --ttl soon", "--ttl"),
        ("secrets", "Missing argument 'folder'"),
        ("recount --every -1", "--every"),
        ("recount --port 70000", "--port"),
        ("canary --interval 0", "--interval"),
        ("canary --port -1", "--port"),
        ("canary --token-file /no/such/file", "--token-file"),
        ("dead-letters show", "Missing argument 'queue'"),
        ("dead-letters show persistence --limit 0", "--limit"),
        ("dead-letters show persistence --since yesterday", "use 90s, 30m, 2h, 3d, or a time"),
        ("dead-letters replay persistence --limit 0", "--limit"),
        ("dead-letters purge", "Missing argument 'queue'"),
        ("sizing", "Missing option '--users'"),
        ("sizing --users 0", "--users"),
        ("sizing --users many", "--users"),
        ("sizing --users 10 --connected 2", "--connected"),
        ("sizing --users 10 --group-size 1", "--group-size"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments: str, said: str) -> None:
    refused = operate(*arguments.split())
    assert refused.exit_code == 2
    assert said in refused.output


#: Commands that need a service, with all that they need besides.
NEED_A_SERVICE = [
    "status",
    "topology apply",
    "topology check",
    "dead-letters list",
    "dead-letters show persistence",
    "dead-letters replay persistence --yes",
    "dead-letters purge persistence --yes",
    "message c1 m1",
    "block ada",
    "unblock ada",
    "recount",
]


# PyMongo's asyncio client leaves the socket of a connection that failed to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("arguments", NEED_A_SERVICE)
def test_a_service_that_is_away_is_one_sentence_without_its_password(arguments: str) -> None:
    failed = operate(*arguments.split(), env=NOWHERE)
    code, output = failed.exit_code, failed.output
    del failed  # it holds the error, which holds the socket
    gc.collect()
    assert code == 1
    assert "127.0.0.1:1" in output
    assert "Traceback" not in output
    assert "secret-of" not in output


@pytest.mark.parametrize("arguments", ["status", "block ada", "recount", "token ada"])
def test_a_wrong_setting_is_one_sentence_with_its_name(arguments: str) -> None:
    refused = operate(*arguments.split(), env={**NOWHERE, "WARREN_MONGO_TIMEOUT_MS": "soon"})
    assert refused.exit_code == 1
    assert "WARREN_MONGO_TIMEOUT_MS" in refused.output
    assert "Traceback" not in refused.output


def test_a_canary_has_a_token_for_each_of_its_users_or_for_none(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t")
    refused = operate("canary", "--token-file", str(token))
    assert refused.exit_code == 2
    assert "give two files, or none" in refused.output


def test_a_canary_without_tokens_needs_the_secret() -> None:
    key = {
        "WARREN_JWT_JWKS_URL": "https://issuer.test/keys",
        "WARREN_JWT_ISSUER": "https://issuer.test",
        "WARREN_JWT_AUDIENCE": "warren",
    }
    refused = operate("canary", env={**NOWHERE, **key})
    assert refused.exit_code == 1
    assert "WARREN_JWT_SECRET must be set" in refused.output
