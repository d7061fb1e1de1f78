"""`python -m contracts`: writes the files that are generated from the contracts; with `--check`, only compares them.

It refuses a wire format that is not compatible with the version before it.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from contracts import asyncapi, schema, snapshot

DOCS = Path(__file__).resolve().parents[1] / "docs"


def generated() -> dict[Path, str]:
    """Every generated file with its text. The same contracts always give the same bytes. Raises Incompatible."""
    wire = snapshot.expected(snapshot.CHANGELOG.read_text(), snapshot.stored())
    return {
        DOCS / "schema" / "protocol.json": _text(schema.client_schema()),
        DOCS / "asyncapi.json": _text(asyncapi.document()),
        snapshot.SNAPSHOTS / f"{wire['version']}.json": _text(wire),
    }


def stale() -> list[Path]:
    """The generated files that are out of date or missing."""
    return [file for file, text in generated().items() if not file.is_file() or file.read_text() != text]


def main(arguments: list[str] | None = None) -> int:
    """Write or compare the files. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m contracts", description="Write docs/schema, docs/asyncapi.json and contracts/snapshots."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a file is out of date")
    check = parser.parse_args(arguments).check
    try:
        files = stale()
    except snapshot.Incompatible as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for file in files:
        if check:
            sys.stderr.write(f"{_short(file)} is out of date: run `make docs`.\n")
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(generated()[file])
        sys.stdout.write(f"Wrote {_short(file)}.\n")
    return 1 if check and files else 0


def _short(file: Path) -> Path:
    return Path(*file.parts[-3:]) if file.parent != DOCS else file.relative_to(DOCS.parent)


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
