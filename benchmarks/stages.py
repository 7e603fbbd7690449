"""What each stage of one statement costs by itself, without sockets: microseconds of process time, the least of many rounds."""

from __future__ import annotations

from benchmarks import session_core, statement_costs
from benchmarks.statement_costs import Cost, least, timed
from phiproxy.wire.fields import compile_rows
from phiproxy.wire.framing import FrameBuffer
from tests.session import frames as f
from tests.session.screenplay import CIPHERS, SSN, envelope

MANY = 200
SECRET = b"078-05-1120"


def parts(rounds: int) -> dict[str, float]:
    """Return what framing, crypto and a row cost."""
    message = f.bind(SECRET, statement="s") + f.execute() + f.SYNC

    def framing(_n: int) -> None:
        frames = FrameBuffer()
        frames.feed(message)
        while (frame := frames.next()) is not None:
            frames.advance(frame[2])

    sealed, store, opener, draw = envelope(SSN, SECRET), CIPHERS.stores([SSN])[SSN], CIPHERS.open(SSN), CIPHERS.draw
    search = CIPHERS.search(SSN, SSN.slots[0], SSN.type)
    (record,) = draw(SSN.scope, 1)
    fields = f.data_row(*[b"value"] * 10)
    rows = compile_rows([(i, lambda data, begin, end: data[begin:end]) for i in (1, 2, 3)], 10)
    return {
        "framing: Bind, Execute and Sync": least(rounds, lambda: timed(MANY, framing)),
        "crypto: a record key": least(rounds, lambda: timed(MANY, lambda _n: draw(SSN.scope, 1))),
        "crypto: a tag": least(rounds, lambda: timed(MANY, lambda _n: search(SECRET))),
        "crypto: a value sealed, with one tag": least(rounds, lambda: timed(MANY, lambda _n: store(SECRET, record))),
        "crypto: a value opened, its record key known": least(rounds, lambda: timed(MANY, lambda _n: opener(sealed))),
        "row: 10 columns, 3 of them touched, without crypto": least(
            rounds, lambda: timed(MANY, lambda _n: rows(fields, 0, len(fields), []))
        ),
    }


def statements(rounds: int) -> list[Cost]:
    """Return what plan lookup, analysis and bind cost, statement by statement."""
    return statement_costs.measure(rounds)


def conversations(rounds: int) -> dict[str, float]:
    """Return what the whole session core costs, query by query."""
    return {case.name: session_core.measure(case, rounds) for case in session_core.cases()}
