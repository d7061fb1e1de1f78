"""`python -m infra block` and `unblock`: forbid a user to write, and allow it again."""

import sys
from typing import Annotated

import typer

from infra.cli.console import console, run
from infra.settings import Settings, load
from infra.store.client import Store
from infra.store.users import Users


def block(user: Annotated[str, typer.Argument(help="The user's id.")]) -> None:
    """Block a user: messages, typing notices and new conversations are `forbidden` within 5 seconds. Needs MongoDB."""
    run(_set_blocked(user, True))


def unblock(user: Annotated[str, typer.Argument(help="The user's id.")]) -> None:
    """Unblock a user, within 5 seconds. Needs MongoDB."""
    run(_set_blocked(user, False))


async def _set_blocked(user: str, blocked: bool) -> None:
    store = Store(load(Settings))
    try:
        known = await Users(store).set_blocked(user, blocked)
    finally:
        await store.close()
    if not known:
        sys.exit(f"There is no user {user}: a user is known after the first connection.")
    console.print(f"{user} is {'blocked' if blocked else 'not blocked'}.")
