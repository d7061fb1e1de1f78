"""The rules of the tests, read from their source: where they are, what they share, and that no module lacks one."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
FILES = sorted(TESTS.rglob("*.py"))
TEST_FILES = [file for file in FILES if file.name.startswith("test_")]
#: Programs in `tests/` that have tests of their own.
PROGRAMS = ("tests.abuse", "tests.faults")

#: What has a test for each module, in the same place under `tests/unit`.
MIRRORED = ("contracts", "edge", "infra", "infra/broker", "infra/cli", "infra/store", "infra/tracing", "workers")
#: Modules whose test has another name or another place: a real broker or store, a deployment, or all of one kind.
TESTED_BY = {
    "contracts/__main__.py": "unit/contracts/test_generated.py",
    "contracts/acks.py": "unit/contracts/test_generated.py",
    "contracts/asyncapi.py": "unit/contracts/test_generated.py",
    "contracts/commands.py": "unit/contracts/test_payloads.py",
    "contracts/facts.py": "unit/contracts/test_codec.py",
    "contracts/frames.py": "unit/contracts/test_codec.py",
    "contracts/models.py": "unit/workers/test_views.py",
    "contracts/pushes.py": "unit/contracts/test_generated.py",
    "contracts/reports.py": "unit/contracts/test_codec.py",
    "contracts/schema.py": "unit/contracts/test_generated.py",
    "contracts/snapshot.py": "unit/contracts/test_compatibility.py",
    "contracts/text.py": "unit/contracts/test_payloads.py",
    "contracts/values.py": "unit/contracts/test_payloads.py",
    "edge/__main__.py": "integration/test_readiness.py",
    "edge/app.py": "integration/test_readiness.py",
    "edge/unconfirmed_reports.py": "unit/edge/test_sessions.py",
    "infra/__main__.py": "unit/infra/cli/test_arguments.py",
    "infra/broker/channel.py": "integration/test_broker.py",
    "infra/broker/dead_letters.py": "integration/test_dead_letters.py",
    "infra/broker/declare.py": "integration/test_topology_check.py",
    "infra/broker/link.py": "integration/test_broker.py",
    "infra/broker/publisher.py": "integration/test_broker.py",
    "infra/cli/block.py": "e2e/test_blocked_users.py",
    "infra/cli/canary.py": "integration/test_canary.py",
    "infra/cli/recount.py": "integration/test_unread.py",
    "infra/cli/secrets.py": "deploy/test_secrets.py",
    "infra/metrics.py": "unit/test_architecture.py",
    "infra/store/conversations.py": "integration/test_persistence.py",
    "infra/store/inboxes.py": "integration/test_unread.py",
    "infra/store/messages.py": "integration/test_persistence.py",
    "infra/store/sessions.py": "integration/test_presence.py",
    "infra/store/users.py": "integration/test_search.py",
    "infra/synthetic_users.py": "integration/test_canary.py",
    "workers/__main__.py": "integration/test_readiness.py",
    "workers/confirmed_headers.py": "integration/test_terms.py",
    "workers/history.py": "integration/test_history.py",
    "workers/persistence.py": "integration/test_persistence.py",
    "workers/presence.py": "integration/test_presence.py",
    "workers/runner.py": "integration/test_runner.py",
    "workers/unread.py": "integration/test_unread.py",
}
#: Lines above which a test says what is given, what happens, and what follows from it.
SHORT = 10
STEP = re.compile(r"# (Given|When|Then|And|While|But)\b")


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def modules() -> Iterator[str]:
    """Every module that needs a test, by its path."""
    for package in MIRRORED:
        for file in sorted((ROOT / package).glob("*.py")):
            if file.name != "__init__.py":
                yield name_of(file)


def mirrors(module: str) -> list[Path]:
    """The tests that have a module's name: `test_link.py`, `test_link_outages.py`."""
    path = Path(module)
    folder = TESTS / "unit" / path.parent
    return [*folder.glob(f"test_{path.stem}.py"), *folder.glob(f"test_{path.stem}_*.py")]


@pytest.mark.parametrize("module", list(modules()))
def test_every_module_has_a_test_of_its_name_or_one_that_is_named_here(module: str) -> None:
    if module in TESTED_BY:
        assert (TESTS / TESTED_BY[module]).exists(), f"there is no tests/{TESTED_BY[module]} any more"
    else:
        assert mirrors(module), f"tests/unit/{Path(module).parent}/test_{Path(module).stem}.py is missing"


def test_the_table_names_no_module_that_is_gone_or_has_a_test_of_its_name() -> None:
    assert [module for module in TESTED_BY if module not in modules() or mirrors(module)] == []


def imports(file: Path) -> Iterator[ast.ImportFrom]:
    yield from (node for node in ast.walk(parsed(file)) if isinstance(node, ast.ImportFrom))


def test_tests_go_through_the_public_door() -> None:
    private = [
        f"{name_of(file)} imports {node.module}.{alias.name}"
        for file in FILES
        for node in imports(file)
        if str(node.module).split(".")[0] in ("contracts", "edge", "infra", "workers")
        for alias in node.names
        if re.match(r"_(?!_)", alias.name)
    ]
    assert private == []


def test_what_tests_share_is_in_tests_support() -> None:
    elsewhere = [
        f"{name_of(file)} imports {node.module}"
        for file in FILES
        for node in imports(file)
        if str(node.module).startswith("tests.")
        and not str(node.module).startswith(("tests.support", ".".join(file.relative_to(ROOT).parent.parts), *PROGRAMS))
    ]
    assert elsewhere == []


def test_tests_of_the_product_do_not_need_these_programs() -> None:
    users = {name_of(file) for file in FILES for node in imports(file) if str(node.module).startswith(PROGRAMS)}
    own = tuple(f"tests/{unit}{program.split('.')[1]}/" for program in PROGRAMS for unit in ("", "unit/"))
    elsewhere = {name for name in users if not name.startswith(own)}
    # The workflows run each fault by its name.
    assert elsewhere <= {"tests/deploy/test_workflows.py"}


def test_no_test_uses_a_mock_library() -> None:
    assert [name_of(file) for file in FILES if re.search(r"\bimport \S*mock|\bfrom \S*mock", file.read_text())] == []


def steps_are_missing(lines: list[str], test: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a test is long and says nowhere what is given, what happens or what follows."""
    assert test.end_lineno is not None
    body = [line for line in lines[test.body[0].lineno - 1 : test.end_lineno] if line.strip()]
    return len(body) > SHORT and not any(STEP.search(line) for line in lines[test.lineno - 1 : test.end_lineno])


def test_a_long_test_says_given_when_then() -> None:
    silent = [
        f"{name_of(file)}: {node.name}"
        for file in TEST_FILES
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        if steps_are_missing(file.read_text().splitlines(), node)
    ]
    assert silent == []
