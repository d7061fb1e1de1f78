"""The machine and the versions of a run: figures mean little without them."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from infra.bench.peers.systems import NODE
from infra.local import install

#: Packages whose versions matter to the figures.
PACKAGES = ("aio-pika", "motor", "pymongo", "python-socketio", "uvicorn", "uvloop", "websockets")


def describe() -> dict[str, object]:
    """Date, processor, cores, memory in GiB, and the versions of what was measured."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "node": _version([str(NODE), "--version"]),
        "mongod": _version([str(install.mongod()), "--version"]),
        "redis": _version(["redis-server", "--version"]),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(command: list[str]) -> str:
    """The first word of a program's output that looks like a version."""
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return "none"
    words = said.replace("v=", "v").split()
    return next((word.lstrip("v") for word in words if word.lstrip("v")[:1].isdigit()), "unknown")
