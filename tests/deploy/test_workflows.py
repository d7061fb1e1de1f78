"""What GitHub and git run and show: workflows, templates and hooks are valid, and use the targets of developers."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.processes import ROOT, run
from tests.faults.registry import FAULTS

MAKEFILE = (ROOT / "Makefile").read_text()
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


def test_the_templates_of_issues_are_valid() -> None:
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    run("check-jsonschema", "--builtin-schema", "vendor.github-issue-forms", folder / "bug.yml", folder / "feature.yml")
    run("check-jsonschema", "--builtin-schema", "vendor.github-issue-config", folder / "config.yml")


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
    targets = set(re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.MULTILINE))
    named = {target for line in re.findall(r"^make ([^A-Z\n]+)", commands(), re.MULTILINE) for target in line.split()}
    assert named <= targets
    assert {"check", "test", "audit", "faults", "wheel"} <= named
    (faults,) = re.findall(r'make faults ARGS="([^"]+)"', commands())
    assert set(faults.split()) <= set(FAULTS)
    assert [path for path in re.findall(r"tests/[\w/]+", commands()) if not (ROOT / path).exists()] == []


def test_the_image_is_tried_with_the_page_and_by_the_operator() -> None:
    image = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["image"]
    # Edges serve the page in development mode only.
    assert (image["env"]["WARREN_DEV"], image["env"]["WARREN_DEV_EXPOSED"]) == ("true", "true")
    # No other service has the operator's secrets and networks.
    operated = re.findall(r"(\S+) python -m infra .+$", commands(), re.MULTILINE)
    assert set(operated) == {"operator"}


def test_tests_run_on_every_python_that_is_supported() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert 'requires-python = ">=3.11,<3.14"' in (ROOT / "pyproject.toml").read_text()


def test_hooks_run_the_parts_of_make_check_and_download_nothing() -> None:
    file = ROOT / ".pre-commit-config.yaml"
    run("pre-commit", "validate-config", file)
    repositories = yaml.safe_load(file.read_text())["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    hooks = [hook for repository in repositories for hook in repository["hooks"]]
    # A hook in any other language gets an environment of its own, with packages from the network.
    assert {hook["language"] for hook in hooks} == {"unsupported"}
    (checks,) = re.findall(r"^CHECKS := (.+)$", MAKEFILE, re.MULTILINE)
    assert [hook["entry"] for hook in hooks] == [f"make {check}" for check in (*checks.split(), "unit")]
