"""One run of a fault: clients chat, a part breaks, it comes back, and the histories are compared."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import aio_pika
import aiohttp

from contracts.topology import DEAD_QUEUES
from infra.bench.checker import LOST, REFUSED, WRONG_PRESENCE, WRONG_UNREAD, Verdict, check
from infra.bench.histories import Histories, Presence
from infra.bench.stored import read_presences, read_store
from infra.local.stack import Stack, WorkerKind
from infra.local.tenant import Tenant
from tests.faults.chat_traffic import GRACE, ChatTraffic
from tests.faults.context import Context, Fault
from tests.faults.environment import Environment, fresh_tenant
from tests.faults.recovery import normal_latency, recovered_at
from tests.faults.registry import FAULTS
from tests.faults.symptoms import SymptomWatch, count_corrections

#: Seconds after the fault's end until service must have recovered.
RECOVERY_LIMIT = 90.0
#: Seconds until every view and every count must agree with the store, once all messages are acked.
SETTLE_LIMIT = 20.0
#: Users that one `get_presence` may ask about.
MAX_ASKED = 100
#: Workers of a run. Two persistence workers compete for every seq.
WORKERS: dict[WorkerKind, int] = {"persistence": 2, "unread": 1, "presence": 1, "history": 1}

#: Is told which stage a run is in.
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Pace:
    """Lengths of a run's stages, in seconds."""

    #: All of the load, at least.
    load: float = 60.0
    #: Load before the fault.
    baseline: float = 5.0
    #: Normal service after the fault that ends the load.
    steady: float = 5.0


@dataclass(frozen=True)
class Warren:
    """Warren's processes on an environment that may break."""

    environment: Environment
    tenant: Tenant
    stack: Stack


@dataclass(frozen=True)
class Outcome:
    """The result of a run."""

    fault: Fault
    verdict: Verdict
    #: The longest time, in seconds, from a message's due time to its ack, over all its tries.
    longest_wait: float
    #: Seconds from the fault's end until service recovered; None if it never did.
    recovered_after: float | None
    notes: list[str]
    #: Metrics and log lines that must name the fault, and were not seen.
    missing_symptoms: list[str]

    @property
    def good(self) -> bool:
        """Whether nothing was lost or wrong, and service recovered."""
        return not self.verdict.complaints and self.recovered_after is not None


@asynccontextmanager
async def fresh_warren(
    environment: Environment,
    name: str,
    edges: int = 2,
    workers: Mapping[WorkerKind, int] | None = None,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Warren]:
    """Start Warren with a virtual host and a database of its own, and kill it afterwards.

    `workers` says how many of each kind where it is not the usual number.
    """
    async with (
        fresh_tenant(environment) as tenant,
        Stack(tenant, edges=edges, workers={**WORKERS, **(workers or {})}, env=env, name=name) as stack,
    ):
        try:
            yield Warren(environment, tenant, stack)
        finally:
            # Nothing is judged any more, so no process needs the time of an orderly stop.
            for process in stack.processes:
                process.kill_group()


async def run_fault(
    fault: Fault,
    warren: Warren,
    *,
    pace: Pace,
    seed: int,
    grace: float = GRACE,
    progress: Progress = lambda _: None,
) -> Outcome:
    """Inject a fault into Warren under load, and judge the histories. `grace` is the edges' `WARREN_SESSION_GRACE`."""
    rng = random.Random(f"{seed} {fault.name}")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        traffic = ChatTraffic(warren.stack, http, rng, grace=grace)
        try:
            progress("connecting")
            await traffic.connect()
            context = Context(warren.stack, warren.tenant, warren.environment, traffic, rng)
            async with context.held:
                return await _run(fault, context, pace, progress)
        finally:
            await traffic.disconnect()


async def _run(fault: Fault, context: Context, pace: Pace, progress: Progress) -> Outcome:
    traffic = context.traffic
    began = time.monotonic()
    traffic.start()
    progress("baseline")
    await asyncio.sleep(pace.baseline)
    context.normal_latency = normal_latency(traffic.sent)
    async with SymptomWatch(context.stack, {each for other in FAULTS.values() for each in other.symptoms}) as watch:
        progress("broken")
        await fault.inject(context)
        ended = time.monotonic()
        progress("recovering")
        moment = await _recovery(context, ended, until=began + pace.load, steady=pace.steady)
    missing = watch.missing([*fault.symptoms, *context.symptoms])
    progress("settling")
    await traffic.drain()
    verdict = await judge(context)
    verdict.complaints.extend((REFUSED, sentence) for sentence in context.complaints)
    reconnects = sum(client.reconnects for client in traffic.clients)
    return Outcome(
        fault,
        verdict,
        longest_wait=max((sent.acked_at - sent.due_at for sent in traffic.sent if sent.acked_at), default=0.0),
        recovered_after=None if moment is None else moment - ended,
        notes=[f"{reconnects} reconnects, normal up to {context.normal_latency:.1f} s", *context.notes],
        missing_symptoms=missing,
    )


async def _recovery(context: Context, ended: float, *, until: float, steady: float) -> float | None:
    """Watch the traffic until then, and until service was normal for a while; returns when it recovered."""
    traffic, moment = context.traffic, None
    while (now := time.monotonic()) < max(ended + RECOVERY_LIMIT, until):
        moment = recovered_at(traffic.sent, traffic.probes, ended=ended, now=now, normal=context.normal_latency)
        if moment is not None and now - moment > steady and now > until:
            break
        await asyncio.sleep(0.25)
    return moment


async def judge(context: Context) -> Verdict:
    """Check the histories until nothing is only late: pushes, inboxes, headers and presence get a moment to arrive."""
    deadline = time.monotonic() + SETTLE_LIMIT
    while True:
        began = time.monotonic()
        verdict = check(await _histories(context))
        kinds = {kind for kind, _ in verdict.complaints}
        late = kinds & {LOST, WRONG_UNREAD, REFUSED} and began < deadline
        if not late and not (WRONG_PRESENCE in kinds and began < context.presence_due):
            return verdict
        await asyncio.sleep(0.5)


async def _histories(context: Context) -> Histories:
    traffic = context.traffic
    counts = await traffic.counts()
    stored = await read_store(context.tenant, traffic.conversations)
    return Histories(
        sent=traffic.sent,
        stored=stored,
        views=[client.view for client in traffic.clients],
        counts=counts,
        watermarks=[watermark for client in traffic.clients for watermark in client.watermarks],
        refusals=[sentence for client in traffic.clients for sentence in client.refusals],
        dead_letters=await _dead_letters(context.tenant),
        presences=await _presences(context),
        presence_corrections=await count_corrections(context.stack),
    )


async def _presences(context: Context) -> list[Presence]:
    """Everybody's presence, as the store has it, as `get_presence` answers, and as clients show it."""
    traffic = context.traffic
    found = await read_presences(context.tenant, context.connected)
    users = {presence.user_id for presence in found}
    # Those who left for good are neither in the store's list nor connected.
    found += [Presence(user, False, False, False) for user in traffic.visits.user_ids if user not in users]
    answered = await traffic.clients[0].online([presence.user_id for presence in found][:MAX_ASKED])
    return [
        replace(
            presence,
            answered=answered.get(presence.user_id),
            shown={
                client.user_id: client.view.online[presence.user_id]
                for client in traffic.clients
                if presence.user_id in client.view.online
            },
        )
        for presence in found
    ]


async def _dead_letters(tenant: Tenant) -> int:
    """Messages in all dead-letter queues."""
    connection = await aio_pika.connect(tenant.amqp_url)
    async with connection:
        channel = await connection.channel()
        queues = [await channel.declare_queue(queue.name, passive=True) for queue in DEAD_QUEUES]
        return sum(queue.declaration_result.message_count or 0 for queue in queues)
