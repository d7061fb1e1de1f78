"""Logs: one JSON object a line on standard error, with the process's name in each."""

import logging
import sys

from pythonjsonlogger.json import JsonFormatter


def configure(process: str, level: str) -> None:
    """Send every log line of this process to standard error as JSON. Tokens and bodies are never logged."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            static_fields={"process": process},
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Their INFO tells each frame or each request, with its query string.
    for chatty in ("aiormq", "aio_pika", "uvicorn", "engineio", "socketio", "httpx", "pymongo", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))
