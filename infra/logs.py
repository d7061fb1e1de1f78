"""Logs: one JSON object per line on standard error, with the name of the process."""

import logging
import sys

from pythonjsonlogger.json import JsonFormatter


def configure(process: str, level: str) -> None:
    """Log everything of this process to standard error as JSON. Nothing logs tokens or message bodies."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            static_fields={"process": process},
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # At INFO, these libraries log each frame, or each request with its query string.
    for library in ("aiormq", "aio_pika", "uvicorn", "engineio", "socketio", "httpx", "pymongo", "asyncio"):
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLogger().level))
