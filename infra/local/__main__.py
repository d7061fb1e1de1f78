"""`python -m infra.local start|stop|status`: RabbitMQ and MongoDB on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from infra.local.errors import LocalServiceError
from infra.local.paths import STACK
from infra.local.rabbitmq import RabbitNode
from infra.local.services import Services, ensure_services, running_services, stop_services

app = typer.Typer(help="RabbitMQ and MongoDB on this machine.", no_args_is_help=True, add_completion=False)

Directory = Annotated[Path, typer.Option(help="Directory for their data, logs and state.", show_default=False)]


@app.command()
def start(directory: Directory = STACK) -> None:
    """Start both, unless they run or are given by WARREN_AMQP_URL and WARREN_MONGO_URL, and print their URLs."""
    try:
        services = ensure_services(directory, keep=True)
    except LocalServiceError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo(describe(services))


@app.command()
def stop(directory: Directory = STACK) -> None:
    """Stop those of both that were started from here."""
    typer.echo("Stopped." if stop_services(directory) else "Nothing was running.")


@app.command()
def status(directory: Directory = STACK) -> None:
    """Print which of both run, and whether they answer."""
    running = running_services(directory)
    for service in running:
        url = service.amqp_url if isinstance(service, RabbitNode) else service.url
        typer.echo(f"{type(service).__name__:12}{url}  {'answers' if service.answers() else 'does not answer'}")
    if not running:
        typer.echo("Nothing is running.")


def describe(services: Services) -> str:
    """Return the addresses of both services for people, one on each line."""
    return f"RabbitMQ  {services.amqp_url}\nConsole   {services.management_url}\nMongoDB   {services.mongo_url}"


if __name__ == "__main__":
    app()
