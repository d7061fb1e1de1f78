"""The tree of errors, and the one table of codes that code and documents share."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from contracts import errors
from contracts.errors import RETRYABLE, Code, Refused, WarrenError

PROTOCOL = (Path(__file__).resolve().parents[3] / "docs" / "protocol.md").read_text()


def documented_codes() -> dict[str, bool]:
    """Each code in the table of docs/protocol.md, with whether the table calls it retryable."""
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (yes|no) \|$", PROTOCOL, flags=re.MULTILINE)
    return {code: retryable == "yes" for code, retryable in rows}


def test_every_code_is_in_the_protocol_with_its_flag() -> None:
    assert documented_codes() == {code.value: code in RETRYABLE for code in Code}


@pytest.mark.parametrize("code", Code)
def test_a_refusal_knows_whether_it_can_be_retried(code: Code) -> None:
    refusal = Refused(code, "No.", retry_after_ms=7, details=[{"field": "f", "reason": "r"}])
    assert refusal.code is code
    assert refusal.error.retryable is (code in RETRYABLE)
    assert (refusal.error.retry_after_ms, refusal.error.details) == (7, [{"field": "f", "reason": "r"}])
    assert str(refusal) == refusal.error.message == "No."


def test_every_error_of_ours_is_in_the_tree_at_the_top_of_the_module() -> None:
    ours = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert ours == {"WarrenError", *re.findall(r"[├└]── (\w+)", inspect.getdoc(errors) or "")}
    assert all(issubclass(getattr(errors, name), WarrenError) for name in ours)


def test_every_error_says_when_it_is_raised() -> None:
    classes = [node for node in ast.parse(inspect.getsource(errors)).body if isinstance(node, ast.ClassDef)]
    derived = [node for node in classes if any(ast.unparse(base) == "WarrenError" for base in node.bases)]
    assert derived
    assert [node.name for node in derived if not (ast.get_docstring(node) or "").startswith("Raised when ")] == []
