"""`python -m infra status`: messages, consumers and rates of each queue."""

from rich.table import Table

from infra.broker import management
from infra.cli.console import console, run
from infra.settings import Settings, load


def command() -> None:
    """Show each queue: messages ready and unacked, consumers, and rates per second. Needs RabbitMQ's management API."""
    run(_show())


async def _show() -> None:
    table = Table("queue", "ready", "unacked", "consumers", "in/s", "out/s", "acked/s")
    for queue in await management.queues(load(Settings)):
        counts = (queue.ready, queue.unacked, queue.consumers)
        rates = (queue.published, queue.delivered, queue.acked)
        table.add_row(queue.name, *(str(count) for count in counts), *(f"{rate:.1f}" for rate in rates))
    console.print(table)
