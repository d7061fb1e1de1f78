"""Decides on connections and events of clients: authenticates, limits, relays, and acks every event."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from socketio.exceptions import ConnectionRefusedError as ConnectionRefused

from contracts.acks import Nothing, TokenRefreshed
from contracts.codec import ack_outcome, decode_payload, encode_ok, encode_refusal
from contracts.commands import CLIENT_COMMANDS, CLIENT_EVENTS, RefreshTokenPayload, SendMessage, StartConversation
from contracts.errors import Code, Refused, internal
from contracts.values import Value, rfc3339, utc_datetime
from edge.auth import TokenVerifier
from edge.costs import CostLimits
from edge.engine import EngineSocket
from edge.lanes import Lanes
from edge.packets import DISCONNECT, ack_packet, connect_error_data, connect_error_packet
from edge.relay import Relay
from edge.sessions import SessionRegistry
from edge.sockets import Socket, Sockets
from infra import metrics
from infra.clock import now_ms
from infra.settings import EdgeSettings

log = logging.getLogger(__name__)

#: Seconds to wait for the reply to `typing`. Then the ack is ok anyway, because typing is best effort.
TYPING_TIMEOUT = 2.0
#: Seconds of the longest timer. When a token lives longer, its expiry is checked again at the end of the timer.
MAX_TIMER = 86_400.0

_NOTHING = encode_ok(Nothing())


class Gateway:
    """Handles the connections and events of one edge's clients; implements `edge.server.Handlers`.

    While `draining` is set, new connections are refused.
    """

    def __init__(
        self,
        edge_id: str,
        settings: EdgeSettings,
        *,
        tokens: TokenVerifier,
        sockets: Sockets,
        sessions: SessionRegistry,
        relay: Relay,
        lanes: Lanes,
    ) -> None:
        self._edge_id = edge_id
        self._settings = settings
        self._tokens = tokens
        self._sockets = sockets
        self._sessions = sessions
        self._relay = relay
        self._lanes = lanes
        self._costs = CostLimits(settings)
        self._refreshing: set[asyncio.Task[None]] = set()
        self.draining = False

    # --- Connections --------------------------------------------------------------------------------------

    async def connect(self, sid: str, engine: EngineSocket, auth: object) -> None:
        """Accept a socket with a valid token. Raises ConnectionRefused, which the client gets as `connect_error`."""
        token = auth.get("token") if isinstance(auth, dict) else None
        try:
            await self._tokens.wait_for_key(token)
            identity = self._tokens.verify(token)
            self._check_capacity(identity.user_id)
        except Refused as refused:
            metrics.CONNECTS.labels(refused.code).inc()
            raise ConnectionRefused(refused.code.value, connect_error_data(refused.error)) from None
        socket = Socket(sid, engine, identity)
        self._sockets.add(socket)
        self._start_expiry_timer(socket)
        metrics.CONNECTS.labels("ok").inc()
        # The library sends its CONNECT packet when this returns; `session_ready` must follow it.
        asyncio.get_running_loop().call_soon(self._sessions.connected, socket)

    def _check_capacity(self, user_id: str) -> None:
        settings = self._settings
        edge_is_full = len(self._sockets.by_sid) >= settings.max_connections
        user_is_full = len(self._sockets.of(user_id)) >= settings.max_connections_per_user
        if edge_is_full or user_is_full or self.draining:
            raise _too_many_connections()

    def disconnect(self, sid: str, reason: str) -> None:
        """Remove a socket that has closed."""
        socket = self._sockets.remove(sid)
        if socket is None:
            return
        metrics.DISCONNECTS.labels(reason).inc()
        if socket.expiry is not None:
            socket.expiry.cancel()
        self._sessions.disconnected(self._sockets.users[socket.user_id])

    def _start_expiry_timer(self, socket: Socket) -> None:
        if socket.expiry is not None:
            socket.expiry.cancel()
        remaining = socket.identity.expires_at + self._settings.jwt_leeway - time.time()
        loop = asyncio.get_running_loop()
        if remaining > MAX_TIMER:
            socket.expiry = loop.call_later(MAX_TIMER, self._start_expiry_timer, socket)
        else:
            socket.expiry = loop.call_later(max(0.0, remaining), self._expire, socket)

    def _expire(self, socket: Socket) -> None:
        log.info("The token of socket %s has expired; closing it.", socket.sid)
        metrics.DISCONNECTS.labels("token expired").inc()
        # After a DISCONNECT packet, unlike after a lost transport, the client does not reconnect with this token.
        socket.send(DISCONNECT)
        socket.engine.close_when_flushed()

    # --- Events -------------------------------------------------------------------------------------------

    def event(self, sid: str, ack_id: int | None, name: object, arguments: list[object]) -> None:
        """Relay a client's event, or ack it with the error."""
        socket = self._sockets.by_sid.get(sid)
        if socket is None:
            return
        known = isinstance(name, str) and name in CLIENT_EVENTS
        event = str(name) if known else "unknown"
        metrics.EVENTS.labels(event).inc()
        send_ack = partial(self._send_ack, socket, ack_id, event, time.monotonic())
        socket.in_flight += 1
        try:
            self._check_limits(socket)
            if not known:
                raise Refused(Code.UNKNOWN_EVENT, "There is no such event.")
            if len(arguments) > 1:
                details = [{"field": "payload", "reason": "an event has one payload"}]
                raise Refused(Code.INVALID_PAYLOAD, "The payload does not match: payload.", details=details)
            self._handle(socket, event, arguments[0] if arguments else {}, send_ack)
        except Refused as refused:
            send_ack(encode_refusal(refused))
        except Exception:
            reference = f"{self._edge_id}/{self._relay.next_request()}"
            log.exception("Event %s failed; its ack is `internal` with the id %s.", event, reference)
            send_ack(encode_refusal(internal(reference)))

    def too_large(self, sid: str, ack_id: int | None) -> None:
        """Refuse an event over the limit of bytes."""
        socket = self._sockets.by_sid.get(sid)
        if socket is not None:
            socket.in_flight += 1
            try:
                self._check_limits(socket)
                raise Refused(Code.TOO_LARGE, "The event is larger than this server takes.")
            except Refused as refused:
                self._send_ack(socket, ack_id, "unknown", time.monotonic(), encode_refusal(refused))

    def _check_limits(self, socket: Socket) -> None:
        user = self._sockets.users[socket.user_id]
        wait = user.bucket.take()
        if wait:
            if user.excess.take():
                # All sockets of a user together may not send more than one connection may.
                metrics.CLOSED_CONNECTIONS.labels("events").inc()
                socket.engine.evict("its user sends too many events")
            raise Refused(Code.RATE_LIMITED, "That is too fast.", retry_after_ms=int(wait * 1000) + 1)
        if socket.in_flight > self._settings.max_in_flight:
            raise Refused(Code.RATE_LIMITED, "Too many events wait for their answer.", retry_after_ms=1_000)
        if socket.identity.expires_at + self._settings.jwt_leeway < time.time():
            raise Refused(Code.TOKEN_EXPIRED, "The token has expired.")

    def _check_cost(self, user_id: str, payload: Value) -> None:
        wait = self._costs.take(user_id, payload)
        if wait:
            retry_after_ms = int(wait * 1000) + 1
            raise Refused(Code.RATE_LIMITED, "You have used up what you may do for now.", retry_after_ms=retry_after_ms)

    def _handle(self, socket: Socket, event: str, payload: object, send_ack: Callable[[str], None]) -> None:
        decoded = decode_payload(CLIENT_EVENTS[event], payload)
        self._check_cost(socket.user_id, decoded)
        if isinstance(decoded, RefreshTokenPayload):
            if self._tokens.has_key_for(decoded.token):
                send_ack(self._refresh_token(socket, decoded))
            else:
                task = asyncio.create_task(self._refresh_token_later(socket, decoded, send_ack))
                self._refreshing.add(task)
                task.add_done_callback(self._refreshing.discard)
            return
        command_type: Any = CLIENT_COMMANDS[event][0]
        nonce = {"nonce": secrets.token_hex(16)} if command_type is StartConversation else {}
        command = command_type.model_construct(
            edge_id=self._edge_id,
            request=self._relay.next_request(),
            at=now_ms(),
            user_id=socket.user_id,
            sid=socket.sid,
            payload=decoded,
            **nonce,
        )
        if isinstance(command, SendMessage):
            self._lanes.send(command, send_ack)
        elif event == "typing":
            self._relay.send([command], [send_ack], timeout=TYPING_TIMEOUT, timeout_ack=_NOTHING)
        else:
            self._relay.send([command], [send_ack])

    async def _refresh_token_later(
        self, socket: Socket, payload: RefreshTokenPayload, send_ack: Callable[[str], None]
    ) -> None:
        await self._tokens.wait_for_key(payload.token)
        if socket.sid not in self._sockets.by_sid:
            return  # it has disconnected
        try:
            ack = self._refresh_token(socket, payload)
        except Refused as refused:
            ack = encode_refusal(refused)
        send_ack(ack)

    def _refresh_token(self, socket: Socket, payload: RefreshTokenPayload) -> str:
        identity = self._tokens.verify(payload.token)
        if identity.user_id != socket.user_id:
            raise Refused(Code.UNAUTHORIZED, "The token belongs to another user.")
        if identity.expires_at < socket.identity.expires_at:
            details = [{"field": "token", "reason": "expires before the one in use"}]
            raise Refused(Code.INVALID_PAYLOAD, "The payload does not match: token.", details=details)
        socket.identity = identity
        self._start_expiry_timer(socket)
        return encode_ok(TokenRefreshed(expires_at=rfc3339(utc_datetime(int(identity.expires_at * 1000)))))

    def _send_ack(self, socket: Socket, ack_id: int | None, event: str, started: float, ack: str) -> None:
        """Send the ack if the client wants one, and count it."""
        socket.in_flight -= 1
        metrics.ACKS.labels(event, ack_outcome(ack)).inc()
        metrics.ACK_SECONDS.labels(event).observe(time.monotonic() - started)
        if ack_id is not None:
            socket.send(ack_packet(ack_id, ack))


def _too_many_connections() -> Refused:
    return Refused(Code.TOO_MANY_CONNECTIONS, "No more connections are accepted here now.")


#: Refuses a socket that has not sent its token yet: a `connect_error` like any other.
TOO_MANY_CONNECTIONS = connect_error_packet(_too_many_connections().error)
