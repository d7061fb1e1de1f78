"""What a deployment starts: programs that check it, and its processes with the settings that each of them reads."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from infra.settings import EdgeSettings, Settings, SettingsError, WorkerSettings, load

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "infra" / "deploy"


def run(program: str, *arguments: str | Path) -> str:
    """Run a program that a wheel of ours carries, and return what it prints; the test fails with that if it fails."""
    command = [str(Path(sys.executable).with_name(program)), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, f"{program} says:\n{done.stdout}{done.stderr}"
    return done.stdout


def settings_of(command: Sequence[str]) -> type[Settings]:
    """What the process that a container's command starts reads."""
    if command == ["sleep", "infinity"]:  # People start commands of `infra` in it.
        return Settings
    python, flag, module, *arguments = command
    assert (python, flag) == ("python", "-m"), f"{command} starts none of our modules"
    # The canary makes tokens as edges accept them.
    as_edge = module == "edge" or arguments[:1] == ["canary"]
    return EdgeSettings if as_edge else {"workers": WorkerSettings, "infra": Settings}[module]


def misfits(command: Sequence[str], environment: Mapping[str, str], secrets: Path | None) -> list[str]:
    """What is wrong with the variables of a process, in sentences. `secrets` is what WARREN_SECRETS_DIR stands for.

    Each must belong to its settings; what is required must be there, in a variable or a file; and the process must
    accept them all.
    """
    settings = settings_of(command)
    ours = {name: value for name, value in environment.items() if name.startswith("WARREN_")}
    files = {file.name for file in secrets.iterdir()} if secrets is not None else set()
    # An operator's folder serves all that operators do.
    known = {f"WARREN_{name.upper()}" for name in (EdgeSettings if settings is Settings else settings).model_fields}
    wrong = [f"{name} is no setting of {' '.join(command)}" for name in sorted((set(ours) | files) - known)]
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WARREN_")]:
            patch.delenv(name)
        for name, value in (ours | ({"WARREN_SECRETS_DIR": str(secrets)} if secrets is not None else {})).items():
            patch.setenv(name, value)
        try:
            load(settings)
        except SettingsError as error:
            wrong.append(f"{' '.join(command)} would not start: {error}")
    return wrong
