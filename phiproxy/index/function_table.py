"""The closed table: which functions an index may use, over which types, with which constants.

A row may be added but never changed without a new normaliser version: tags made by it are in databases. A new function is one row
here (and a case in its test): policies, JSON Schema, hints, CHECK constraints and the catalogue's queries read this table.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from phiproxy.documents.path_operators import Key
from phiproxy.index import date_functions, document_paths, double_metaphone, phonetic, text_functions
from phiproxy.index.characters import Characters
from phiproxy.index.spelling import Call, Constant, Expression
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

    ``constants`` are the types of the others; the last ``optional`` of them may be left out, and the last one may be ``repeated``.
    ``build`` makes a step of them, for an operand of one of the types that it ``takes``; texts come as text. ``hints`` say, by
    another type, what to write of that.

    PostgreSQL has it under ``synonyms`` too, and ``registered`` gives the equal call whose spelling is registered. ``extension``:
    the one that brings it, into a schema of somebody's choice. ``case``: it depends on what the server takes for upper and lower
    case. ``never_fails``: of no value, so that it may be shown of any. ``in_checks``: it may stand in a CHECK over one column.
    """

    usage: str
    takes: frozenset[str]
    build: Callable[[str, Sequence[Any], Characters], Step]
    constants: tuple[type, ...] = ()
    optional: int = 0
    repeated: bool = False
    operand: int = 0
    hints: Mapping[str, str] = field(default_factory=dict)
    synonyms: tuple[str, ...] = ()
    registered: Callable[[Call], Expression] = lambda call: call
    extension: str | None = None
    case: bool = False
    never_fails: bool = False
    in_checks: bool = False


def row(name: str) -> Row | None:
    """Return the row of a function, by any of its names, or None."""
    return FUNCTIONS.get(own_name(name))


def own_name(name: str) -> str:
    """Return the name of the row that PostgreSQL has under this name too: ``substr`` is ``substring``; of any other the name."""
    return _OWN_NAMES.get(name, name)


def names() -> frozenset[str]:
    """Return the names of all functions, and their other ones."""
    return frozenset(FUNCTIONS).union(*(each.synonyms for each in FUNCTIONS.values()))


def usages() -> Iterator[str]:
    """Yield how each function is written."""
    return iter(dict.fromkeys(each.usage for each in FUNCTIONS.values()))


def depends_on_characters(call: Call) -> bool:
    """Tell whether a call depends on upper and lower case, or on which characters beyond ASCII are digits."""
    each = FUNCTIONS.get(call.name)
    return each is not None and (each.case or (each.build is _digits and call.arguments[1:2] == (Constant(r"\D"),)))


def _of_case(name: str) -> Callable[[str, Sequence[Any], Characters], Step]:
    return lambda _operand, _constants, characters: Step("text", getattr(characters, name))


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
    return Step("text", partial(text_functions.substring, start=start, count=count))


# Characters that are no digits, in the spelling that is kept, and what else means the same.
NO_DIGITS = {r"\D": r"\D", r"\D+": r"\D", r"[^\d]": r"\D", r"[^\d]+": r"\D", "[^[:digit:]]": r"\D", "[^[:digit:]]+": r"\D"}
NO_DIGITS |= {"[^0-9]": "[^0-9]", "[^0-9]+": "[^0-9]"}


def _digits(_operand: str, constants: Sequence[Any], characters: Characters) -> Step:
    pattern, replacement, flags = constants
    if NO_DIGITS.get(pattern) != pattern or replacement or flags != "g":
        raise Misused(r"the patterns that are known are '\D' and '[^0-9]', replaced by '' with the flag 'g'")
    return Step("text", characters.digits if pattern == r"\D" else text_functions.ascii_digits)


def _registered_digits(call: Call) -> Call:
    match call.arguments:
        case (operand, Constant(value=str(pattern)), replacement, flags):
            return Call(call.name, (operand, Constant(NO_DIGITS.get(pattern, pattern)), replacement, flags))
    return call


def _registered_trim(call: Call) -> Call:
    """``btrim(@,' ')`` → ``btrim(@)``."""
    return Call(call.name, call.arguments[:1]) if call.arguments[1:] == (Constant(" "),) else call


def _registered_substring(call: Call) -> Call:
    """``substring(@,1,3)`` → ``left(@,3)``."""
    match call.arguments:
        case (operand, Constant(value=1), Constant(value=int(count)) as length) if count >= 0:
            return Call("left", (operand, length))
    return call


def _registered_field(call: Call) -> Call:
    """``extract('YEARS',@)`` → ``extract('year',@)``."""
    match call.arguments:
        case (Constant(value=str(name)), *others):
            return Call(call.name, (Constant(date_functions.field_name(name)), *others))
    return call


def _metaphone(_operand: str, constants: Sequence[Any], _characters: Characters) -> Step:
    (count,) = constants
    if not 0 < count <= phonetic.LONGEST:
        raise Misused(f"metaphone gives 1 to {phonetic.LONGEST} phonemes")
    return Step("text", partial(phonetic.metaphone, count=count))


def _field_of(constants: Sequence[Any], fields: frozenset[str], what: str) -> str:
    field = str(constants[0])
    if field not in fields:
        raise Misused(f"{field!r} is not among the fields of {what}: {', '.join(sorted(fields))}")
    return field


def _of_field(function: Callable[[str, str], Apply], result: str) -> Callable[[str, Sequence[Any], Characters], Step]:
    def build(operand: str, constants: Sequence[Any], _characters: Characters) -> Step:
        field = _field_of(constants, date_functions.FIELDS[operand], f"a {operand}")
        return Step(result, function(field, operand), date_functions.is_total(field, operand))

    return build


def _date_trunc(_operand: str, constants: Sequence[Any], _characters: Characters) -> Step:
    return Step("timestamp", date_functions.date_trunc(_field_of(constants, date_functions.TRUNCATED, "date_trunc")))


def _timezone(_operand: str, constants: Sequence[Any], _characters: Characters) -> Step:
    if constants[0] != "UTC":
        raise Misused("a timestamptz is indexed AT TIME ZONE 'UTC': what other zones are changes with laws")
    return Step("timestamp", date_functions.at_utc)


def _at_path(function: str, family: str) -> Callable[[str, Sequence[Any], Characters], Step]:
    as_text = function.endswith("_text")

    def build(_operand: str, constants: Sequence[Any], _characters: Characters) -> Step:
        path = document_paths.steps(function, constants)
        assert path is not None
        if family == "json" and any(not isinstance(step, Key) and step.number < 0 for step in path.steps):
            raise Misused("of a json no position is counted from the end: PostgreSQL's answer depends on other arrays in it")
        apply = (document_paths.of_jsonb if family == "jsonb" else document_paths.of_json)(path, as_text=as_text)
        return Step("text" if as_text else family, apply, total=False)

    return build


_ZONE = "; write (… AT TIME ZONE 'UTC'), since what a time zone is changes"
_NOT_CITEXT = {"citext": "; write …::text, since over citext it ignores case"}
_TRIM = partial(Row, takes=TEXTS, constants=(str,), optional=1, registered=_registered_trim, never_fails=True)
_FIELD = partial(
    Row, takes=_MOMENTS, constants=(str,), operand=1, hints={"timestamptz": _ZONE}, registered=_registered_field, in_checks=True
)
_FUZZY = partial(Row, takes=TEXTS, extension="fuzzystrmatch")
_REPLACING = partial(Row, takes=PLAIN_TEXTS, constants=(str, str), hints=_NOT_CITEXT, never_fails=True, in_checks=True)
_PATH_USAGES = {"object_field": "@-{}'key'", "array_element": "@-{}n", "extract_path": "@#{}'{{key,n}}'"}
_PATH = {
    "object_field": partial(Row, constants=(str,), registered=document_paths.registered),
    "array_element": partial(Row, constants=(int,), registered=document_paths.registered),
    "extract_path": partial(Row, constants=(str,), optional=1, repeated=True, registered=document_paths.registered),
}

FUNCTIONS: Final[dict[str, Row]] = {
    "lower": Row("lower(@)", TEXTS, _of_case("lower"), case=True),
    "upper": Row("upper(@)", TEXTS, _of_case("upper"), case=True),
    "btrim": _TRIM("btrim(@[,'characters'])", build=_of_text(text_functions.btrim)),
    "ltrim": _TRIM("ltrim(@[,'characters'])", build=_of_text(text_functions.ltrim)),
    "rtrim": _TRIM("rtrim(@[,'characters'])", build=_of_text(text_functions.rtrim)),
    "left": Row("left(@,n)", TEXTS, _of_text(text_functions.left), (int,), never_fails=True, in_checks=True),
    "right": Row("right(@,n)", TEXTS, _of_text(text_functions.right), (int,), never_fails=True, in_checks=True),
    "substring": Row(
        "substring(@,from[,for])", TEXTS, _substring, (int, int), optional=1,
        synonyms=("substr",), registered=_registered_substring, never_fails=True, in_checks=True,
    ),
    "length": Row("length(@)", TEXTS, _of_text(text_functions.length, "int4"), synonyms=("char_length", "character_length")),
    "replace": _REPLACING("replace(@,'from','to')", build=_of_text(text_functions.replace)),
    "translate": _REPLACING("translate(@,'from','to')", build=_of_text(text_functions.translate)),
    "regexp_replace": Row(
        r"regexp_replace(@,'\D','','g')", TEXTS, _digits, (str, str, str), registered=_registered_digits
    ),
    "soundex": _FUZZY("soundex(@)", build=_of_text(phonetic.soundex)),
    "metaphone": _FUZZY("metaphone(@,n)", build=_metaphone, constants=(int,)),
    "dmetaphone": _FUZZY("dmetaphone(@)", build=_of_text(double_metaphone.dmetaphone)),
    "dmetaphone_alt": _FUZZY("dmetaphone_alt(@)", build=_of_text(double_metaphone.dmetaphone_alt)),
    "extract": _FIELD("extract('field',@)", build=_of_field(date_functions.extract, "numeric")),
    "date_part": _FIELD("date_part('field',@)", build=_of_field(date_functions.date_part, "float8")),
    "date_trunc": _FIELD(
        "date_trunc('field',@)", build=_date_trunc, takes=frozenset({"timestamp"}),
        hints={"date": "; write …::timestamp, since of a date it depends on the time zone", "timestamptz": _ZONE},
    ),
    "timezone": Row("timezone('UTC',@)", frozenset({"timestamptz"}), _timezone, (str,), operand=1),
    **{
        name: _PATH[kind](
            usage=_PATH_USAGES[kind].format(">>" if name.endswith("_text") else ">"), takes=frozenset({family}),
            build=_at_path(name, family), never_fails=family == "jsonb",
        )
        for name, family, kind in document_paths.names()
    },
}  # fmt: skip


def cast(operand: str, target: str) -> Step | None:
    """Return the step of a cast between these types, by their short names, or None when it is not in the table.

    Those that depend on a session's settings, as of a date to text, are not: no index has them.
    """
    if target == "text" and operand in _AS_TEXT:
        return Step("text", _AS_TEXT[operand])
    apply = _CASTS.get((operand, target))
    return Step(target, apply, total=(operand, target) != ("timestamp", "time")) if apply is not None else None


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
    ("timestamp", "time"): date_functions.timestamp_to_time,
    **dict.fromkeys((("int2", "int4"), ("int2", "int8"), ("int4", "int8")), _same),
    **{(operand, "numeric"): _same for operand in ("int2", "int4", "int8")},
}

_OWN_NAMES: Final = {synonym: own for own, each in FUNCTIONS.items() for synonym in each.synonyms}
