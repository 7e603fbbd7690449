"""``python -I -S fork_client.py NAME ARGUMENTS``: ``phiproxy ARGUMENTS`` as a fork of the process that listens at NAME (forks.py).

It imports nothing but what is small: starting it is to cost no time.
"""

import json
import os
import signal
import socket
import struct
import sys

STATUS = struct.Struct("!i")
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(name: str, *arguments: str) -> None:
    """Have it forked, pass signals on to it, and end as it does."""
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # until it is known whose they are
    ours, theirs = socket.socketpair()
    order = {"arguments": arguments, "env": dict(os.environ), "directory": os.getcwd()}
    with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.connect(f"\0{name}")
        socket.send_fds(line, [json.dumps(order).encode()], [0, 1, 2, theirs.fileno()])
    pid = told(ours)
    for sign in PASSED_ON:
        signal.signal(sign, lambda number, _: os.kill(pid, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    code = told(ours)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def told(ours: socket.socket) -> int:
    """Return what the process between says next."""
    said = ours.recv(STATUS.size, socket.MSG_WAITALL)
    if len(said) != STATUS.size:
        sys.exit("the process that forks has ended")
    (number,) = STATUS.unpack(said)
    return int(number)


if __name__ == "__main__":
    main(*sys.argv[1:])
