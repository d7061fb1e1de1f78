"""A private mongod on this machine, loopback only, as a replica set of one or a member of a larger one."""

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from infra.local import install
from infra.local.daemon import Daemon, tail, wait_until
from infra.local.errors import LocalServiceError
from infra.local.ports import LOOPBACK, free_ports

#: Seconds a member may take to answer, and a set to elect a primary.
START_LIMIT = 30.0

#: Seconds a member may take to stop by itself before it is killed.
STOP_LIMIT = 10.0

#: Milliseconds without a primary before an election; MongoDB's own 10 s make a set of three slow to start.
ELECTION_TIMEOUT = 3000

ALREADY_INITIALIZED = 23

#: Little memory, no telemetry files, and no wait for a successor when the only member is told to stop.
SETTINGS = (
    "--quiet",
    "--nounixsocket",
    "--wiredTigerCacheSizeGB=0.5",
    "--oplogSize=256",
    "--setParameter=diagnosticDataCollectionEnabled=false",
    "--setParameter=shutdownTimeoutMillisForSignaledShutdown=1000",
)


class Mongod:
    """One mongod whose data and log live in `directory`.

    A second object on the same directory and port, in any process, controls the same mongod. Started again on another
    port, a set of one takes its new address; a larger set needs its ports kept.
    """

    def __init__(
        self, directory: Path, *, port: int | None = None, replica_set: str = "warren", options: Sequence[str] = ()
    ) -> None:
        self.directory = directory.resolve()
        self.port = port or free_ports(0)[0]
        self.replica_set = replica_set
        self._options = options
        self._daemon = Daemon("mongod", self.directory / "mongod.pid")

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        """Where clients of a set of one connect; see `set_url` for larger ones."""
        return set_url([self])

    @property
    def log(self) -> Path:
        return self.directory / "mongod.log"

    def start(self, *, alone: bool = True, seconds: float = START_LIMIT) -> Self:
        """Start mongod and wait until it answers; `alone`, also make it a set of one and wait until it is primary.

        Raises LocalServiceError, with the end of the log, when that takes longer than `seconds`; nothing is then left
        running. Members of a larger set are started with `alone=False` and then given to `initiate`.
        """
        program = install.mongod()
        data = self.directory / "data"
        data.mkdir(parents=True, mode=0o700, exist_ok=True)
        try:
            if not self.is_running():
                where = [
                    f"--dbpath={data}",
                    f"--bind_ip={LOOPBACK}",
                    f"--port={self.port}",
                    f"--replSet={self.replica_set}",
                ]
                self._daemon.spawn([str(program), *where, *SETTINGS, *self._options], log=self.log)
            if not wait_until(self.answers, seconds=seconds, alive=self.is_running):
                raise LocalServiceError(f"mongod did not start (limit {seconds:.0f} s):\n{tail(self.log)}")
            if alone:
                initiate([self], seconds=seconds)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self, seconds: float = STOP_LIMIT) -> None:
        """Stop mongod in order; after `seconds` it is killed."""
        self._daemon.stop(seconds)

    def kill(self) -> None:
        """Kill mongod (SIGKILL), as a crash would."""
        self._daemon.kill()

    def pause(self) -> None:
        """Freeze mongod (SIGSTOP): connections stay open and nothing is answered."""
        self._daemon.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen mongod go on (SIGCONT)."""
        self._daemon.signal(signal.SIGCONT)

    def is_running(self) -> bool:
        """Say whether the process lives, whether or not it answers."""
        return self._daemon.find() is not None

    def answers(self) -> bool:
        """Say whether this mongod, and no other on its port, answers a ping within two seconds."""
        return self._daemon.listens(self.port) and answers(f"mongodb://{self.address}/?directConnection=true")


def initiate(
    members: Sequence[Mongod], *, seconds: float = START_LIMIT, addresses: Mapping[Mongod, str] | None = None
) -> None:
    """Make running members one replica set and wait until it has a primary; a set that exists keeps its data.

    `addresses` says where members are reached that are not reached at their own address. Raises LocalServiceError when
    no primary is elected within `seconds`.
    """
    first = members[0]
    config = {
        "_id": first.replica_set,
        "members": [
            {"_id": number, "host": (addresses or {}).get(member, member.address)}
            for number, member in enumerate(members)
        ],
        "settings": {"electionTimeoutMillis": ELECTION_TIMEOUT},
    }
    with _client(f"mongodb://{first.address}/?directConnection=true") as client:
        try:
            client.admin.command("replSetInitiate", config)
        except OperationFailure as error:
            if error.code != ALREADY_INITIALIZED:
                raise LocalServiceError(f"The replica set could not be made: {error}") from error
            if len(members) == 1:
                _move(client, first)
    with _client(set_url(members)) as client:
        if not wait_until(lambda: client.primary is not None, seconds=seconds):
            raise LocalServiceError(f"Replica set {first.replica_set} elected no primary within {seconds:.0f} s.")


def set_url(members: Sequence[Mongod]) -> str:
    """Return the URL of the replica set that these members form."""
    return f"mongodb://{','.join(member.address for member in members)}/?replicaSet={members[0].replica_set}"


def answers(url: str, seconds: float = 2.0) -> bool:
    """Say whether the MongoDB at `url` answers a ping within about `seconds`."""
    try:
        with _client(url, seconds) as client:
            client.admin.command("ping")
    except PyMongoError:
        return False
    return True


def _move(client: pymongo.MongoClient[dict[str, Any]], member: Mongod) -> None:
    """Give a set of one the address it now has, if its port changed since it was made."""
    config = client.admin.command("replSetGetConfig")["config"]
    if config["members"][0]["host"] != member.address:
        config["members"][0]["host"] = member.address
        config["version"] += 1
        client.admin.command("replSetReconfig", config, force=True)


def _client(url: str, seconds: float = 2.0) -> pymongo.MongoClient[dict[str, Any]]:
    milliseconds = int(seconds * 1000)
    return pymongo.MongoClient(url, serverSelectionTimeoutMS=milliseconds, socketTimeoutMS=milliseconds)
