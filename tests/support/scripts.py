"""The scripts in .ci: no package, so tests load them by their path."""

import importlib.util
import sys
from types import ModuleType

from infra.local.paths import ROOT


def script(name: str) -> ModuleType:
    """The module of `.ci/NAME.py`."""
    spec = importlib.util.spec_from_file_location(f"ci_{name}", ROOT / ".ci" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    # Data classes look for their module here while it is loaded.
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
