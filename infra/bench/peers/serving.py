"""The common part of the Python peers: orjson, tokens, and uvicorn with the settings that measured fastest."""

import gc
import os
from collections.abc import Awaitable, Callable
from typing import Any

import jwt
import orjson
import socketio
import uvicorn
import uvloop

#: The settings of a peer are PEER_… variables; the Node peer reads the same.
PORT = int(os.environ.get("PEER_PORT", "0"))
SECRET = os.environ.get("PEER_SECRET", "")
#: Thresholds of the garbage collector: with the defaults it pauses a busy server often.
THRESHOLDS = (50_000, 20, 50)


class Json:
    """orjson with the interface that python-socketio expects: it returns text and ignores unknown arguments."""

    @staticmethod
    def dumps(value: object, **_: object) -> str:
        """Encode."""
        return orjson.dumps(value).decode()

    loads = staticmethod(orjson.loads)


def make_server(manager: Any = None) -> Any:
    """A python-socketio server: WebSocket only, no compression, no logs."""
    return socketio.AsyncServer(
        async_mode="asgi",
        client_manager=manager,
        transports=["websocket"],
        json=Json,
        cors_allowed_origins=[],
        http_compression=False,
        logger=False,
        engineio_logger=False,
    )


def user_of(auth: dict[str, str] | None) -> str:
    """The user that a token names. Raises ConnectionRefusedError."""
    try:
        claims = jwt.decode((auth or {})["token"], SECRET, algorithms=["HS256"], options={"require": ["exp", "sub"]})
    except (KeyError, jwt.PyJWTError) as error:
        raise socketio.exceptions.ConnectionRefusedError("unauthorized") from error
    return str(claims["sub"])


def serve(server: Any, prepare: Callable[[], Awaitable[None]]) -> None:
    """Run `prepare`, then serve until SIGTERM."""
    uvloop.run(_serve(server, prepare))


async def _serve(server: Any, prepare: Callable[[], Awaitable[None]]) -> None:
    await prepare()
    config = uvicorn.Config(
        socketio.ASGIApp(server, other_asgi_app=_ready),
        host="127.0.0.1",
        port=PORT,
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    await uvicorn.Server(config).serve()


async def _ready(scope: Any, receive: Any, send: Any) -> None:
    """Answer /readyz, and anything else, with 200: a server that listens is ready."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"ready"})
