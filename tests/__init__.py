"""Tests, and the tools that measure and break Warren."""

import os

# Tests say how wide the terminal is. What these variables say when rich is first used would win over that, and a
# conftest.py may use it, so they are removed before any of them is imported.
for variable in ("COLUMNS", "LINES"):
    os.environ.pop(variable, None)
