"""`python -m edge`: runs one edge. It serves until SIGTERM or SIGINT, then drains and exits."""

import asyncio
import signal
import sys

import uvloop

from edge.app import Edge
from infra import logs, tracing
from infra.settings import EdgeSettings, SettingsError, load


async def run(settings: EdgeSettings) -> None:
    """Run the edge until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    edge = Edge(settings)
    tracing.start(settings, "edge", edge.edge_id)
    await edge.run(stopping)


def main() -> None:
    """Read the settings and run the edge. Exits with a sentence when a setting is wrong."""
    try:
        settings = load(EdgeSettings)
        logs.configure(f"edge {settings.edge_port}", settings.log_level)
        uvloop.run(run(settings))
    except SettingsError as error:
        sys.exit(str(error))
    finally:
        tracing.current.stop()


if __name__ == "__main__":
    main()
