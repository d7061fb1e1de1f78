"""Where this checkout is, and where what runs on this machine for it keeps its files."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: Data, logs and state of everything that runs here; git ignores it.
STACK = ROOT / ".stack"

#: Logs of the processes of `make run` and `make cluster`, one file each.
LOGS = STACK / "logs"

#: Logs of every run of tests and measurements, one folder each.
RUNS = STACK / "runs"
