"""`python -m infra token`: signs a token, in development."""

import sys
from typing import Annotated

import typer

from contracts.errors import WarrenError
from infra.settings import EdgeSettings, load
from infra.tokens import make_token


def command(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    name: Annotated[str | None, typer.Option(help="Name that other users see; default: the id.")] = None,
    ttl: Annotated[int, typer.Option(help="Seconds until it expires.", min=1)] = 86_400,
) -> None:
    """Print a token for a user. Development only: needs WARREN_DEV and WARREN_JWT_SECRET."""
    try:
        settings = load(EdgeSettings)
        if not settings.dev or settings.jwt_secret is None:
            sys.exit("This command works in development only: set WARREN_DEV=true and WARREN_JWT_SECRET.")
        sys.stdout.write(make_token(settings, user, name=name, ttl=ttl) + "\n")
    except WarrenError as error:
        sys.exit(str(error))
