"""`python -m infra canary`: two synthetic users chat through two edges once a second, and measure every step.

All messages go into one direct conversation. After `RESET_AT` messages, about 2 MB of disk, the conversation is deleted
from the store and starts again, so it never grows beyond that. Only the synthetic users are in it. Without access to
the store it is not deleted, and grows by some 20 MB a day.
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

#: Seconds until a token of the canary's own expires. The edge then closes the socket, and it reconnects with a new one.
TOKEN_TTL = 86_400
#: Messages in the conversation after which it is deleted: almost three hours of messages, deleted in seconds.
RESET_AT = 10_000


async def delete_conversation(store: Store, conversation_id: str, user_ids: Sequence[str]) -> None:
    """Delete a conversation from the store if exactly these users are in it; do nothing otherwise.

    Messages are deleted first: after a crash, the header is still there and the next call deletes the rest. Inbox
    entries are deleted last: no worker writes one for a conversation without a header. Returns when no worker has the
    header in its cache. Raises StoreUnavailable.
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
        list[str] | None,
        typer.Option(help="URL of an edge; give it twice, once for each user. Default: the edges of `make run`."),
    ] = None,
    port: Annotated[
        int, typer.Option(help="Port of /metrics, /readyz and /healthz; 0 = no port.", min=0, max=65_535)
    ] = 0,
    host: Annotated[str, typer.Option(help="Listen address of that port.")] = "127.0.0.1",
    interval: Annotated[float, typer.Option(help="Seconds between two messages.", min=0.1)] = 1.0,
    name: Annotated[str, typer.Option(help="Prefix of the user ids: NAME-1 and NAME-2.")] = "canary",
    token_file: Annotated[
        list[Path] | None,
        typer.Option(
            help="File with a token; give it twice, once for each user. It is read at each connection. "
            "Default: tokens are signed with WARREN_JWT_SECRET.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    reset: Annotated[
        bool,
        typer.Option(
            "--reset/--no-reset",
            help="Delete the conversation every 10,000 messages and start it again; needs MongoDB.",
        ),
    ] = True,
) -> None:
    """Send a message through two edges once a second, and export as metrics how long each step takes.

    Needs the edges, and MongoDB unless --no-reset.
    """
    edges = edge or ["http://127.0.0.1:8001", "http://127.0.0.1:8002"]
    users = [f"{name}-{number}" for number in (1, 2)]
    if token_file is not None and len(token_file) != len(users):
        raise typer.BadParameter("give two files, or none", param_hint="--token-file")
    if find_spec("aiohttp") is None:
        raise typer.BadParameter("python-socketio's client needs aiohttp: install warren[canary]")
    run(_main(edges, users, token_file, (host, port), interval, reset=reset))


async def _main(
    edges: Sequence[str],
    users: Sequence[str],
    token_files: Sequence[Path] | None,
    address: tuple[str, int],
    interval: float,
    *,
    reset: bool,
) -> None:
    # Imported only here: the client library is slow to import, and no other command needs it.
    from infra.synthetic_users import Account, Canary  # noqa: PLC0415

    settings = load(Settings)
    logs.configure("canary", settings.log_level)
    first, second = (
        Account(user_id, edges[number % len(edges)], _token(user_id, token_files[number] if token_files else None))
        for number, user_id in enumerate(users)
    )

    async def on_stored(conversation_id: str, seq: int) -> bool:
        if not reset or seq < RESET_AT:
            return False
        store = Store(settings)
        try:
            await delete_conversation(store, conversation_id, users)
        except StoreUnavailable as error:
            log.warning("The conversation could not be deleted; the next round tries again: %s", error)
            return False
        finally:
            await store.close()
        log.info("The conversation was deleted after %d messages and starts again.", seq)
        return True

    canary = Canary((first, second), interval, on_stored)

    async def readiness() -> str | None:
        return canary.not_ready_reason

    await serve(canary.run(), readiness, host=address[0], port=address[1])


def _token(user_id: str, file: Path | None) -> Callable[[], str]:
    """A function that returns a user's token. Raises SettingsError or NoSecret now, not at the first connection."""
    if file is not None:
        return lambda: file.read_text().strip()
    settings = load(EdgeSettings)
    make_token(settings, user_id, ttl=TOKEN_TTL)
    return lambda: make_token(settings, user_id, ttl=TOKEN_TTL)
