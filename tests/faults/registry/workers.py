"""Faults of workers: killed, frozen, or missing."""

import asyncio
from functools import partial

from infra.local.stack import WorkerKind
from infra.local.supervisor import Process
from tests.faults.context import DOWN, FROZEN, Context, Fault
from tests.faults.symptoms import Symptom

#: How often a worker is killed in one run, so that one of the kills interrupts a batch.
KILLS = 3
#: Seconds without a presence worker.
NO_PRESENCE = 60.0
#: Seconds until a presence worker that judges too early has done so: longer than a lease.
JUDGING = 25.0

#: A killed worker: the process is a new one, and the log has no line that the old one stops.
KILLED = Symptom("process_start_time_seconds", "starts.")
REDELIVERED = Symptom("warren_worker_redelivered_total", "were redelivered: their first consumer is gone")
STALLED = Symptom("warren_process_stalls_total", "This process stalled for")
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


async def freeze_worker(context: Context) -> None:
    """Freeze a persistence worker in the middle of a batch; it resumes when another worker has stored that batch."""
    await freeze(context, context.rng.choice(context.stack.workers["persistence"]))


async def remove_presence(context: Context) -> None:
    """Stop all presence workers for a minute; no push may say that a connected user is offline."""
    before = sum(len(client.offline_pushes) for client in context.traffic.clients)
    for worker in context.stack.workers["presence"]:
        await context.stack.kill(worker)
    await asyncio.sleep(NO_PRESENCE)
    for worker in context.stack.workers["presence"]:
        await context.stack.restart(worker)
    await asyncio.sleep(JUDGING)
    offline = [user for client in context.traffic.clients for user in client.offline_pushes][before:]
    context.notes.append(f"{len(offline)} pushes said that somebody went offline")
    context.complaints += [f"{user} was connected, and a push said offline" for user in offline]


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
    Fault("freeze-worker", "SIGSTOP to one of two persistence workers for 20 s", freeze_worker, (STALLED,)),
    Fault("presence-away", "no presence worker for 60 s", remove_presence, (NO_LEASE,)),
)
