"""An ordinary Socket.IO client that remembers every push, and holds each against the protocol's tables."""

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import Any

import socketio

from infra.local.supervisor import Process
from tests.support import protocol
from tests.support.waiting import PATIENCE, eventually

Json = Any

#: Codes that came from outside during the running test, in acks and in connect_error.
seen_codes: set[str] = set()


@dataclass(frozen=True)
class Push:
    """One event that the server sent by itself."""

    name: str
    payload: Json


class Refused(Exception):
    """Raised when an ack that should be ok is not; the text is the error."""


class ConnectRefused(Exception):
    """Raised when the server answers a connection with `connect_error`; `data` is what it carried."""

    def __init__(self, answer: dict[str, Json]) -> None:
        super().__init__(answer)
        self.answer = answer
        self.data: Json = answer.get("data")


class Client:
    """One socket of one user. It does not reconnect by itself: a test says when."""

    def __init__(self, edge: Process, auth: Json, user_id: str = "") -> None:
        self.user_id = user_id
        self.edge = edge
        self.pushes: list[Push] = []
        #: What the server sent that the protocol does not have.
        self.violations: list[str] = []
        #: Why the connection ended, once it did.
        self.closed: str | None = None
        self._auth = auth
        self._mark = 0
        self._refusal: list[Json] = []
        self._sio = socketio.AsyncClient(reconnection=False, handle_sigint=False)
        self._sio.on("*", self._take)
        self._sio.on("connect_error", self._refusal.append)
        self._sio.on("disconnect", self._on_disconnect)

    # --- Connection ---------------------------------------------------------------------------------------

    async def connect(self) -> "Client":
        """Connect and wait for `session_ready`. Raises ConnectRefused with what `connect_error` carried."""
        await self.open()
        await self.push("session_ready")
        return self

    async def open(self, url: str | None = None) -> None:
        """Connect without waiting for `session_ready`. Raises ConnectRefused."""
        self.closed = None
        self._refusal.clear()
        try:
            await self._sio.connect(
                url or self.edge.url, auth=self._auth, transports=["websocket"], wait_timeout=PATIENCE
            )
        except socketio.exceptions.ConnectionError as error:
            if not self._refusal or not isinstance(self._refusal[0], dict):
                raise ConnectionError(f"{self.edge.url}: {error}") from error
            refused = ConnectRefused(self._refusal[0])
            protocol.check_refusal(refused.data)
            assert refused.answer.get("message") == refused.data["code"], "err.message is the code"
            seen_codes.add(refused.data["code"])
            raise refused from None

    async def refused(self, url: str | None = None) -> Json:
        """Try to connect; return the data of the `connect_error` that must come."""
        try:
            await self.open(url)
        except ConnectRefused as refused:
            return refused.data
        await self.close()
        raise AssertionError("the connection was accepted")

    async def close(self) -> None:
        """Close the connection as a well-behaved client does."""
        with contextlib.suppress(asyncio.CancelledError):
            await self._sio.disconnect()

    async def until_closed(self, within: float = PATIENCE) -> str:
        """Wait until the server has closed the connection; return the library's reason."""
        reason: str = await eventually(
            lambda: self.closed or "", within=within, sentence=f"the connection of {self.user_id} is closed"
        )
        return reason

    @property
    def is_connected(self) -> bool:
        """Whether the socket is up."""
        return bool(self._sio.connected)

    # --- Events -------------------------------------------------------------------------------------------

    async def emit(self, event: str, *arguments: Json) -> "asyncio.Future[Json]":
        """Send an event at once; the future gets the ack, which is checked against the protocol."""
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()

        def take(*acked: Json) -> None:
            if answer.done():
                self.violations.append(f"{event} was acked twice")
                return
            try:
                assert len(acked) == 1, f"ack of {event} has {len(acked)} arguments"
                protocol.check_ack(event, acked[0])
                self._check_counts(acked[0].get("data"))
            except AssertionError as error:
                answer.set_exception(error)
                return
            if not acked[0]["ok"]:
                seen_codes.add(acked[0]["error"]["code"])
            answer.set_result(acked[0])

        await self._sio.emit(event, arguments, callback=take)
        return answer

    async def ack(self, event: str, *arguments: Json, within: float = PATIENCE) -> Json:
        """Send an event and return its whole ack."""
        answer = await self.emit(event, *arguments)
        done, _ = await asyncio.wait([answer], timeout=within)
        assert done, f"no ack of {event} within {within:g} s"
        return answer.result()

    async def call(self, event: str, payload: Json = None, within: float = PATIENCE, **fields: Json) -> Json:
        """Send an event and return its ack's data. Raises Refused when it is not ok."""
        ack = await self.ack(event, fields if payload is None else payload, within=within)
        if not ack["ok"]:
            raise Refused(f"{event}: {json.dumps(ack['error'])}")
        return ack["data"]

    async def error(self, event: str, payload: Json = None, within: float = PATIENCE, **fields: Json) -> Json:
        """Send an event and return the error that its ack must carry."""
        ack = await self.ack(event, fields if payload is None else payload, within=within)
        assert not ack["ok"], f"{event} was accepted: {ack}"
        return ack["error"]

    # --- Pushes -------------------------------------------------------------------------------------------

    def mark(self) -> None:
        """Look only at what comes from now on."""
        self._mark = len(self.pushes)

    def since_mark(self, conversation_id: str | None = None) -> list[Push]:
        """Pushes since the mark, each once, about one conversation if that is given."""
        fresh: list[Push] = []
        for push in self.pushes[self._mark :]:
            if push not in fresh and (conversation_id is None or about(push) == conversation_id):
                fresh.append(push)
        return fresh

    def names(self, conversation_id: str | None = None) -> list[str]:
        """Names of the pushes since the mark, sorted: what came, not in which order."""
        return sorted(push.name for push in self.since_mark(conversation_id))

    async def push(
        self, name: str, conversation_id: str | None = None, within: float = PATIENCE, **fields: Json
    ) -> Json:
        """Wait until a push has come since the mark, about this conversation and with these fields if given."""
        return await self.nth(name, conversation_id, 1, within, **fields)

    async def nth(
        self, name: str, conversation_id: str | None, number: int, within: float = PATIENCE, **fields: Json
    ) -> Json:
        """Wait until that many different such pushes have come since the mark; return the last one's payload."""

        def found() -> list[Json]:
            return [
                push.payload
                for push in self.since_mark(conversation_id)
                if push.name == name and all(push.payload[field] == value for field, value in fields.items())
            ][number - 1 :]

        payloads = await eventually(
            found,
            within=within,
            sentence=lambda: f"{self.user_id} gets {name}; since the mark came {[p.name for p in self.since_mark()]}",
        )
        return payloads[0]

    async def _on_disconnect(self, reason: str) -> None:
        self.closed = reason

    def _check_counts(self, payload: Json) -> None:
        """Hold every conversation that comes to the one formula: unread is what is behind the user's own watermark."""
        shown = [payload["conversation"]] if payload and "conversation" in payload else []
        for conversation in shown + (payload.get("conversations", []) if payload else []):
            last_seq = conversation["last_seq"]
            read = {person["user"]["id"]: person["last_read_seq"] for person in conversation["participants"]}
            own = conversation["last_read_seq"]
            assert max(own, *read.values()) <= last_seq, f"somebody read more than there is: {conversation}"
            assert read.get(self.user_id, own) == own, f"two own watermarks: {conversation}"
            assert conversation["unread_count"] == last_seq - own, f"a wrong count: {conversation}"
            shown_people = min(conversation["participant_count"], protocol.SHOWN)
            assert len(conversation["participants"]) == shown_people, f"the wrong participants: {conversation}"
            last = conversation["last_message"]
            assert (last["seq"] if last else 0) == last_seq, f"the last message is not the last: {conversation}"

    def _take(self, name: str, *arguments: Json) -> None:
        try:
            protocol.check_push(name, arguments)
            self._check_counts(arguments[0])
        except AssertionError as error:
            self.violations.append(str(error))
        self.pushes.append(Push(name, arguments[0] if arguments else None))


def about(push: Push) -> str | None:
    """The conversation that a push is about, if any."""
    payload = push.payload
    if push.name == "conversation_updated":
        return str(payload["conversation"]["id"])
    if push.name == "new_message":
        return str(payload["message"]["conversation_id"])
    found: str | None = payload.get("conversation_id")
    return found
