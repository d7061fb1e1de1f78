"""The workflows of GitHub Actions: valid, pinned, with few rights, and only with commands that exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.processes import ROOT, run
from tests.faults.registry import FAULTS

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def commands() -> str:
    """Everything that a step of any workflow runs."""
    steps = [
        step.get("run", "")
        for file in WORKFLOWS
        for job in yaml.safe_load(file.read_text())["jobs"].values()
        for step in job.get("steps", ())
    ]
    return "\n".join(steps)


def test_actionlint_finds_nothing() -> None:
    run("actionlint", *WORKFLOWS)
    run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_actions_are_pinned_to_a_commit_and_say_which_version_that_is(file: Path) -> None:
    used = re.findall(r"uses: (.+)$", file.read_text(), re.MULTILINE)
    assert used
    pinned = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    assert [action for action in used if not pinned.fullmatch(action) and not action.startswith("./")] == []


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_may_only_read_unless_a_job_says_so_and_ends_by_itself(file: Path) -> None:
    workflow: dict[str, Any] = yaml.safe_load(file.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert [name for name, job in workflow["jobs"].items() if "uses" not in job and "timeout-minutes" not in job] == []


def test_workflows_run_what_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for line in re.findall(r"^make ([^A-Z\n]+)", commands(), re.MULTILINE) for target in line.split()}
    assert named <= targets
    assert {"lint", "types", "web-check", "audit", "faults"} <= named
    (faults,) = re.findall(r'make faults ARGS="([^"]+)"', commands())
    assert set(faults.split()) <= set(FAULTS)
    assert [path for path in re.findall(r"tests/[\w/]+", commands()) if not (ROOT / path).exists()] == []


def test_tests_run_on_every_python_that_is_supported() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert 'requires-python = ">=3.11,<3.14"' in (ROOT / "pyproject.toml").read_text()
