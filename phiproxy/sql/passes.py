"""The analysis of one statement: runs ``PASSES`` in their order, and returns the Outcome.

StatementRefused and ValueRefused end the analysis; CatalogNeeded and PathNeeded end it too, but are no answers.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.policy.protection import DeclaredType, ProtectedColumn
from phiproxy.sql.context import Analysis, Context, Query
from phiproxy.sql.expressions.expression import query
from phiproxy.sql.expressions.repeated_in_clear import checked_uses
from phiproxy.sql.expressions.user_types import find_types, note_declared
from phiproxy.sql.expressions.values_columns import settle
from phiproxy.sql.pg_errors.replaced_views import check_in_clear
from phiproxy.sql.pg_errors.verdict import confirm
from phiproxy.sql.resolve.protected_values import SHOWN, ListColumn, Output, Protected, type_of
from phiproxy.sql.resolve.scope import Scope
from phiproxy.sql.result import Outcome, Refused, Reveal
from phiproxy.sql.rewrite.common_changes import BlankComments
from phiproxy.sql.rewrite.draft import Draft
from phiproxy.sql.rewrite.order_of_rewrites import carry_out
from phiproxy.sql.rules import RULES
from phiproxy.sql.statements import prepare_and_cursors
from phiproxy.sql.statements.copy import copy_query, copy_table
from phiproxy.sql.statements.ddl import create_from_query
from phiproxy.sql.statements.ddl.alter_type import check_types
from phiproxy.sql.statements.ddl.create_table_as import select_into
from phiproxy.sql.statements.ddl.drop_index import drop_index
from phiproxy.sql.statements.ddl.replaced_view import replaces_in_clear
from phiproxy.sql.statements.explain import explain
from phiproxy.sql.statements.fixed_settings import check_fixed
from phiproxy.sql.statements.set_end_user_and_reason import take_said
from phiproxy.sql.statements.subjects_of_statement import subjects_of
from phiproxy.sql.statements.unprotected import check_targets, check_unprotected, touching
from phiproxy.sql.statements.utility import check_masked, check_utility, defines, effects
from phiproxy.sql.statements.utility import named as named_in_tree
from phiproxy.sql.text.parse import Node, Statement, messages, only
from phiproxy.sql.values.type_resolution import TEXT, Type
from phiproxy.sql.values.uses import Plain, Search, Store
from phiproxy.types.names import sql_name

_WRITES = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})
_DML = _WRITES | {"SelectStmt"}
_JUDGED = _DML | {"CopyStmt", "DeclareCursorStmt", "ExplainStmt"}
# What has no query that is analysed, and changes nothing that is found by another name than those of protected tables and of what
# reaches them: an index, a type or an extension in use, or the schema of a table.
_DEFINING = frozenset(
    {
        "AlterFunctionStmt", "AlterOwnerStmt", "AlterPolicyStmt", "AlterRoleStmt", "AlterSeqStmt", "AlterTableStmt", "CommentStmt",
        "CreateEnumStmt", "CompositeTypeStmt", "CreateDomainStmt", "CreateFunctionStmt", "CreatePolicyStmt", "CreateRoleStmt",
        "CreateSeqStmt", "CreateStatsStmt", "CreateStmt", "CreateTrigStmt", "DefineStmt", "DoStmt", "DropRoleStmt", "DropStmt",
        "GrantRoleStmt", "GrantStmt", "IndexStmt", "RenameStmt", "RuleStmt", "TransactionStmt", "VariableSetStmt",
        "VariableShowStmt",
    }
)  # fmt: skip
_OF_ANYTHING = frozenset(
    {
        "OBJECT_ATTRIBUTE", "OBJECT_DOMAIN", "OBJECT_DOMCONSTRAINT", "OBJECT_EXTENSION", "OBJECT_INDEX", "OBJECT_SCHEMA",
        "OBJECT_TYPE",
    }
)  # fmt: skip


def analyse(statement: Statement, text: bytes, context: Context) -> Outcome:
    """Return a statement's outcome, with positions in the whole ``text``; PathNeeded, CatalogNeeded. Its tree stays as parsed."""
    a = Analysis(text, context, statement, RULES)
    try:
        for step in OF_OTHERS if _defines_others(a) else PASSES:
            step(a)
    except (StatementRefused, ValueRefused) as refusal:
        return Refused(refusal)
    a.answer.tree = a.tree
    return a.answer


def shown_only(statement: Statement, text: bytes, context: Context) -> Refused | None:
    """Return why a statement uses a masked column for more than showing it, or why that cannot be told; None where it does not.

    Nothing else is taken as protected, so that nothing else is refused. It is asked of what an engine may compute.
    """
    if statement.kind not in _JUDGED:
        return None  # of what it runs by name that was asked when it was planned
    a = Analysis(text, replace(context, protection=context.protection.only_masked, views={}, judging=True), statement, RULES)
    try:
        for step in (note_effects, resolve_types, apply_rules):
            step(a)
        for one in a.query.outputs if a.query is not None else ():
            _reveal(one, None)
    except (StatementRefused, ValueRefused) as refusal:
        return Refused(refusal)
    return None


def _defines_others(a: Analysis) -> bool:
    """Tell whether a statement only defines or sets something, and no text in it has a protected name: not as a word, nor in one.

    CREATE TABLE log2 (LIKE log)
    → unchanged
    """
    kind, body, protection = a.statement.kind, a.statement.body, a.context.protection
    if kind not in _DEFINING or not _OF_ANYTHING.isdisjoint((body.get("removeType"), body.get("renameType"))) or protection.masked:
        return False
    told = "\0".join([value for message in a.whole() for value in message.values() if value.__class__ is str]).lower()
    names = (*protection.table_names, *a.context.catalog.reaching, protection.registry_schema)
    return not any(name.lower() in told for name in names)


def check_others(a: Analysis) -> None:
    """Check what is checked of a statement that defines others: where it inserts.

    CREATE RULE r AS ON INSERT TO log DO INSERT INTO lg VALUES (1)
    → refused 42P01
    """
    check_targets(a, a.statement.body)


# -- what is known beforehand --------------------------------------------------------------------------------------------------


def note_effects(a: Analysis) -> None:
    """Note what the statement does to its session, and which parameters occur in it.

    SET search_path = audit, public
    → unchanged
    """
    a.answer.effects = effects(a.statement.kind, a.statement.body, a.whole(), a.context.catalog.setters)
    a.answer.numbers = a.parameter_numbers


def check_settings(a: Analysis) -> None:
    """Refuse to change settings that say how what the proxy reads is spelled, and take those that say who acts.

    SET array_nulls TO off
    → refused 0A000
    """
    check_fixed(a.statement.kind, a.statement.body, a.whole(), a.context.protection)
    take_said(a)


def resolve_types(a: Analysis) -> None:
    """Find out which types of the database's own are named, and which ones Parse has declared of parameters.

    SELECT id FROM diaries WHERE mood = 'good'::mood
    → SELECT id FROM diaries WHERE tag(mood) = tag('good')
    """
    context, walked = a.context, a.whole()
    note_declared(walked, context.catalog, context.declared)
    kind, body = a.statement.kind, a.statement.body
    if context.path is not None or kind == "ExecuteStmt" or named_in_tree(body, context.protection, context.catalog) is not None:
        find_types(a, walked)  # else the path need not be known: what a type is matters beside protected columns only


# -- the rules of each kind of statement ---------------------------------------------------------------------------------------


def apply_rules(a: Analysis) -> None:
    """Apply the rules of the statement's kind, which note what each protected column and each value becomes.

    SELECT ssn FROM patients WHERE ssn = '123-45-6789'
    → SELECT ssn FROM patients WHERE tag(ssn) = tag('123-45-6789')
    """
    kind, body, answer = a.statement.kind, a.statement.body, a.answer
    if kind == "SelectStmt" and "intoClause" in body and _select_into(a, body):
        pass
    elif kind in _DML:
        answer.kind = "select" if kind == "SelectStmt" else "write"
        _analyse_query(a, kind, body)
    elif kind == "ExplainStmt" and only(body["query"])[0] in _DML:
        explain(a, body, _analyse_query)
    elif kind == "CopyStmt":
        _analyse_copy(a, body)
    elif kind == "DeclareCursorStmt":
        _analyse_cursor(a, body)
    elif not _analyse_named(a, kind, body):
        _analyse_utility(a, kind, body)


def _analyse_cursor(a: Analysis, body: Node) -> None:
    kind, inner = only(body["query"])
    if a.answer.effects.path_unknown:
        why = "a cursor that may change the search path does so whenever rows are fetched from it"
        raise a.refuse(why, inner, hint="Send its query by itself.")
    _analyse_query(a, kind, inner)
    if a.answer.bound:
        why = "a cursor over SQL that is given as text would run it whenever rows are fetched from it"
        raise a.refuse(why, inner, hint="Send its query by itself.")
    a.after_outputs = partial(prepare_and_cursors.declare, a, body)


def _analyse_named(a: Analysis, kind: str, body: Node) -> bool:
    """Analyse what refers to statements and cursors by name; False for any other statement."""
    inner, inner_body, outer = kind, body, []
    while inner in ("ExplainStmt", "CreateTableAsStmt"):
        outer.append(inner)
        inner, inner_body = only(inner_body["query"])
    if kind == "PrepareStmt":
        prepare_and_cursors.prepare(a, body)
    elif inner == "ExecuteStmt":
        touching(a, inner_body)
        prepare_and_cursors.execute(a, inner_body, into="CreateTableAsStmt" in outer)
        if outer:
            a.answer.outputs = None
        return "CreateTableAsStmt" not in outer
    elif kind == "FetchStmt":
        prepare_and_cursors.fetch(a, body)
    else:
        return False
    return True


def _analyse_copy(a: Analysis, body: Node) -> None:
    a.answer.takes_parameters = False
    if "query" not in body:
        copy_table(a, body)
        return
    kind, query_body = only(body["query"])
    if kind not in _DML:
        raise a.refuse("COPY of this kind of query is not understood", query_body, hint="Copy a SELECT.")
    _analyse_query(a, kind, query_body)
    a.after_outputs = partial(copy_query, a, body)


def _analyse_utility(a: Analysis, kind: str, body: Node) -> None:
    protection, catalog = a.context.protection, a.context.catalog
    check_masked(kind, body, protection, catalog)
    source = create_from_query.source_query(kind, body)
    check_targets(a, body)
    if source is not None and (touching(a, source) or create_from_query.fills(a, kind, body)):
        create_from_query.check_name(a, kind, body)
        outputs = _analyse_query(a, "SelectStmt", source)
        a.after_outputs = partial(create_from_query.settle, a, kind, body, outputs)
        return
    if source is not None and create_from_query.shadows(a, kind, body):
        check_unprotected(a, source)
        return
    if source is not None and replaces_in_clear(a, kind, body):
        check_unprotected(a, source)
        a.answer.effects.names_protected = True
        return
    of_types = check_types(a, kind, body)
    if drop_index(a, kind, body):
        return
    rule = a.rules.definitions.get(kind)
    # A rule edits a copy of the tree to what the server will see of it.
    if not (rule is not None and defines(kind, body, protection, catalog) and rule(a, copy.deepcopy(body))):
        a.answer.effects.names_protected = check_utility(kind, body, protection, catalog) or of_types


def _select_into(a: Analysis, body: Node) -> bool:
    """Analyse SELECT … INTO as the CREATE TABLE AS that it is; False where neither its query nor its table is protected."""
    source = {key: value for key, value in body.items() if key != "intoClause"}
    a.walks[id(source)] = messages(source)
    table: Node = {"into": body["intoClause"], "objtype": "OBJECT_TABLE"}
    if not (touching(a, source) or create_from_query.fills(a, create_from_query.TABLE, table)):
        if not create_from_query.shadows(a, create_from_query.TABLE, table):
            return False
        check_unprotected(a, source)
        return True
    definition = select_into(a, source, body["intoClause"])
    a.tree.root = {create_from_query.TABLE: definition}
    a.answer.cacheable = False
    create_from_query.check_name(a, create_from_query.TABLE, definition)
    outputs = _analyse_query(a, "SelectStmt", source)
    a.after_outputs = partial(create_from_query.settle, a, create_from_query.TABLE, definition, outputs)
    return True


def _analyse_query(a: Analysis, kind: str, body: Node) -> list[Output]:
    """Analyse a query; return its outputs, where it may touch something protected."""
    if not touching(a, body) and not _tests_values(a):
        check_unprotected(a, body)
        return []
    outputs = query(a, kind, body, Scope(()))
    for _, value in outputs:
        if isinstance(value, ListColumn):
            value.users.append(SHOWN)
    a.answer.plain_select = kind == "SelectStmt" and _WRITES.isdisjoint(a.keys)
    # What the casts say of given values: they are taken away where the values become protected.
    types = tuple(type_of(value) if isinstance(value, ListColumn) else None for _, value in outputs)
    a.query = Query(outputs, types, returns=kind == "SelectStmt" or "returningClause" in body)
    return outputs


def _tests_values(a: Analysis) -> bool:
    """Tell whether a source without tables may test a parameter for NULL, of which the server is told no more then.

    SELECT CASE WHEN ($1::text) IS NULL THEN nextval('numbers') END
    → unchanged
    """
    return a.context.of_source and {"ParamRef", "NullTest"} <= a.keys and "RangeVar" not in a.keys


# -- what is decided when all is known -----------------------------------------------------------------------------------------


def decide_values(a: Analysis) -> None:
    """Decide whether values of VALUES and of SELECT lists become tags or envelopes, or stay: by how their columns are used.

    SELECT id FROM patients WHERE (ssn, id) IN (VALUES ('123-45-6789', 1))
    → SELECT id FROM patients WHERE (tag(ssn), id) IN (VALUES (tag('123-45-6789'), 1))
    """
    settle(a)


def settle_uses(a: Analysis) -> None:
    """Refuse a protected value that stands in clear elsewhere; else register the rewrites of all uses, and blank comments.

    UPDATE patients SET ssn = '123-45-6789' WHERE city = '123-45-6789'
    → refused 0A000
    """
    protected = [decided for decided in checked_uses(a) if not isinstance(decided.use, Plain)]
    for decided in protected:
        a.drop_casts(decided.operand.casts)
        a.rewrites.add(decided)
    a.answer.touches = a.answer.touches or any(isinstance(decided.use, Store | Search) for decided in protected)
    if a.answer.touches and not a.answer.definition and (blanks := a.blanks(protected)):
        a.rewrites.add(BlankComments(blanks))


def carry_out_rewrites(a: Analysis) -> None:
    """Carry out all rewrites, in the text and in the tree; without any the statement is sent as it is.

    SELECT ssn FROM public.patients
    → unchanged
    """
    if a.rewrites and not a.answer.definition:
        draft = Draft(a.scan, a.answer.room, a.tree, [e for blanked in a.rewrites.every(BlankComments) for e in blanked.blanks])
        a.answer.edits, a.answer.occurrences = carry_out(a.rewrites, draft)


def reveal_outputs(a: Analysis) -> None:
    """Say which result columns are opened, and as which types they are shown.

    SELECT id, ssn FROM public.patients
    → unchanged
    """
    if a.query is not None:
        reveals = map(_reveal, a.query.outputs, a.query.types)
        a.answer.outputs = tuple(reveals) if a.query.returns else ()


def _reveal(output: Output, given: Type) -> Reveal | None:
    _, value = output
    if isinstance(value, Protected) and value.column.base is not None:
        value.column.refuse_masked()
    if isinstance(value, ListColumn) and value.became is not None:
        return Reveal(value.became, _given_type(value.became, given or TEXT), cast=True)
    return Reveal(value.column, value.type, value.cast, value.origin, value.planned) if isinstance(value, Protected) else None


def _given_type(became: ProtectedColumn, shown: DeclaredType) -> DeclaredType:
    own = became.type.underlying
    if shown.oid == own.oid or (shown.is_text and own.is_text):
        return shown
    what = "a literal" if shown.is_text else "a given value"
    why = f"{what} is shown here as {sql_name(shown)}, and meets {became.label} elsewhere"
    raise StatementRefused(why, hint=f"Cast it to {sql_name(became.type)}.")


def complete_statement(a: Analysis) -> None:
    """Do what the statement around a query asks for, now that its outputs are known.

    CREATE TABLE ssns AS SELECT ssn FROM patients
    → refused 0A000
    """
    if a.after_outputs is not None:
        a.after_outputs()


def note_subjects(a: Analysis) -> None:
    """Say how it is known whom the rows are about, for the audit log.

    SELECT id, ssn FROM public.patients
    → unchanged
    """
    a.answer.subjects = subjects_of(a) if a.answer.touches else ()
    if a.answer.copy is not None and a.answer.subjects:
        a.answer.copy = replace(a.answer.copy, about=a.answer.subjects)


def confirm_types(a: Analysis) -> None:
    """Refuse a statement that PostgreSQL would refuse, in its words, and one whose results are not of the types they are shown as.

    SELECT ssn FROM patients WHERE id = 'x'::date
    → refused 42883
    """
    check_in_clear(a)
    if a.answer.touches:
        confirm(a)


PASSES: tuple[Callable[[Analysis], None], ...] = (
    note_effects,
    check_settings,
    resolve_types,
    apply_rules,
    decide_values,
    settle_uses,
    carry_out_rewrites,
    reveal_outputs,
    complete_statement,
    note_subjects,
    confirm_types,
)
OF_OTHERS = (note_effects, check_settings, check_others, carry_out_rewrites)
"""What is left of them for DDL and settings of something else, which is most of what a migration sends (``_defines_others``)."""
