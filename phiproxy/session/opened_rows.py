"""What opens the rows of a result: compiled when the first of them comes, and kept for the rest."""

from phiproxy.plan.result_columns import Columns
from phiproxy.session.pipeline import Expected
from phiproxy.session.state import State
from phiproxy.wire.encodings import UTF8
from phiproxy.wire.fields import RowsFunction


def opener_of(session: State, front: Expected, columns: Columns) -> RowsFunction:
    """Return what opens the rows of the result that comes now: for this run of them, since no later one looks at the clock."""
    encoding = session.text.encoding or UTF8
    # One Expected stands for many executions, between which the server may tell of another encoding.
    if front.opener is None or front.ciphers is None or front.encoding is not encoding:
        front.encoding, ciphers = encoding, session.planner.ciphers
        front.ciphers = ciphers
        front.opener = columns.rows(ciphers, binary=front.binary, formats=front.formats, styles=front.styles, encoding=encoding)
    front.ciphers.look_at_clock()
    return front.opener
