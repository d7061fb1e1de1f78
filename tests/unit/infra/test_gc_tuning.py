"""The garbage collector of a long-running process."""

import gc
import subprocess
import sys

from infra.local.paths import ROOT

#: In a process of its own, because what is frozen stays so for the tests that follow.
PROGRAM = """
import gc
from infra import gc_tuning
gc_tuning.tune()
print(gc.get_threshold(), gc.get_freeze_count() > 1_000)
"""


def test_what_exists_is_exempt_and_collections_are_rare() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "(50000, 20, 50) True\n"
    assert gc.get_threshold() != (50_000, 20, 50)
