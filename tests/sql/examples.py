"""The examples in the docstrings of ``phiproxy.sql``: a statement, and what becomes of it over the clinic of the fixtures.

An example is a paragraph: SQL, and behind an arrow what the server gets. Lines that are continued begin with two spaces:

SELECT id FROM patients WHERE ssn = '123-45-6789'
→ SELECT id FROM patients WHERE tag(ssn) = tag('123-45-6789')

SELECT upper(ssn) FROM patients
→ refused 0A000

SELECT ssn FROM public.patients
→ unchanged

SELECT upper(ssn) FROM patients
→ source: SELECT t.ssn FROM patients AS t
→ rest: SELECT upper(ssn) FROM (SELECT s.c1 FROM {} AS s) AS patients (ssn)

A split write has a ``write`` too, and what is ``described`` of it.

``tag(c)`` is written for ``pg_catalog.substring(c, 13, 16)``, the first tag of an envelope, ``tag1(c)`` for the second, and so on.
Of what the client gave as ``x`` the server gets ``tag(x)``, ``envelope(x)``, ``is_null(x)`` (only whether it is NULL), or x itself;
of an array ``tags(x)``, and of a range that begins with x ``tags(x, …)``. ``<guard c>`` is the constraint of a protected column,
``sealed(x)`` a condition over one; ``zeros`` and ``empty`` are constants of bytea. Of a DO block the statements stand there one
after the other. The schema that is written before a table's name may be left out, and ``…`` is anything.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from functools import cache

import phiproxy.sql
from phiproxy.errors import PhiproxyError, StatementRefused
from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import EngineFacts
from phiproxy.policy.catalog import Relation
from phiproxy.policy.column_types import builtin
from phiproxy.policy.plaintext_guards import guard, guard_name
from phiproxy.policy.protection import DeclaredType, ProtectedTable, Slot
from phiproxy.policy.signatures import Operator, Rows, Signatures, TypeRow
from phiproxy.policy.user_types import OwnType
from phiproxy.sql.context import Context
from phiproxy.sql.passes import analyse
from phiproxy.sql.result import Occurrence, Refused
from phiproxy.sql.rewrite.apply_edits import Rendered
from phiproxy.sql.split.any_kind import split_statement
from phiproxy.sql.text.parse import parse
from phiproxy.sql.values.uses import Absent, Define, Nullness, Plain, Renew, Search, Store
from tests import records_model
from tests.clinic_model import SIGNATURES, protected, relation
from tests.fixtures import model
from tests.plan.rings import full_ring

_ZEROS = re.compile(r"'\\x0{32}'::bytea")
_QUOTED = re.compile(r'"([a-z_]+)"')
_TAG = re.compile(r"pg_catalog\.substring\(((?:[^(),]|\([^()]*\))+), (\d+), 16\)")


@dataclasses.dataclass(frozen=True)
class Example:
    """One example: where it stands, and what it says."""

    module: str
    owner: str
    statement: str
    answer: str


_MOOD, _CITEXT = 20001, 20003
_TYPES = (
    OwnType(_MOOD, 20002, 4, "public", "mood", "e", ("good", "bad")),
    OwnType(_CITEXT, 20004, -1, "public", "citext", "citext"),
)
_SIGNATURES = Rows(
    {
        _MOOD: TypeRow(_MOOD, "mood", "e", "E", False, 0, 0, 20002),
        _CITEXT: TypeRow(_CITEXT, "citext", "b", "S", False, 0, 0, 20004),
    },
    {(_CITEXT, 25): "i", (25, _CITEXT): "a"},
    {},
    {"=": (Operator(_CITEXT, _CITEXT, 16),)},
    frozenset({"mood", "citext"}),
)
# A table whose columns are of types of the database's own, and one with row-level security.
_SLOTS = (Slot(0, "@", 1, "active"), Slot(1, "@::text", 1, "active"))
_DIARIES = {
    "mood": protected("diaries", "mood", 20, type_=DeclaredType("public.mood", 0)),
    "nick": protected("diaries", "nick", 21, type_=DeclaredType("public.citext", 0), slots=_SLOTS),
    "private": protected("diaries", "private", 22, type_=builtin("bool")),
}
_GUESTS = {"name": protected("guests", "name", 23)}


def _with_default(table: Relation, name: str) -> Relation:
    """Return a table one of whose protected columns has a constant default."""
    columns = (dataclasses.replace(c, has_default=True, default=b"envelope") if c.name == name else c for c in table.columns)
    return dataclasses.replace(table, columns=tuple(columns))


@cache
def planner(*, before_visits: bool, engine: bool = False) -> Planner:
    """Return a planner with keys for the clinic of the fixtures, perhaps ``before_visits`` is made there, or with an ``engine``.

    Beside it are ``diaries (id, mood mood, nick citext, private boolean DEFAULT …)``, ``guests (id, name text)``, which has
    row-level security, and ``records (id, ssn text, fields jsonb)``, whose document has sealed fields.
    """
    own_planner = model.planner()
    gone = "public.visits" if before_visits else ""
    guests = relation(121, "public", "guests", "id", "name", "phi_tag_name_0")
    catalog = dataclasses.replace(
        own_planner.catalog,
        relations=(
            *(r for r in own_planner.catalog.relations if r.qualified != gone),
            _with_default(relation(120, "public", "diaries", "id", *_DIARIES), "private"),
            dataclasses.replace(guests, row_security=True),
            records_model.RELATION,
        ),
        reaching={**own_planner.catalog.reaching, "query_to_xml": "function that runs SQL"},
        types=_TYPES,
        signatures=Signatures((*SIGNATURES.parts, _SIGNATURES)),
    )
    own = ProtectedTable("public", "diaries", _DIARIES), ProtectedTable("public", "guests", _GUESTS), records_model.RECORDS
    protection = dataclasses.replace(own_planner.protection, tables=(*own_planner.protection.tables, *own))
    facts = EngineFacts() if engine else None
    return Planner(protection, catalog, model.KnownDefaults(full_ring(protection=protection)), facts)


def splits(statement: str, part: str) -> str:
    """Return the ``source`` or the ``rest`` of a statement that is split, as examples say it: without needless quotes."""
    text, on = statement.encode(), planner(before_visits=False)
    context = Context(on.protection, on.catalog, model.VIEW.path, model.VIEW.database, default_text=on.ciphers.default_text)
    (parsed,) = parse(text)
    refused = analyse(parsed, text, context)
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, StatementRefused)
    said = split_statement(parsed, text, context, refused.error)
    if said is None:
        return "not split"
    texts = {"source": said.source, "write": said.write.text if said.write is not None else b""}
    sql = texts.get(part, b"{}".join(said.described.parts if part == "described" else said.rest.parts))
    return f"{part}: " + _QUOTED.sub(r"\1", sql.decode())


def becomes(statement: str, answer: str = "", *, before_visits: bool = False, engine: bool = False) -> str:
    """Return what becomes of a statement, as examples say it; of a statement that is split the part that ``answer`` is of."""
    part = answer.partition(": ")[0]
    if part in ("source", "rest", "write", "described"):
        return splits(statement, part)
    text, on = statement.encode(), planner(before_visits=before_visits, engine=engine)
    try:
        on.statement(text, (), model.VIEW)
        answers = on.answers(text, model.VIEW)
    except PhiproxyError as refused:
        return f"refused {refused.sqlstate}"
    if not answers:
        return "unchanged"
    rendered = Rendered(text, answers[0].edits, answers[0].occurrences)
    sql = _statements(rendered.fill(lambda _i, occurrence: _shown(occurrence, text).encode()).decode())
    if sql == statement:
        return "unchanged"
    for table in on.protection.tables:
        for column in table.columns.values():
            sql = sql.replace(f"CONSTRAINT {guard_name(column.name)} {guard(column)}", f"<guard {column.name}>")
    sql = _ZEROS.sub("zeros", sql).replace(r"'\x'::bytea", "empty")
    return _TAG.sub(lambda m: f"{_numbered('tag', (int(m[2]) - 13) // 16)}({m[1]})", sql)


def _statements(sql: str) -> str:
    """Return the statements of a block of DDL one after the other."""
    block = re.fullmatch(r"DO \$phi\$BEGIN (.*) END\$phi\$", sql)
    return sql if block is None else re.sub(r"EXECUTE \$phi_sql\$ ?(.*?) ?\$phi_sql\$", r"\1", block[1]).removesuffix(";")


def _numbered(word: str, number: int) -> str:
    return f"{word}{number or ''}"


def _shown(occurrence: Occurrence, text: bytes) -> str:
    """Return how an example says what the server gets in the place of an occurrence."""
    if occurrence.null:
        return "NULL"
    use, own = occurrence.use, text[occurrence.start : occurrence.end].decode()
    if occurrence.lead or not own:
        own = _of_input(occurrence) or own
    match use:
        case Search(range=None):
            return f"{_numbered('tags' if use.elements else 'tag', use.slot.number)}({own})"
        case Search(range=period) if period is not None and period.upper:
            return period.word.decode()
        case Search():
            return f"{_numbered('tags', use.slot.number)}({own}, …)"
        case Store() | Renew():
            return f"envelope{'s' if isinstance(use, Store) and use.elements else ''}({own})"
        case Define():
            return f"sealed({own})"
        case Nullness():
            return f"is_null({own})"
        case Plain() | Absent():
            return own


def _of_input(occurrence: Occurrence) -> str:
    """Return what an occurrence is that stands where the client has nothing."""
    if occurrence.number:
        return f"${occurrence.number}"
    if occurrence.formula is not None:
        return "…"
    return f"'{occurrence.literal.decode()}'" if occurrence.literal else "DEFAULT"


def modules() -> Iterator[str]:
    """Yield the names of all modules of ``phiproxy.sql``."""
    for module in pkgutil.walk_packages(phiproxy.sql.__path__, "phiproxy.sql."):
        if not module.ispkg:
            yield module.name


def examples(module: str) -> Iterator[Example]:
    """Yield the examples in the docstrings of one module."""
    source = inspect.getsource(importlib.import_module(module))
    if "→" not in source:
        return
    for owner, docstring in _docstrings(ast.parse(source)):
        for statement, answer in read(docstring):
            yield Example(module, owner, statement, answer)


def _docstrings(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """Yield owners and docstrings; each process that collects tests reads the whole floor, so nothing else is walked through."""
    yield "" if isinstance(node, ast.Module) else node.name, ast.get_docstring(node) or ""
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            yield from _docstrings(child)


def read(docstring: str) -> Iterator[tuple[str, str]]:
    """Yield the statements of a docstring's examples, with their answers."""
    for paragraph in re.split(r"\n\s*\n", docstring):
        statement, *answers = re.split(r"^\s*→ ", paragraph, flags=re.MULTILINE)
        for answer in answers:
            yield " ".join(statement.split()), " ".join(answer.split())


def agrees(answer: str, becomes: str) -> bool:
    """Tell whether an example is true; it may leave out the schema before a table's name, and spaces count once."""
    said = ".*".join(map(re.escape, answer.split("…")))
    return any(re.fullmatch(said, " ".join(sql.split())) for sql in (becomes, becomes.replace('"public".', "")))
