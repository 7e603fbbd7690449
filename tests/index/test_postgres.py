"""Every function of the table against PostgreSQL's own, on generated values: whole batches in one query each."""

# ruff: noqa: RUF001

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from types import MappingProxyType

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from phiproxy.errors import ConfigError, ValueRefused
from phiproxy.index import date_functions, document_paths, function_table
from phiproxy.index.characters import Characters, character_table
from phiproxy.index.registered_form import normal
from phiproxy.index.spelling import Cast, Column, read, write
from phiproxy.index.transform import transform
from tests.harness.server import PostgresServer

Connection = psycopg.Connection[tuple[object, ...]]

# Nothing is looked at twice: a batch is large, and its first difference names the value.
_BATCHES = settings(
    derandomize=True,
    database=None,
    max_examples=6,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)

_SOUNDS = """
gn kn pn wr ps x caesar chia chae harac hor hym hem chore van von sch orches archit orchid ach bacher macher cz wicz cia cc uccee
ck cg ci ce cy cio mac mc dg dt gh gli ges gy danger aggi ogget ier jose san ll illo alle as os umb umber mm ph pb mier isl ysl
sugar sh heim sio sian sz schoo scher ais tion tia tch th tth thom td wh ewski owsky witz iaux oux xc zh zo schw dge gned ae
""".split()  # noqa: SIM905
_PARTS = (
    st.sampled_from(_SOUNDS)
    | st.text("abcdefghijklmnopqrstuvwxyz", max_size=2)
    | st.text(" '-.,019éÑÇß\u01c0\u0663İς😀\t", max_size=1)
)
_TEXTS = st.lists(_PARTS, max_size=5).map("".join).flatmap(lambda s: st.sampled_from([s, s.upper(), s.title()]))
_BATCH_OF_TEXTS = st.lists(_TEXTS, min_size=200, max_size=200)

_EDGES = ("infinity", "-infinity", "294276-12-31", "99999-06-07", "0100-01-01", "0001-01-01")
_BEFORE_CHRIST = ("4713-01-01 BC", "4714-11-24 BC", "0001-12-31 BC", "0005-02-29 BC", "0044-03-15 BC", "1000-01-01 BC")
_DATES = st.dates().map(dt.date.isoformat) | st.sampled_from(_EDGES + _BEFORE_CHRIST)
_TIMES = st.times().map(dt.time.isoformat) | st.sampled_from(["24:00:00", "00:00:00", "23:59:59.999999", "00:00:00.00001"])


def _timestamp(date: str, time: str) -> str:
    day, _, era = date.partition(" ")
    return date if "infinity" in date else f"{day} {time}" + (f" {era}" if era else "")


_TIMESTAMPS = st.builds(_timestamp, _DATES, _TIMES.filter(lambda t: t != "24:00:00"))


@pytest.fixture(scope="module")
def server(postgres_server: PostgresServer) -> Iterator[Connection]:
    name = postgres_server.create_database()
    with postgres_server.connect(name) as conn:
        conn.execute("SET TimeZone TO 'UTC'; SET DateStyle TO ISO")
        yield conn
    postgres_server.drop_database(name)


@pytest.fixture(scope="module")
def phonetic(server: Connection) -> Connection:
    return _with_extension(server, "fuzzystrmatch")


def _with_extension(server: Connection, name: str) -> Connection:
    if not server.execute("SELECT FROM pg_available_extensions WHERE name = %s", (name,)).fetchall():
        pytest.skip(f"this server has no {name}")
    server.execute(f"CREATE EXTENSION IF NOT EXISTS {name}")
    return server


def _sql(expression: str) -> str:
    """Spell an expression for the server, whose grammar has EXTRACT for itself."""
    return expression.replace("extract(", "pg_catalog.extract(").replace("@", "v")


def _compare(
    server: Connection,
    expressions: Sequence[str],
    type_name: str,
    values: Sequence[str],
    family: str = "",
    collation: str = "",
    registered: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Every expression over every value: both answers. What fails on the server fails here, alike."""
    canonical = [
        str(row[0]).encode() for row in server.execute(f"SELECT v::{type_name}::text FROM unnest(%s::text[]) AS v", (list(values),))
    ]
    wanted = ", ".join(f"({_sql(e)})::text" for e in expressions)
    given_values = "unnest(%s::text[]) WITH ORDINALITY AS u (v, n) ORDER BY n"
    query = f"SELECT {wanted} FROM (SELECT v::{type_name}{collation} AS v FROM {given_values}) AS one"
    rows = server.execute(query, (list(values),)).fetchall()
    assert len(rows) == len(values)
    for expression, answers in zip(expressions, zip(*rows, strict=True), strict=True):
        found = transform(registered.get(expression, expression), type_name, Characters(family))
        for value, answer in zip(canonical, answers, strict=True):
            own = found.apply(value)
            assert (None if own is None else own.decode()) == answer, (expression, value)
            assert own is not None or not found.total, (expression, value)


_OF_TEXT = [
    *("btrim(@)", "ltrim(@)", "rtrim(@)", "btrim(@,'aehn .')", "ltrim(@,'éß')", "rtrim(@,'')", "length(@)"),
    *(f"{name}(@,{n})" for name in ("left", "right") for n in (0, 1, 4, -1, -3, 99, -2147483648 if name == "left" else -99)),
    *("substring(@,2)", "substring(@,-3)", "substring(@,2,3)", "substring(@,0,3)", "substring(@,-5,7)", "substring(@,3,0)"),
    *("replace(@,'an','')", "replace(@,'','x')", "replace(@,'s','ß''')", "translate(@,'aeiéa','12')", "translate(@,'','x')"),
    *("regexp_replace(@,'[^0-9]','','g')", "right(btrim(@),3)", "length(translate(@,'-.',''))"),
]


@pytest.mark.parametrize("type_name", ["text", "char(12)"])
def test_texts(server: Connection, type_name: str) -> None:
    @_BATCHES
    @given(_BATCH_OF_TEXTS)
    def compare(values: list[str]) -> None:
        _compare(server, _OF_TEXT, type_name, [v[:12] for v in values])

    compare()


_CASED = sorted({*map(chr, character_table("icu").upper), *map(chr, character_table("icu").lower)})
_OF_CASE = st.lists(st.sampled_from(_CASED) | st.sampled_from("ΑΣσς'.Аbß\u0130\u0301\u0663 -7"), max_size=8).map("".join)


@pytest.mark.parametrize(
    ("collation", "family"),
    [("C", "ascii"), ("C.utf8", "simple"), ("pg_c_utf8", "simple"), ("pg_unicode_fast", "icu"), ("und-x-icu", "icu")],
)
def test_case(server: Connection, collation: str, family: str) -> None:
    if not server.execute("SELECT FROM pg_collation WHERE collname = %s", (collation,)).fetchall():
        pytest.skip(f"this server has no collation {collation}")
    expressions = [
        "lower(@)",
        "upper(@)",
        "left(lower(@),2)",
        r"regexp_replace(@,'\D','','g')",
        "upper(lower(@))",
        "lower(upper(@))",
    ]

    @_BATCHES
    @given(st.lists(_OF_CASE, min_size=200, max_size=200))
    def compare(values: list[str]) -> None:
        _compare(server, expressions, "text", values, family, f' COLLATE "{collation}"')

    compare()


def test_sounds(phonetic: Connection) -> None:
    expressions = [
        "soundex(@)",
        "dmetaphone(@)",
        "dmetaphone_alt(@)",
        "soundex(btrim(@))",
        *(f"metaphone(@,{n})" for n in (1, 4, 255)),
    ]

    @_BATCHES
    @given(_BATCH_OF_TEXTS)
    def compare(values: list[str]) -> None:
        _compare(phonetic, expressions, "text", values)

    compare()


def test_letters_of_sounds_are_those_of_ascii(phonetic: Connection) -> None:
    """In UTF-8 no byte of another character is a letter, whatever the locale: over all code points."""
    query = """SELECT count(*) FROM generate_series(128, 1114111) i WHERE i NOT BETWEEN 55296 AND 57343
                AND (soundex(chr(i)) <> '' OR metaphone(chr(i), 4) <> '')"""
    assert phonetic.execute(query).fetchall() == [(0,)]


def test_fails_where_the_server_fails(phonetic: Connection) -> None:
    value = "ä" * 128
    with pytest.raises(psycopg.Error) as theirs:
        phonetic.execute("SELECT metaphone(%s, 4)", (value,))
    with pytest.raises(ValueRefused) as ours:
        transform("metaphone(@,4)", "text").apply(value.encode())
    assert (ours.value.sqlstate, ours.value.message) == (theirs.value.sqlstate, theirs.value.diag.message_primary)


@pytest.mark.parametrize(
    ("expression", "type_name", "value"),
    [
        ("date_trunc('year',@)", "timestamp", "4714-11-24 00:00:00 BC"),
        ("@::timestamp", "date", "294277-01-01"),
        ("date_part('year',@)", "date", "294277-01-01"),
    ],
)
def test_what_is_out_of_range_is_so_here(server: Connection, expression: str, type_name: str, value: str) -> None:
    with pytest.raises(psycopg.Error) as theirs:
        server.execute(f"SELECT {_sql(expression)} FROM (SELECT %s::{type_name}) AS one (v)", (value,))
    with pytest.raises(ValueRefused) as ours:
        transform(expression, type_name).apply(value.encode())
    assert (ours.value.sqlstate, ours.value.message) == (theirs.value.sqlstate, theirs.value.diag.message_primary)


_TRUNCATIONS = [f"date_trunc('{field}',@)" for field in sorted(date_functions.TRUNCATED)]


def _fields(operand: str) -> list[str]:
    return [f"{name}('{field}',@)" for name in ("extract", "date_part") for field in sorted(date_functions.FIELDS[operand])]


@pytest.mark.parametrize(
    ("type_name", "values", "others"),
    [
        ("date", _DATES, ["@::timestamp", "date_trunc('week',@::timestamp)"]),
        ("time", _TIMES, []),
        ("timestamp", _TIMESTAMPS, [*_TRUNCATIONS, "@::date", "@::time", "extract('hour',@::time)", "extract('year',@::date)"]),
    ],
)
def test_dates_and_times(server: Connection, type_name: str, values: st.SearchStrategy[str], others: list[str]) -> None:
    @_BATCHES
    @given(st.lists(values, min_size=200, max_size=200))
    def compare(batch: list[str]) -> None:
        # the year of the first day of all begins before it, which is an error of its own
        kept = [v for v in batch if not (type_name == "timestamp" and v.startswith(("4713", "4714")))]
        _compare(server, [*_fields(type_name), *others], type_name, kept)

    compare()


_STEPS_OF_TEXT = (
    *("lower({})", "upper({})", "btrim({})", "btrim({},'ae')", "ltrim({},' s')", "rtrim({})", "left({},3)", "left({},-1)"),
    *("right({},4)", "substring({},2)", "substring({},1,5)", "replace({},'an','n')", "translate({},'aeiou-','12345')"),
    *(r"regexp_replace({},'\D','','g')", "regexp_replace({},'[^0-9]','','g')", "soundex({})", "metaphone({},6)", "dmetaphone({})"),
    *("dmetaphone_alt({})", "length({})", "{}::text"),
)
_STEPS_OF_TIME = (
    *("{}::timestamp", "{}::date", "{}::time", "{}::text", "timezone('UTC',{})"),
    *(f"date_trunc('{field}',{{}})" for field in ("hour", "day", "week", "month", "quarter", "year", "decade", "century")),
    *(
        f"{name}('{field}',{{}})"
        for name in ("extract", "date_part")
        for field in ("year", "month", "hour", "dow", "isoyear", "second")
    ),
)


def _composed(steps: Sequence[str], start: str) -> st.SearchStrategy[str]:
    """Functions of the table around each other, two to four of them."""
    several = st.lists(st.sampled_from(steps), min_size=2, max_size=4)
    return several.map(lambda chosen: reduce(lambda inner, step: step.format(inner), chosen, start))


def _known(expressions: Sequence[str], type_name: str) -> dict[str, str]:
    """Return those that fit together, and how each is spelled when it is registered."""
    found = {}
    for expression in expressions:
        with suppress(ConfigError):
            found[expression] = write(normal(read(expression), type_name))
    return found


@pytest.mark.parametrize(
    ("type_name", "steps", "values"),
    [
        ("text", _STEPS_OF_TEXT, _TEXTS),
        ("char(12)", _STEPS_OF_TEXT, _TEXTS.map(lambda text: text[:12])),
        ("date", _STEPS_OF_TIME, _DATES.filter(lambda value: not value.startswith(("294276", "4713", "4714")))),
        ("timestamp", _STEPS_OF_TIME, _TIMESTAMPS.filter(lambda value: not value.startswith(("294276", "4713", "4714")))),
    ],
)
def test_compositions(phonetic: Connection, type_name: str, steps: Sequence[str], values: st.SearchStrategy[str]) -> None:
    tried: set[str] = set()

    @_BATCHES
    @given(
        st.lists(_composed(steps, "@::timestamp" if type_name == "date" else "@"), min_size=60, max_size=60),
        st.lists(values, min_size=60, max_size=60),
    )
    def compare(expressions: list[str], batch: list[str]) -> None:
        known = _known(expressions, type_name)
        tried.update(known)
        collation = ' COLLATE "C"' if steps is _STEPS_OF_TEXT else ""
        _compare(phonetic, list(known), type_name, batch, "ascii", collation, registered=known)

    compare()
    assert len(tried) > 30


def test_timestamptz_at_utc(server: Connection) -> None:
    @_BATCHES
    @given(st.lists(_TIMESTAMPS, min_size=200, max_size=200))
    def compare(batch: list[str]) -> None:
        values = [v if "infinity" in v else v.replace(" BC", "") + "+00" + (" BC" if "BC" in v else "") for v in batch]
        _compare(server, ["timezone('UTC',@)", "timezone('UTC',@)::date"], "timestamptz", values)

    compare()


def test_field_names(server: Connection) -> None:
    query = "SELECT date_part(%s, v) = date_part(%s, v) FROM (SELECT '2021-03-04 12:34:56.789'::timestamp AS v) AS one"
    for field, aliases in date_functions._ALIASES.items():
        for alias in (*aliases.split(), field.upper()):
            assert date_functions.field_name(alias) == field
            assert server.execute(query, (alias, field)).fetchall() == [(True,)]


@pytest.mark.parametrize(
    ("type_name", "values"),
    [
        ("int2", ["0", "-32768"]),
        ("int4", ["7", "-7"]),
        ("int8", ["9223372036854775807"]),
        ("numeric", ["1.50", "-0", "NaN", "Infinity"]),
        ("uuid", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
        ("bool", ["true", "false"]),
        ("char(4)", ["a", "ab  ", ""]),
        ("varchar", ["a "]),
    ],
)
def test_casts(server: Connection, type_name: str, values: list[str]) -> None:
    short = {"char(4)": "bpchar"}.get(type_name, type_name)
    expressions = [write(Cast(Column(), target)) for operand, target in function_table.casts() if operand == short]
    assert expressions
    rows = server.execute(f"SELECT v::{type_name} FROM unnest(%s::text[]) AS v", (values,)).fetchall()
    for expression in expressions:
        found = transform(expression, type_name)
        for text, _ in zip(values, rows, strict=True):
            # the canonical form is what the type's output function gives
            output = server.execute(
                f"SELECT format('%%s', v::{type_name}), ({_sql(expression)})::text FROM (SELECT %s::{type_name} AS v) AS one",
                (text,),
            )
            ((canonical, answer),) = output.fetchall()
            assert found.apply(str(canonical).encode()) == str(answer).encode()


def _immutable() -> Iterator[tuple[str, str]]:
    """Every function and cast of the table over every type that it takes."""
    constants = {"left": "2", "right": "2", "substring": "2", "metaphone": "2"}
    for name, _, kind in document_paths.names():
        constants[name] = "1" if kind == "array_element" else "'a'"
    others = {"replace": "'a','b'", "translate": "'a','b'", "regexp_replace": r"'\D','','g'"}
    for name, row in function_table.FUNCTIONS.items():
        if name.startswith("json_") and not name.endswith("_text"):
            continue  # a json, which nothing can be compared with
        for type_name in sorted(row.takes):
            if name in ("extract", "date_part", "date_trunc"):
                yield f"{name}('{'hour' if type_name == 'time' else 'year'}',@)", type_name
            elif name == "timezone":
                yield "timezone('UTC',@)", type_name
            else:
                constant = constants.get(name) or others.get(name)
                yield (f"{name}(@,{constant})" if constant else f"{name}(@)"), type_name
    for operand, target in function_table.casts():
        yield f"@::{target}", operand


def test_create_index_accepts_all_of_the_table(server: Connection) -> None:
    """What is immutable, the server decides."""
    for extension in ("fuzzystrmatch", "citext"):
        _with_extension(server, extension)
    for n, (expression, type_name) in enumerate(_immutable()):
        transform(expression, type_name)
        server.execute(f"CREATE TABLE i{n} (v {type_name}); CREATE INDEX ON i{n} (({_sql(expression)}))")


@pytest.mark.parametrize(
    ("expression", "type_name"),
    [
        ("date_trunc('year',@)", "date"),
        ("@::text", "date"),
        ("@::text", "timestamp"),
        ("@::date", "timestamptz"),
        ("date_part('year',@)", "timestamptz"),
    ],
)
def test_what_create_index_refuses_is_not_in_the_table(server: Connection, expression: str, type_name: str) -> None:
    server.execute(f"CREATE TABLE IF NOT EXISTS refused_{type_name} (v {type_name})")
    with pytest.raises(psycopg.Error, match="must be marked IMMUTABLE"):
        server.execute(f"CREATE INDEX ON refused_{type_name} (({_sql(expression)}))")
    with pytest.raises(Exception, match=r"takes|not in the table"):
        transform(expression, type_name)


def test_citext(server: Connection) -> None:
    _with_extension(server, "citext")
    values = ["Smith", "SMITH 12", " x "]
    _compare(
        server,
        [
            "lower(@)",
            "left(@,3)",
            "btrim(@)",
            r"regexp_replace(@,'\D','','g')",
            "regexp_replace(@,'[^0-9]','','g')",
            "length(@)",
            "replace(@::text,'S','x')",
        ],
        "citext",
        values,
    )
