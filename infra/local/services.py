"""RabbitMQ and MongoDB for this checkout: started once, shared by all its programs, stopped with the last of them."""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

from infra.local import mongod, rabbitmq
from infra.local.errors import LocalServiceError
from infra.local.mongod import Mongod
from infra.local.paths import STACK
from infra.local.ports import free_ports
from infra.local.rabbitmq import Ports, RabbitNode

#: Where the checkouts of one user on this machine wait for each other.
MACHINE = Path(tempfile.gettempdir()) / f"warren-{os.getuid()}"

#: Taken when free, so that tools find the services where they look first; the others may be any.
USUAL_BROKER_PORTS = Ports(amqp=5672, management=15672, distribution=0, epmd=0)
USUAL_STORE_PORT = 27017


@dataclass(frozen=True)
class Services:
    """Where RabbitMQ and MongoDB are."""

    amqp_url: str
    #: The broker's management API and console, with user and password.
    management_url: str
    mongo_url: str
    #: True if the call that returned this started at least one of them.
    started_by_us: bool


@dataclass
class _Notes:
    """What `services.json` remembers, written before a service starts, so that it can be found again."""

    file: Path
    broker_ports: Ports | None = None
    store_port: int | None = None
    #: True once a caller asked for services that stay: then only `stop_services` stops them.
    kept: bool = False

    @classmethod
    def read(cls, directory: Path) -> Self:
        notes = cls(directory / "services.json")
        if notes.file.exists():
            noted = json.loads(notes.file.read_text())
            notes.broker_ports = Ports(**noted["rabbitmq"]) if noted["rabbitmq"] else None
            notes.store_port = noted["mongod"]
            notes.kept = noted["kept"]
        return notes

    def write(self) -> None:
        ports = self.broker_ports._asdict() if self.broker_ports else None
        noted = {"rabbitmq": ports, "mongod": self.store_port, "kept": self.kept}
        self.file.write_text(json.dumps(noted, indent=2) + "\n")

    @property
    def broker(self) -> RabbitNode | None:
        return RabbitNode(self.file.parent / "rabbitmq", ports=self.broker_ports) if self.broker_ports else None

    @property
    def store(self) -> Mongod | None:
        return Mongod(self.file.parent / "mongod", port=self.store_port) if self.store_port else None


def ensure_services(directory: Path = STACK, *, keep: bool = False) -> Services:
    """Return running services, starting those that WARREN_AMQP_URL and WARREN_MONGO_URL do not give.

    Callers with one `directory` wait for each other and get the same services. These outlive the caller until
    `stop_services`, or until the last `using_services` block ends, unless a caller asked to `keep` them.
    Raises LocalServiceError when one does not start; the other is then stopped.
    """
    # Checkouts start their services one after the other: none takes a port that another has looked at and not used yet.
    with _locked(directory), _locked(MACHINE):
        notes = _Notes.read(directory)
        missing: list[RabbitNode | Mongod] = []
        amqp_url, management_url = _given_broker() or _noted_broker(notes, missing)
        mongo_url = _given_store() or _noted_store(notes, missing)
        notes.kept = keep or (notes.kept and len(missing) < 2)  # services that ended are not kept any longer
        notes.write()
        _start(missing)
        return Services(amqp_url, management_url, mongo_url, started_by_us=bool(missing))


@contextmanager
def using_services(directory: Path = STACK) -> Iterator[Services]:
    """Ensure services for the length of a block; the last such block to end stops them, unless they are to be kept."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "users.lock").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield ensure_services(directory)
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)
            with _locked(directory):
                notes = _Notes.read(directory)
                if not notes.kept and _try_lock(users.fileno()):
                    _stop(notes)


def stop_services(directory: Path = STACK) -> bool:
    """Stop what `ensure_services` started in this `directory`, even if it is in use; say whether anything ran."""
    with _locked(directory):
        return _stop(_Notes.read(directory))


def running_services(directory: Path = STACK) -> list[RabbitNode | Mongod]:
    """Return the services of this `directory` that run."""
    notes = _Notes.read(directory)
    return [service for service in (notes.broker, notes.store) if service and service.is_running()]


def create_vhost(services: Services, name: str) -> str:
    """Make a virtual host for the services' own user, unless it exists, and return its AMQP URL."""
    parts = urlsplit(services.amqp_url)
    vhost = quote(name, safe="")
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    with _management(services) as client:
        client.put(f"/api/vhosts/{vhost}").raise_for_status()
        client.put(f"/api/permissions/{vhost}/{parts.username or 'guest'}", json=everything).raise_for_status()
    return urlunsplit(parts._replace(path=f"/{vhost}"))


def delete_vhost(services: Services, name: str) -> None:
    """Delete a virtual host with all it holds, closing its connections; one that is gone is no error."""
    with _management(services) as client:
        answer = client.delete(f"/api/vhosts/{quote(name, safe='')}")
    if answer.status_code != httpx.codes.NOT_FOUND:
        answer.raise_for_status()


def _management(services: Services) -> httpx.Client:
    return httpx.Client(base_url=services.management_url, timeout=30, trust_env=False)


def _given_broker() -> tuple[str, str] | None:
    """Return the AMQP and management URLs of a broker given by the environment."""
    url = os.environ.get("WARREN_AMQP_URL")
    if not url:
        return None
    parts = urlsplit(url)
    host, port = parts.hostname or "localhost", parts.port or 5672
    if not url.startswith("amqps:") and not rabbitmq.speaks_amqp(host, port):
        raise LocalServiceError(f"WARREN_AMQP_URL is set, but no RabbitMQ answers at {host}:{port}.")
    login = f"{parts.username or 'guest'}:{parts.password or 'guest'}"
    return url, os.environ.get("WARREN_MANAGEMENT_URL", f"http://{login}@{host}:{port + 10_000}")


def _given_store() -> str | None:
    """Return the URL of a MongoDB given by the environment."""
    url = os.environ.get("WARREN_MONGO_URL")
    if url and not mongod.answers(url):
        raise LocalServiceError(
            f"WARREN_MONGO_URL is set, but no MongoDB answers at {urlsplit(url).netloc.split('@')[-1]}."
        )
    return url


def _noted_broker(notes: _Notes, missing: list[RabbitNode | Mongod]) -> tuple[str, str]:
    """Return the URLs of our own node; when it does not answer, it gets new ports and is added to `missing`."""
    node = notes.broker
    if node is None or not node.answers():
        if node:
            node.kill()  # half of it may be left, or it hangs
        notes.broker_ports = Ports(*free_ports(*USUAL_BROKER_PORTS))
        node = RabbitNode(notes.file.parent / "rabbitmq", ports=notes.broker_ports)
        missing.append(node)
    return node.amqp_url, node.management_url


def _noted_store(notes: _Notes, missing: list[RabbitNode | Mongod]) -> str:
    """Return the URL of our own mongod; when it does not answer, it gets a new port and is added to `missing`."""
    store = notes.store
    if store is None or not store.answers():
        if store:
            store.kill()
        notes.store_port = free_ports(USUAL_STORE_PORT)[0]
        store = Mongod(notes.file.parent / "mongod", port=notes.store_port)
        missing.append(store)
    return store.url


def _start(services: list[RabbitNode | Mongod]) -> None:
    """Start services side by side; when one fails, stop all of them and raise what went wrong first."""
    if not services:
        return
    try:
        with ThreadPoolExecutor(len(services)) as pool:
            starts = [pool.submit(service.start) for service in services]
        for start in starts:
            start.result()
    except BaseException:
        for service in services:
            service.kill()
        raise


def _stop(notes: _Notes) -> bool:
    services = [service for service in (notes.broker, notes.store) if service and service.is_running()]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda service: service.stop(), (service for service in (notes.broker, notes.store) if service)))
    notes.kept = False
    notes.write()
    return bool(services)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let one process at a time look at and change the services of `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "services.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
