"""A relay in front of a publisher whose confirms the test gives, and a gateway in front of that."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from edge.relay import Relay
from tests.support.answers import Answers
from tests.support.socket_server import Received, Serving, serving
from tests.support.waiting import eventually
from tests.unit.edge.fakes import FakePublisher
from tests.unit.edge.gateway_alone import GatewayAlone


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def relay(publisher: FakePublisher) -> Relay:
    return Relay(publisher, reply_timeout=10, can_receive_replies=lambda: True)  # type: ignore[arg-type]


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest_asyncio.fixture
async def edge() -> AsyncIterator[GatewayAlone]:
    """A gateway with the usual limits."""
    edge = GatewayAlone()
    yield edge
    await edge.stop()


@pytest_asyncio.fixture
async def small_edge() -> AsyncIterator[GatewayAlone]:
    """An edge with little room and low limits."""
    edge = GatewayAlone(max_connections_per_user=1, max_connections=2, rate_limit=1, rate_burst=3, max_in_flight=2)
    yield edge
    await edge.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[tuple[Serving, Received]]:
    """A server with the usual limits, for all tests that need no others."""
    received = Received()
    async with serving(received) as served:
        yield served, received


@pytest_asyncio.fixture(loop_scope="module")
async def served(shared: tuple[Serving, Received]) -> AsyncIterator[Serving]:
    """That server, without sockets of other tests."""
    served, received = shared
    received.forget()
    yield served
    await eventually(lambda: not served.server.eio.sockets, sentence="all sockets of the test have closed")


@pytest.fixture
def received(shared: tuple[Serving, Received]) -> Received:
    """What that server has handed over during the test."""
    return shared[1]
