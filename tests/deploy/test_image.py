"""infra/deploy/Dockerfile: well made, and with all that Warren's processes import, as it was tested."""

import ast
import re
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from typing_extensions import override

from infra.deploy import ready
from infra.settings import EdgeSettings, WorkerSettings
from tests.deploy.processes import DEPLOY, ROOT, run

DOCKERFILE = DEPLOY / "Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = ("contracts", "edge", "infra", "workers")
#: What is for developers' machines: private services, benchmarks, and the generator of Grafana's page.
NOT_IN_IMAGES = ("infra/bench/", "infra/local/", "infra/deploy/dashboard.py", "infra/deploy/panels.py")
#: Imports the load generator only in functions, once it has checked that its libraries are installed.
IMPORTS_LATE = "infra/cli/load.py"


def locked(file: Path) -> dict[str, str]:
    """Each package of a lock with its version and its hashes, as one text."""
    entries = re.findall(
        r"^([a-z0-9-]+)==([^\s;]+)(?: ;[^\\]*)?((?: *\\\n    --hash=\S+)+)", file.read_text(), re.MULTILINE
    )
    return {
        name: f"{version} {' '.join(sorted(re.findall(r'sha256:[0-9a-f]+', hashes)))}"
        for name, version, hashes in entries
    }


def test_hadolint_finds_nothing() -> None:
    run("hadolint", DOCKERFILE)


def test_everything_that_is_copied_is_sent_to_the_builder() -> None:
    let_in = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = [
        source
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
        for source in sources.split()
    ]
    assert [source for source in copied if not (ROOT / source).exists()] == []
    assert [source for source in copied if source.split("/")[0] not in let_in] == []


def test_base_images_are_pinned_and_the_last_one_is_not_root() -> None:
    text = DOCKERFILE.read_text()
    for image in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        assert re.search(r":\d+\.\d+\.\d+-slim-\w+$|:\d+\.\d+\.\d+-\w+-slim$", image), image
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["10001:10001"]


def test_the_image_says_only_what_is_a_setting_and_listens_where_it_asks() -> None:
    given = dict(re.findall(r"(WARREN_\w+)=(\S+)", DOCKERFILE.read_text()))
    known = {f"WARREN_{name.upper()}" for settings in (EdgeSettings, WorkerSettings) for name in settings.model_fields}
    assert set(given) <= known
    assert given["WARREN_EDGE_PORT"] == given["WARREN_WORKER_PORT"] == str(ready.PORT)
    assert f"EXPOSE {ready.PORT}\n" in DOCKERFILE.read_text()


def test_the_lock_of_the_image_is_a_part_of_the_one_that_is_tested() -> None:
    image, tested = locked(DEPLOY / "requirements.lock"), locked(ROOT / "requirements.lock")
    assert len(image) > 30
    assert {name: what for name, what in image.items() if tested.get(name) != what} == {}


def test_the_image_has_every_library_that_its_processes_import() -> None:
    have = set(locked(DEPLOY / "requirements.lock"))
    distributions = packages_distributions()
    lacking = {
        f"{file} imports {name}"
        for file in in_images()
        for name in imported(file)
        if not have & {canonicalize_name(found) for found in distributions.get(name, ())}
    }
    assert lacking == set()


def test_no_process_of_an_image_imports_what_is_for_developers_only() -> None:
    forbidden = tuple(name.removesuffix(".py").rstrip("/").replace("/", ".") for name in NOT_IN_IMAGES)
    wrong = {
        f"{file} imports {name}"
        for file in in_images()
        for node in nodes_that_run(file)
        for name in names_imported(node)
        if name.startswith(forbidden)
    }
    assert wrong == set()


def nodes_that_run(file: str) -> Iterator[ast.AST]:
    """The nodes of a module that a process in an image may come to."""
    module = ast.parse((ROOT / file).read_text())
    yield from module.body if file == IMPORTS_LATE else ast.walk(module)


def in_images() -> list[str]:
    """Every module of ours that a process in an image may import."""
    files = sorted(str(file.relative_to(ROOT)) for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
    return [file for file in files if not file.startswith(NOT_IN_IMAGES)]


def imported(file: str) -> Iterator[str]:
    """The libraries that a module needs to be imported: neither ours nor Python's own."""
    for node in ast.parse((ROOT / file).read_text()).body:
        for name in names_imported(node):
            top = name.split(".")[0]
            if top not in sys.stdlib_module_names and top not in PACKAGES:
                yield top


def names_imported(node: ast.AST) -> list[str]:
    """What an import statement imports, each by its full name; nothing for any other node."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


# --- HEALTHCHECK ------------------------------------------------------------------------------------------


@contextmanager
def answering(status: int, text: str) -> Iterator[int]:
    """A port at which /readyz answers so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(text.encode())

        @override
        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_container_is_healthy_when_its_process_can_serve() -> None:
    with answering(200, "ready\n") as port:
        ready.main(port)


def test_one_that_is_not_says_why() -> None:
    with answering(503, "no connection to the broker\n") as port, pytest.raises(SystemExit) as ended:
        ready.main(port)
    assert ended.value.code == "no connection to the broker"
    with pytest.raises(SystemExit, match="no answer on port"):
        ready.main(port)
