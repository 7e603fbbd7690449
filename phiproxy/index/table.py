"""The closed table: which functions an index may use, over which types, with which constants.

A row may be added but never changed without a new normaliser version: tags made by it are in databases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from phiproxy.index import dates, doublemetaphone, phonetic, texts
from phiproxy.index.characters import Characters
from phiproxy.types.casts import to_date, to_timestamp

INTEGERS = range(-(2**31), 2**31)
TEXTS = frozenset({"text", "varchar", "bpchar", "citext"})
# Functions of their own over citext, which ignore case, where those over text do not.
PLAIN_TEXTS = TEXTS - {"citext"}
_MOMENTS = frozenset({"date", "time", "timestamp"})

Apply = Callable[[bytes], bytes | None]


class Misused(ValueError):
    """A constant with which PostgreSQL's function would fail, or that is not in the table; the text says what is."""


@dataclass(frozen=True, slots=True)
class Step:
    """One function with its constants: ``apply`` to the canonical bytes of its operand. ``total``: never None."""

    result: str
    apply: Apply
    total: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One function of the table. ``usage`` is how it is written, ``operand`` the place of what is indexed among its arguments.

    ``constants`` are the types of the others; the last ``optional`` of them may be left out. ``build`` makes a step of them, for
    an operand of one of the types that it ``takes``; texts come as text.
    """

    usage: str
    takes: frozenset[str]
    build: Callable[[str, Sequence[Any], Characters], Step]
    constants: tuple[type, ...] = ()
    optional: int = 0
    operand: int = 0


def row(name: str) -> Row | None:
    """Return the row of a function, or None."""
    return _ROWS.get(name)


def names() -> frozenset[str]:
    """Return the names of all functions."""
    return frozenset(_ROWS)


def usages() -> Iterator[str]:
    """Yield how each function is written."""
    return (found.usage for found in _ROWS.values())


def _lower(_operand: str, _constants: Sequence[Any], characters: Characters) -> Step:
    return Step("text", characters.lower)


def _upper(_operand: str, _constants: Sequence[Any], characters: Characters) -> Step:
    return Step("text", characters.upper)


def _of_text(function: Callable[..., bytes], result: str = "text") -> Callable[[str, Sequence[Any], Characters], Step]:
    """Build a step of a function over text: its constants come behind the value, strings as UTF-8."""

    def build(_operand: str, constants: Sequence[Any], _characters: Characters) -> Step:
        values = [c.encode() if isinstance(c, str) else c for c in constants]
        return Step(result, (lambda value: function(value, *values)) if values else function)

    return build


def _substring(_operand: str, constants: Sequence[Any], _characters: Characters) -> Step:
    start, count = (*constants, None)[:2]
    if count is not None and count < 0:
        raise Misused("a negative length is an error of substring")
    return Step("text", partial(texts.substring, start=start, count=count))


# Characters that are no digits, in the spelling that is kept, and what else means the same.
NO_DIGITS = {r"\D": r"\D", r"\D+": r"\D", r"[^\d]": r"\D", r"[^\d]+": r"\D", "[^[:digit:]]": r"\D", "[^[:digit:]]+": r"\D"}
NO_DIGITS |= {"[^0-9]": "[^0-9]", "[^0-9]+": "[^0-9]"}


def _digits(_operand: str, constants: Sequence[Any], characters: Characters) -> Step:
    pattern, replacement, flags = constants
    if NO_DIGITS.get(pattern) != pattern or replacement or flags != "g":
        raise Misused(r"the patterns that are known are '\D' and '[^0-9]', replaced by '' with the flag 'g'")
    return Step("text", characters.digits if pattern == r"\D" else texts.ascii_digits)


def _metaphone(_operand: str, constants: Sequence[Any], _characters: Characters) -> Step:
    (count,) = constants
    if not 0 < count <= phonetic.LONGEST:
        raise Misused(f"metaphone gives 1 to {phonetic.LONGEST} phonemes")
    return Step("text", partial(phonetic.metaphone, count=count))


def _field_of(constants: Sequence[Any], known: frozenset[str], what: str) -> str:
    field = str(constants[0])
    if field not in known:
        raise Misused(f"{field!r} is not among the fields of {what}: {', '.join(sorted(known))}")
    return field


def _extract(operand: str, constants: Sequence[Any], _characters: Characters) -> Step:
    field = _field_of(constants, dates.FIELDS[operand], f"a {operand}")
    return Step("numeric", dates.extract(field, operand), dates.is_total(field, operand))


def _date_part(operand: str, constants: Sequence[Any], _characters: Characters) -> Step:
    field = _field_of(constants, dates.FIELDS[operand], f"a {operand}")
    return Step("float8", dates.date_part(field, operand), dates.is_total(field, operand))


def _date_trunc(_operand: str, constants: Sequence[Any], _characters: Characters) -> Step:
    return Step("timestamp", dates.date_trunc(_field_of(constants, dates.TRUNCATED, "date_trunc")))


def _timezone(_operand: str, constants: Sequence[Any], _characters: Characters) -> Step:
    if constants[0] != "UTC":
        raise Misused("a timestamptz is indexed AT TIME ZONE 'UTC': what other zones are changes with laws")
    return Step("timestamp", dates.at_utc)


_ROWS = {
    "lower": Row("lower(@)", TEXTS, _lower),
    "upper": Row("upper(@)", TEXTS, _upper),
    "btrim": Row("btrim(@[,'characters'])", TEXTS, _of_text(texts.btrim), (str,), optional=1),
    "ltrim": Row("ltrim(@[,'characters'])", TEXTS, _of_text(texts.ltrim), (str,), optional=1),
    "rtrim": Row("rtrim(@[,'characters'])", TEXTS, _of_text(texts.rtrim), (str,), optional=1),
    "left": Row("left(@,n)", TEXTS, _of_text(texts.left), (int,)),
    "right": Row("right(@,n)", TEXTS, _of_text(texts.right), (int,)),
    "substring": Row("substring(@,from[,for])", TEXTS, _substring, (int, int), optional=1),
    "length": Row("length(@)", TEXTS, _of_text(texts.length, "int4")),
    "replace": Row("replace(@,'from','to')", PLAIN_TEXTS, _of_text(texts.replace), (str, str)),
    "translate": Row("translate(@,'from','to')", PLAIN_TEXTS, _of_text(texts.translate), (str, str)),
    "regexp_replace": Row(r"regexp_replace(@,'\D','','g')", TEXTS, _digits, (str, str, str)),
    "soundex": Row("soundex(@)", TEXTS, _of_text(phonetic.soundex)),
    "metaphone": Row("metaphone(@,n)", TEXTS, _metaphone, (int,)),
    "dmetaphone": Row("dmetaphone(@)", TEXTS, _of_text(doublemetaphone.dmetaphone)),
    "dmetaphone_alt": Row("dmetaphone_alt(@)", TEXTS, _of_text(doublemetaphone.dmetaphone_alt)),
    "extract": Row("extract('field',@)", _MOMENTS, _extract, (str,), operand=1),
    "date_part": Row("date_part('field',@)", _MOMENTS, _date_part, (str,), operand=1),
    "date_trunc": Row("date_trunc('field',@)", frozenset({"timestamp"}), _date_trunc, (str,), operand=1),
    "timezone": Row("timezone('UTC',@)", frozenset({"timestamptz"}), _timezone, (str,), operand=1),
}


def cast(operand: str, target: str) -> Step | None:
    """Return the step of a cast between these types, by their short names, or None when it is not in the table.

    Those that depend on a session's settings, as of a date to text, are not: no index has them.
    """
    if target == "text" and operand in _AS_TEXT:
        return Step("text", _AS_TEXT[operand])
    found = _CASTS.get((operand, target))
    return Step(target, found, total=(operand, target) != ("timestamp", "time")) if found is not None else None


def casts() -> list[tuple[str, str]]:
    """List the casts by their types."""
    return [*_CASTS, *((operand, "text") for operand in _AS_TEXT)]


def _same(value: bytes) -> bytes:
    return value


_AS_TEXT: dict[str, Apply] = {
    **dict.fromkeys(("varchar", "citext", "int2", "int4", "int8", "numeric", "uuid"), _same),
    "bpchar": lambda value: value.rstrip(b" "),
    "bool": lambda value: b"true" if value == b"t" else b"false",
}
_CASTS: dict[tuple[str, str], Apply] = {
    ("date", "timestamp"): to_timestamp,
    ("timestamp", "date"): to_date,
    ("timestamp", "time"): dates.timestamp_to_time,
    **dict.fromkeys((("int2", "int4"), ("int2", "int8"), ("int4", "int8")), _same),
    **{(operand, "numeric"): _same for operand in ("int2", "int4", "int8")},
}
