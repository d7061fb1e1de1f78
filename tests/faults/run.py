"""One run: a crowd talks, something breaks, everything is mended, and the histories are compared."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import aio_pika
import aiohttp

from contracts.topology import DEAD_QUEUES
from infra.bench.checker import LOST, REFUSED, WRONG_UNREAD, Verdict, check
from infra.bench.history import Histories
from infra.bench.stored import read_store
from infra.local.stack import Stack, WorkerKind
from infra.local.tenant import Tenant
from tests.faults.crowd import Crowd
from tests.faults.faults import FAULTS, Fault, Scene
from tests.faults.ground import Ground, fresh_run
from tests.faults.recovery import normal_latency, whole_since
from tests.faults.signs import Watch

#: Seconds of calm before the fault, and of wholeness after it that end a run.
CALM, STEADY = 5.0, 5.0
#: Seconds after the fault's end by which service must be whole again.
WHOLE_LIMIT = 90.0
#: Seconds until every screen and every count must show what is stored, once all is acked.
QUIET_LIMIT = 20.0
#: Workers of a run: two store, so that they compete for every seq.
WORKERS: dict[WorkerKind, int] = {"persistence": 2, "unread": 1, "presence": 1, "history": 1}


Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What a run showed."""

    fault: Fault
    verdict: Verdict
    #: Seconds that the unluckiest message waited for its ack, all tries together.
    longest_wait: float
    #: Seconds from the fault's end until service was whole; None if it never was.
    whole_after: float | None
    #: Seconds that the load lasted.
    seconds: float
    remarks: list[str]
    #: Metrics and log lines that should have told what happened, and did not.
    not_shown: list[str]

    @property
    def good(self) -> bool:
        """Whether nothing was lost or wrong, and service came back."""
        return not self.verdict.complaints and self.whole_after is not None


async def run_fault(fault: Fault, ground: Ground, *, seconds: float, seed: int, say: Say = lambda _: None) -> Outcome:
    """Let a fault happen to a fresh Warren under load for at least `seconds`, and judge what was left."""
    rng = random.Random(f"{seed} {fault.name}")
    say("starting")
    async with (
        fresh_run(ground) as run,
        Stack(run, edges=fault.edges, workers=WORKERS, name=f"fault-{fault.name}") as stack,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        crowd = Crowd(stack, http, rng)
        scene = Scene(stack, run, ground, crowd, rng)
        try:
            await crowd.gather()
            return await _through(fault, scene, seconds, say)
        finally:
            await crowd.leave()


async def _through(fault: Fault, scene: Scene, seconds: float, say: Say) -> Outcome:
    crowd = scene.crowd
    began = time.monotonic()
    crowd.start()
    say("calm")
    await asyncio.sleep(CALM)
    normal = scene.normal = normal_latency(crowd.sent)
    say("broken")
    async with Watch(scene.stack, {sign for each in FAULTS.values() for sign in each.signs}) as watch:
        await fault.inject(scene)
        ended = time.monotonic()
        say("recovering")
        whole_at: float | None = None
        while (now := time.monotonic()) < max(ended + WHOLE_LIMIT, began + seconds):
            whole_at = whole_since(crowd.sent, crowd.probes, ended=ended, now=now, normal=normal)
            if whole_at is not None and now - whole_at > STEADY and now - began > seconds:
                break
            await asyncio.sleep(0.25)
    not_shown = watch.missing([*fault.signs, *scene.signs])
    loaded = time.monotonic() - began
    say("settling")
    await crowd.settle()
    verdict = await judge(scene)
    for sentence in scene.complaints:
        verdict.complaints.append((REFUSED, sentence))
    reconnects = sum(person.reconnects for person in crowd.people)
    scene.remarks.insert(0, f"{reconnects} reconnects, normal up to {normal:.1f} s")
    whole_after = None if whole_at is None else whole_at - ended
    longest_wait = max((each.acked_at - each.due_at for each in crowd.sent if each.acked_at), default=0.0)
    return Outcome(fault, verdict, longest_wait, whole_after, loaded, scene.remarks, not_shown)


async def judge(scene: Scene) -> Verdict:
    """Compare until nothing is only late: pushes, inboxes and headers have a moment to arrive."""
    deadline = time.monotonic() + QUIET_LIMIT
    while True:
        verdict = check(await _histories(scene))
        late = any(kind in (LOST, WRONG_UNREAD, REFUSED) for kind, _ in verdict.complaints)
        if not late or time.monotonic() > deadline:
            return verdict
        await asyncio.sleep(0.5)


async def _histories(scene: Scene) -> Histories:
    crowd = scene.crowd
    counts = await crowd.counts()
    stored = await read_store(scene.run, crowd.conversations)
    return Histories(
        sent=crowd.sent,
        stored=stored,
        views=[person.view for person in crowd.people],
        counts=counts,
        watermarks=[watermark for person in crowd.people for watermark in person.watermarks],
        refusals=[sentence for person in crowd.people for sentence in person.refusals],
        dead_letters=await _dead_letters(scene.run),
    )


async def _dead_letters(run: Tenant) -> int:
    """Messages in all dead-letter queues."""
    connection = await aio_pika.connect(run.amqp_url)
    async with connection:
        channel = await connection.channel()
        queues = [await channel.declare_queue(queue.name, passive=True) for queue in DEAD_QUEUES]
        return sum(queue.declaration_result.message_count or 0 for queue in queues)
