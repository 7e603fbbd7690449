"""Paths as index expressions: one spelling for equal ones, and PostgreSQL's answers on generated documents."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from phiproxy.documents.path_operators import Key, Path, Position
from phiproxy.errors import ConfigError, ValueRefused
from phiproxy.index.document_paths import path_of
from phiproxy.index.registered_form import normal
from phiproxy.index.spelling import Call, Column, Constant, Expression, read, write
from phiproxy.index.transform import transform
from phiproxy.sql.values.index_spelling import spell
from tests.harness.server import PostgresServer

Connection = psycopg.Connection[tuple[object, ...]]

_BATCHES = settings(
    derandomize=True,
    database=None,
    max_examples=12,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


def _call(name: str, *constants: str | int, over: Expression = Column()) -> Call:  # noqa: B008 - frozen
    return Call(name, (over, *map(Constant, constants)))


@pytest.mark.parametrize(
    ("texts", "spelling"),
    [
        (
            [
                "doc->>'ssn'",
                "doc #>> '{ssn}'",
                "(doc->'ssn') #>> '{}'",
                "jsonb_extract_path_text(doc, 'ssn')",
                "jsonb_object_field_text(doc, 'ssn')",
                "doc #>> ARRAY['ssn']",
                "(doc->>'ssn')::text",
            ],
            "jsonb_extract_path_text(@,'ssn')",
        ),
        (
            [
                "doc->'name'->>'family'",
                "doc #>> '{name,family}'",
                "doc['name']->>'family'",
                "doc #> '{name}' #>> '{family}'",
                "(doc->'name')['family'] #>> '{}'",
                "doc #>> '{name,family}'::text[]",
                "jsonb_extract_path(doc,'name') ->> 'family'::text",
            ],
            "jsonb_extract_path_text(@,'name','family')",
        ),
        (["doc->'age'", "doc['age']", "doc #> '{age}'", "doc #> '{}' -> 'age'"], "jsonb_extract_path(@,'age')"),
        (["doc->'a'->0->>'b'"], "jsonb_extract_path_text(jsonb_array_element(jsonb_extract_path(@,'a'),0),'b')"),
        (["doc #>> '{a,0,b}'", "doc['a'][0]->>'b'", "doc['a']['0']->>'b'"], "jsonb_extract_path_text(@,'a','0','b')"),
        (["doc->>'0'"], "jsonb_object_field_text(@,'0')"),
        (["doc->-1"], "jsonb_array_element(@,-1)"),
        (["doc #>> '{}'"], "jsonb_extract_path_text(@)"),
        (["doc #> '{}'"], "@"),
        (["lower(doc->>'city')", "lower((doc #>> '{city}')::text)"], "lower(jsonb_extract_path_text(@,'city'))"),
        (["right(doc->>'ssn', 4)"], "right(jsonb_extract_path_text(@,'ssn'),4)"),
        (["doc->>'it''s'"], "jsonb_extract_path_text(@,'it''s')"),
    ],
)
def test_one_spelling_for_equal_paths_of_jsonb(texts: list[str], spelling: str) -> None:
    assert {spell(text, "doc", "jsonb") for text in texts} == {spelling}
    assert write(normal(read(spelling), "jsonb")) == spelling


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("doc->>'a'", "json_extract_path_text(@,'a')"),
        ("doc #>> '{a}'", "json_extract_path_text(@,'a')"),
        ("doc->'a'->>'b'", "json_extract_path_text(json_extract_path(@,'a'),'b')"),
        ("doc #>> '{a,b}'", "json_extract_path_text(@,'a','b')"),
        ("doc->>'0'", "json_object_field_text(@,'0')"),
        ("soundex(doc->>'a')", "soundex(json_extract_path_text(@,'a'))"),
    ],
)
def test_paths_of_json(text: str, spelling: str) -> None:
    assert spell(text, "doc", "json") == spelling


@pytest.mark.parametrize(
    ("text", "type_name", "what"),
    [
        ("doc->'a'", "json", "no equality"),
        ("doc['a']", "json", r"\[\]\(\) is not among"),
        ("doc->>-1", "json", "no position is counted from the end"),
        ("doc->>'a'", "text", "->>.. is not among the functions"),
        ("doc->>other", "jsonb", "is no index expression"),
        ("doc->>doc", "jsonb", "is no index expression"),
        ("doc #>> '{a,NULL}'", "jsonb", "is no index expression"),
        ("doc #>> '{a'", "jsonb", "is no index expression"),
        ("doc['a':'b']", "jsonb", "is no index expression"),
        ("lower(doc->'a')", "jsonb", r"lower\(\) takes .*, and jsonb_extract_path\(@,'a'\) is jsonb"),
        ("doc - 'a'", "jsonb", "is no index expression"),
        ("jsonb_object_field(doc,'a','b')", "jsonb", "an index is written @->'key'"),
        ("jsonb_extract_path(doc,'a',0)", "jsonb", "0 does not fit there"),
    ],
)
def test_what_is_no_path(text: str, type_name: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        spell(text, "doc", type_name)


def test_paths_of_expressions() -> None:
    whole = path_of(read("jsonb_array_element_text(jsonb_extract_path(lower(@),'a'),0)"))
    assert whole == (read("lower(@)"), Path((Key("a"), Position(0))), True)
    assert path_of(read("lower(@)")) is None
    assert path_of(read("json_extract_path(@,'a')")) is None


@pytest.fixture(scope="module")
def server(postgres_server: PostgresServer) -> Iterator[Connection]:
    name = postgres_server.create_database()
    with postgres_server.connect(name) as conn:
        yield conn
    postgres_server.drop_database(name)


_KEYS = st.sampled_from(["a", "b", "é", "0", "1", "-1", " 1", "", "a b", "😀", '"', "\\", "{", "A"])
_NUMBERS = st.sampled_from(["0", "-0", "1", "1.0", "1.00", "-0.0", "1e3", "1E-2", "0.1e1", "7" * 100, "-1." + "3" * 100, "1e400"])
_STRINGS = st.sampled_from(["", "a", "1", "1.0", "true", "null", "{}", "é\n", "\u0001", "😀", '"q"', "a/b", "\\u0041"])


def _written(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


_ESCAPED = st.just('"\\ud83d\\ude00\\u00e9"')
_SCALARS = st.one_of(_NUMBERS, st.sampled_from(["true", "false", "null"]), _STRINGS.map(_written), _ESCAPED)
_BLANK = st.sampled_from(["", "", " ", "\n"])


def _containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def array(items: list[str], blank: str) -> str:
        return f"[{blank}{f',{blank}'.join(items)}]"

    def record(items: list[tuple[str, str]], blank: str) -> str:
        return "{" + f",{blank}".join(f"{_written(key)}{blank}:{blank}{value}" for key, value in items) + blank + "}"

    items = st.lists(inner, max_size=3)
    members = st.lists(st.tuples(_KEYS, inner), max_size=4)  # keys may be there twice
    return st.builds(array, items, _BLANK) | st.builds(record, members, _BLANK)


_DOCUMENTS = st.recursive(_SCALARS, _containers, max_leaves=12)
_FIXED = ['{"a": {"b": [1, {"a": "x"}]}, "0": [[5]], "é": null}', "5", "null", '"a"', "[]", '[[1.0], {"a": {"a": 1}}]']

_STEP = st.one_of(
    st.builds(lambda key: ("object_field", (key,)), _KEYS),
    st.builds(lambda n: ("array_element", (n,)), st.sampled_from([0, 1, -1, -2, 3])),
    st.builds(lambda keys: ("extract_path", tuple(keys)), st.lists(_KEYS, max_size=3)),
)


def _expression(steps: list[tuple[str, tuple[str | int, ...]]], family: str, *, as_text: bool) -> Expression:
    names = [f"{family}_{kind}" for kind, _ in steps]
    names[-1] += "_text" if as_text else ""
    over: Expression = Column()
    for name, (_, constants) in zip(names, steps, strict=True):
        over = _call(name, *constants, over=over)
    return over


def _sql(expression: Expression) -> str:
    """Spell it for the server: a call of extract_path without steps is in no grammar."""
    match expression:
        case Call(name=name, arguments=(over, *constants)):
            said = [str(c.value) if isinstance(c.value, int) else "'" + c.value.replace("'", "''") + "'" for c in constants]  # type: ignore[union-attr]
            if "extract_path" in name:
                return f"{name}({_sql(over)}, VARIADIC ARRAY[{','.join(said)}]::text[])"
            return f"{name}({_sql(over)}, {said[0]})"
    return "v"


def _agree(server: Connection, family: str, expressions: list[Expression], documents: list[str]) -> None:
    """Every expression, as it is and as it is registered, over every document: both answers, and both equalities."""
    stored = [str(r[0]) for r in server.execute(f"SELECT d::{family}::text FROM unnest(%s::text[]) d", (documents,)).fetchall()]
    for expression in expressions:
        try:
            registered = write(normal(expression, family))
        except ConfigError:
            continue  # a json, or a position from the end of one
        own = transform(registered, family)
        of_each = f"(SELECT d::{family} AS v FROM unnest(%s::text[]) d) AS x"
        query = f"SELECT ({_sql(expression)})::text, pg_typeof({_sql(expression)})::text FROM {of_each}"
        rows = server.execute(query, (documents,)).fetchall()
        for document, (answer, type_name) in zip(stored, rows, strict=True):
            value = own.apply(document.encode())
            assert (None if value is None else value.decode()) == answer, (write(expression), registered, document)
            assert own.result == type_name


@pytest.mark.parametrize("family", ["json", "jsonb"])
def test_the_server_answers_alike(server: Connection, family: str) -> None:
    registered = set()

    @_BATCHES
    @given(
        st.lists(st.tuples(st.lists(_STEP, min_size=1, max_size=3), st.booleans()), min_size=30, max_size=30),
        st.lists(_DOCUMENTS, min_size=100, max_size=100),
    )
    def compare(paths: list[tuple[list[tuple[str, tuple[str | int, ...]]], bool]], documents: list[str]) -> None:
        expressions = [_expression(steps, family, as_text=as_text or family == "json") for steps, as_text in paths]
        registered.update(expressions)
        _agree(server, family, expressions, documents + _FIXED)

    compare()
    assert len(registered) > 100


@pytest.mark.parametrize("document", ['{"a": 1, "b": "\\u0000"}', '{"a": 1, "b": "\\ud800"}', '{"a": 1, "b": ["\\udc00"]}'])
def test_json_fails_where_the_server_fails(server: Connection, document: str) -> None:
    with pytest.raises(psycopg.Error) as theirs:
        server.execute("SELECT %s::json ->> 'a'", (document,))
    with pytest.raises(ValueRefused) as ours:
        transform("json_extract_path_text(@,'a')", "json").apply(document.encode())
    assert (ours.value.sqlstate, ours.value.message) == (theirs.value.sqlstate, theirs.value.diag.message_primary)
