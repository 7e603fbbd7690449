"""A first look at the cost of the proxy: prepared point selects, side by side in one run.

    .venv/bin/python benchmarks/point_select.py [SELECTS]

Direct, through a bare uvloop byte forwarder (the limit for a proxy in Python), through phiproxy unprotected, and through it by
tag with three protected columns opened. The four take turns in rounds, so that a machine whose speed drifts slows them alike. One
client, so these are latencies; the benchmark suite with throughput, CPU time and other proxies comes later.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import uvloop

from phiproxy.demo import clinic
from phiproxy.demo.postgres import EmbeddedPostgres, free_port
from phiproxy.demo.run import Demo

ROUNDS = 9
PLAIN = "SELECT id, city, registered_on FROM patients WHERE id = $1"
BY_TAG = "SELECT ssn, full_name, phone FROM patients WHERE ssn = $1"


class Pipe(asyncio.Protocol):
    """One side of the forwarder."""

    def __init__(self) -> None:
        self.other: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Pass the bytes on."""
        if self.other.done():
            self.other.result().write(data)
        else:
            self.other.add_done_callback(lambda other: other.result().write(data))

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other side."""
        if self.other.done():
            self.other.result().close()


class Door(Pipe):
    """The client's side: connects to the server when it is made."""

    port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the server's side."""
        super().connection_made(transport)
        self._task = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        there, pipe = await asyncio.get_running_loop().create_connection(Pipe, "127.0.0.1", self.port)
        assert self.transport is not None
        pipe.other.set_result(self.transport)
        self.other.set_result(there)


def forward(port: int, server_port: int) -> None:
    """Run the forwarder in this process, forever."""

    async def main() -> None:
        Door.port = server_port
        server = await asyncio.get_running_loop().create_server(Door, "127.0.0.1", port)
        await server.serve_forever()

    uvloop.run(main())


async def measure(lines: dict[str, tuple[int, str, str, object]], user: str, password: str, selects: int) -> dict[str, list[float]]:
    """Return microseconds per select, one number a round, for each line."""
    statements = {}
    for name, (port, database, query, argument) in lines.items():
        conn = await asyncpg.connect(host="127.0.0.1", port=port, user=user, password=password, database=database)
        statements[name] = (await conn.prepare(query), argument)
    taken: dict[str, list[float]] = {name: [] for name in lines}
    for _ in range(ROUNDS):
        for name, (statement, argument) in statements.items():
            begin = time.perf_counter()
            for _ in range(selects):
                await statement.fetch(argument)
            taken[name].append((time.perf_counter() - begin) / selects * 1e6)
    return taken


def main() -> None:
    """Set the clinic up, measure, and print a table."""
    if sys.argv[1:2] == ["--forward"]:
        forward(int(sys.argv[2]), int(sys.argv[3]))
        return
    selects = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as home, EmbeddedPostgres() as server:
        demo = Demo(server, Path(home), free_port())
        demo.prepare()
        with demo.serving():
            _, _, ssn = demo.load()
            port = free_port()
            forwarder = subprocess.Popen([sys.executable, __file__, "--forward", str(port), str(server.port)])
            time.sleep(1)
            lines: dict[str, tuple[int, str, str, object]] = {
                "direct": (server.port, clinic.DATABASE, PLAIN, 7),
                "byte forwarder": (port, clinic.DATABASE, PLAIN, 7),
                "phiproxy, unprotected": (demo.port, clinic.DATABASE, "SELECT oid, relname FROM pg_class WHERE oid = $1", 1259),
                "phiproxy, by tag, 3 columns opened": (demo.port, clinic.DATABASE, BY_TAG, ssn),
            }
            try:
                taken = asyncio.run(measure(lines, "clinic_app", demo.password, selects))
            finally:
                forwarder.kill()
                forwarder.wait()
    limit = statistics.median(taken["byte forwarder"])
    print("| | µs per select (median, min to max of rounds) | against the forwarder |\n|---|---|---|")  # noqa: T201
    for name, rounds in taken.items():
        median = statistics.median(rounds)
        print(f"| {name} | {median:.0f} ({min(rounds):.0f} to {max(rounds):.0f}) | {median / limit:.2f} |")  # noqa: T201


if __name__ == "__main__":
    main()
