"""What pyproject.toml cannot say: a wheel holds the web client if it is built, and does without it otherwise."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

#: Where `make web` builds it. An edge finds it here in a checkout, else in its own package (edge/endpoints.py).
PAGE = Path(__file__).parent / "web" / "dist"


class BuildWithPage(build_py):
    """Copies the page beside the edge's modules."""

    def run(self) -> None:
        """Build the packages, then add the page; an editable install reads it from the checkout."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, "edge", "page")
        # The folder `build` outlives a build, and the names of the page's files change with their contents.
        shutil.rmtree(target, ignore_errors=True)
        if PAGE.is_dir():
            shutil.copytree(PAGE, target, ignore=shutil.ignore_patterns(".*"))


setup(cmdclass={"build_py": BuildWithPage})
