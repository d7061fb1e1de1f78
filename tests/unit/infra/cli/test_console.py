"""How operator commands run and end."""

import asyncio
import signal

import httpx
import pytest

from contracts.errors import BrokerUnavailable, WarrenError
from infra.cli.console import run, serve
from infra.local.ports import LOOPBACK, free_ports
from tests.support.waiting import eventually


def test_a_command_returns_what_its_work_does() -> None:
    async def work() -> int:
        return 7

    assert run(work()) == 7


def test_an_error_of_ours_ends_a_command_with_its_sentence() -> None:
    async def work() -> None:
        raise BrokerUnavailable("The broker is away.")

    with pytest.raises(SystemExit) as ended:
        run(work())
    assert ended.value.code == "The broker is away."


def test_a_bug_is_not_made_a_sentence_of() -> None:
    async def work() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        run(work())


async def forever() -> None:
    await asyncio.Event().wait()


async def ready() -> str | None:
    return None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_command_that_serves_does_so_until_it_is_told_to_stop(number: signal.Signals) -> None:
    # Given a command with health endpoints
    (port,) = free_ports(0)
    serving = asyncio.create_task(serve(forever(), ready, host=LOOPBACK, port=port))
    async with httpx.AsyncClient(trust_env=False) as http:

        async def answers() -> bool:
            try:
                return (await http.get(f"http://{LOOPBACK}:{port}/readyz")).text == "ready\n"
            except httpx.TransportError:
                return False

        await eventually(answers, sentence="the endpoints answer")

    # When it is told to stop, then it ends without an error
    signal.raise_signal(number)
    await asyncio.wait_for(serving, 5)


async def test_a_command_that_serves_ends_with_what_its_work_raises() -> None:
    async def work() -> None:
        raise WarrenError("no more")

    with pytest.raises(WarrenError, match="no more"):
        await serve(work(), ready, host=LOOPBACK, port=0)
