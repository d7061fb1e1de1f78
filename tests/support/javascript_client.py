"""The official JavaScript client, driven line by line."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from infra.local.paths import ROOT
from tests.support import protocol
from tests.support.socketio_client import Json, seen_codes
from tests.support.waiting import PATIENCE, eventually

FOLDER = ROOT / "tests" / "js"


def node() -> str:
    """The path of Node. Where it or the client is missing, the test is skipped, and in CI it fails."""
    path = shutil.which("node")
    installed = (FOLDER / "node_modules" / "socket.io-client").is_dir()
    if path is None:
        lack("Node is not installed; the official JavaScript client needs it.")
    elif not installed:
        lack("The official JavaScript client is not installed: run `make setup`.")
    assert path is not None
    # The command that comes with the wheel is a script in front of Node, which would outlive it: ask for Node itself.
    asked = subprocess.run([path, "-p", "process.execPath"], capture_output=True, text=True, check=True, timeout=30)
    return asked.stdout.strip()


def lack(sentence: str) -> None:
    """Fail in CI, skip elsewhere."""
    if os.environ.get("CI") == "true":
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


async def run_node(script: str) -> asyncio.subprocess.Process:
    """Start a script of `tests/js` under Node, or its standard input when it is called `-`."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        node(), script, cwd=FOLDER, stdin=pipe, stdout=pipe, stderr=pipe, limit=1 << 24
    )


async def end(process: asyncio.subprocess.Process) -> str:
    """End a script by closing its input, or by force; return what it wrote to stderr."""
    try:
        _, said = await asyncio.wait_for(process.communicate(), 10)
    except TimeoutError:
        process.kill()
        _, said = await process.communicate()
    return said.decode()


class JavaScriptSocket:
    """One socket of the official client."""

    def __init__(self, driver: "Driver", name: str) -> None:
        self._driver = driver
        self.name = name
        self.happened: list[dict[str, Json]] = []

    async def connect(self, url: str, auth: Json, **options: Json) -> "JavaScriptSocket":
        """Begin to connect."""
        await self._driver.tell({"do": "connect", "socket": self.name, "url": url, "auth": auth, "options": options})
        return self

    async def disconnect(self) -> None:
        """Disconnect."""
        await self._driver.tell({"do": "disconnect", "socket": self.name})

    async def ack(self, event: str, *payloads: Json) -> Json:
        """Send an event and return its ack, checked against the protocol."""
        ack = await self._driver.emit(self.name, event, payloads)
        protocol.check_ack(event, ack)
        if not ack["ok"]:
            seen_codes.add(ack["error"]["code"])
        return ack

    async def call(self, event: str, **payload: Json) -> Json:
        """Send an event and return the data of its ack, which must be ok."""
        ack = await self.ack(event, payload)
        assert ack["ok"], ack
        return ack["data"]

    async def until(self, what: str, number: int = 1, within: float = PATIENCE, **fields: Json) -> Json:
        """Wait until something has happened for that many times; return the last time."""

        def found() -> list[dict[str, Json]]:
            return [
                line
                for line in self.happened
                if line["happened"] == what and all(line.get(field) == value for field, value in fields.items())
            ][number - 1 :]

        lines = await eventually(
            found, within=within, sentence=lambda: f"{what} {fields} at {self.name}; what happened: {self.happened}"
        )
        return lines[0]

    async def push(self, event: str, number: int = 1, within: float = PATIENCE) -> Json:
        """Wait for a push; return its payload."""
        return (await self.until("push", number, within, event=event))["payloads"][0]


class Driver:
    """A Node process with any number of sockets."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._sockets: dict[str, JavaScriptSocket] = {}
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading = asyncio.create_task(self._read())

    def socket(self, name: str) -> JavaScriptSocket:
        """A socket that is not connected yet."""
        self._sockets[name] = JavaScriptSocket(self, name)
        return self._sockets[name]

    async def tell(self, command: dict[str, Json]) -> None:
        """Give the driver a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        await self._process.stdin.drain()

    async def emit(self, socket: str, event: str, payloads: tuple[Json, ...]) -> Json:
        """Send an event on a socket and return its ack."""
        number = len(self._answers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self.tell({"do": "emit", "socket": socket, "id": number, "event": event, "payloads": payloads})
        line = await asyncio.wait_for(answer, 30)
        assert "ack" in line, f"{event}: {line}"
        return line["ack"]

    async def stop(self) -> None:
        """Close all sockets and end the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await asyncio.wait_for(self._reading, 20)
        said = await end(self._process)
        assert not said, said

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for text in self._process.stdout:
            line = json.loads(text)
            if "id" in line:
                self._answers[line["id"]].set_result(line)
                continue
            if line["happened"] == "push":
                protocol.check_push(line["event"], tuple(line["payloads"]))
            self._sockets[line["socket"]].happened.append(line)


@asynccontextmanager
async def driver() -> AsyncIterator[Driver]:
    """A Node process that is ended with the block."""
    process = await run_node("driver.mjs")
    driving = Driver(process)
    try:
        yield driving
    finally:
        await driving.stop()
