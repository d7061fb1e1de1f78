"""What an edge serves beside sockets: development's helpers in development only."""

import re
from pathlib import Path

import httpx
import jwt
import pytest

from edge.endpoints import RESPONSE_HEADERS, origin_allowed, web_app
from infra.settings import EdgeSettings

SECRET = "a secret of at least 32 bytes, really"
EDGES = ["http://127.0.0.1:8001", "http://127.0.0.1:8002"]


def client(*, dev: bool) -> httpx.AsyncClient:
    """A client of an edge that can serve."""

    async def ready() -> str | None:
        return None

    settings = EdgeSettings.model_validate({"jwt_secret": SECRET, "dev": dev, "dev_edges": EDGES})
    transport = httpx.ASGITransport(app=web_app(settings, ready))
    return httpx.AsyncClient(transport=transport, base_url="http://edge")


async def test_health_and_metrics_are_always_there() -> None:
    async with client(dev=False) as edge:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await edge.get(path)).status_code == 200


async def test_outside_development_there_is_neither_token_nor_page() -> None:
    async with client(dev=False) as edge:
        assert (await edge.post("/dev/token", json={"user_id": "ada"})).status_code == 404
        assert (await edge.get("/dev/config")).status_code == 404
        assert (await edge.get("/")).status_code == 404


async def test_in_development_anyone_gets_a_token_and_the_page_learns_its_edges() -> None:
    async with client(dev=True) as edge:
        token = (await edge.post("/dev/token", json={"user_id": "ada", "name": "Ada"})).json()["token"]
        assert jwt.decode(token, SECRET, algorithms=["HS256"])["name"] == "Ada"
        assert (await edge.get("/dev/config")).json() == {"edges": EDGES}


async def test_an_edge_without_a_built_page_says_how_to_build_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.endpoints.PAGE", None)
    async with client(dev=True) as edge:
        answer = await edge.get("/")
    assert answer.status_code == 404
    assert "make web" in answer.text


@pytest.mark.parametrize("body", [{}, {"user_id": ""}, {"user_id": {"$gt": ""}}, {"user_id": "a", "admin": True}, []])
async def test_a_wrong_request_for_a_token_is_refused_by_name(body: object) -> None:
    async with client(dev=True) as edge:
        answer = await edge.post("/dev/token", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_payload"


def test_the_policy_of_responses_is_the_pages_own_and_forbids_frames() -> None:
    source = (Path(__file__).parents[3] / "web" / "vite.config.ts").read_text()
    lines = source.split("const CONTENT_SECURITY_POLICY = [")[1].split("]")[0]
    page = re.findall(r'"(.*)"', lines)
    assert dict(RESPONSE_HEADERS)["Content-Security-Policy"] == "; ".join([*page, "frame-ancestors 'none'"])


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://edge", True),
        ("https://chat.test", True),
        ("http://localhost:5173", False),
        ("https://evil.test", False),
        ("http://[", False),
        ("http://[::1]x", False),
        ("//edge:x", False),
        ("", False),
    ],
)
def test_an_origin_is_allowed_by_name_or_as_the_same(origin: str, allowed: bool) -> None:
    settings = EdgeSettings.model_validate({"jwt_secret": SECRET, "allowed_origins": ["https://chat.test"]})
    assert origin_allowed(settings, origin, "edge") is allowed
