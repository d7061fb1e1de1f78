"""infra/deploy/haproxy.cfg, with a real HAProxy in front of real edges; the third of them is away."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from edge.endpoints import PAGE
from infra.local import install
from infra.local.ports import LOOPBACK, free_ports
from infra.local.programs import Haproxy
from infra.local.stack import Stack
from tests.deploy.processes import DEPLOY
from tests.support.certificates import authority
from tests.support.people import People
from tests.support.raw_tcp import raw_tcp
from tests.support.waiting import eventually

CONFIGURATION = DEPLOY / "haproxy.cfg"


@pytest.fixture(scope="module")
def balancer(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A balancer before both edges of the stack; its addresses by their variables."""
    listen, stats, nobody = free_ports(0, 0, 0)
    edges = [*(edge.port for edge in stack.edges), nobody]
    environment = {
        "BALANCER_LISTEN": f"{LOOPBACK}:{listen}",
        "BALANCER_STATS": f"{LOOPBACK}:{stats}",
        **{f"BALANCER_EDGE_{number}": f"{LOOPBACK}:{port}" for number, port in enumerate(edges, start=1)},
    }
    haproxy = Haproxy(tmp_path_factory.mktemp("balancer"), CONFIGURATION, environment).run()
    yield environment
    haproxy.stop()


async def test_people_chat_through_the_balancer(people: People, balancer: dict[str, str]) -> None:
    ada, grace = [people.socket({"token": people.stack.token(name)}, 0, name) for name in map(people.name, ("a", "g"))]
    for client in (ada, grace):
        await client.open(f"http://{balancer['BALANCER_LISTEN']}")
        await client.push("session_ready")
    conversation = await people.start(ada, grace)
    await people.say(ada, conversation, "through HAProxy")
    assert (await grace.push("new_message", conversation))["message"]["body"] == "through HAProxy"


#: Ways to write paths that are for operators; HAProxy compares what was written, and an edge decodes it.
OPERATORS = [
    *("/healthz", "/readyz", "/metrics", "/metrics?name[]=warren_edge_sockets", "/metrics/"),
    *("/%6detrics", "/%2e/metrics", "//metrics", "/./metrics", "/%6Detrics?x", "/metric%73", "/re%61dyz", "/%68ealthz"),
    *(
        "/socket.io/../metrics",
        "/socket.io/%2e%2e/metrics",
        "/assets/../metrics",
        "/assets/%2e%2e/readyz",
        "/dev/../metrics",
    ),
]


@pytest.mark.parametrize("path", OPERATORS)
async def test_clients_see_neither_health_nor_figures(balancer: dict[str, str], path: str) -> None:
    host, port = balancer["BALANCER_LISTEN"].split(":")
    async with raw_tcp(int(port), host) as raw:
        await raw.send(f"GET {path} HTTP/1.1\r\nhost: chat\r\nconnection: close\r\n\r\n".encode())
        answer = await raw.until_closed(10)
    assert answer.split()[1] in (b"400", b"404")
    for told in (b"warren_", b"ready", b"ok\n"):
        assert told not in answer


@pytest.mark.skipif(PAGE is None, reason="the page is not built")
async def test_the_page_comes_through_the_balancer(balancer: dict[str, str]) -> None:
    async with httpx.AsyncClient(trust_env=False, base_url=f"http://{balancer['BALANCER_LISTEN']}") as http:
        page = await http.get("/")
        paths = re.findall(r'(?:href|src)="(/[^"]+)"', page.text)
        assert len(paths) > 2
        for path in (*paths, "/dev/config"):
            assert (await http.get(path)).status_code == 200, path
        assert (await http.post("/dev/token", json={"user_id": "ada"})).status_code == 200


async def test_an_edge_that_is_away_is_known_to_be(balancer: dict[str, str]) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:

        async def known() -> bool:
            text = (await http.get(f"http://{balancer['BALANCER_STATS']}/metrics")).text
            up = [
                f'haproxy_server_status{{proxy="edges",server="edge-{n}",state="UP"}} {int(n < 3)}' for n in (1, 2, 3)
            ]
            return all(line in text for line in up)

        await eventually(known, sentence="two edges are up, and the third is down")


def test_it_can_serve_tls(tmp_path: Path) -> None:
    edges = {f"BALANCER_EDGE_{number}": f"{LOOPBACK}:1" for number in (1, 2, 3)}
    addresses = {"BALANCER_STATS": f"{LOOPBACK}:1", "BALANCER_LISTEN_TLS": f"{LOOPBACK}:1"}
    certificate = {"BALANCER_CERTIFICATE": str(authority(tmp_path / "ca").sign("balancer"))}
    command = [str(install.program("haproxy")), "-c", "-f", str(CONFIGURATION)]
    environment = {**os.environ, **edges, **addresses, **certificate}
    checked = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr
