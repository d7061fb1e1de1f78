"""The audit never takes silence for good news."""

import json
from pathlib import Path

import pytest

from tests.support.scripts import script

audit = script("audit")


def test_a_vulnerability_is_found() -> None:
    flaw = {"id": "PYSEC-1", "fix_versions": ["2.0"]}
    finding = audit.read_pip_audit(json.dumps({"dependencies": [{"name": "a", "version": "1.0", "vulns": [flaw]}]}))
    assert finding.wrong == ("a 1.0: PYSEC-1, mended in 2.0",)
    flaws = {"b": {"severity": "high", "range": "<3"}}
    assert audit.read_npm_audit("web", json.dumps({"vulnerabilities": flaws})).wrong == ("b: high, <3",)


def test_a_package_that_the_service_does_not_know_counts_as_not_checked() -> None:
    known = {"name": "a", "version": "1.0", "vulns": []}
    unknown = {"name": "b", "skip_reason": "Dependency not found on PyPI"}
    finding = audit.read_pip_audit(json.dumps({"dependencies": [known, unknown]}))
    assert finding.not_checked == "1 of 2: Dependency not found on PyPI"
    assert "NOT CHECKED" in str(finding)
    assert str(audit.read_pip_audit(json.dumps({"dependencies": [known]}))) == "Python packages: nothing found"


def test_a_service_that_does_not_answer_counts_as_not_checked() -> None:
    assert (
        audit.read_pip_audit("", "Traceback\nConnectionError: no such host").not_checked
        == "ConnectionError: no such host"
    )
    assert audit.read_npm_audit("web", '{"message": "405 Method Not Allowed"}').not_checked == "405 Method Not Allowed"
    assert audit.read_npm_audit("web", "").not_checked


def test_the_lock_is_read_with_hashes_and_markers() -> None:
    text = """\
a[x]==1.0 \\
    --hash=sha256:00 \\
    --hash=sha256:01
    # via b
B_c==2.0 ; sys_platform == "none"
d==3
"""
    assert dict(audit.pinned(text)) == {"a": ("1.0", 2), "d": ("3", 0)}


def test_what_is_installed_is_what_the_lock_says() -> None:
    assert audit.lock().wrong == ()


@pytest.mark.parametrize("file", ["requirements.lock", "infra/deploy/requirements.lock"])
def test_a_lock_names_no_place_to_download_from(file: str) -> None:
    text = (Path(__file__).parents[2] / file).read_text()
    assert [line for line in text.splitlines() if "://" in line or line.startswith("-")] == []
