"""The hot path: runs of messages that go on as they came, cut off in one slice.

What is not wholly ordinary here is left where it is, for the handlers; these do the same for the same message, at more cost.
"""

from __future__ import annotations

import struct

from phiproxy.session.pipeline import Step
from phiproxy.session.ready import settle
from phiproxy.session.state import State
from phiproxy.wire.framing import HEADER

_LENGTH = struct.Struct("!I").unpack_from
_DATA_ROW = ord("D")
_STATUS = frozenset(b"ITE")


def pass_replies(session: State) -> None:
    """Pass the server's messages up to the first that must be looked at.

    Not while COPY data may come from the client, since its end means more then, nor while a result is dropped.
    """
    pipeline, frames = session.pipeline, session.server_frames
    queue = pipeline.queue
    if session.swallowing or not queue or pipeline.copy_in or pipeline.ignored or session.copying is not None:
        return
    data, begin, limit = frames.data, frames.pos, frames.max_message
    pos, size = begin, len(data)
    while size - pos >= HEADER and queue:
        front, tag = queue[0], data[pos]
        step = front.passes.get(tag) if front.passes is not None else None
        if step is None:
            break
        (length,) = _LENGTH(data, pos + 1)
        end = pos + 1 + length
        if end > size or not 4 <= length <= limit:
            break
        if step is Step.STAY:
            pos = end if tag != _DATA_ROW else _rows_end(data, end, limit)
            continue
        if step is Step.POP:
            queue.popleft()
        elif step is Step.NEXT_PART:
            front.part += 1
        else:
            # Where the path must be asked for, it is before this ReadyForQuery is shown.
            if length != 5 or data[pos + 5] not in _STATUS or session.path is None or session.path_changed is not None:
                break
            queue.popleft()
            settle(session, front, data[pos + 5 : end])
        pos = end
    if pos > begin:
        session.to_client.append(data if pos - begin == size else data[begin:pos])
        frames.pos = pos


def _rows_end(data: bytes, pos: int, limit: int) -> int:
    """Return the end of the run of whole DataRows at ``pos``."""
    size = len(data)
    try:
        while data[pos] == _DATA_ROW:
            (length,) = _LENGTH(data, pos + 1)
            end = pos + 1 + length
            if end > size or not 4 <= length <= limit:
                break
            pos = end
    except (IndexError, struct.error):
        pass  # the next header is not whole
    return pos
