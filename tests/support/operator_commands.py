"""Runs `python -m infra …` in this process, as an operator would type it."""

import os
from collections.abc import Mapping

from typer.testing import CliRunner, Result

from infra.__main__ import app

#: Wide enough that no sentence is broken.
COLUMNS = "250"


def operate(*arguments: str, typed: str = "", env: Mapping[str, str] | None = None) -> Result:
    """Run a command with these variables and no others of ours; `typed` is what the operator answers."""
    others: dict[str, str | None] = {name: None for name in os.environ if name.startswith("WARREN_")}
    return CliRunner().invoke(app, arguments, typed, env={**others, "COLUMNS": COLUMNS, "NO_COLOR": "1", **(env or {})})
