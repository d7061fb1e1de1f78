"""RabbitMQ 4, which production runs, in a Debian root that debootstrap makes once. The system's RabbitMQ stays.

Programs of the root see our directory and the temporary one under their usual paths, so a `RabbitNode` of
version 4 is used like any other.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from infra.local import install
from infra.local.errors import LocalServiceError
from infra.local.paths import STACK

#: The Debian release that has RabbitMQ 4.0.
RELEASE = "trixie"

#: Seconds that making the root may take; it is under a minute and some 100 MB to fetch where the mirror is near.
MAKE_LIMIT = 900

#: Runs the script of its own name inside the root, as the same process, with nothing of it left mounted afterwards.
WRAPPER = """\
#!/bin/sh
exec unshare --mount sh -c '
    for seen in {seen} /dev; do mkdir -p {root}"$seen" && mount --rbind "$seen" {root}"$seen" || exit 1; done
    mount -t proc proc {root}/proc || exit 1
    exec chroot {root} "$@"' sh /usr/lib/rabbitmq/bin/"$(basename "$0")" "$@"
"""


def scripts(directory: Path = STACK) -> Path:
    """Return a directory of RabbitMQ 4's scripts, and make the root first where there is none.

    Raises LocalServiceError with one sentence where that is not possible, for example without root's rights.
    """
    if os.geteuid() != 0:
        raise LocalServiceError("RabbitMQ 4 is run from a Debian root, which takes root's rights: use sudo.")
    home = directory.resolve() / "rabbitmq4"
    root, wrappers = home / "root", home / "bin"
    if not root.exists():
        _make(root)
    wrappers.mkdir(exist_ok=True)
    seen = shlex.join([str(directory.resolve()), tempfile.gettempdir()])
    for name in ("rabbitmq-server", "rabbitmqctl"):
        wrapper = wrappers / name
        wrapper.write_text(WRAPPER.format(root=shlex.quote(str(root)), seen=seen))
        wrapper.chmod(0o755)
    tried = subprocess.run([wrappers / "rabbitmqctl", "help"], capture_output=True, text=True, check=False)
    if tried.returncode:
        raise LocalServiceError(f"RabbitMQ 4 cannot be run from its root (may this machine mount?): {tried.stderr}")
    return wrappers


def _make(root: Path) -> None:
    """Have debootstrap make the root; an unfinished one is never used."""
    debootstrap = install.program("debootstrap")
    print(f"Making a Debian root with RabbitMQ 4 in {root}; this happens once and takes about a minute.", flush=True)
    half = root.with_name("half")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    command = [str(debootstrap), "--variant=minbase", "--include=rabbitmq-server", RELEASE, str(half)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=MAKE_LIMIT)
    if done.returncode:
        raise LocalServiceError(f"debootstrap failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
    half.rename(root)
