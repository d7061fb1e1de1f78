"""Faults of workers: killed, frozen, or missing."""

import asyncio
import time
from functools import partial

import httpx

from infra.bench.stored import read_presences
from infra.local.stack import WorkerKind
from infra.local.supervisor import Process
from tests.faults.context import DOWN, FROZEN, Context, Fault
from tests.faults.symptoms import Symptom
from tests.faults.visitor_group import VisitorGroup, look_in
from tests.support.proxy import HOST, proxy, target_of
from workers.runner import PRIORITIES

#: How often a worker is killed in one run, so that one of the kills interrupts a batch.
KILLS = 3
#: Seconds without a presence worker.
NO_PRESENCE = 60.0
#: Seconds until a presence worker that judges too early has done so: longer than a lease.
JUDGING = 25.0

#: Users who come for a moment while a presence worker is frozen.
SHORT_VISITS = 60
#: Users who return at the grace time, seconds in which they leave, and seconds by which they miss the time.
RETURNING, LEAVING, CLOSE_TO_GRACE = 200, 3.0, 0.05
#: Kinds of which one worker is cut off from the store.
CUT: tuple[WorkerKind, ...] = ("persistence", "unread", "presence")
#: A consumer priority above all others, and seconds until the broker has filled a consumer that has it.
PREFERRED, SETTLED = 2 * PRIORITIES - 1, 3.0

HANDLED = Symptom("warren_worker_batch_items_sum", "")
#: A killed worker: the process is a new one, and the log has no line that the old one stops.
KILLED = Symptom("process_start_time_seconds", "starts.")
REDELIVERED = Symptom("warren_worker_redelivered_total", "were redelivered: their first consumer is gone")
STALLED = Symptom("warren_process_stalls_total", "This process stalled for")
REQUEUED = Symptom("warren_worker_requeues_total", "requeueing the messages of")
NO_LEASE = Symptom("warren_edge_leased", "New sockets wait: the presence workers have not answered", becomes=0)


async def kill_workers(context: Context, kind: WorkerKind) -> None:
    """SIGKILL every worker of a kind under load, several times."""
    for _ in range(KILLS):
        workers = context.stack.workers[kind]
        for worker in workers:
            await context.stack.kill(worker)
        await asyncio.sleep(DOWN)
        await asyncio.gather(*(context.stack.restart(worker) for worker in workers))
        await asyncio.sleep(context.rng.uniform(0.5, 2.0))


async def freeze(context: Context, process: Process) -> None:
    """SIGSTOP, and SIGCONT long after others have noticed."""
    context.stack.pause(process)
    try:
        await asyncio.sleep(FROZEN)
    finally:
        context.stack.resume(process)


async def freeze_busiest(context: Context, kind: WorkerKind) -> None:
    """Freeze the busier of two workers in the middle of a batch; it resumes when the other one has handled that."""
    await freeze(context, await _busiest(context, kind))


async def freeze_presence(context: Context) -> None:
    """Freeze one of two presence workers, while users come for a moment; it handles their sessions when they left."""
    await asyncio.gather(freeze_busiest(context, "presence"), look_in(context, SHORT_VISITS, FROZEN / 2))


async def cut_from_store(context: Context, kind: WorkerKind) -> None:
    """Let all packets be lost between one worker and the store. The broker prefers this worker to the other one."""
    stack, worker = context.stack, context.stack.workers[kind][0]
    member = target_of(context.environment.members[0].url)
    to_store = await context.held.enter_async_context(proxy(member))
    url = f"mongodb://{HOST}:{to_store.port}/?directConnection=true"
    await stack.restart(worker, {"WARREN_MONGO_URL": url, "WARREN_WORKER_PRIORITY": str(PREFERRED)})
    await asyncio.sleep(SETTLED)
    to_store.pause()
    cut_at = time.monotonic()
    await asyncio.sleep(FROZEN)
    context.expect_recovery_without("the store of one worker", cut_at)
    to_store.resume()


async def _busiest(context: Context, kind: WorkerKind) -> Process:
    """The worker of a kind that has handled the most."""
    workers = context.stack.workers[kind]
    async with httpx.AsyncClient(trust_env=False) as http:
        pages = [(await http.get(f"{worker.url}/metrics")).text for worker in workers]
    handled = [sum(HANDLED.samples(page)) for page in pages]
    return workers[handled.index(max(handled))]


async def remove_presence(context: Context) -> None:
    """Stop all presence workers for a minute; no push may say that a client is offline, because none ever leaves."""
    for worker in context.stack.workers["presence"]:
        await context.stack.kill(worker)
    await asyncio.sleep(NO_PRESENCE)
    for worker in context.stack.workers["presence"]:
        await context.stack.restart(worker)
    await asyncio.sleep(JUDGING)
    clients = {client.user_id for client in context.traffic.clients}
    offline = [user for client in context.traffic.clients for user in client.offline_pushes if user in clients]
    context.notes.append(f"{len(offline)} pushes said that a client went offline")
    context.complaints += [f"{user} was connected, and a push said offline" for user in offline]


async def return_at_grace(context: Context) -> None:
    """Users leave and return just when the edge reports that they are gone, three times; all stay connected.

    The second time, the presence worker is killed while they return.
    """
    group, grace = VisitorGroup(context, RETURNING), context.traffic.visits.grace
    (worker,) = context.stack.workers["presence"]
    await group.arrive()
    for number in range(3):
        await group.leave_within(LEAVING)
        returning = asyncio.create_task(group.return_after(grace, CLOSE_TO_GRACE))
        if number == 1:
            await asyncio.sleep(grace - LEAVING / 2)
            await context.stack.kill(worker)
            await asyncio.sleep(DOWN)
            await context.stack.restart(worker)
        await returning
        await asyncio.sleep(1.0)
        for presence in await read_presences(context.tenant, group.connected):
            if presence.connected and not presence.registered:
                context.complaints.append(f"{presence.user_id} got session_ready and has no session in the store")
    context.notes.append(f"{RETURNING} users returned three times within {CLOSE_TO_GRACE} s of the grace")


FAULTS = (
    Fault(
        "kill-persistence",
        "SIGKILL to all persistence workers, three times",
        partial(kill_workers, kind="persistence"),
        (KILLED, REDELIVERED),
    ),
    Fault("kill-unread", "SIGKILL to the unread worker, three times", partial(kill_workers, kind="unread"), (KILLED,)),
    Fault(
        "kill-presence",
        "SIGKILL to the presence worker, three times",
        partial(kill_workers, kind="presence"),
        (KILLED,),
    ),
    Fault(
        "kill-history", "SIGKILL to the history worker, three times", partial(kill_workers, kind="history"), (KILLED,)
    ),
    Fault(
        "freeze-persistence",
        "SIGSTOP to the busier of two persistence workers for 20 s",
        partial(freeze_busiest, kind="persistence"),
        (STALLED,),
    ),
    Fault(
        "freeze-unread",
        "SIGSTOP to the busier of two unread workers for 20 s",
        partial(freeze_busiest, kind="unread"),
        (STALLED,),
        workers={"unread": 2},
    ),
    Fault(
        "freeze-presence",
        "SIGSTOP to one of two presence workers for 20 s, and short visits meanwhile",
        freeze_presence,
        (STALLED,),
        workers={"presence": 2},
    ),
    *(
        Fault(
            f"cut-{kind}",
            f"one of two {kind} workers without its store for 20 s",
            partial(cut_from_store, kind=kind),
            (REQUEUED,),
            workers={kind: 2},
        )
        for kind in CUT
    ),
    Fault(
        "return-at-grace",
        "200 users who return as their absence is reported, and SIGKILL to the presence worker",
        return_at_grace,
        (KILLED,),
    ),
    Fault("presence-away", "no presence worker for 60 s", remove_presence, (NO_LEASE,)),
)
