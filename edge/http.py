"""HTTP beside the sockets: health and metrics always; tokens and the page in development only."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import jwt
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from contracts.codec import decode_payload
from contracts.errors import Refused
from contracts.values import UserId, Value, rfc3339, utc_datetime
from infra.health import Readiness, routes
from infra.settings import EdgeSettings

#: The built web client: where a wheel puts it, or where `make web` does.
PAGE = next(
    (path for path in (Path(__file__).parent / "page", Path(__file__).parents[1] / "web" / "dist") if path.is_dir()),
    None,
)
#: Seconds that a development token lives unless asked otherwise.
DEV_TOKEN_TTL = 86_400


class TokenRequest(Value):
    """Whom a development token is for."""

    user_id: UserId
    name: str | None = None
    picture: str | None = None
    ttl: int = DEV_TOKEN_TTL


def web_app(settings: EdgeSettings, readiness: Readiness) -> Starlette:
    """Everything that is not a socket."""
    found: list[BaseRoute] = [*routes(readiness)]
    middleware = []
    if settings.dev:
        found.append(Route("/dev/token", _dev_token(settings), methods=["POST"]))
        found.append(Route("/dev/config", _dev_config(settings)))
        if PAGE is not None:
            found.append(Mount("/", StaticFiles(directory=PAGE, html=True)))
        else:
            found.append(Route("/", _no_page))
        # The page may come from the other edge, or from Vite's server.
        middleware = [
            Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["POST"], allow_headers=["content-type"])
        ]
    return Starlette(routes=found, middleware=middleware)


async def _no_page(_: Request) -> Response:
    return PlainTextResponse("The web client is not built: run `make web`.\n", 404)


def _dev_config(settings: EdgeSettings) -> Callable[[Request], Awaitable[Response]]:
    """What the page should know: the edges that it may move between."""

    async def endpoint(_: Request) -> Response:
        return JSONResponse({"edges": settings.dev_edges})

    return endpoint


def _dev_token(settings: EdgeSettings) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        if settings.jwt_secret is None:
            return JSONResponse({"error": "Development tokens need WARREN_JWT_SECRET."}, 404)
        try:
            asked = decode_payload(TokenRequest, await request.json())
        except Refused as refused:
            return JSONResponse({"error": refused.error.model_dump(mode="json")}, 400)
        except ValueError:
            return JSONResponse({"error": "The body must be JSON."}, 400)
        expires = int(time.time()) + asked.ttl
        claims = {"sub": asked.user_id, "exp": expires, "name": asked.name, "picture": asked.picture}
        claims |= {"iss": settings.jwt_issuer, "aud": settings.jwt_audience}
        if settings.jwt_verified_claim is not None:
            claims[settings.jwt_verified_claim] = True
        token = jwt.encode(
            {claim: value for claim, value in claims.items() if value is not None},
            settings.jwt_secret.get_secret_value(),
            algorithm="HS256",
        )
        return JSONResponse({"token": token, "expires_at": rfc3339(utc_datetime(expires * 1000))})

    return endpoint
