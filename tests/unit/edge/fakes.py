"""What an edge meets at its ends, in the hands of a test: the broker's publisher and a client's connection."""

import asyncio
from types import SimpleNamespace
from typing import Any

import orjson

from contracts.codec import decode_bundle
from contracts.commands import SendMessage, SendMessagePayload, Typing, TypingPayload
from contracts.errors import WarrenError
from contracts.frames import Reply


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


class FakeEngine:
    """A client's connection: notes what is sent, and has room for it until told otherwise."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.has_room = True
        #: Why it was evicted, if it was.
        self.evicted = ""
        #: Whether it closes once everything is written.
        self.closing = False

    def put(self, text: str) -> bool:
        """Take Engine.IO text."""
        if self.has_room:
            self.sent.append(text)
        return self.has_room

    def evict(self, reason: str) -> None:
        """Close at once."""
        self.evicted = reason

    def close_when_flushed(self) -> None:
        """Close after what was sent."""
        self.closing = True

    def ack(self, ack_id: int) -> Any:
        """The one ack that was sent with this number."""
        start = f"43{ack_id}["
        (text,) = [text for text in self.sent if text.startswith(start)]
        (ack,) = orjson.loads(text[len(start) - 1 :])
        return ack


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


def ok(request: int) -> Reply:
    """A worker's reply that carries nothing."""
    return Reply(request=request, ack='{"ok":true}')
