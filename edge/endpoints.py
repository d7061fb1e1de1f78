"""The edge's HTTP endpoints: health and metrics always; development tokens and the web client with `WARREN_DEV`
only."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

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

#: The built web client: in an installed wheel, or in a checkout after `make web`. None where it is not built.
PAGE = next(
    (path for path in (Path(__file__).parent / "page", Path(__file__).parents[1] / "web" / "dist") if path.is_dir()),
    None,
)
#: Headers of every response, upgrades and refusals included. The policy is the page's own (web/vite.config.ts), and the
#: part that a page cannot state for itself: nobody may frame it.
RESPONSE_HEADERS = [
    (
        "Content-Security-Policy",
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: https:; font-src 'self' data:; "
        "connect-src 'self' http: https: ws: wss:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
]
#: Seconds until a development token expires, by default.
DEV_TOKEN_TTL = 86_400


class TokenRequest(Value):
    """The user of a development token, and the seconds until it expires."""

    user_id: UserId
    name: str | None = None
    picture: str | None = None
    ttl: int = DEV_TOKEN_TTL


def web_app(settings: EdgeSettings, readiness: Readiness) -> Starlette:
    """The HTTP application beside the Socket.IO server."""
    web_routes: list[BaseRoute] = [*routes(readiness)]
    middleware = []
    if settings.dev:
        web_routes.append(Route("/dev/token", _dev_token(settings), methods=["POST"]))
        web_routes.append(Route("/dev/config", _dev_config(settings)))
        if PAGE is not None:
            web_routes.append(Mount("/", StaticFiles(directory=PAGE, html=True)))
        else:
            web_routes.append(Route("/", _no_page))
        # The page may be served by another edge, or by Vite's development server.
        middleware = [
            Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["POST"], allow_headers=["content-type"])
        ]
    return Starlette(routes=web_routes, middleware=middleware)


def origin_allowed(settings: EdgeSettings, origin: str, host: str | None) -> bool:
    """Whether a page of this origin may open a socket. `host` is the request's Host header."""
    try:
        parts = urlsplit(origin)
        hostname = parts.hostname
    except ValueError:
        return False
    # Schemes are not compared: behind a proxy that terminates TLS, the edge may not know the client's scheme.
    same = parts.netloc == host
    local = settings.dev and hostname in ("localhost", "127.0.0.1")
    return same or local or origin in settings.allowed_origins or "*" in settings.allowed_origins


async def _no_page(_: Request) -> Response:
    return PlainTextResponse("The web client is not built: run `make web`.\n", 404)


def _dev_config(settings: EdgeSettings) -> Callable[[Request], Awaitable[Response]]:
    """The edges that the page may connect to."""

    async def endpoint(_: Request) -> Response:
        return JSONResponse({"edges": settings.dev_edges})

    return endpoint


def _dev_token(settings: EdgeSettings) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        if settings.jwt_secret is None:
            return JSONResponse({"error": "Development tokens need WARREN_JWT_SECRET."}, 404)
        try:
            token_request = decode_payload(TokenRequest, await request.json())
        except Refused as refused:
            return JSONResponse({"error": refused.error.model_dump(mode="json")}, 400)
        except ValueError:
            return JSONResponse({"error": "The body must be JSON."}, 400)
        expires = int(time.time()) + token_request.ttl
        claims = {
            "sub": token_request.user_id,
            "exp": expires,
            "name": token_request.name,
            "picture": token_request.picture,
        }
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
