"""What every test may ask for: services, a running Warren, and people who talk through it.

Nothing here is shared between two tests but processes: every test has users of its own, so tests never meet and run
in any order. `make test` runs most of them in two pytest processes: each has a tenant and a stack of its own. Fixtures
that live as long as the session run in a loop of their own; each test has a fresh one.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from infra.local.services import Services
from infra.local.stack import Stack
from infra.local.tenant import Tenant, local_services, temporary_tenant
from tests.support.people import People
from tests.support.socketio_client import seen_codes


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "answers(*codes): an error code that the test sees from outside")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def services() -> AsyncIterator[Services]:
    """RabbitMQ and MongoDB on this machine, held until the last test is done."""
    async with local_services() as services:
        yield services


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tenant(services: Services) -> AsyncIterator[Tenant]:
    """A virtual host and a database that only this session uses."""
    async with temporary_tenant() as tenant:
        yield tenant


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack(tenant: Tenant) -> AsyncIterator[Stack]:
    """Two edges and one worker of each kind, shared by all tests of the session. Leave it as you found it."""
    async with Stack(tenant) as stack:
        yield stack


@pytest_asyncio.fixture
async def people(stack: Stack, request: pytest.FixtureRequest) -> AsyncIterator[People]:
    """Makes users that no other test knows and connects them; closes all sockets and checks what they were sent."""
    seen_codes.clear()
    people = People(stack)
    yield people
    await people.leave()
    assert not people.violations, people.violations
    promised = {str(code) for mark in request.node.iter_markers("answers") for code in mark.args}
    assert promised <= seen_codes, f"the test says that it sees {promised - seen_codes}, and did not"
