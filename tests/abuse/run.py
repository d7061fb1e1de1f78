"""One run: the bystanders are calm, then one of their edges is attacked, and then all must be as it was."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field

import psutil

from infra.local.paths import ROOT
from infra.local.stack import Stack
from infra.local.supervisor import Process
from tests.abuse.attack import Attack, End, Target
from tests.abuse.bystanders import CHANCE, Bystanders, Figures
from tests.support.scrape import metric

MEGABYTE = 1 << 20
#: The bounds: acks of bystanders against their calm ones, the longest wait of a bystander in milliseconds, memory per
#: attacking connection, and memory that may stay with the edge's allocator.
SLOWER, LONGEST_WAIT = 5.0, 1_000.0
MEMORY_PER_CONNECTION, MEMORY_THAT_STAYS = 12 * MEGABYTE, 32 * MEGABYTE
#: Seconds in which everything is given back.
GIVEN_BACK_WITHIN = 20.0


@dataclass(frozen=True)
class Form:
    """How long a run takes: whole for `make abuse`, short for `make test`."""

    calm: float = 8.0
    attack: float = 14.0
    #: Seconds in which an offence is answered or closed: ten, and one for timers that last ten themselves.
    ends_within: float = 11.0
    env: dict[str, str] = field(default_factory=dict)
    #: On a machine that runs other tests, a percentile of a few seconds says nothing; the longest wait does.
    holds_p99: bool = True


WHOLE = Form()
#: The edge's times are a fifth, so that their ends are seen.
SHORT = Form(1.5, 4.0, 3.2, {"WARREN_REQUEST_TIMEOUT": "2", "WARREN_CONNECT_TIMEOUT": "2"}, holds_p99=False)


@dataclass(frozen=True)
class Outcome:
    """What a run showed."""

    name: str
    attack: Attack
    end: End
    calm: Figures
    attacked: Figures
    #: Bytes that the attacked edge took more at the peak.
    memory: int
    complaints: list[str]


async def run_attack(stack: Stack, name: str, attack: Attack, form: Form) -> Outcome:
    """Attack the stack's first edge while the bystanders chat, and judge what they noticed and what was left."""
    edge = stack.edges[0]
    process = psutil.Process(edge.pid)
    bystanders = Bystanders(stack)
    async with bystanders.chatting(), _attacker(name, _target(stack, edge, form)) as attacker:
        began = time.monotonic()
        await asyncio.sleep(form.calm)
        before, started = process.memory_info().rss, time.monotonic()
        calm = bystanders.figures(began, started)
        peak = [before]
        async with _watching(lambda: peak.append(process.memory_info().rss)):
            end = await _attack(attacker)
        over = time.monotonic()
        # What they asked in the last moment gets its time.
        await asyncio.sleep(LONGEST_WAIT / 1000)
        attacked = bystanders.figures(started, over)
    complaints = _complaints(attack, form, end, calm, attacked)
    grown = max(peak) - before
    if grown > MEMORY_PER_CONNECTION * max(1, end.most_open):
        complaints.append(f"the edge took {grown / MEGABYTE:.1f} MiB for {end.most_open} connections")
    complaints += await _left_behind(edge, process, before)
    return Outcome(name, attack, end, calm, attacked, grown, complaints)


def _complaints(attack: Attack, form: Form, end: End, calm: Figures, attacked: Figures) -> list[str]:
    complaints = []
    for where, before, under in zip(("the same edge", "the other edge"), calm.p99, attacked.p99, strict=True):
        if form.holds_p99 and under > SLOWER * max(before, CHANCE):
            complaints.append(f"acks on {where}: p99 {before:.0f} ms before, {under:.0f} ms under attack")
    if attacked.longest > LONGEST_WAIT:
        complaints.append(f"a bystander waited {attacked.longest:.0f} ms for {attacked.longest_kind}")
    if not end.connections:
        complaints.append("the attacker got no connection, so nothing was tried")
    if end.most_open > attack.connections:
        complaints.append(f"the attacker had {end.most_open} connections, not {attack.connections}")
    if not attack.allowed and end.slowest > form.ends_within:
        complaints.append(f"an offence was neither answered nor closed within {end.slowest:.1f} s")
    return complaints


async def _left_behind(edge: Process, process: psutil.Process, before: int) -> list[str]:
    """Wait until nothing of attacker and bystanders is left; say what is."""
    deadline = time.monotonic() + GIVEN_BACK_WITHIN
    while True:
        left = {
            "sockets": await metric(edge, "warren_edge_sockets"),
            "WebSockets": await metric(edge, "warren_edge_transports", kind="websocket"),
            # The question itself is one.
            "other connections": await metric(edge, "warren_edge_transports", kind="http") - 1,
        }
        kept = process.memory_info().rss - before
        if not any(left.values()) and kept < MEMORY_THAT_STAYS:
            return []
        if time.monotonic() > deadline:
            found = [f"{count:.0f} {what} are left" for what, count in left.items() if count]
            return [*found, *([f"{kept / MEGABYTE:.1f} MiB are left"] if kept >= MEMORY_THAT_STAYS else [])]
        await asyncio.sleep(0.2)


# --- The attacker -----------------------------------------------------------------------------------------


def _target(stack: Stack, edge: Process, form: Form) -> Target:
    return Target(edge.port, stack.secret, stack.tenant.amqp_url, form.attack)


@asynccontextmanager
async def _attacker(name: str, target: Target) -> AsyncIterator[asyncio.subprocess.Process]:
    """The attacker's process, ready to attack. It ends with the block."""
    pipe = asyncio.subprocess.PIPE
    attacker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.abuse.attacker", name, stdin=pipe, stdout=pipe, cwd=ROOT
    )
    try:
        assert attacker.stdin is not None
        assert attacker.stdout is not None
        attacker.stdin.write(json.dumps(asdict(target)).encode() + b"\n")
        line = await asyncio.wait_for(attacker.stdout.readline(), 30)
        assert line == b"ready\n", f"the attacker says {line!r}"
        yield attacker
    finally:
        with suppress(ProcessLookupError):
            attacker.kill()
        await attacker.wait()


async def _attack(attacker: asyncio.subprocess.Process) -> End:
    assert attacker.stdin is not None
    assert attacker.stdout is not None
    attacker.stdin.write(b"go\n")
    line = await asyncio.wait_for(attacker.stdout.readline(), 60)
    assert line, "the attacker failed"
    return End(**json.loads(line))


@asynccontextmanager
async def _watching(look: Callable[[], object]) -> AsyncIterator[None]:
    async def watch() -> None:
        while True:
            look()
            await asyncio.sleep(0.1)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
