"""Nothing of the protocol goes untested: every error code is seen from outside, every table is the code's."""

import importlib
import inspect
from functools import cache
from pathlib import Path

import pytest

from contracts.acks import ACKS
from contracts.commands import CLIENT_EVENTS
from contracts.errors import RETRYABLE, Code
from contracts.pushes import PUSHES
from tests.support import protocol


@cache
def answered() -> dict[str, list[str]]:
    """For each code, the tests that see it from outside; the `people` fixture checks that they do."""
    found: dict[str, list[str]] = {}
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"tests.e2e.{file.stem}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            for mark in getattr(function, "pytestmark", []):
                if mark.name == "answers":
                    for code in mark.args:
                        found.setdefault(code, []).append(f"{file.stem}.{name}")
    return found


@pytest.mark.parametrize("code", Code)
def test_every_error_code_is_seen_by_a_test(code: Code) -> None:
    assert answered().get(code), f"no test is marked with @pytest.mark.answers(Code.{code.name})"


def test_the_protocols_table_of_codes_is_the_codes() -> None:
    assert {code.value: code in RETRYABLE for code in Code} == protocol.RETRYABLE


def test_the_protocols_events_are_the_codes() -> None:
    assert set(protocol.ACKS) == set(ACKS) == set(CLIENT_EVENTS)


def test_the_protocols_pushes_are_the_codes() -> None:
    assert set(protocol.PUSHES) == set(PUSHES)
