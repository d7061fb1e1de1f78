"""`python -m infra canary`: two synthetic users chat through two edges once a second, so that someone knows first.

All of it goes into the one direct conversation that these two have. Once `FORGOTTEN_AT` messages are there, about 2 MB
of disk, the whole conversation is removed from the store and begins anew: it never grows beyond that. Nobody else is in
it, so nobody misses it. Without access to the store it grows by some 20 MB a day.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from contracts.errors import StoreUnavailable
from infra import logs
from infra.cli.console import run, serve
from infra.settings import EdgeSettings, Settings, load
from infra.store.client import CACHE_SECONDS, Store
from infra.store.conversations import Conversations
from infra.store.inboxes import Inboxes
from infra.store.messages import Messages
from infra.tokens import make_token

log = logging.getLogger(__name__)

#: Seconds that a token of its own lives; after that the edge closes the socket, and a fresh one is made.
TOKEN_TTL = 86_400
#: Messages in the conversation after which it begins anew: not quite three hours of them, gone in seconds.
FORGOTTEN_AT = 10_000


async def forget(store: Store, conversation_id: str, user_ids: Sequence[str]) -> None:
    """Remove a conversation that only these users are in from the store; any other is left alone.

    Messages go first: whoever dies in between finds the header again. Inbox entries go last: no worker writes one for a
    conversation without a header. Returns when no worker remembers it. Raises StoreUnavailable.
    """
    conversations = Conversations(store)
    header = (await conversations.headers([conversation_id])).get(conversation_id)
    if header is None or set(header.user_ids) != set(user_ids):
        return
    await Messages(store).delete_all(conversation_id)
    await conversations.delete(conversation_id)
    await Inboxes(store).delete(conversation_id, user_ids)
    await asyncio.sleep(CACHE_SECONDS)


# --- The command ------------------------------------------------------------------------------------------


def command(
    edge: Annotated[
        list[str] | None, typer.Option(help="Address of an edge; twice as a rule; left out, those of `make run`.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port of /metrics, /readyz and /healthz; 0 = none.", min=0, max=65_535)] = 0,
    host: Annotated[str, typer.Option(help="Address of that port.")] = "127.0.0.1",
    interval: Annotated[float, typer.Option(help="Seconds between two messages.", min=0.1)] = 1.0,
    name: Annotated[str, typer.Option(help="The two users are called NAME-1 and NAME-2.")] = "canary",
    token_file: Annotated[
        list[Path] | None,
        typer.Option(
            help="File with a token of the first, then of the second user, read at each connect. "
            "Left out, tokens are made with WARREN_JWT_SECRET.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    forgets: Annotated[
        bool, typer.Option("--forget/--no-forget", help="Begin it anew every 10,000 messages; needs the store.")
    ] = True,
) -> None:
    """Chat with itself through two edges once a second, and export what that takes."""
    edges = edge or ["http://127.0.0.1:8001", "http://127.0.0.1:8002"]
    users = [f"{name}-{number}" for number in (1, 2)]
    if token_file is not None and len(token_file) != len(users):
        raise typer.BadParameter("give two of them, or none", param_hint="--token-file")
    if find_spec("aiohttp") is None:
        raise typer.BadParameter("python-socketio's client needs aiohttp here: install warren[canary]")
    run(_main(edges, users, token_file, (host, port), interval, forgets=forgets))


async def _main(
    edges: Sequence[str],
    users: Sequence[str],
    token_files: Sequence[Path] | None,
    address: tuple[str, int],
    interval: float,
    *,
    forgets: bool,
) -> None:
    # Only who runs it needs the client library, which is slow to import.
    from infra.synthetic_users import Account, Canary  # noqa: PLC0415

    settings = load(Settings)
    logs.configure("canary", settings.log_level)
    first, second = (
        Account(user_id, edges[number % len(edges)], _token(user_id, token_files[number] if token_files else None))
        for number, user_id in enumerate(users)
    )

    async def on_stored(conversation_id: str, seq: int) -> bool:
        if not forgets or seq < FORGOTTEN_AT:
            return False
        store = Store(settings)
        try:
            await forget(store, conversation_id, users)
        except StoreUnavailable as error:
            log.warning("The conversation could not begin anew; the next round tries again: %s", error)
            return False
        finally:
            await store.close()
        log.info("The conversation begins anew after %d messages.", seq)
        return True

    canary = Canary((first, second), interval, on_stored)

    async def readiness() -> str | None:
        return canary.not_ready_reason

    await serve(canary.run(), readiness, host=address[0], port=address[1])


def _token(user_id: str, file: Path | None) -> Callable[[], str]:
    """Where a user's tokens come from. Raises SettingsError or NoSecret at once, and not at the first connect."""
    if file is not None:
        return lambda: file.read_text().strip()
    settings = load(EdgeSettings)
    make_token(settings, user_id, ttl=TOKEN_TTL)
    return lambda: make_token(settings, user_id, ttl=TOKEN_TTL)
