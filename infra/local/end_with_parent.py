"""Runs a program in place of itself; the kernel kills that program once the process that started it is gone.

Only Linux can do this. Elsewhere the program runs all the same, and outlives a parent that was killed.
Usage: `python -I -S end_with_parent.py PARENT PROGRAM ARGUMENT...`, with PARENT the pid of who starts this.
"""

import ctypes
import os
import signal
import sys

#: Asks the kernel for a signal when the parent ends (linux/prctl.h); a program that takes our place keeps it.
PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Become the program. Ends with a sentence when it cannot be run, or when the parent is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the kernel knew
            sys.exit(f"{command[0]} is not run: its parent {parent} is gone.")
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores both, and the program would inherit that
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - without a shell
    except OSError as error:
        sys.exit(f"{command[0]} cannot be run: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
