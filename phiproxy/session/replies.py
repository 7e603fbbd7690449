"""What the handlers of the server's messages share: whose reply is it, and does it go further?"""

from collections.abc import Callable

from phiproxy.errors import WireError
from phiproxy.session.pipeline import Expected, Kind
from phiproxy.session.state import State

Handler = Callable[[State, bytes, int, int], int]
"""Takes (session, data, start, end) of one message and returns where the next one begins."""


def relay(session: State, data: bytes, start: int, end: int) -> int:
    """Show a message as it came."""
    session.to_client.append(data[start:end])
    return end


def is_silent(session: State) -> bool:
    """Tell whether replies go no further: the proxy's own query, or the rest of a result that was broken off."""
    front = session.pipeline.front()
    return session.pipeline.discarding or (front is not None and front.kind is Kind.INTERNAL)


def pop(session: State, *kinds: Kind) -> Expected | None:
    """Pop the front when the reply is its last; the proxy's own query stays until ReadyForQuery."""
    front = session.pipeline.front()
    if front is not None and front.kind is Kind.INTERNAL:
        return front
    return session.pipeline.pop(*kinds)


def completes(*kinds: Kind) -> Handler:
    """Return the handler of a message that is the only or last reply to these kinds."""

    def handler(session: State, data: bytes, start: int, end: int) -> int:
        silent = is_silent(session)
        done = pop(session, *kinds)
        if done is None or done.refusal is not None:
            raise WireError("the server completed what was not asked of it")
        return end if silent or done.silent else relay(session, data, start, end)

    return handler


def closed(session: State, data: bytes, start: int, end: int) -> int:
    """CloseComplete: of the client's, or of a query of the proxy's own, which in a group ends so."""
    front = session.pipeline.front()
    if front is None or not front.closes:
        return _close_completes(session, data, start, end)
    front.closes -= 1
    if not front.closes:
        session.pipeline.queue.popleft()
        answered(front)
    return end


_close_completes = completes(Kind.CLOSE)


def answered(question: Expected) -> None:
    """Let the one who asked go on."""
    assert question.done is not None
    assert question.rows is not None
    question.done(not question.failed, question.rows)
