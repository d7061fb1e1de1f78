"""`make audit`: finds known vulnerabilities in dependencies, and unsafe code in our own.

A check that could not be made is reported: a service for vulnerabilities that does not answer is no good news. With
`--strict`, which a release uses, such a check fails the audit.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from packaging.markers import Marker
from packaging.utils import NormalizedName, canonicalize_name
from typing_extensions import override

ROOT = Path(__file__).resolve().parents[1]
#: Seconds for one tool.
LIMIT = 180
#: Folders with a package-lock.json.
JAVASCRIPT = ("web", "tests/js")


@dataclass(frozen=True)
class Finding:
    """What one check says: things to mend, or why it could not be made."""

    check: str
    wrong: tuple[str, ...] = ()
    not_checked: str = ""

    @override
    def __str__(self) -> str:
        if self.wrong:
            return "\n  ".join([f"{self.check}: {len(self.wrong)} found", *self.wrong])
        return f"{self.check}: NOT CHECKED: {self.not_checked}" if self.not_checked else f"{self.check}: nothing found"


def main() -> None:
    """Make every check and print what it says; exit 1 for findings, 3 for what a strict audit could not check."""
    findings = []
    for check in (code, consistency, lock, python_packages, *(lambda f=f: javascript_packages(f) for f in JAVASCRIPT)):
        finding = check()
        findings.append(finding)
        sys.stdout.write(f"{finding}\n")
        sys.stdout.flush()
    if any(finding.wrong for finding in findings):
        sys.exit(1)
    if "--strict" in sys.argv and any(finding.not_checked for finding in findings):
        sys.exit(3)


def code() -> Finding:
    """Our own code by the rules of flake8-bandit, as ruff has them; exceptions carry their reason beside them."""
    # An assert states an invariant here; nothing that a client sends is checked by one.
    rules = ("--select=S", "--ignore=S101")
    packages = ("contracts", "edge", "infra", "workers")
    done = run(sys.executable, "-m", "ruff", "check", *rules, "--output-format=concise", "--quiet", *packages)
    return Finding("code", tuple(done.stdout.splitlines()) if done.returncode else ())


def consistency() -> Finding:
    """Whether every installed package has what it asks for."""
    done = run(sys.executable, "-m", "pip", "check", "--disable-pip-version-check")
    return Finding("installed packages agree", tuple(done.stdout.splitlines()) if done.returncode else ())


def lock() -> Finding:
    """Whether every line of requirements.lock carries hashes, and what is installed has the version it says."""
    locked = dict(pinned((ROOT / "requirements.lock").read_text()))
    installed = {canonicalize_name(found.name): found.version for found in distributions()}
    wrong = [f"{name} {version} carries no hash" for name, (version, hashes) in locked.items() if not hashes]
    wrong += [
        f"{name} is {installed[name]}, the lock says {version}"
        for name, (version, _) in locked.items()
        if name in installed and installed[name] != version
    ]
    return Finding("lock", tuple(wrong))


def pinned(text: str) -> Iterator[tuple[NormalizedName, tuple[str, int]]]:
    """Name, version and number of hashes of each requirement that counts on this machine."""
    for requirement in re.split(r"\n(?=\S)", text):
        found = re.match(r"([\w.-]+)(?:\[[^]]*\])?==([^\s;\\]+)(?:\s*;\s*([^\\]+?))?\s*(?:\\|$)", requirement)
        if found is not None and (found[3] is None or Marker(found[3]).evaluate()):
            yield canonicalize_name(found[1]), (found[2], requirement.count("--hash=sha256:"))


def python_packages() -> Finding:
    """Known vulnerabilities of everything in requirements.lock, by pip-audit."""
    program = Path(sys.prefix) / "audit" / "bin" / "pip-audit"
    if not program.exists():
        return Finding("Python packages", not_checked="pip-audit is not installed; `make audit` does that")
    done = run(str(program), "--require-hashes", "--disable-pip", "--requirement=requirements.lock", "--format=json")
    return read_pip_audit(done.stdout, done.stderr)


def read_pip_audit(output: str, errors: str = "") -> Finding:
    """What pip-audit says; packages that its service does not know are skipped, and it exits as if all were well."""
    check = "Python packages"
    try:
        dependencies = json.loads(output)["dependencies"]
    except (ValueError, KeyError):
        return Finding(check, not_checked=last_line(errors) or "pip-audit says nothing")
    wrong = tuple(
        f"{found['name']} {found['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version'}"
        for found in dependencies
        for flaw in found.get("vulns", ())
    )
    skipped = [found for found in dependencies if "skip_reason" in found]
    reason = f"{len(skipped)} of {len(dependencies)}: {skipped[0]['skip_reason']}" if skipped else ""
    return Finding(check, wrong, reason)


def javascript_packages(folder: str) -> Finding:
    """Known vulnerabilities of a package-lock.json, by npm."""
    try:
        done = run("npm", "audit", "--json", cwd=ROOT / folder)
    except FileNotFoundError:
        return Finding(f"JavaScript packages of {folder}", not_checked="npm is not installed")
    return read_npm_audit(folder, done.stdout)


def read_npm_audit(folder: str, output: str) -> Finding:
    """What npm says; where the registry does not answer it says so in `message`."""
    check = f"JavaScript packages of {folder}"
    try:
        answer = json.loads(output)
    except ValueError:
        return Finding(check, not_checked="npm says nothing")
    flaws = answer.get("vulnerabilities")
    if flaws is None:
        return Finding(check, not_checked=str(answer.get("message", "npm says nothing of vulnerabilities")))
    return Finding(check, tuple(f"{name}: {flaw['severity']}, {flaw['range']}" for name, flaw in flaws.items()))


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else ""


def run(*command: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """Run a tool to its end, whatever it finds."""
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=LIMIT)


if __name__ == "__main__":
    main()
