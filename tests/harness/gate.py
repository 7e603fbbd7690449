"""A way to a server that can be shut and opened again: what a proxy sees of a server that stops and comes back on its port."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

from phiproxy.demo.postgres import free_port


class Gate:
    """Forwards connections to ``host:port`` while it is open; shut, it refuses new ones, and has ended those there were."""

    host = "127.0.0.1"

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listening: socket.socket | None = None
        self._carried: set[socket.socket] = set()
        self.port = free_port()  # not one of those that connections go out by: while it is shut nobody may take it

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.shut()

    def open(self) -> None:
        """Listen, on the same port as before."""
        self._listening = socket.create_server((self.host, self.port))
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def shut(self) -> None:
        """Refuse and end everything."""
        listening, self._listening = self._listening, None
        if listening is not None:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listening.close()
        self._end()

    def _end(self) -> None:
        for sock in list(self._carried):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            self._carried |= {client, server}
            if self._listening is not listening:  # it was shut meanwhile
                self._end()
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        self._carried.discard(source)
        # Each direction closes what it has read to the end; the other one may still write to it until then.
        source.close()
