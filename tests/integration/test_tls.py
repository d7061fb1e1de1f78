"""TLS to RabbitMQ and MongoDB, with an authority of the test's own: who is let in, and whom we let in."""

import asyncio
import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from contracts.errors import BrokerUnavailable, StoreUnavailable
from infra.broker.declare import declare_topology
from infra.broker.link import connect_once
from infra.local.mongod import Mongod
from infra.local.ports import free_ports
from infra.local.rabbitmq import RabbitNode
from infra.local.stack import Stack
from infra.local.tenant import Tenant
from infra.settings import Settings
from infra.store.client import Store
from tests.support.certificates import Authority, authority
from tests.support.people import People

pytestmark = pytest.mark.slow


# --- Services ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that signed the services' certificates and ours."""
    return authority(tmp_path_factory.mktemp("ours") / "ca")


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One that signed nothing here; it calls itself the same."""
    return authority(tmp_path_factory.mktemp("strange") / "ca")


@pytest.fixture(scope="module")
def rabbitmq(ours: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The amqps URL of a RabbitMQ that asks everybody for a certificate."""
    (port,) = free_ports(0)
    certificate = ours.sign("rabbitmq")
    configuration = f"""\
listeners.ssl.local = 127.0.0.1:{port}
ssl_options.cacertfile = {ours.file}
ssl_options.certfile = {certificate}
ssl_options.keyfile = {certificate}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
"""
    node = RabbitNode(tmp_path_factory.mktemp("rabbitmq"), configuration=configuration)
    try:
        node.start()
        yield f"amqps://guest:guest@127.0.0.1:{port}/"
    finally:
        node.stop()


@pytest.fixture(scope="module")
def mongodb(ours: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a mongod that asks everybody who speaks TLS for a certificate."""
    options = ("--tlsMode=preferTLS", f"--tlsCertificateKeyFile={ours.sign('mongod')}", f"--tlsCAFile={ours.file}")
    mongod = Mongod(tmp_path_factory.mktemp("mongod"), options=options)
    try:
        mongod.start()
        yield f"{mongod.url}&tls=true"
    finally:
        mongod.stop()


@pytest.fixture(scope="module")
def settings(ours: Authority, rabbitmq: str, mongodb: str) -> Settings:
    """Settings with all that is needed."""
    certificate = ours.sign("warren")
    return Settings(
        amqp_url=SecretStr(rabbitmq),
        amqp_ca_file=ours.file,
        amqp_certificate_file=certificate,
        mongo_url=SecretStr(mongodb),
        mongo_ca_file=ours.file,
        mongo_certificate_key_file=certificate,
        mongo_timeout_ms=3_000,
    )


def changed(settings: Settings, **changes: Any) -> Settings:
    return Settings(**{**{name: getattr(settings, name) for name in settings.model_fields_set}, **changes})


# --- RabbitMQ ---------------------------------------------------------------------------------------------


async def test_a_broker_that_our_authority_vouches_for_is_used(settings: Settings) -> None:
    await connect_once(settings, declare_topology)


async def test_a_broker_that_nobody_we_trust_vouches_for_gets_no_password(
    settings: Settings, strange: Authority
) -> None:
    for ca_file in (None, strange.file):
        with pytest.raises(BrokerUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await connect_once(changed(settings, amqp_ca_file=ca_file), declare_topology)


async def test_a_broker_under_another_name_than_its_certificates_gets_no_password(settings: Settings) -> None:
    elsewhere = settings.amqp_url.get_secret_value().replace("127.0.0.1", "localhost")
    with pytest.raises(BrokerUnavailable, match="Hostname mismatch"):
        await connect_once(changed(settings, amqp_url=SecretStr(elsewhere)), declare_topology)


async def test_the_address_cannot_turn_the_check_off(settings: Settings, strange: Authority) -> None:
    lax = settings.amqp_url.get_secret_value() + "?no_verify_ssl=1"
    with pytest.raises(BrokerUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        await connect_once(changed(settings, amqp_url=SecretStr(lax), amqp_ca_file=strange.file), declare_topology)


async def test_without_a_certificate_of_our_own_the_broker_lets_us_not_in(
    settings: Settings, strange: Authority
) -> None:
    for certificate in (None, strange.sign("impostor")):
        with pytest.raises(BrokerUnavailable):
            await connect_once(changed(settings, amqp_certificate_file=certificate), declare_topology)


# --- MongoDB ----------------------------------------------------------------------------------------------


async def answers(settings: Settings) -> None:
    store = Store(settings)
    try:
        await store.ping()
    finally:
        await store.close()


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_a_store_that_our_authority_vouches_for_is_used(settings: Settings, driver: str) -> None:
    await answers(changed(settings, mongo_driver=driver))


# PyMongo's asyncio client leaves the socket of a handshake that failed to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_a_store_that_we_cannot_trust_or_that_cannot_trust_us_is_away(
    settings: Settings, strange: Authority, driver: str
) -> None:
    # Given settings of which one is not right
    elsewhere = settings.mongo_url.get_secret_value().replace("127.0.0.1", "localhost")
    for changes in (
        {"mongo_ca_file": None},
        {"mongo_ca_file": strange.file},
        {"mongo_url": SecretStr(f"{elsewhere}&directConnection=true")},
        {"mongo_certificate_key_file": None},
        {"mongo_certificate_key_file": strange.sign("impostor")},
    ):
        # Then the store counts as away
        with pytest.raises(StoreUnavailable):
            await answers(changed(settings, mongo_driver=driver, mongo_timeout_ms=1_000, **changes))
    gc.collect()


# --- All of Warren ----------------------------------------------------------------------------------------


async def test_people_chat_over_tls(settings: Settings, tenant: Tenant) -> None:
    # Given a Warren that reaches broker and store over TLS
    amqp_url, mongo_url = settings.amqp_url.get_secret_value(), settings.mongo_url.get_secret_value()
    over_tls = replace(tenant, amqp_url=amqp_url, mongo_url=mongo_url, name=f"{tenant.name}_tls")
    files = {
        f"WARREN_{name.upper()}": str(getattr(settings, name))
        for name in ("amqp_ca_file", "amqp_certificate_file", "mongo_ca_file", "mongo_certificate_key_file")
    }
    async with Stack(over_tls, edges=1, env=files) as stack:
        people = People(stack)
        ada, bob = await asyncio.gather(*(people.connect(people.name(name)) for name in ("ada", "bob")))

        # When one user writes, then another is told
        conversation_id = await people.chat(ada, bob)
        message = await people.say(ada, conversation_id)
        assert await bob.push("new_message", conversation_id) == {"message": message}
        await people.leave()
