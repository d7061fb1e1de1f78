"""The MongoDB client, its collections and their indexes.

Reads and writes use majority concerns, so that nothing a client has seen is ever rolled back. Only operations that
Motor and PyMongo's asyncio client share are used, so that `WARREN_MONGO_DRIVER` can select either.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.asynchronous.mongo_client import AsyncMongoClient
from pymongo.monitoring import (
    CommandListener,
    TopologyClosedEvent,
    TopologyDescriptionChangedEvent,
    TopologyListener,
    TopologyOpenedEvent,
)
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern
from typing_extensions import override

from contracts.errors import StoreUnavailable
from infra import metrics
from infra.settings import Settings
from infra.store.operations import Term, Update, translated_errors, update_all

log = logging.getLogger(__name__)

#: Seconds after which a closed session's tombstone, or an edge that stopped renewing its lease, is removed.
SESSION_TTL = 3_600
EDGE_TTL = 86_400
#: A partial index of the blocked users: checking a batch's senders reads no document of a user who is not blocked.
BLOCKED = [("blocked", 1), ("_id", 1)]
#: Seconds for which workers may use what they read about a user or a conversation. After that, they see a change that
#: an operator made.
CACHE_SECONDS = 5.0

#: A write of a document that nothing reads; only its commit matters.
_TERM_WRITE = Update({"_id": "present"}, [{"$set": {"at": "$$NOW"}}], upsert=True)


class PrimaryListener(TopologyListener):
    """Logs and measures when the replica set loses its primary and when it has one again.

    The driver monitors the servers by itself, so this works while no operation runs. PyMongo's asyncio client calls the
    methods on the event loop, Motor on a thread of its own.
    """

    def __init__(self, database: str) -> None:
        self._up = metrics.STORE_UP.labels(database)
        self._had_primary = False
        #: Whether the client is being closed: then the loss of the primary is not logged.
        self.closing = False

    @override
    def opened(self, event: TopologyOpenedEvent) -> None:
        """No primary is known yet."""
        self._up.set(0)

    @override
    def description_changed(self, event: TopologyDescriptionChangedEvent) -> None:
        """A server appeared, disappeared, or changed its role."""
        has_primary = event.new_description.has_writable_server()
        if has_primary == self._had_primary or self.closing:
            return
        self._had_primary = has_primary
        self._up.set(has_primary)
        if has_primary:
            log.info("The store has a primary.")
        else:
            log.warning("The store is away: it has no primary.")

    @override
    def closed(self, event: TopologyClosedEvent) -> None:
        """The client is closed."""
        self._up.set(0)


class Store:
    """The client and the collections of one database."""

    def __init__(self, settings: Settings, listeners: Sequence[CommandListener] = ()) -> None:
        files = {"tlsCAFile": settings.mongo_ca_file, "tlsCertificateKeyFile": settings.mongo_certificate_key_file}
        self._listener = PrimaryListener(settings.mongo_database)
        make: Any = AsyncIOMotorClient if settings.mongo_driver == "motor" else AsyncMongoClient
        self.client = make(
            settings.mongo_url.get_secret_value(),
            appname="warren",
            tz_aware=True,
            maxPoolSize=settings.mongo_pool_size,
            waitQueueTimeoutMS=2_000,
            timeoutMS=settings.mongo_timeout_ms,
            serverSelectionTimeoutMS=settings.mongo_timeout_ms,
            event_listeners=[self._listener, *listeners],
            **{option: str(file) for option, file in files.items() if file is not None},
        )
        database = self.client.get_database(
            settings.mongo_database,
            write_concern=WriteConcern("majority"),
            read_concern=ReadConcern("majority"),
            # Overrides the URL: a secondary may not have the newest acknowledged writes yet.
            read_preference=ReadPreference.PRIMARY,
        )
        self.messages: Any = database["messages"]
        self.conversations: Any = database["conversations"]
        self.inboxes: Any = database["inboxes"]
        self.users: Any = database["users"]
        self.sessions: Any = database["sessions"]
        self.edges: Any = database["edges"]
        self.terms: Any = database["terms"]
        self._confirmed_term: Term = None
        #: Whether all writes are in one oplog, in order, so that waiting for the majority of one write includes earlier
        #: ones. True for a replica set, false behind a router. Set by `prepare`.
        self.has_one_log = False

    async def prepare(self) -> None:
        """Check that the store answers, and create its indexes. Raises StoreUnavailable."""
        async with translated_errors():
            self.has_one_log = "electionId" in await self.client.admin.command("hello")
            await self.messages.create_index([("conversation_id", 1), ("seq", 1)], unique=True)
            await self.conversations.create_index([("participants.user_id", 1), ("updated_at", -1), ("_id", -1)])
            await self.inboxes.create_index(
                [("user_id", 1), ("state.n", 1)], partialFilterExpression={"state.n": {"$gt": 0}}
            )
            await self.users.create_index([("search_words", 1)])
            await self.users.create_index(BLOCKED, partialFilterExpression={"blocked": True})
            await self.users.create_index([("online", -1), ("sort_name", 1), ("_id", 1)])
            await self.users.create_index([("offline_due", 1)], sparse=True)
            await self.users.create_index([("changed_at", 1)], partialFilterExpression={"unpushed": True})
            await self.sessions.create_index([("user_id", 1)])
            await self.sessions.create_index([("edge_id", 1)])
            await self.sessions.create_index([("closed_at", 1)], expireAfterSeconds=SESSION_TTL)
            await self.edges.create_index([("renewed_at", 1)], expireAfterSeconds=EDGE_TTL)
        await self.confirm_term()

    # --- Terms --------------------------------------------------------------------------------------------

    @property
    def current_term(self) -> Term:
        """The term of the primary that the driver knows now; None without a primary, and behind a router."""
        for server in self.client.topology_description.server_descriptions().values():
            if server.server_type_name == "RSPrimary":
                term: Term = server.election_id
                return term
        return None

    async def confirm_term(self) -> Term:
        """Make majority reads include everything that was acknowledged in earlier terms. Returns the term.

        Majority reads of a new primary may lack what the old one acknowledged, until a write of the new term is
        committed. So each process makes one write in each term. Source: Raft, section 8, a leader commits an entry of
        its own term before it serves reads. Returns None behind a router, where terms are unknown. Raises
        StoreUnavailable.
        """
        current = self.current_term
        if current is not None and current == self._confirmed_term:
            return current
        if not self.has_one_log:
            return None
        async with translated_errors():
            self._confirmed_term = await update_all(self.terms, [_TERM_WRITE])
        return self._confirmed_term

    @asynccontextmanager
    async def one_term(self) -> AsyncIterator[Term]:
        """A block whose reads include everything that was acknowledged before it.

        Raises StoreUnavailable at the end of the block when the primary has changed: its reads may be out of date.
        """
        term = await self.confirm_term()
        yield term
        if term is not None and self.current_term != term:
            raise StoreUnavailable("The primary changed; what was read may be out of date.")

    async def check_writes(self) -> None:
        """Check that the store takes writes: make one and wait for a majority. Raises StoreUnavailable."""
        self._confirmed_term = None
        async with translated_errors():
            await update_all(self.terms, [_TERM_WRITE])
        await self.confirm_term()

    async def ping(self) -> None:
        """Check that the store answers. Raises StoreUnavailable."""
        async with translated_errors():
            await self.client.admin.command("ping")

    async def close(self) -> None:
        """Close all connections."""
        self._listener.closing = True
        closing = self.client.close()
        if closing is not None:
            await closing
