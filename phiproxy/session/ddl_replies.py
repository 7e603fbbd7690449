"""Replies to DDL that became a DO block: the client's command tag, and errors of its own statement in its own place."""

from collections.abc import Sequence

from phiproxy.effects import COUNT_STATE, MADE_TABLE
from phiproxy.session.pipeline import Expected, Kind

# Fields of an error: position; and inside of a function, position and text of the query there, and the stack of calls.
_POSITION, _INTERNAL_POSITION, _INTERNAL_QUERY, _WHERE = map(ord, "PpqW")
_STATE, _DETAIL = map(ord, "CD")


def tag_of(front: Expected) -> bytes:
    """Return what the client is told was done by the statement whose end comes now; empty where the server's tag is right."""
    if front.kind is Kind.QUERY:
        return front.parts[front.part].effects.tag if front.parts is not None and front.part < len(front.parts) else b""
    return front.plan.effects.tag if front.plan is not None else b""


def counts(front: Expected, fields: Sequence[tuple[int, bytes]]) -> bool:
    """Take a notice that only tells the proxy how many rows its DO block has made; False for any other."""
    by_code = dict(fields)
    if by_code.get(_STATE) != COUNT_STATE.encode() or tag_of(front) != MADE_TABLE or not by_code.get(_DETAIL, b"").isdigit():
        return False
    front.row_count = int(by_code[_DETAIL])
    return True


def ended(front: Expected) -> bytes:
    """Return ``tag_of`` the statement that ends now; what was counted is forgotten with it."""
    if front.row_count is None:
        return tag_of(front)
    count, front.row_count = front.row_count, None
    return b"SELECT %d" % count


def outside(fields: Sequence[tuple[int, bytes]], server_text: bytes) -> list[tuple[int, bytes]]:
    """Return the fields of an error in a DO block as if its statement had been sent by itself."""
    by_code = dict(fields)
    query, position = by_code.get(_INTERNAL_QUERY, b""), by_code.get(_INTERNAL_POSITION, b"")
    told = [(code, value) for code, value in fields if code not in (_INTERNAL_POSITION, _INTERNAL_QUERY, _WHERE)]
    start = server_text.find(query) if query else -1
    if start >= 0 and position.isdigit() and len(position) < 10:
        before = len(server_text[:start].decode("utf-8", "replace"))
        told.append((_POSITION, str(before + int(position)).encode()))
    return told
