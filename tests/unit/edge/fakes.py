"""A publisher whose confirms a test gives, for what stands between sockets and the broker."""

import asyncio
from types import SimpleNamespace
from typing import Any

from contracts.codec import decode_bundle
from contracts.commands import SendMessage, SendMessagePayload, Typing, TypingPayload
from contracts.errors import WarrenError


class FakePublisher:
    """Notes what is published, and confirms it when told to."""

    def __init__(self) -> None:
        self.link = SimpleNamespace(channel=object(), not_ready_reason=None)
        self.bundles: list[list[Any]] = []
        self._confirms: list[asyncio.Future[None]] = []

    async def publish(
        self, exchange: str, key: str, body: bytes, *, persistent: bool = True, amqp_headers: Any = None
    ) -> None:
        """Wait for `confirm` or `fail`."""
        self.bundles.append(decode_bundle(body))
        confirm = asyncio.get_running_loop().create_future()
        self._confirms.append(confirm)
        await confirm

    async def confirm(self, error: WarrenError | None = None) -> None:
        """Settle the oldest publish that waits, and let what follows from it happen."""
        waiting = self._confirms.pop(0)
        if error is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(error)
        await settle()


async def settle() -> None:
    """Let everything that is ready to run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


def message(request: int, *, sid: str = "s1", conversation_id: str = "c1") -> SendMessage:
    """A message as an edge relays it."""
    payload = SendMessagePayload(conversation_id=conversation_id, client_message_id=f"m{request}", body="hello")
    return SendMessage(edge_id="e", request=request, at=0, user_id="ada", sid=sid, payload=payload)


def typing(request: int) -> Typing:
    """A typing notice as an edge relays it."""
    payload = TypingPayload(conversation_id="c1", typing=True)
    return Typing(edge_id="e", request=request, at=0, user_id="ada", sid="s1", payload=payload)
