"""`python -m contracts`: writes what is generated from the contracts to docs/; with `--check`, only compares."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from contracts import asyncapi, schema

DOCS = Path(__file__).resolve().parents[1] / "docs"


def generated() -> dict[Path, str]:
    """Every generated file with its text: the same contracts always give the same bytes."""
    return {
        DOCS / "schema" / "protocol.json": _text(schema.client_schema()),
        DOCS / "asyncapi.json": _text(asyncapi.document()),
    }


def stale() -> list[Path]:
    """The files that are not what the contracts say, missing ones included."""
    return [file for file, text in generated().items() if not file.is_file() or file.read_text() != text]


def main(arguments: list[str] | None = None) -> int:
    """Write or compare; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m contracts", description="Write docs/schema and docs/asyncapi.json."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a file is stale")
    check = parser.parse_args(arguments).check
    for file in stale():
        if check:
            sys.stderr.write(f"{file.relative_to(DOCS.parent)} is stale: run `make docs`.\n")
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(generated()[file])
        sys.stdout.write(f"Wrote {file.relative_to(DOCS.parent)}.\n")
    return 1 if check and stale() else 0


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
