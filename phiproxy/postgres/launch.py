"""Run a program as another user, without core files, not outliving its parent; run by path, so it must import nothing of phiproxy.

``python -I launch.py UID GID PARENT PROGRAM ARGS…``: ``-`` for UID and GID keeps the user; a PARENT that is a number
asks the kernel (Linux only) to send SIGINT, PostgreSQL's fast shutdown, when that parent dies. An exec wrapper and not
``preexec_fn``, because code between fork and exec may dead-lock in a process that has threads, and Python 3.12 warns.
"""

import ctypes
import os
import resource
import signal
import sys

# ctypes is imported at the top: once the user is changed, an interpreter below a 0700 home can import no more.
PR_SET_PDEATHSIG = 1


def become(uid: str, gid: str) -> None:
    """Give up every group and the user id, in the order in which that is still allowed."""
    if uid == "-":
        return
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))
    os.umask(0o077)


def die_with(parent: str) -> None:
    """Ask for SIGINT at the parent's death. Must follow ``become``: a change of credentials clears the request."""
    if parent == "-" or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
    if os.getppid() != int(parent):  # it died before the request was made
        sys.exit(1)


def forbid_core_dumps() -> None:
    """Have the kernel write no core: 1 byte at most, since where a program takes cores it ignores a limit of 0 (fs/coredump.c)."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    except (ValueError, OSError):  # it was 0 already, and may not be raised
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(arguments: list[str]) -> None:
    """Become the user, then the program, which leaves no core file: that would hold what it computed with."""
    uid, gid, parent, program, *rest = arguments
    forbid_core_dumps()
    become(uid, gid)
    die_with(parent)
    try:
        os.execv(program, [program, *rest])  # noqa: S606 - no shell is wanted
    except OSError as exc:
        sys.exit(f"{program}: {exc.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
