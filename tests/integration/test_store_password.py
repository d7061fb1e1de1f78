"""The store's password is rotated under a worker: nothing is lost or dead-lettered, and it goes on with the new one."""

import secrets
from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlsplit, urlunsplit

import pytest
import pytest_asyncio
from pydantic import SecretStr

from contracts.codec import Item
from infra.settings import WorkerSettings
from infra.store.client import Store
from infra.store.users import Users
from tests.support.handlers import acks
from tests.support.runner_bench import Bench, Recorder
from tests.support.sample_commands import list_conversations, send
from tests.support.waiting import eventually
from tests.support.worker_settings import MakeSettings
from workers import runner as runner_module
from workers.effects import Effects
from workers.history import History


class Login:
    """A user of the store whose password can be rotated, and a client that knows the first one."""

    def __init__(self, store: Store, settings: WorkerSettings) -> None:
        self._admin = store.client[settings.mongo_database]
        self._name, self._known = f"worker-{secrets.token_hex(4)}", secrets.token_hex(8)
        parts = urlsplit(settings.mongo_url.get_secret_value())
        netloc = f"{self._name}:{self._known}@{parts.netloc.split('@')[-1]}"
        # The driver takes a server that refuses it for one that is away, until the next heartbeat.
        query = f"{parts.query}&authSource={settings.mongo_database}&heartbeatFrequencyMS=500"
        address = urlunsplit(parts._replace(netloc=netloc, path="/", query=query))
        self.store = Store(settings.model_copy(update={"mongo_url": SecretStr(address)}))

    async def create(self) -> None:
        """Create the user with the password that the client does not know."""
        await self._admin.command("createUser", self._name, pwd=secrets.token_hex(8), roles=["readWrite"])

    async def restore(self) -> None:
        """Give the user the password that the client knows."""
        await self._admin.command("updateUser", self._name, pwd=self._known)

    async def remove(self) -> None:
        """Remove the user."""
        await self.store.close()
        await self._admin.command("dropUser", self._name)


@pytest_asyncio.fixture
async def login(store: Store, make_settings: MakeSettings) -> AsyncIterator[Login]:
    """A user of the store whose password was rotated."""
    login = Login(store, make_settings())
    await login.create()
    yield login
    await login.remove()


async def test_a_worker_whose_password_was_rotated_holds_its_messages(
    bench: Bench, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "HOLD_LIMIT", 60.0)
    # Given a worker that the store refuses
    recorder = Recorder()

    async def handle(items: Sequence[Item]) -> Effects:
        await Users(login.store).find(["ada"])
        return await recorder(items)

    dead = await bench.listen("persistence.dead")
    async with bench.runner(handle, check_store=login.store.check_writes) as runner:
        await bench.publish(send("ada", "c", "m1"))
        await eventually(lambda: runner.not_ready_reason is not None, sentence="the worker is not ready")
        # When the store accepts its password again
        await login.restore()
        # Then it handles the message, and nothing is a dead letter
        await eventually(lambda: recorder.handled == ["m1"], sentence="the message is handled")
    assert dead == []


async def test_reads_are_answered_with_unavailable_while_the_password_is_refused(login: Login) -> None:
    command = list_conversations("ada")
    effects = await History(login.store)([command])
    assert acks(effects)[command.request]["error"]["code"] == "unavailable"
