"""Ask the kernel to kill this process when its parent dies, then become another program.

Run as `python -I -S die_with_parent.py PARENT_PID PROGRAM ARGUMENT...`: a step of its own between fork and exec,
because Python code after a fork is unsafe in a process with threads. Elsewhere than on Linux the lease alone fences.
"""

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, program: list[str]) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            sys.exit(1)
    os.execvp(program[0], program)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
