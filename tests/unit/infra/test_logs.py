"""The log lines of Warren's processes."""

import json
import subprocess
import sys

from infra.local.paths import ROOT

#: In a process of its own, because the logging of this one belongs to pytest.
PROGRAM = """
import logging
from infra import logs
logs.configure("edge", "{level}")
logging.getLogger("edge.app").info("Took %d sockets.", 3)
logging.getLogger("aiormq.connection").info("a frame")
logging.getLogger("aiormq.connection").warning("a broken frame")
"""


def lines(level: str) -> list[dict[str, str]]:
    """What a process at this level logs."""
    program = PROGRAM.format(level=level)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_line_is_json_with_time_level_logger_and_process() -> None:
    first, *_ = lines("INFO")
    assert first.pop("time")
    assert first == {"level": "INFO", "logger": "edge.app", "message": "Took 3 sockets.", "process": "edge"}


def test_libraries_log_warnings_only() -> None:
    assert [line["message"] for line in lines("INFO")] == ["Took 3 sockets.", "a broken frame"]
    assert [line["message"] for line in lines("DEBUG")] == ["Took 3 sockets.", "a broken frame"]


def test_a_level_is_a_lower_bound_for_libraries_too() -> None:
    assert lines("ERROR") == []
