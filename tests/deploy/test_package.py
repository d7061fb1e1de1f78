"""The Python package: it installs without Node and without a built page, and a wheel holds the page that is built."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.deploy.processes import ROOT, run

PACKAGES = ("contracts", "edge", "infra", "workers")
#: What a build reads, as in a fresh checkout.
SOURCES = (*PACKAGES, "setup.py", "pyproject.toml", "README.md", "LICENSE")
#: Needs no network: the packages that it depends on are those of the environment.
OFFLINE = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which nothing was built."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        else:
            shutil.copy(ROOT / name, folder)
    return folder


def pip(*arguments: str | Path) -> None:
    """Run pip without the network."""
    run("python", "-m", "pip", *arguments)


def start(installed: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run Python on what is installed in a folder, away from this checkout and its settings."""
    program = f"import runpy, site, sys; site.addsitedir({str(installed)!r}); sys.argv[1:] = {[*arguments[1:]]!r}; "
    program += f"runpy.run_module({arguments[0]!r}, run_name='__main__', alter_sys=True)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WARREN_", "PYTHON"))}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=installed, env=environment)


def starts(installed: Path) -> None:
    """Check that operators' commands are there, and that an edge names the setting that it lacks."""
    assert "topology" in start(installed, "infra", "--help").stdout
    assert "--edge" in start(installed, "infra", "load", "--help").stdout
    edge = start(installed, "edge")
    assert (edge.returncode, edge.stdout) == (1, "")
    assert "WARREN_JWT_SECRET" in edge.stderr


def wheel_of(checkout: Path) -> list[str]:
    """The names of the files in a wheel."""
    pip("wheel", *OFFLINE, "--wheel-dir", checkout.parent, checkout)
    (wheel,) = checkout.parent.glob("*.whl")
    return zipfile.ZipFile(wheel).namelist()


def test_it_installs_from_a_fresh_checkout(checkout: Path, tmp_path: Path) -> None:
    pip("install", *OFFLINE, "--target", tmp_path / "installed", checkout)
    starts(tmp_path / "installed")
    assert not (tmp_path / "installed" / "edge" / "page").exists()


def test_it_installs_editable_from_a_fresh_checkout(checkout: Path, tmp_path: Path) -> None:
    pip("install", *OFFLINE, "--prefix", tmp_path / "installed", "--editable", checkout)
    (installed,) = tmp_path.glob("installed/lib/python*/site-packages")
    starts(installed)
    assert not (installed / "edge").exists()


def test_a_wheel_holds_every_module_and_the_page_that_is_built(checkout: Path) -> None:
    # Given a built page
    page = checkout / "web" / "dist"
    (page / "assets").mkdir(parents=True)
    for name in (".built", "index.html", "assets/index-1.js"):
        (page / name).touch()
    # A build before this one left a file that the page has no more.
    left = checkout / "build" / "lib" / "edge" / "page" / "assets" / "index-0.js"
    left.parent.mkdir(parents=True)
    left.touch()

    # When a wheel is built, then it holds the page as it is now
    found = {name for name in wheel_of(checkout) if not name.startswith("warren-")}
    modules = {str(file.relative_to(checkout)) for package in PACKAGES for file in (checkout / package).rglob("*.py")}
    assert found == modules | {"edge/page/index.html", "edge/page/assets/index-1.js"}
