"""A gateway with all that stands behind it, between a publisher and connections that a test holds."""

import asyncio
from typing import Any

import pytest
from socketio.exceptions import ConnectionRefusedError as ConnectionRefused

from edge.auth import TokenVerifier
from edge.gateway import Gateway
from edge.lanes import Lanes
from edge.relay import Relay
from edge.sessions import SessionRegistry
from edge.sockets import Sockets
from infra.settings import EdgeSettings
from tests.support.forged_tokens import claims, forge
from tests.support.waiting import cancelled
from tests.unit.edge.fakes import FakeEngine, FakePublisher, settle

SECRET = "a secret of at least 32 bytes, really"
MESSAGE = {"conversation_id": "c1", "client_message_id": "m1", "body": "hello"}


def token(user_id: str = "ada", **changes: Any) -> str:
    """A good token, but for the changes to its claims."""
    return forge({"alg": "HS256"}, claims(user_id, **changes), SECRET.encode())


class GatewayAlone:
    """It runs until `stop`."""

    def __init__(self, **settings: object) -> None:
        self.settings = EdgeSettings.model_validate({"jwt_secret": SECRET, "session_grace": 0.01, **settings})
        self.publisher = FakePublisher()
        self.relay = Relay(self.publisher, reply_timeout=10, can_receive_replies=lambda: True)  # type: ignore[arg-type]
        self.sockets = Sockets(
            rate=self.settings.rate_limit,
            burst=self.settings.rate_burst,
            excess_rate=self.settings.frame_rate,
            excess_burst=self.settings.frame_burst,
        )
        self.sessions = SessionRegistry("edge-1", self.relay, self.sockets, self.settings)
        self.gateway = Gateway(
            "edge-1",
            self.settings,
            tokens=TokenVerifier(self.settings),
            sockets=self.sockets,
            sessions=self.sessions,
            relay=self.relay,
            lanes=Lanes(self.relay),
        )
        self._sweeping = asyncio.create_task(self.relay.run())

    async def connect(self, sid: str = "s1", auth: object = None, **changes: Any) -> FakeEngine:
        """Connect a socket of ada's, or with other auth. Raises ConnectionRefused."""
        engine = FakeEngine()
        auth = {"token": token(**changes)} if auth is None else auth
        await self.gateway.connect(sid, engine, auth)  # type: ignore[arg-type]
        await settle()
        return engine

    async def refusal(self, sid: str = "s9", auth: object = None, **changes: Any) -> dict[str, Any]:
        """The data of the `connect_error` that a connection gets."""
        with pytest.raises(ConnectionRefused) as refused:
            await self.connect(sid, auth, **changes)
        error: dict[str, Any] = refused.value.error_args
        assert error["message"] == error["data"]["code"], "err.message is the code"
        data: dict[str, Any] = error["data"]
        return data

    def sent(self, kind: type) -> list[Any]:
        """The commands of a kind that were published, in order."""
        return [command for bundle in self.publisher.bundles for command in bundle if isinstance(command, kind)]

    async def stop(self) -> None:
        """Stop what runs in the background."""
        await cancelled(self._sweeping)
