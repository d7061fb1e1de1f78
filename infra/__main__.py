"""`python -m infra`: what an operator does from a shell."""

import asyncio
import json
import sys
import time
from collections.abc import Coroutine
from typing import Annotated, Any

import jwt
import typer
from rich.console import Console
from rich.table import Table

from contracts.errors import WarrenError
from contracts.topology import EXCHANGES, QUEUES
from infra import broker, management
from infra.declare import declare_topology
from infra.recount import recount_all
from infra.settings import EdgeSettings, Settings, load
from infra.store import Store, guarded

app = typer.Typer(no_args_is_help=True, help="Operate Warren.")
topology = typer.Typer(no_args_is_help=True, help="Exchanges, queues and bindings.")
app.add_typer(topology, name="topology")
console = Console()


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run one command; what goes wrong in a known way is one sentence."""
    try:
        asyncio.run(work)
    except WarrenError as error:
        sys.exit(str(error))


@topology.command("apply")
def topology_apply() -> None:
    """Declare every exchange, queue and binding; repeating it changes nothing."""
    _run(broker.once(load(Settings), declare_topology))
    console.print(f"Declared {len(EXCHANGES)} exchanges and {len(QUEUES)} queues.")


@topology.command("show")
def topology_show() -> None:
    """Show what `apply` declares."""
    table = Table("queue", "bound to", "arguments")
    for queue in QUEUES:
        bindings = "\n".join(f"{exchange} ← {key}" for exchange, key in queue.bindings)
        table.add_row(queue.name, bindings, "\n".join(f"{name} = {value}" for name, value in queue.arguments.items()))
    console.print(table)


@app.command()
def status() -> None:
    """Show each queue: messages ready and unacked, consumers, and rates per second."""

    async def show() -> None:
        table = Table(
            "queue", *(f"{column}" for column in ("ready", "unacked", "consumers", "in/s", "out/s", "acked/s"))
        )
        for queue in await management.queues(load(Settings)):
            row = (queue.ready, queue.unacked, queue.consumers)
            rates = (queue.published, queue.delivered, queue.acked)
            table.add_row(queue.name, *(str(number) for number in row), *(f"{rate:.1f}" for rate in rates))
        console.print(table)

    _run(show())


@app.command()
def token(
    user: str,
    name: Annotated[str | None, typer.Option(help="Shown to others.")] = None,
    ttl: Annotated[int, typer.Option(help="Seconds until it expires.", min=1)] = 86_400,
) -> None:
    """Print a token for someone. Development only: needs WARREN_DEV and WARREN_JWT_SECRET."""
    try:
        settings = load(EdgeSettings)
    except WarrenError as error:
        sys.exit(str(error))
    if not settings.dev or settings.jwt_secret is None:
        sys.exit("Tokens are made here in development only: set WARREN_DEV=true and WARREN_JWT_SECRET.")
    claims = {"sub": user, "name": name or user, "exp": int(time.time()) + ttl}
    claims |= {"iss": settings.jwt_issuer} if settings.jwt_issuer else {}
    claims |= {"aud": settings.jwt_audience} if settings.jwt_audience else {}
    claims |= {settings.jwt_verified_claim: True} if settings.jwt_verified_claim else {}
    sys.stdout.write(jwt.encode(claims, settings.jwt_secret.get_secret_value(), algorithm="HS256") + "\n")


@app.command()
def recount(
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Rebuild every header's newest message and every inbox from the messages; print how many differed."""

    async def rebuild() -> None:
        store = Store(load(Settings))
        try:
            result = await recount_all(store)
        finally:
            await store.close()
        if as_json:
            sys.stdout.write(json.dumps(result.__dict__) + "\n")
        else:
            console.print(
                f"{result.conversations} conversations: {result.headers_differed} headers and "
                f"{result.inboxes_differed} inbox entries differed."
            )

    _run(rebuild())


@app.command()
def block(user: str) -> None:
    """Forbid someone to write: their messages are refused as `forbidden`."""
    _run(_set_blocked(user, True))


@app.command()
def unblock(user: str) -> None:
    """Allow someone to write again."""
    _run(_set_blocked(user, False))


async def _set_blocked(user: str, blocked: bool) -> None:
    store = Store(load(Settings))
    try:
        async with guarded():
            result = await store.users.update_one({"_id": user}, {"$set": {"blocked": blocked}})
    finally:
        await store.close()
    if not result.matched_count:
        sys.exit(f"Nobody called {user} has ever been here.")
    console.print(f"{user} may {'not ' if blocked else ''}write.")


if __name__ == "__main__":
    app()
