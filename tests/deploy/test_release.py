"""Releases: their notes come from the changelog, and one version stands everywhere."""

import pytest

from tests.support.scripts import script

release = script("release")

CHANGELOG = """# Changelog

## [Unreleased]

### Added

- Not yet.

## [1.10.0] - 2026-02-01

### Changed

- A line that is
  broken in two.
- Another.

## [1.1.0] - 2026-01-01

## [1.0.0] - 2025-12-01

- The first.
"""


def test_the_notes_of_a_version_are_its_own_section_with_whole_lines() -> None:
    assert release.notes("1.10.0", CHANGELOG) == "### Changed\n\n- A line that is broken in two.\n- Another.\n"
    assert release.notes("1.0.0", CHANGELOG) == "- The first.\n"


@pytest.mark.parametrize("version", ["1.1.0", "1.1", "2.0.0", "Unreleased"])
def test_a_version_without_notes_has_none(version: str) -> None:
    assert release.notes(version, CHANGELOG) is None


def test_one_version_stands_everywhere() -> None:
    assert len(set(release.versions().values())) == 1, release.versions()


@pytest.mark.parametrize("tag", ["", "1.0.0", "v1.0", "v01.0.0", "v1.0.0+build", "vlatest"])
def test_a_tag_that_is_no_semantic_version_is_refused(tag: str) -> None:
    assert [problem for problem in release.problems(tag) if "no tag of a release" in problem]


def test_a_version_that_is_not_ready_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = "\n".join(release.problems("v99.0.0-rc.1"))
    assert "pyproject.toml says 0." in found
    assert "CHANGELOG.md has nothing" in found
    monkeypatch.setattr(release, "versions", lambda: {"pyproject.toml": "1.10.0"})
    assert [problem for problem in release.problems("v1.10.0") if "pyproject" in problem] == []
