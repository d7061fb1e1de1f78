"""`python .ci/release.py v1.2.3`: prints the notes of a release from CHANGELOG.md, or why it cannot be released.

Needs nothing but Python. Run it before you tag a release; the workflow that publishes it runs it again.
"""

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Semantic Versioning 2.0.0, without build metadata: a release has none.
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?")
#: Where the version of the image stands, and how it is found there.
IMAGES = {
    "infra/deploy/compose.yaml": r"warren:(\S+)}$",
    "infra/deploy/kubernetes/base/kustomization.yaml": r"newTag: (\S+)$",
    "infra/deploy/kubernetes/overlays/small/kustomization.yaml": r"newTag: (\S+)$",
    "infra/deploy/kubernetes/overlays/production/kustomization.yaml": r"newTag: (\S+)$",
}


def main(tag: str) -> None:
    """Print the notes of a tag, or what keeps it from being a release."""
    if missing := list(problems(tag)):
        sys.exit("\n".join(missing))
    sys.stdout.write(notes(tag.removeprefix("v"), (ROOT / "CHANGELOG.md").read_text()) or "")


def problems(tag: str) -> Iterator[str]:
    """What keeps this tag from being a release, in sentences."""
    version = tag.removeprefix("v")
    if not tag.startswith("v") or not VERSION.fullmatch(version):
        yield f"{tag} is no tag of a release: that is v and a semantic version, such as v1.2.3 or v1.2.3-rc.1."
        return
    for place, found in versions().items():
        if found != version:
            yield f"{place} says {found}, and not {version}."
    if notes(version, (ROOT / "CHANGELOG.md").read_text()) is None:
        yield f"CHANGELOG.md has nothing under a heading `## [{version}] - YYYY-MM-DD`."


def versions() -> dict[str, str]:
    """Every place that says which version this is, with what it says."""
    found = {
        "pyproject.toml": tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"],
        "web/package.json": json.loads((ROOT / "web" / "package.json").read_text())["version"],
    }
    for file, pattern in IMAGES.items():
        (found[file],) = re.findall(pattern, (ROOT / file).read_text(), re.MULTILINE)
    return found


def notes(version: str, changelog: str) -> str | None:
    """What the changelog says of a version, or None where it says nothing. Lines are joined as GitHub shows them."""
    sections = re.split(r"^## ", changelog, flags=re.MULTILINE)
    heading = re.compile(rf"\[{re.escape(version)}\] - \d{{4}}-\d{{2}}-\d{{2}}\n")
    for section in sections:
        if heading.match(section):
            body = heading.sub("", section, count=1).strip()
            # GitHub breaks lines where they are broken; a paragraph and an item of a list are one line each.
            return re.sub(r"(?<=\S)\n(?! *[-#|\n]) *", " ", body) + "\n" if body else None
    return None


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) == 2 else "")
