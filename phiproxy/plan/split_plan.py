"""The plan of a split statement: its source, planned like any statement for the server, and the rest as the engine is given it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from phiproxy.errors import StatementFailed, StatementRefused, ValueRefused, WireError
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.policy.settings import Compute
from phiproxy.sql.result import Rest, RowType, SourceColumn, Span, Split
from phiproxy.sql.split.same_answers import means_clock
from phiproxy.sql.split.view_constants import may_differ, quoted
from phiproxy.sql.text.audit_text import LONG_TEXT
from phiproxy.sql.text.long_names import long_names
from phiproxy.types.integers import INT2, INT4, INT8
from phiproxy.types.styles import Styles
from phiproxy.types.value_errors import NotReadExactly
from phiproxy.wire.messages import Field, decode_parameter_description, decode_row_description
from phiproxy.wire.oids import INT2_OID, INT4_OID, INT8_OID, MOMENT_OIDS, TEXT_OID, VARCHAR_OID

# MaxTupleAttributeNumber: how many outputs a query may have. Of more long names nobody is told.
_MOST_OUTPUTS = 1664
# A statement is described once for each way in which sessions that run it read constants.
MAX_DESCRIPTIONS = 8

_INTEGERS = {INT2_OID: INT2, INT4_OID: INT4, INT8_OID: INT8}
_ANY_TEXT = frozenset({TEXT_OID, VARCHAR_OID})

T = TypeVar("T")
# Cardinality violation, data exception, and a setting that is not there.
_OF_VALUES = ("21", "22", "42")
_PARAMETER = re.compile(rb"\$[0-9]+\Z")


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What plans depend on of the engine: the collation libraries (as of ``Split.orders``) under which it may order text otherwise.

    Each with how the two differ.
    """

    differences: Mapping[str, str] = field(default_factory=dict)
    extensions: frozenset[str] = frozenset()
    """Those that it has like the server."""

    @classmethod
    def configured(cls, compute: Compute) -> EngineFacts | None:
        """Return what is known of the engine before it is asked; None where none is configured."""
        return cls(extensions=frozenset(compute.extensions)) if compute.engine != "off" else None

    def check(self, split: Split) -> None:
        """Refuse what depends on the order or case of text where the engine may order it otherwise than the server."""
        for library in sorted(split.orders & self.differences.keys()):
            raise StatementRefused(
                f"the order or case of text decides here, and {self.differences[library]}",
                hint="compute.collation_difference would accept it.",
            )


# What may change an answer of the engine, and is asked of the server each time, since it tells of few of them by itself.
SETTINGS = (
    "array_nulls",
    "bytea_output",
    "client_encoding",
    "datestyle",
    "default_text_search_config",
    "extra_float_digits",
    "intervalstyle",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "pg_trgm.similarity_threshold",
    "pg_trgm.strict_word_similarity_threshold",
    "pg_trgm.word_similarity_threshold",
    "quote_all_identifiers",
    "timezone",
    "timezone_abbreviations",
    "transform_null_equals",
    "xmlbinary",
    "xmloption",
)


# Those of them under which a constant may be another date, time or interval.
READ_UNDER = ("datestyle", "intervalstyle", "timezone")


@dataclass(frozen=True, slots=True)
class Computed:
    """A rest as the engine is given it: ``parts`` in the session's client_encoding, the ``columns`` of the source between them.

    ``oids`` are the types of its parameters, 0 for one that the engine is to find out.
    """

    parts: tuple[bytes, ...]
    columns: tuple[SourceColumn, ...]
    oids: tuple[int, ...] = ()
    stands: bool = False
    """Whether it is a statement around a query: its source must be a table."""
    held: bool = False
    """Whether others follow in its transaction: FETCH from a cursor."""
    explained: bytes = b""
    """The words of an EXPLAIN that is computed before it, over the same rows."""
    row_types: frozenset[RowType] = frozenset()
    """The types of rows that the engine must have."""


@dataclass(frozen=True, slots=True)
class Description:
    """What the client is told of a split statement: the types of its parameters, its columns, and the notices of its parser.

    ``planned`` are its columns as a portal has them: the planner may know the typmod of what is left of an expression. As the
    statement's where it has parameters, by whose values that is planned anew.
    """

    parameters: tuple[int, ...]
    fields: tuple[Field, ...]
    planned: tuple[Field, ...]
    notices: bytes = b""

    def shown(self, formats: Sequence[int]) -> list[Field]:
        """Return the columns of a portal with format codes, one for each."""
        return [column._replace(format=code) for column, code in zip(self.planned, formats, strict=True)]


@dataclass(slots=True)
class SplitPlan(StatementPlan):
    """A statement of which the server is sent the ``source`` only. ``sql``, ``oids`` are the source's, all else is the client's."""

    split: Split = field(kw_only=True)
    source: StatementPlan = field(kw_only=True)
    source_types: tuple[int, ...] = ()
    """The declared types of the source's parameters that it was planned with."""
    descriptions: dict[object, Description] = field(default_factory=dict, init=False, compare=False, repr=False)
    """By the settings of a session under which constants are read."""
    told: bool = False
    """Whether it is an EXECUTE: what the parser has to say was told by PREPARE."""

    def __post_init__(self) -> None:
        StatementPlan.__post_init__(self)
        self.quiet = self.ordinary = self.bind_says_all = False
        self.typed = self.source.typed

    @property
    def computed(self) -> bool:
        """Tell that the engine has a part in it."""
        return True

    @property
    def only_planned(self) -> bool:
        """Tell whether it is an EXPLAIN that runs nothing: the server is sent it with the source."""
        return self.split.around == "explain" and self.split.analyzed is None

    @property
    def copies(self) -> bool:
        """Tell whether it is COPY of a query, or COPY FROM: it has no parameters, and what it gives is known."""
        return self.split.around == "copy" or (self.split.write is not None and self.split.write.copied > 0)

    def same(self, other: StatementPlan) -> bool:
        """Tell whether both peers are told the same, and their answers are read the same way."""
        if not isinstance(other, SplitPlan):
            return False
        mine, others = (
            (s.source_parameters, s.columns, s.rest, s.described, s.described_columns, s.origins, s.returns, s.write, s.analyzed)
            for s in (self.split, other.split)
        )
        return mine == others and self.source.same(other.source)

    def describe(self, key: object, told: bytes, notices: bytes = b"") -> Description:
        """Take what the engine says of the whole statement: ParameterDescription, RowDescription, that of a portal if there is one.

        Its notices apart.
        """
        told_parameters, told_columns, *of_portal = _messages(told)
        fields, *planned = (self.placed_columns(decode_row_description(m, 5, len(m))) for m in (told_columns, *of_portal))
        types = decode_parameter_description(told_parameters, 5, len(told_parameters))
        numbered = dict(zip(self.split.described.parameters, types, strict=True))
        parameters = tuple(numbered.get(n, 0) for n in range(1, max(numbered, default=0) + 1))
        if len(self.descriptions) >= MAX_DESCRIPTIONS:
            self.descriptions.clear()
        described = self.descriptions[key] = Description(parameters, tuple(fields), tuple((planned or [fields])[0]), notices)
        return described

    def placed_columns(self, fields: Sequence[Field]) -> list[Field]:
        """Return the engine's columns as the client is told of them: as those of its tables."""
        origins = self.split.origins or (None,) * len(fields)
        if len(origins) != len(fields):
            raise StatementRefused("the engine describes another number of columns than was analysed", hint="Name the columns.")
        return [
            column
            if origin is None
            else column._replace(table_oid=origin.table, attnum=origin.number, type_oid=origin.row_type or column.type_oid)
            for column, origin in zip(fields, origins, strict=True)
        ]

    def may_be_read_otherwise(self, changed: Collection[str]) -> bool:
        """Tell whether a constant may be another date, time or interval when some of ``READ_UNDER`` are others."""
        return any(may_differ(constant, changed) for constant in quoted(self.text))

    def of_source(self, given: Sequence[T]) -> list[T]:
        """Return the source's parameters, or their formats, from the client's."""
        return [given[number - 1] for number in self.split.source_parameters]

    def of_rest(self, given: Sequence[T]) -> list[T]:
        """Return the rest's parameters, or their formats or types, from the client's."""
        return [given[number - 1] for number in self.split.rest.parameters]

    def check_moments(self, values: Sequence[bytes | None], formats: Sequence[int], types: Sequence[int]) -> None:
        """Refuse parameters of the rest that may mean a moment of the clock, as ``today``: the clock is the server's."""
        for number in self.split.rest.parameters:
            value = values[number - 1]
            of_time = number <= len(types) and types[number - 1] in MOMENT_OIDS
            if value is not None and of_time and formats[number - 1] == 0 and means_clock(value.decode("utf-8", "replace")):
                why = f"${number} may mean a moment of the clock, which would be the engine's"
                raise StatementRefused(why, hint="Send the date or time itself, or write CURRENT_DATE in the statement.")

    def check_drawn(self, values: Sequence[bytes | None]) -> None:
        """Refuse a NULL beside what is drawn of a sequence: PostgreSQL draws nothing where it plans a statement for its values."""
        number = next((n for n in sorted(self.split.beside_drawn) if values[n - 1] is None), None)
        if number is not None:
            why = f"${number} is NULL, and it is not known whether PostgreSQL would draw the number beside it"
            raise StatementRefused(why, hint=f"Write coalesce(${number}, ''), or give NULL for the whole value.")

    def check_in_order(self, values: Sequence[bytes | None], formats: Sequence[int], types: Sequence[int]) -> None:
        """Refuse the first integer that is none, if the server is not told of it: it, or the engine, would say later ones first.

        PostgreSQL reads parameters in the order of their numbers. What is behind one of another type is not looked at.
        """
        for number, (value, binary, oid) in enumerate(zip(values, formats, types, strict=False), start=1):
            codec = _INTEGERS.get(oid)
            if codec is None and oid not in _ANY_TEXT:
                return
            try:
                if codec is not None and value is not None:
                    _ = codec.from_binary(value) if binary else codec.from_text(value, Styles.CANONICAL)
            except NotReadExactly:
                return
            except ValueRefused:
                if number in self.split.source_parameters:
                    return
                raise

    def rest(self, types: Sequence[int], write: Callable[[bytes], bytes]) -> Computed:
        """Return what the engine is to compute; ``types`` are those of the client's parameters, ``write`` gives its encoding."""
        around = self.split.around
        parts = tuple(map(write, self.split.rest.parts))
        explained = self.split.lead if self.split.analyzed is not None and self.split.write is not None else b""
        oids, types_ = tuple(self.of_rest(types)), self.split.row_types
        return Computed(parts, self.split.columns, oids, bool(around), around == "cursor", explained, types_)

    def whole(self, declared: Sequence[int], write: Callable[[bytes], bytes]) -> Computed:
        """Return what the engine is to describe."""
        described, known = self.split.described, dict(enumerate(declared, start=1))
        types = tuple(known.get(number, 0) for number in described.parameters)
        return Computed(tuple(map(write, described.parts)), self.split.described_columns, types, row_types=self.split.row_types)

    def placed(self, failed: StatementFailed, *, whole: bool = False) -> StatementFailed | StatementRefused:
        """Return an error of the engine's with its position in the client's text; ``whole``: it was to describe the statement.

        Of what need not be evaluated it is not known whether PostgreSQL would fail, so that is a refusal.

        A value that cannot be cast to the type of its column, which the rest does and PostgreSQL does when it assigns, is 42804.
        """
        if self.split.in_vain and not whole and failed.state[:2] in _OF_VALUES:
            why = f"what ON CONFLICT sets is computed before it is known whether a row is in conflict, and fails ({failed.state})"
            return StatementRefused(why, hint="Ask for it first, and give what it answers as a parameter.")
        rest = self.split.described if whole else self.split.rest
        at = None if failed.position is None else _client_offset(rest, failed.position)
        if self.split.write is not None and at is None and failed.state == "42846":
            at = None if failed.position is None or not whole else self._offset_behind(rest, failed.position)
            failed = failed.told_as("42804")
        position = None if at is None else len(self.text[:at].decode("utf-8", "ignore")) + 1
        return StatementFailed(failed.fields, position, b"" if self.told else failed.notices)

    def _offset_behind(self, rest: Rest, position: int) -> int | None:
        """Return where the client's text begins that stands behind something of our own, perhaps with a parameter."""
        text = b"".join(rest.parts)
        offset = len(text.decode("utf-8", "replace")[: position - 1].encode())
        start, _, at = min((span for span in rest.spans if span[0] >= offset), default=(0, 0, 0))
        given = _PARAMETER.search(self.text, 0, at) if _PARAMETER.search(text, offset, start) else None
        return (given.start() if given is not None else at) if start else None

    def placed_in_write(self, position: int) -> int | None:
        """Return where a position (characters from 1) in the text of the write stands in the client's; None for one of our own."""
        write = self.split.write
        return None if write is None else self._placed_in(write.text, write.spans, position)

    def placed_in_source(self, position: int) -> int | None:
        """Return the same of a position in the text of the source."""
        return self._placed_in(self.split.source, self.split.source_spans, position)

    def _placed_in(self, text: bytes, spans: Sequence[Span], position: int) -> int | None:
        at = _place(spans, len(text.decode("utf-8", "replace")[: position - 1].encode()))
        return None if at is None else len(self.text[:at].decode("utf-8", "ignore")) + 1


def with_long_names(plan: StatementPlan) -> bytes:
    """Return a statement with the names of a client's one that are too long, each as often; empty where none is, or they were told.

    SELECT upper(full_name) AS aaa… FROM patients ORDER BY aaa…
    → SELECT 1 AS aaa…, 1 AS aaa…
    """
    names = [] if isinstance(plan, SplitPlan) and plan.told else long_names(plan.text)[:_MOST_OUTPUTS]
    return b"SELECT " + b", ".join(b"1 AS " + name for name in names) if names else b""


def split_plan(text: bytes, split: Split, source: StatementPlan, types: tuple[int, ...]) -> SplitPlan:
    """Return the plan of a statement whose source is planned, with parameters declared as these types; records have its text."""
    source = replace(source, touched=replace(source.touched, text=text[: LONG_TEXT + 1]))
    return SplitPlan(
        text,
        (split.lead if split.around == "explain" and split.analyzed is None else b"") + source.sql,
        identity=False,
        inputs=max(split.numbers, default=0),
        oids=source.oids,
        touches=True,
        plain_select=split.plain_select,
        effects=split.effects,
        bound=source.bound,
        touched=replace(source.touched, subjects=()),  # which are known of the source
        split=split,
        source=source,
        source_types=types,
    )


def source_text(split: Split) -> bytes:
    """Return what is asked of the server; of a rest that needs no rows one row without columns, so that all splits are alike."""
    return split.source or b"SELECT"


def source_oids(split: Split, declared: Sequence[int]) -> tuple[int, ...]:
    """Return the types of the source's parameters from those that the client declares, of which there may be fewer."""
    return tuple(declared[n - 1] if n <= len(declared) else 0 for n in split.source_parameters)


def _client_offset(rest: Rest, position: int) -> int | None:
    offset = len(b"".join(rest.parts).decode("utf-8", "replace")[: position - 1].encode())
    return _place(rest.spans, offset)


def _place(spans: Sequence[Span], offset: int) -> int | None:
    return next((at + offset - start for start, end, at in spans if start <= offset < end), None)


def _messages(data: bytes) -> list[bytes]:
    messages = list[bytes]()
    while data:
        end = 1 + int.from_bytes(data[1:5], "big")
        messages.append(data[:end])
        data = data[end:]
    if [m[:1] for m in messages[:2]] != [b"t", b"T"]:
        raise WireError("the engine does not describe a statement with a result")
    return messages
