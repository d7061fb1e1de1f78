"""`python -m infra block` and `unblock`: forbid someone to write, and allow it again."""

import sys

from infra.cli.console import console, run
from infra.settings import Settings, load
from infra.store.client import Store
from infra.store.users import Users


def block(user: str) -> None:
    """Forbid someone to write: their messages are refused as `forbidden`."""
    run(_set_blocked(user, True))


def unblock(user: str) -> None:
    """Allow someone to write again."""
    run(_set_blocked(user, False))


async def _set_blocked(user: str, blocked: bool) -> None:
    store = Store(load(Settings))
    try:
        known = await Users(store).set_blocked(user, blocked)
    finally:
        await store.close()
    if not known:
        sys.exit(f"Nobody called {user} has ever been here.")
    console.print(f"{user} may {'not ' if blocked else ''}write.")
