"""Whom the rows of COPY are about, for the audit log: the values of subject columns in the data, as it comes and as it goes."""

from collections.abc import Callable, Iterable, Sequence

from phiproxy.plan.subjects_of_execution import Noted, SubjectOutput, outputs_of
from phiproxy.policy.subject_columns import spelled_subject
from phiproxy.sql.result import ProtectedCopy
from phiproxy.wire.copy_rows import Codec, Raw, Row
from phiproxy.wire.encodings import Encoding


class RowSubjects:
    """Reads whom rows are about where they stand in the data in clear: lines in UTF-8, or binary rows in an encoding.

    ``positions`` are those of the columns that are read; ``sealed`` ones, which are opened, are left to whoever opens them.
    """

    def __init__(self, copy: ProtectedCopy, codec: Codec, encoding: Encoding, *, sealed: bool) -> None:
        self._binary, self._to_utf8 = copy.form.format == "binary", encoding.to_utf8
        self._default = copy.form.default if copy.incoming else None
        outputs = [o for o in outputs_of(copy.about) if not (sealed and copy.reveals[o.position] is not None)]
        self._columns = [(o, codec.reader(o.position)) for o in outputs if o.position < len(copy.columns)]
        self._added = [number for o in outputs if o.position >= len(copy.columns) for number in o.numbers]

    def of(self, rows: Sequence[Row]) -> list[Noted]:
        """Return whom the rows are about; None for a value that is not understood, or not in the data; NULL is nobody."""
        if not self._columns and not self._added:
            return []
        known = [noted for row in rows for output, read in self._columns for noted in self._noted(row, output, read)]
        return known + [(number, None) for number in self._added if rows]

    def _noted(self, row: Row, output: SubjectOutput, read: Callable[[Raw], bytes | None]) -> Iterable[Noted]:
        raw = row[output.position]
        value = read(raw)
        if value is None:
            return [(number, None) for number in output.numbers] if raw is not None and raw == self._default else ()
        if self._binary and output.kind == "text":
            value = self._to_utf8(value)
        spelled = spelled_subject(output.kind, value, binary=self._binary)
        return [(number, spelled) for number in output.numbers]
