"""One run: the bystanders are calm, then one of their edges is attacked, and then all must be as it was."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass

from pydantic import SecretStr

from infra.local.paths import ROOT
from infra.local.stack import Stack
from infra.local.supervisor import Process
from infra.settings import Settings
from infra.store.client import Store
from infra.store.users import Profile, Users
from tests.abuse.attack import Attack, End, Target, person
from tests.abuse.bystanders import CHANCE, Bystanders, Figures
from tests.abuse.sizes import MEGABYTE, Memory
from tests.support.scrape import metric
from tests.support.waiting import cancelled

#: The bounds: acks of bystanders against their calm ones, the longest wait of a bystander in milliseconds, memory per
#: attacking connection, and memory that may stay with an allocator.
SLOWER, LONGEST_WAIT = 5.0, 1_000.0
MEMORY_PER_CONNECTION, MEMORY_THAT_STAYS = 12 * MEGABYTE, 32 * MEGABYTE
#: The environment of edges that close their sockets at once when they stop.
NO_DRAINING = {"WARREN_DRAIN_SECONDS": "0"}
#: Seconds in which everything is given back.
GIVEN_BACK_WITHIN = 20.0


@dataclass(frozen=True)
class Form:
    """How long a run takes: whole for `make abuse`, short for `make test`."""

    #: Users whom attackers can find.
    people: int
    #: Seconds before the attack, of the attack, and of the edge's deadlines.
    calm: float
    attack: float
    deadline: float
    #: On a machine that runs other tests, a percentile of a few seconds says nothing; the longest wait does.
    holds_p99: bool = True

    def seconds_of(self, attack: Attack) -> float:
        """How long an attack lasts."""
        return self.attack + (self.deadline if attack.until_deadline else 0)


WHOLE = Form(people=20_000, calm=3.5, attack=5, deadline=10)
#: The edges' deadlines are shorter too, so that their ends are seen.
SHORT = Form(people=500, calm=0.7, attack=1.6, deadline=1, holds_p99=False)


@dataclass(frozen=True)
class Outcome:
    """What a run showed."""

    name: str
    attack: Attack
    end: End
    calm: Figures
    attacked: Figures
    #: Bytes that the process which grew most took more at its peak, and its name.
    memory: tuple[int, str]
    complaints: list[str]


async def add_people(stack: Stack, form: Form) -> None:
    """Store users as if each had connected once."""
    settings = Settings(mongo_url=SecretStr(stack.tenant.mongo_url), mongo_database=stack.tenant.database)
    store = Store(settings)
    try:
        for first in range(0, form.people, 1_000):
            numbers = range(first, min(first + 1_000, form.people))
            await Users(store).store_profiles([Profile(person(number), "", None) for number in numbers])
    finally:
        await store.close()


async def run_attack(stack: Stack, name: str, attack: Attack, form: Form) -> Outcome:
    """Attack the stack's first edge while the bystanders chat, and judge what they noticed and what was left."""
    edge = stack.edges[0]
    bystanders = Bystanders(stack)
    target = Target(edge.port, stack.secret, form.seconds_of(attack))
    async with bystanders.chatting(), _attacker(name, target) as attacker:
        began = time.monotonic()
        await asyncio.sleep(form.calm)
        memory, started = Memory(stack.processes), time.monotonic()
        calm = bystanders.figures(began, started)
        async with _watching(memory.look):
            end = await _attack(attacker)
        over = time.monotonic()
        # What they asked in the last moment gets its time.
        await asyncio.sleep(LONGEST_WAIT / 1000)
        attacked = bystanders.figures(started, over)
    complaints = _complaints(attack, form, end, calm, attacked)
    grown, grower = memory.grown()
    if grown > MEMORY_PER_CONNECTION * max(1, end.most_open):
        complaints.append(f"{grower} took {grown / MEGABYTE:.1f} MiB for {end.most_open} connections")
    complaints += memory.over_limits()
    complaints += await _left_behind(edge, memory)
    return Outcome(name, attack, end, calm, attacked, (grown, grower), complaints)


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
    # A deadline begins with the connection; it has a second for itself.
    if not attack.allowed and end.slowest > form.deadline + 1:
        complaints.append(f"an offence was neither answered nor closed within {end.slowest:.1f} s")
    return complaints


async def _left_behind(edge: Process, memory: Memory) -> list[str]:
    """Wait until nothing of attacker and bystanders is left; say what is."""
    deadline = time.monotonic() + GIVEN_BACK_WITHIN
    while True:
        left = {
            "sockets": await metric(edge, "warren_edge_sockets"),
            "WebSockets": await metric(edge, "warren_edge_transports", kind="websocket"),
            # The question itself is one.
            "other connections": await metric(edge, "warren_edge_transports", kind="http") - 1,
        }
        kept, keeper = memory.kept()
        if not any(left.values()) and kept < MEMORY_THAT_STAYS:
            return []
        if time.monotonic() > deadline:
            found = [f"{count:.0f} {what} are left" for what, count in left.items() if count]
            return [*found, *([f"{keeper} keeps {kept / MEGABYTE:.1f} MiB"] if kept >= MEMORY_THAT_STAYS else [])]
        await asyncio.sleep(0.2)


# --- The attacker -----------------------------------------------------------------------------------------


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
        await cancelled(task)
