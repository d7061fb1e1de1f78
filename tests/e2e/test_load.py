"""`python -m infra load --edge`: it drives a running Warren through its edges and judges what clients read back."""

import asyncio
import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr
from rich.console import Console

from infra.bench.checker import GAPS, LOST, check
from infra.bench.histories import Histories
from infra.bench.load.cluster_run import ClusterRun, read_as_clients, run_on_cluster
from infra.bench.load.conversations import connect_groups, disconnect
from infra.bench.load.system import SystemUnderTest
from infra.bench.load.traffic import Traffic
from infra.bench.load.users import users_from_file
from infra.local.stack import Stack
from infra.settings import Settings
from infra.store.client import Store
from tests.support.people import People
from tests.support.waiting import eventually

#: Seconds in which the command must have ended.
COMMAND_LIMIT = 60.0


async def run_command(*arguments: str | Path) -> tuple[int | None, str]:
    """Run `python -m infra load`, without settings of ours; return its exit code and its output."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("WARREN_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra", "load", *arguments,
        env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), COMMAND_LIMIT)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode()


def edges_of(stack: Stack) -> list[str]:
    return [argument for url in stack.edge_urls for argument in ("--edge", url)]


async def test_the_command_drives_two_edges_with_a_secret_and_finds_no_fault(
    stack: Stack, people: People, tmp_path: Path
) -> None:
    # Given the secret of two running edges, in a file
    secret, figures = tmp_path / "secret", tmp_path / "figures.json"
    secret.write_text(stack.secret + "\n")

    # When the command sends 20 messages a second for 2 s
    code, output = await run_command(
        *edges_of(stack), "--secret-file", secret, "--name", people.name("load"),
        "--people", "4", "--rate", "20", "--seconds", "2", "--json", figures,
    )  # fmt: skip

    # Then all of them are in the history, and the figures say so
    assert code == 0, output
    written = json.loads(figures.read_text())
    (scenario,) = written["scenarios"]
    counts = scenario["check"]
    assert written["passed"] is True
    assert counts["sent"] == counts["acked"] == counts["stored"] == counts["delivered"] > 80
    assert counts["complaints"] == []
    assert scenario["messages_per_second"] == pytest.approx(20, rel=0.3)
    assert scenario["delivery_ms"]["p50"] > 0
    assert stack.secret not in output + figures.read_text()


async def test_an_edge_that_refuses_the_token_is_one_sentence(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(secrets.token_hex(32))
    code, output = await run_command(*edges_of(stack), "--secret-file", tmp_path / "secret", "--people", "2")
    assert code == 1
    assert "The run did not finish: load-" in output
    # Both edges are asked at the same time, so either may be the first to refuse.
    assert any(f"{url}: unauthorized: " in output for url in stack.edge_urls)
    assert "Traceback" not in output


async def test_a_run_with_tokens_continues_in_conversations_of_an_earlier_run(
    stack: Stack, people: People, tmp_path: Path
) -> None:
    # Given tokens of four users
    file = tmp_path / "tokens"
    file.write_text("".join(f"{stack.token(people.name(f'load-{number}'))}\n\n" for number in range(4)))
    users = users_from_file(file, None, lifetime=600)
    run = ClusterRun(tuple(stack.edge_urls), users, rate=0, in_flight=4, seconds=1, warm_up=0.1)

    # When they send in a closed loop, twice
    first, second = [await run_on_cluster(Console(quiet=True), run) for _ in range(2)]

    # Then both runs are judged by their own messages
    for figures in (first, second):
        assert figures.verdict.complaints == []
        assert figures.verdict.sent == figures.verdict.stored > 4
    assert first.expects_pushes


@pytest_asyncio.fixture
async def system(stack: Stack) -> SystemUnderTest:
    """The running Warren as a load run sees it."""
    return SystemUnderTest("cluster", tuple(stack.edge_urls), stack.token, pids=dict, read_store=read_as_clients)


async def test_a_message_that_the_history_lacks_is_lost(system: SystemUnderTest, stack: Stack, people: People) -> None:
    # Given three messages that were acked
    conversations = await connect_groups(system, [[people.name("ada"), people.name("bob")]])
    traffic = Traffic(conversations)
    for _ in range(3):
        traffic.send(conversations[0], 0)
    await traffic.drain(10)
    try:
        # When the second of them disappears from the store
        assert await complaints(traffic) == []
        await delete_message(stack, conversations[0].id, 2)

        # Then what clients read back shows it
        assert [kind for kind, _ in await complaints(traffic)] == [LOST, GAPS]
    finally:
        await disconnect(conversations)


async def complaints(traffic: Traffic) -> list[tuple[str, str]]:
    """The checker's complaints, once projections have caught up."""
    found: list[Any] = []

    async def judged() -> bool:
        found[:] = check(Histories(traffic.sent, await read_as_clients(traffic.conversations))).complaints
        return all(kind in (LOST, GAPS) for kind, _ in found)

    await eventually(judged, sentence="headers and counts follow from the messages")
    return found


async def delete_message(stack: Stack, conversation_id: str, seq: int) -> None:
    store = Store(Settings(mongo_url=SecretStr(stack.tenant.mongo_url), mongo_database=stack.tenant.database))
    try:
        await store.messages.delete_one({"conversation_id": conversation_id, "seq": seq})
    finally:
        await store.close()
