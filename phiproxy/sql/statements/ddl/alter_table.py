"""ALTER TABLE on a protected table, command by command."""

from collections.abc import Callable
from dataclasses import dataclass, field

from phiproxy.errors import StatementRefused, public_text
from phiproxy.policy.catalog import Relation
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import COMPUTED_DEFAULT
from phiproxy.policy.plaintext_guards import guard, guard_name
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.context import Analysis
from phiproxy.sql.statements.ddl.alter_view import alter_view
from phiproxy.sql.statements.ddl.column_definitions import (
    check_collation,
    check_type,
    constant,
    constraint_end,
    default_span,
    is_bytea,
    storage_command,
    wanted,
    write,
)
from phiproxy.sql.statements.ddl.computed_defaults import computed_default, expression_span, seal_computed
from phiproxy.sql.statements.ddl.create_table import check_references
from phiproxy.sql.statements.ddl.foreign_keys import concerns, foreign_key, hidden_columns, keys_behind
from phiproxy.sql.statements.ddl.physical_form import Definition, Empty, Span
from phiproxy.sql.statements.ddl.row_security import tag_columns
from phiproxy.sql.statements.ddl.unique_keys import Columns, unique_index
from phiproxy.sql.statements.utility import UNCHANGED_ALTER
from phiproxy.sql.table_names import meant_relation, protected_table, target_relation
from phiproxy.sql.text.parse import Node, only, parse, strings
from phiproxy.sql.values.operands import as_operand

# Of any table: nothing of a column's values is in these.
_UNCHANGED = UNCHANGED_ALTER - {"AT_ValidateConstraint"} | {
    "AT_DropCluster", "AT_SetNotNull", "AT_SetTableSpace", "AT_ReplicaIdentity", "AT_SetStatistics", "AT_SetAccessMethod",
    "AT_DisableRowSecurity", "AT_ForceRowSecurity", "AT_NoForceRowSecurity",
}  # fmt: skip
# Of unprotected columns of a protected table.
_OF_COLUMN = frozenset(
    {"AT_AlterColumnType", "AT_ColumnDefault", "AT_SetStorage", "AT_SetCompression", "AT_SetOptions", "AT_ResetOptions",
     "AT_AddIdentity", "AT_SetIdentity", "AT_DropIdentity", "AT_DropExpression", "AT_SetExpression"}
)  # fmt: skip


@dataclass(slots=True)
class _Altered:
    """An ALTER TABLE in work: which commands are dropped, and which are added, some ``behind`` the client's of that number."""

    definition: Definition
    table: Relation
    columns: Columns
    spans: list[Span]
    dropped: set[int] = field(default_factory=set)
    more: list[str] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    added: dict[str, ProtectedColumn] = field(default_factory=dict)
    behind: dict[int, Node] = field(default_factory=dict)
    secured: bool = False

    @property
    def a(self) -> Analysis:
        return self.definition.a


def alter_table(a: Analysis, body: Node) -> bool:
    """Bring ALTER TABLE into physical form; return False for a kind that is not understood here.

    ALTER TABLE patients ALTER ssn SET DEFAULT 'x'
    → ALTER TABLE public.patients ALTER COLUMN ssn SET DEFAULT envelope('x')

    ALTER TABLE patients ALTER ssn TYPE varchar(11)
    → refused 0A000
    """
    if body.get("objtype") == "OBJECT_VIEW":
        return alter_view(a, "AlterTableStmt", body)
    if body.get("objtype") != "OBJECT_TABLE":
        return False
    relation = body["relation"]
    table_relation = meant_relation(a, relation)
    table = protected_table(a, table_relation)
    if table is None and table_relation.name in a.context.catalog.reaching:
        return False
    definition = Definition(a, "AlterTableStmt", body, "ALTER TABLE")
    definition.qualify(relation, table_relation.schema)
    definition.qualify_others(relation)
    end = definition.name_end(relation)
    spans = definition.items(end + (definition.tokens[end].name == "ASCII_42"))
    altered = _Altered(
        definition,
        table_relation,
        table.columns if table is not None else {},
        spans,
        taken={i.name for i in table_relation.indexes},
    )
    commands = body["cmds"]
    for i, node in enumerate(list(commands)):
        command = only(node)[1]
        rule = _RULES.get(command["subtype"])
        if rule is not None:
            rule(altered, i, command)
        elif command["subtype"] not in _UNCHANGED and (
            command["subtype"] not in _OF_COLUMN or command.get("name") in altered.columns
        ):
            raise _unknown(altered, command)
    there = {name: column for name, column in altered.columns.items() if altered.table.column(name) is not None}
    if altered.table.row_security or altered.secured:  # for all columns, or for new ones of a table that has such columns
        definition.after += tag_columns(altered.table, (there if altered.secured else {}) | altered.added)
    _settle_commands(altered, commands)
    return True


def _unknown(altered: _Altered, command: Node) -> Exception:
    what = command["subtype"].removeprefix("AT_")
    column = f" of {altered.columns[command['name']].label}" if command.get("name") in altered.columns else ""
    return altered.a.refuse(
        f"this change ({what}){column} of a protected table is not understood", altered.definition.body["relation"],
        hint="Run it past the proxy as the tables' owner, then `phiproxy check`.",
    )  # fmt: skip


def _settle_commands(altered: _Altered, commands: list[Node]) -> None:
    definition, spans = altered.definition, altered.spans
    full = f"{quote_ident(altered.table.schema)}.{quote_ident(altered.table.name)}"
    if len(altered.dropped) == len(commands) and altered.more:
        # At least one command must stay in the client's statement: ours takes the place of the last that goes.
        last = max(altered.dropped)
        altered.dropped.discard(last)
        first, *altered.more = altered.more
        definition.replace(spans[last], first)
        commands[last] = command_tree(first)
    if len(altered.dropped) == len(commands):
        definition.sent = False
    elif altered.dropped:
        definition.drop_items(spans, altered.dropped)
    if definition.sent:
        definition.body["cmds"] = [
            c for i, own in enumerate(commands) if i not in altered.dropped for c in (own, altered.behind.get(i)) if c is not None
        ]
    if definition.sent and altered.more:
        end = definition.tokens[-1].end
        definition.replace((end, end), "".join(f", {c}" for c in altered.more))
        definition.body["cmds"] += [command_tree(c) for c in altered.more]
    if definition.sent or definition.after or definition.before:
        definition.settle()
        return
    definition.after.append(f"ALTER TABLE {full} {storage_command(next(iter(altered.columns.values())))}")
    definition.settle()


def command_tree(text: str) -> Node:
    """Return the AlterTableCmd node of a command's text."""
    return parse(f"ALTER TABLE t {text}".encode())[0].body["cmds"][0]  # type: ignore[no-any-return]


def _add_column(altered: _Altered, i: int, command: Node) -> None:
    a, body = altered.a, command["def"]["ColumnDef"]
    column = altered.columns.get(body["colname"])
    if column is None or is_bytea(body["typeName"]):
        _check_stored_values(
            altered, check_references(a, body, altered.columns, altered.definition), body, validates=column is None
        )
        if column is not None and not any("conname" in only(c)[1] for c in body.get("constraints", ())):
            altered.more.append(f"ADD CONSTRAINT {quote_ident(guard_name(column.name))} {guard(column)}")
        return
    asked = wanted(a, column, body)
    definition = altered.definition
    span = (
        next(t.start for t in definition.tokens if t.start >= altered.spans[i][0] and t.start == body["location"]),
        altered.spans[i][1],
    )
    computed, asked.computed = asked.computed, None
    command["def"] = write(definition, span, column, body, asked)
    if computed is not None:
        _set_default_of_new(altered, i, column, computed, body, missing_ok=bool(command.get("missing_ok")))
    altered.more.append(storage_command(column))
    full = f"{quote_ident(altered.table.schema)}.{quote_ident(altered.table.name)}"
    altered.added[column.name] = column
    if asked.default is not None or computed is not None or asked.not_null:
        why = f"{column.label} cannot be added with DEFAULT or NOT NULL to a table that has rows"
        definition.empty.append(Empty(full, public_text(why, StatementRefused.anchor), secured=altered.table.row_security))
    for key in asked.keys:
        _add_key(altered, key, [column.name])
    for constraint in asked.references:
        _refer(altered, constraint, [column.name])
    if command.get("missing_ok"):
        literal, name = full.replace("'", "''"), column.name.replace("'", "''")
        definition.once = (
            f"EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = pg_catalog.to_regclass('{literal}')"
            f" AND attname = '{name}' AND NOT attisdropped)"
        )
        if altered.table.column(column.name) is not None:
            altered.more.remove(storage_command(column))


def _set_default_of_new(
    altered: _Altered, i: int, column: ProtectedColumn, constraint: Node, body: Node, *, missing_ok: bool
) -> None:
    """Give a column that is added its computed default by a command of its own: ADD COLUMN evaluates a default at once."""
    definition, name = altered.definition, quote_ident(column.name)
    if missing_ok:
        why = f"ADD COLUMN IF NOT EXISTS of {column.label} with a computed default is not in this version"
        raise altered.a.refuse(why, constraint, hint="Set the default by a statement of its own.")
    at = altered.spans[i][1]
    own = expression_span(definition.tokens, constraint["location"], constraint_end(body, constraint, at))
    computed = computed_default(definition, column, constraint["raw_expr"], own)
    lead, trail = COMPUTED_DEFAULT
    around = f", ALTER COLUMN {name} SET DEFAULT {lead}", trail
    definition.define((at, at), computed.text, column, around, default=True)
    definition.sealed += computed.constants
    altered.behind[i] = command_tree(rf"ALTER COLUMN {name} SET DEFAULT {lead}'\x00'::bytea{trail}")


def _add_key(altered: _Altered, constraint: Node, names: list[str]) -> None:
    qualified = (altered.table.schema, altered.table.name)
    name, statement = unique_index(altered.a, altered.columns, qualified, constraint, names, altered.taken)
    altered.taken.add(name)
    altered.definition.after.append(statement)


def _add_constraint(altered: _Altered, i: int, command: Node) -> None:
    constraint = command["def"]["Constraint"]
    names = strings(constraint.get("keys"))
    if constraint["contype"] in ("CONSTR_UNIQUE", "CONSTR_PRIMARY") and any(n in altered.columns for n in names):
        altered.dropped.add(i)
        _add_key(altered, constraint, names)
        if constraint["contype"] == "CONSTR_PRIMARY":
            altered.more += [f"ALTER COLUMN {quote_ident(n)} SET NOT NULL" for n in names]
        return
    if constraint["contype"] == "CONSTR_FOREIGN" and concerns(
        altered.a, constraint, strings(constraint["fk_attrs"]), altered.columns
    ):
        altered.dropped.add(i)
        _refer(altered, constraint, strings(constraint["fk_attrs"]))
        return
    sealed = check_references(altered.a, constraint, altered.columns, altered.definition)
    _check_stored_values(altered, sealed, constraint, validates=not constraint.get("skip_validation"))


def _check_stored_values(altered: _Altered, sealed: list[ProtectedColumn], body: Node, *, validates: bool) -> None:
    """Refuse a constraint that stored values would have to be opened for, or that is on a part of a table only."""
    if not sealed:
        return
    by_oid = altered.a.context.catalog.by_oid
    if any(oid not in by_oid or by_oid[oid].kind == "p" for oid in altered.table.parents):
        text = f"a constraint over {sealed[0].label} is as the partitioned table has it"
        hint = "Add it to that: an UPDATE of the partition key moves rows, and does not say what is in them."
        raise altered.a.refuse(text, body, hint=hint)
    if validates:
        _must_be_empty(altered, {column.name: column for column in sealed}, "a constraint over it cannot be added")


def _must_be_empty(altered: _Altered, columns: Columns, why: str) -> None:
    held = " OR ".join(f"{quote_ident(name)} IS NOT NULL" for name in columns)
    label = next(iter(columns.values())).label
    text = public_text(f"{label} holds values that the server cannot see, and {why}", StatementRefused.anchor)
    full = f"{quote_ident(altered.table.schema)}.{quote_ident(altered.table.name)}"
    altered.definition.empty.append(Empty(full, text, held, altered.table.row_security))


def _validate(altered: _Altered, _i: int, command: Node) -> None:
    names = {column for column, check in altered.table.checks if check.name == command["name"] and not check.validated}
    columns = {name: column for name, column in altered.columns.items() if name in names}
    if columns:
        _must_be_empty(altered, columns, "a constraint over it cannot be validated")


def _row_security(altered: _Altered, _i: int, _command: Node) -> None:
    """ENABLE ROW LEVEL SECURITY: from now on tags are searched in generated columns."""
    altered.secured = True


def _refer(altered: _Altered, constraint: Node, names: list[str]) -> None:
    altered.definition.after += foreign_key(altered.definition, altered.columns, altered.table, constraint, names, altered.taken)


def _drop_column(altered: _Altered, _i: int, command: Node) -> None:
    """Drop with a protected column the columns generated from it, as its foreign keys are dropped."""
    column = altered.columns.get(command["name"])
    if column is None:
        return
    full = f"{quote_ident(altered.table.schema)}.{quote_ident(altered.table.name)}"
    cascade = " CASCADE" if command.get("behavior") == "DROP_CASCADE" else ""
    for name, _ in hidden_columns(altered.table, column):
        altered.definition.before.append(f"ALTER TABLE {full} DROP COLUMN {quote_ident(name)}{cascade}")


def _drop_constraint(altered: _Altered, i: int, command: Node) -> None:
    """Drop a unique constraint over a protected column as the index that it is."""
    index = altered.table.index(command["name"])
    if index is None or index.constraint or not index.unique or not altered.columns:
        return
    altered.dropped.add(i)
    cascade = " CASCADE" if command.get("behavior") == "DROP_CASCADE" else ""
    for name in (*keys_behind(altered.table, altered.columns, index), index.name):
        altered.definition.before.append(f"DROP INDEX {quote_ident(altered.table.schema)}.{quote_ident(name)}{cascade}")


def _alter_type(altered: _Altered, i: int, command: Node) -> None:
    column = altered.columns.get(command["name"])
    if column is not None:
        definition = command["def"]["ColumnDef"]
        check_type(altered.a, column, definition["typeName"])
        check_collation(altered.a, column, definition)
        altered.dropped.add(i)
    else:
        check_references(altered.a, {"contype": "", "raw_expr": command["def"]}, altered.columns)


def _default(altered: _Altered, i: int, command: Node) -> None:
    column = altered.columns.get(command["name"])
    if column is None or "def" not in command:
        return
    operand = constant(altered.a, column, command["def"])
    definition, span, name = altered.definition, altered.spans[i], quote_ident(column.name)
    if operand is None and as_operand(command["def"]) is None:
        own = expression_span(definition.tokens, *span)
        seal_computed(definition, column, computed_default(definition, column, command["def"], own))
        lead, trail = COMPUTED_DEFAULT
        definition.replace((span[0], own[0]), f"ALTER COLUMN {name} SET DEFAULT ")
        definition.body["cmds"][i] = command_tree(rf"ALTER COLUMN {name} SET DEFAULT {lead}'\x00'::bytea{trail}")
        return
    if operand is None:
        definition.replace(span, f"ALTER COLUMN {name} DROP DEFAULT")
        definition.body["cmds"][i] = command_tree(f"ALTER COLUMN {name} DROP DEFAULT")
        return
    literal = default_span(definition, operand, span)
    definition.replace((span[0], literal[0]), f"ALTER COLUMN {name} SET DEFAULT ")
    definition.seal(literal, operand, column)
    if literal[1] < span[1]:
        definition.replace((literal[1], span[1]), "")
    definition.body["cmds"][i] = command_tree(rf"ALTER COLUMN {name} SET DEFAULT '\x00'::bytea")


def _drop_not_null(altered: _Altered, i: int, command: Node) -> None:
    """Keep NOT NULL of a column whose domain has it: the server knows that only as the column's own."""
    column = altered.columns.get(command["name"])
    if column is not None and column.type.not_null:
        altered.dropped.add(i)


def _storage(altered: _Altered, _i: int, command: Node) -> None:
    """Refuse any storage but EXTERNAL, since envelopes cannot be compressed."""
    wanted_storage = command.get("def", {}).get("String", {}).get("sval", "")
    if command.get("name") in altered.columns and wanted_storage.lower() != "external":
        raise _unknown(altered, command)


def _attach(altered: _Altered, _i: int, command: Node) -> None:
    """Attach a partition that is in physical form: its guards tell which identity its values are of."""
    a, relation = altered.a, command["def"]["PartitionCmd"]["name"]
    child = target_relation(a, relation)
    guards = dict(child.guards)
    if any(guards.get(name) != column.number for name, column in altered.columns.items()):
        why = f"{child.qualified} does not hold values as {altered.table.qualified} does, and cannot become a part of it"
        raise a.refuse(why, relation, hint="CREATE TABLE … PARTITION OF, then INSERT … SELECT.")
    # Not listed yet it would be refused; as a part of its parent it is listed.
    table = a.context.protection.by_name.get((child.schema, child.name))
    if (table is not None or child.name in a.context.catalog.reaching) and not altered.columns:
        raise a.refuse("a protected table cannot become a part of one that is not", relation, hint="Name the parent in the policy.")
    if altered.columns:
        altered.definition.qualify(relation, child.schema)
        a.answer.effects.reaches = (child.name,)


def _detach(altered: _Altered, _i: int, command: Node) -> None:
    """Detach a partition that the policy names itself; any other would not be protected any longer."""
    a, relation = altered.a, command["def"]["PartitionCmd"]["name"]
    table = protected_table(a, target_relation(a, relation))
    if table is not None and table.inherited:
        why = f"{table.schema}.{table.name} is protected as a part of {altered.table.qualified} only"
        raise a.refuse(why, relation, hint="Name it in the policy first, with the same domains; or DROP TABLE it.")


_RULES: dict[str, Callable[[_Altered, int, Node], None]] = {
    "AT_AddColumn": _add_column,
    "AT_AddConstraint": _add_constraint,
    "AT_DropColumn": _drop_column,
    "AT_DropConstraint": _drop_constraint,
    "AT_ValidateConstraint": _validate,
    "AT_AlterColumnType": _alter_type,
    "AT_ColumnDefault": _default,
    "AT_DropNotNull": _drop_not_null,
    "AT_SetStorage": _storage,
    "AT_EnableRowSecurity": _row_security,
    "AT_AttachPartition": _attach,
    "AT_DetachPartition": _detach,
}
