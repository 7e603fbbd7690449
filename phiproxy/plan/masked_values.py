"""What is shown of a column whose values the role does not see: its mask, made of the opened value before anything else is."""

from collections.abc import Callable
from functools import partial

from phiproxy.access.masks import Mask, mask
from phiproxy.long_values import LONG_VALUE, LongWork
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.types.styles import Styles

Shown = Callable[[bytes, int, int], bytes | None]
"""Takes data and where in it an envelope stands; None is NULL."""
Write = Callable[[bytes], bytes]


def mask_of(ciphers: Ciphers, column: ProtectedColumn, styles: Styles = Styles.CANONICAL, *, apart: bool = False) -> Mask:
    """Return the mask of a column for a session of these styles; ColumnMasked where it may not be read at all.

    ``apart``: for any thread, as of ``Ciphers.digest``; KeyNeeded.
    """
    assert column.masked is not None
    show = column.masked.show
    if show.denies:
        column.refuse_masked()
    return mask(show, column.type, ciphers.digest(column, apart=apart) if show.kind == "pseudonym" else None, styles)


def shown_masked(
    ciphers: Ciphers,
    column: ProtectedColumn,
    opener: Shown,
    write: Write | None,
    long_work: LongWork,
    styles: Styles,
    *,
    noted: bool = False,
) -> Shown:
    """Return what shows a stored value; it is opened where the mask depends on it. ``write`` spells what is shown.

    ``styles`` are the session's: in its time zone a timestamptz is cut.
    ``noted``: it is opened in any case, since it says whom the row is about.
    """
    assert column.masked is not None
    own = mask_of(ciphers, column, styles)

    def hidden(value: bytes, hide: Mask = own) -> bytes | None:
        shown = hide(value)
        return shown if shown is None or write is None else write(shown)

    if not (column.masked.show.needs_value or noted):
        same, note = hidden(b""), ciphers.unopened(column)

        def unopened(_data: bytes, _begin: int, _end: int) -> bytes | None:
            if note is not None:
                note()
            return same

        return unopened

    def opened(data: bytes, begin: int, end: int) -> bytes | None:
        value = opener(data, begin, end)
        if value is None:
            return None
        if len(value) <= LONG_VALUE:
            return hidden(value)
        return long_work.do(partial(hidden, value, mask_of(ciphers, column, styles, apart=True)))

    return opened
