"""Services on this machine, started for real in a directory of the test's own."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pymongo
import pytest

from infra.local.mongod import Mongod, initiate, set_url
from infra.local.rabbitmq import RabbitNode
from infra.local.services import (
    Services,
    create_vhost,
    delete_vhost,
    ensure_services,
    running_services,
    stop_services,
    using_services,
)


@pytest.fixture
def stack(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory where only MongoDB is started; RabbitMQ, which takes seconds to start, is given."""
    monkeypatch.setenv("WARREN_AMQP_URL", services.amqp_url)
    monkeypatch.delenv("WARREN_MONGO_URL", raising=False)
    yield tmp_path
    stop_services(tmp_path)


def test_services_are_shared_survive_a_crash_and_end_with_their_last_user(stack: Path) -> None:
    with using_services(stack) as first:
        # When a second user comes and goes, it gets the same services, and they stay
        with using_services(stack) as second:
            assert first.started_by_us
            assert not second.started_by_us
            assert second.mongo_url == first.mongo_url
        [store] = running_services(stack)

        # When one crashes, the next who asks brings it back
        store.kill()
        assert running_services(stack) == []
        assert ensure_services(stack).started_by_us
        assert len(running_services(stack)) == 1

    # Then, with the last user gone, nothing runs
    assert running_services(stack) == []


def test_services_that_are_to_be_kept_outlive_their_users(stack: Path) -> None:
    ensure_services(stack, keep=True)
    with using_services(stack):
        pass
    assert len(running_services(stack)) == 1
    assert stop_services(stack) is True
    assert running_services(stack) == []


def test_callers_at_the_same_time_get_the_same_services(stack: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(ensure_services, [stack] * 3))
    assert len({services.mongo_url for services in found}) == 1
    assert [services.started_by_us for services in found].count(True) == 1


def test_what_another_checkout_runs_on_a_noted_port_is_left_to_it(stack: Path) -> None:
    # Given two checkouts that took turns with one port, so that both have noted it
    first, second = stack / "first", stack / "second"
    try:
        ours = ensure_services(first)
        second.mkdir()
        shutil.copy(first / "services.json", second)
        # When the second asks while the first has it, then it gets a service of its own
        theirs = ensure_services(second)
        assert theirs.started_by_us
        assert theirs.mongo_url != ours.mongo_url
        # And the end of one is not the end of the other
        assert stop_services(first) is True
        assert len(running_services(second)) == 1
    finally:
        stop_services(first)
        stop_services(second)


def test_checkouts_that_start_at_the_same_time_get_services_of_their_own(stack: Path) -> None:
    checkouts = [stack / name for name in ("first", "second")]
    try:
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(ensure_services, checkouts))
        assert len({services.mongo_url for services in found}) == 2
    finally:
        for checkout in checkouts:
            stop_services(checkout)


def test_a_virtual_host_comes_and_goes_by_name(services: Services) -> None:
    name = "a name/with its own ways"
    assert create_vhost(services, name) == create_vhost(services, name)
    delete_vhost(services, name)
    delete_vhost(services, name)
    names = [vhost["name"] for vhost in httpx.get(f"{services.management_url}/api/vhosts", trust_env=False).json()]
    assert name not in names


def test_a_killed_mongod_keeps_what_was_acknowledged_even_on_another_port(tmp_path: Path) -> None:
    # Given a document that was acknowledged
    before, after = Mongod(tmp_path), Mongod(tmp_path)
    before.start()
    try:
        with pymongo.MongoClient[dict[str, int]](before.url) as client:
            client.test.things.insert_one({"_id": 1})

        # When mongod is killed, and starts on another port
        before.kill()
        after.start()

        # Then it is still there
        with pymongo.MongoClient[dict[str, int]](after.url) as client:
            assert client.test.things.count_documents({}) == 1
    finally:
        after.stop()


def test_a_paused_mongod_stays_and_answers_again_once_resumed(tmp_path: Path) -> None:
    mongod = Mongod(tmp_path).start()
    try:
        mongod.pause()
        assert mongod.is_running()
        assert not mongod.answers()
        mongod.resume()
        assert mongod.answers()
    finally:
        mongod.stop()


@pytest.mark.slow
def test_three_members_become_one_replica_set_that_survives_its_primary(tmp_path: Path) -> None:
    # Given three members of one set
    members = [Mongod(tmp_path / str(number)) for number in range(3)]
    try:
        for member in members:
            member.start(alone=False)
        initiate(members)
        with pymongo.MongoClient[dict[str, int]](set_url(members), w="majority") as client:
            # When its primary is killed
            client.test.things.insert_one({"_id": 1})
            primary = client.primary
            assert primary is not None
            next(member for member in members if member.port == primary[1]).kill()

            # Then another takes the next write
            client.test.things.insert_one({"_id": 2})
    finally:
        for member in members:
            member.kill()


@pytest.mark.slow
def test_a_killed_rabbitmq_node_comes_back_where_it_was_with_what_it_held(tmp_path: Path) -> None:
    # Given a node that holds something
    node = RabbitNode(tmp_path)
    try:
        node.start()
        node.ctl("add_vhost", "kept")
        address = node.amqp_url

        # When it is killed and started again
        node.kill()
        assert not node.is_running()
        node.start()

        # Then it is where it was, with what it held, and leaves nothing behind when it stops
        assert node.amqp_url == address
        assert "kept" in node.ctl("list_vhosts").split()
    finally:
        node.stop()
    assert not node.mapper.is_running()
