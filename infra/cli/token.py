"""`python -m infra token`: a token for someone, in development."""

import sys
from typing import Annotated

import typer

from contracts.errors import WarrenError
from infra.settings import EdgeSettings, load
from infra.tokens import make_token


def command(
    user: str,
    name: Annotated[str | None, typer.Option(help="Shown to others.")] = None,
    ttl: Annotated[int, typer.Option(help="Seconds until it expires.", min=1)] = 86_400,
) -> None:
    """Print a token for someone. Development only: needs WARREN_DEV and WARREN_JWT_SECRET."""
    try:
        settings = load(EdgeSettings)
        if not settings.dev or settings.jwt_secret is None:
            sys.exit("Tokens are made here in development only: set WARREN_DEV=true and WARREN_JWT_SECRET.")
        sys.stdout.write(make_token(settings, user, name=name, ttl=ttl) + "\n")
    except WarrenError as error:
        sys.exit(str(error))
