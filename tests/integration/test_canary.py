"""The canary: its rounds through two real edges are measured, failures are reported, and its conversation is reset."""

import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

import infra.cli.canary
import workers.header_cache
from contracts.ids import direct_conversation_id
from infra.cli.canary import delete_conversation
from infra.local.ports import LOOPBACK, free_ports
from infra.local.stack import Stack
from infra.local.supervisor import Process
from infra.store.client import Store
from tests.support.people import People
from tests.support.sample_commands import opened, send, start
from tests.support.scrape import metric
from tests.support.waiting import eventually
from workers.persistence import Persistence
from workers.presence import Presence
from workers.unread import Unread

Watch = Callable[..., Process]


@pytest_asyncio.fixture
async def watch(stack: Stack, people: People, tmp_path: Path) -> AsyncIterator[Watch]:
    """Starts a canary through these edges, ten rounds a second, that knows its two tokens and nothing else."""
    started: list[Process] = []

    def start_one(*edges: str) -> Process:
        name = people.name("canary")
        command = [sys.executable, "-m", "infra", "canary", "--name", name, "--interval", "0.1", "--no-reset"]
        for edge in edges:
            command += ["--edge", edge]
        for token in (tmp_path / f"{name}-{number}" for number in (1, 2)):
            token.write_text(stack.token(token.name))
            command += ["--token-file", str(token)]
        port = free_ports(0)[0]
        env = {key: value for key, value in os.environ.items() if not key.startswith("WARREN_")}
        canary = Process("canary", [*command, "--port", str(port)], env, port, tmp_path / "canary.log")
        canary.spawn()
        started.append(canary)
        return canary

    yield start_one
    for canary in started:
        assert await stack.terminate(canary) == 0


async def test_rounds_are_measured_from_edge_to_edge(watch: Watch, stack: Stack) -> None:
    canary = watch(*stack.edge_urls)

    async def four_went_well() -> bool:
        return await metric(canary, "warren_canary_rounds_total", outcome="ok") >= 4

    await canary.until_ready()
    await eventually(four_went_well, sentence="four rounds went well")
    for step in ("ack", "delivery", "seen"):
        assert await metric(canary, "warren_canary_seconds_count", step=step) >= 4
    assert await metric(canary, "warren_canary_sockets") == 2


async def test_an_edge_that_is_away_is_told(watch: Watch, stack: Stack) -> None:
    canary = watch(stack.edge_urls[0], f"http://{LOOPBACK}:{free_ports(0)[0]}")

    async def says_so() -> bool:
        async with httpx.AsyncClient(trust_env=False) as http:
            try:
                return (await http.get(f"{canary.url}/readyz")).text == "not connected\n"
            except httpx.TransportError:
                return False

    await eventually(says_so, within=20, sentence="the canary says that it is not connected")
    assert await metric(canary, "warren_canary_rounds_total", outcome="not connected") >= 1
    assert await metric(canary, "warren_canary_sockets") == 1


async def test_a_deleted_conversation_starts_again_and_others_stay(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (infra.cli.canary, workers.header_cache):
        monkeypatch.setattr(module, "CACHE_SECONDS", 0.5)
    await Presence(store)([opened(user) for user in ("canary-1", "canary-2", "ada")])
    persistence, unread = Persistence(store), Unread(store)
    ours, theirs = direct_conversation_id("canary-1", "canary-2"), direct_conversation_id("canary-1", "ada")
    await persistence([start("canary-1", "canary-2"), start("canary-1", "ada")])
    for chat in (ours, theirs):
        await unread((await persistence([send("canary-1", chat, f"m{number}") for number in range(3)])).facts)

    # When the canary deletes its conversation, then nothing is left of it, and nothing else is touched
    for chat in (ours, theirs):
        await delete_conversation(store, chat, ["canary-1", "canary-2"])
    assert await store.messages.distinct("conversation_id") == [theirs]
    assert await store.conversations.distinct("_id") == [theirs]
    assert await store.inboxes.distinct("_id.c") == [theirs]

    # And the next start finds an empty one of the same name, whose messages are numbered from 1
    await persistence([start("canary-1", "canary-2")])
    (fact,) = (await persistence([send("canary-1", ours, "m9")])).facts
    assert (fact.conversation_id, fact.seq) == (ours, 1)
