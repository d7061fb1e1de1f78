"""One large and busy group: no message is refused, and every push arrives."""

import asyncio
import time
from contextlib import AsyncExitStack
from statistics import quantiles

import pytest

from infra.bench.load.light_client import open_socket
from infra.local.stack import Stack
from tests.faults.bounds.own_edge import print_figure
from tests.support.people import People
from tests.support.waiting import eventually

#: People of the group, its messages a second, and for how many seconds.
PEOPLE, RATE, SECONDS = 200, 50, 6


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_hot_group_of_two_hundred(people: People, stack: Stack) -> None:
    async with AsyncExitStack() as held:
        # Given 200 people in one conversation, over two edges, all of them connected
        received: dict[int, set[bytes]] = {number: set() for number in range(PEOPLE)}
        names = [people.name("hot") for _ in range(PEOPLE)]
        sockets = []
        for number, name in enumerate(names):

            def listen(packet: bytes, seen: set[bytes] = received[number]) -> None:
                if packet.startswith(b'42["new_message"'):
                    seen.add(packet)

            edge = stack.edges[number % 2]
            sockets.append(await open_socket(edge.url, stack.token(name), listen))
            held.callback(sockets[-1].close)
        started = await sockets[0].call("start_conversation", {"participant_ids": names[1:], "title": "hot"})
        chat = started["conversation"]["id"]
        await sockets[0].call("send_message", {"conversation_id": chat, "client_message_id": "first", "body": "hello"})

        # When they send 50 messages a second
        acks: list[float] = []

        async def send(number: int) -> None:
            message = {"conversation_id": chat, "client_message_id": f"m{number}", "body": "hot"}
            began = time.perf_counter()
            await sockets[number % PEOPLE].call("send_message", message)
            acks.append((time.perf_counter() - began) * 1000)

        began = time.monotonic()
        count = RATE * SECONDS
        sending = []
        for number in range(count):
            sending.append(asyncio.create_task(send(number)))
            await asyncio.sleep(max(0.0, began + (number + 1) / RATE - time.monotonic()))
        await asyncio.gather(*sending)
        acked_after = time.monotonic() - began

        # Then each gets all messages but the own ones
        total = PEOPLE * (count + 1) - (count + 1)

        def all_received() -> bool:
            return sum(map(len, received.values())) == total

        await eventually(
            all_received,
            within=90,
            sentence=lambda: f"{total} pushes arrive; there are {sum(map(len, received.values()))}",
        )
        delivered_after = time.monotonic() - began
        p50, p99 = quantiles(acks, n=100)[49], quantiles(acks, n=100)[98]
        print_figure(f"{PEOPLE} people, {RATE} messages/s for {SECONDS} s: acks p50 {p50:.0f} ms, p99 {p99:.0f} ms")
        print_figure(f"all {count} acked after {acked_after:.1f} s, all {total:,} pushes after {delivered_after:.1f} s")
