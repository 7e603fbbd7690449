"""ALTER TABLE on a protected table, command by command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from phiproxy.policy.catalog import Relation
from phiproxy.policy.guards import guard, guard_name
from phiproxy.policy.names import quote_ident
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.ddl.columns import check_collation, check_type, constant, default_span, is_bytea, storage_command, wanted, write
from phiproxy.sql.ddl.definition import Definition, Empty, Span
from phiproxy.sql.ddl.foreign import concerns, foreign_key, hidden_columns, keys_behind
from phiproxy.sql.ddl.keys import Columns, constraint_columns, unique_index
from phiproxy.sql.ddl.policies import tag_columns
from phiproxy.sql.ddl.tables import check_references
from phiproxy.sql.parse import Node, only, parse, strings

# Of any table: nothing of a column's values is in these.
_UNCHANGED = frozenset(
    {
        "AT_ChangeOwner", "AT_SetRelOptions", "AT_ResetRelOptions", "AT_EnableTrig", "AT_DisableTrig", "AT_EnableTrigAll",
        "AT_DisableTrigAll", "AT_EnableTrigUser", "AT_DisableTrigUser", "AT_EnableAlwaysTrig", "AT_EnableReplicaTrig",
        "AT_ClusterOn", "AT_DropCluster", "AT_SetLogged", "AT_SetUnLogged",
        "AT_SetNotNull", "AT_SetTableSpace", "AT_ReplicaIdentity", "AT_SetStatistics", "AT_SetAccessMethod",
        "AT_DisableRowSecurity", "AT_ForceRowSecurity", "AT_NoForceRowSecurity",
    }
)  # fmt: skip
# Of unprotected columns of a protected table.
_OF_COLUMN = frozenset(
    {"AT_AlterColumnType", "AT_ColumnDefault", "AT_SetStorage", "AT_SetCompression", "AT_SetOptions", "AT_ResetOptions",
     "AT_AddIdentity", "AT_SetIdentity", "AT_DropIdentity", "AT_DropExpression", "AT_SetExpression"}
)  # fmt: skip


@dataclass(slots=True)
class _Altered:
    """One ALTER TABLE at work: which commands go, and what is added."""

    definition: Definition
    table: Relation
    columns: Columns
    spans: list[Span]
    dropped: set[int] = field(default_factory=set)
    more: list[str] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    added: dict[str, ProtectedColumn] = field(default_factory=dict)
    secured: bool = False

    @property
    def a(self) -> Analysis:
        return self.definition.a


def alter_table(a: Analysis, body: Node) -> bool:
    """Bring an AlterTableStmt into physical form; False where its kind is not understood here."""
    if body.get("objtype") != "OBJECT_TABLE":
        return False
    relation = body["relation"]
    found = a.relation(relation, target=True)
    assert isinstance(found, Relation)
    table = a.protected(found)
    if table is None and found.name in a.context.catalog.reaching:
        return False
    definition = Definition(a, "AlterTableStmt", body, "ALTER TABLE")
    definition.qualify(relation, found.schema)
    definition.qualify_others(relation)
    spans = definition.items(definition.name_end(relation) + _star(definition, relation))
    altered = _Altered(definition, found, table.columns if table is not None else {}, spans, taken={i.name for i in found.indexes})
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
    _add_tag_columns(altered)
    _finish(altered, commands)
    return True


def _star(definition: Definition, relation: Node) -> int:
    i = definition.name_end(relation)
    return int(definition.tokens[i].name == "ASCII_42")


def _unknown(altered: _Altered, command: Node) -> Exception:
    what = command["subtype"].removeprefix("AT_")
    column = f" of {altered.columns[command['name']].label}" if command.get("name") in altered.columns else ""
    return altered.a.refuse(
        f"this change ({what}){column} of a protected table is not understood", altered.definition.body["relation"],
        hint="Run it past the proxy as the tables' owner, then `phiproxy check`.",
    )  # fmt: skip


def _finish(altered: _Altered, commands: list[Node]) -> None:
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
        definition.kept = False
    elif altered.dropped:
        definition.drop_items(spans, altered.dropped)
        definition.body["cmds"] = [c for i, c in enumerate(commands) if i not in altered.dropped]
    if definition.kept and altered.more:
        end = definition.tokens[-1].end
        definition.replace((end, end), "".join(f", {c}" for c in altered.more))
        definition.body["cmds"] += [command_tree(c) for c in altered.more]
    if definition.kept or definition.after or definition.before:
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
        _check_in_place(altered, check_references(a, body, altered.columns, altered.definition), body, validates=column is None)
        if column is not None and not any("conname" in only(c)[1] for c in body.get("constraints", ())):
            altered.more.append(f"ADD CONSTRAINT {quote_ident(guard_name(column.name))} {guard(column)}")
        return
    found = wanted(a, column, body)
    definition = altered.definition
    span = (
        next(t.start for t in definition.tokens if t.start >= altered.spans[i][0] and t.start == body["location"]),
        altered.spans[i][1],
    )
    command["def"] = write(definition, span, column, body, found)
    altered.more.append(storage_command(column))
    full = f"{quote_ident(altered.table.schema)}.{quote_ident(altered.table.name)}"
    altered.added[column.name] = column
    if found.default is not None or found.not_null:
        why = f"{column.label} cannot be added with DEFAULT or NOT NULL to a table that has rows"
        definition.empty.append(Empty(full, f"phiproxy: {why} (README#err-refused)", secured=altered.table.row_security))
    for key in found.keys:
        _add_key(altered, key, [column.name])
    for constraint in found.references:
        _refer(altered, constraint, [column.name])
    if command.get("missing_ok"):
        literal, name = full.replace("'", "''"), column.name.replace("'", "''")
        definition.once = (
            f"EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = pg_catalog.to_regclass('{literal}')"
            f" AND attname = '{name}' AND NOT attisdropped)"
        )
        if altered.table.column(column.name) is not None:
            altered.more.remove(storage_command(column))


def _add_key(altered: _Altered, constraint: Node, names: list[str]) -> None:
    place = (altered.table.schema, altered.table.name)
    name, statement = unique_index(altered.a, altered.columns, place, constraint, names, altered.taken)
    altered.taken.add(name)
    altered.definition.after.append(statement)


def _add_constraint(altered: _Altered, i: int, command: Node) -> None:
    constraint = command["def"]["Constraint"]
    names = constraint_columns(constraint, None)
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
    _check_in_place(altered, sealed, constraint, validates=not constraint.get("skip_validation"))


def _check_in_place(altered: _Altered, sealed: list[ProtectedColumn], body: Node, *, validates: bool) -> None:
    """Refuse a constraint that the values which are there would have to be opened for, or that a part of a table has alone."""
    if not sealed:
        return
    if altered.table.parents:
        text = f"a constraint over {sealed[0].label} is as its parent has it"
        raise altered.a.refuse(text, body, hint="Add it to the parent: an INSERT there does not tell to which part a row goes.")
    if validates:
        _must_be_empty(altered, {column.name: column for column in sealed}, "a constraint over it cannot be added")


def _must_be_empty(altered: _Altered, columns: Columns, why: str) -> None:
    """Let the statement fail where one of these columns holds a value."""
    held = " OR ".join(f"{quote_ident(name)} IS NOT NULL" for name in columns)
    label = next(iter(columns.values())).label
    text = f"phiproxy: {label} holds values that the server cannot see, and {why} (README#err-refused)"
    full = f"{quote_ident(altered.table.schema)}.{quote_ident(altered.table.name)}"
    altered.definition.empty.append(Empty(full, text, held, altered.table.row_security))


def _validate(altered: _Altered, _i: int, command: Node) -> None:
    names = {column for column, check in altered.table.checks if check.name == command["name"] and not check.validated}
    columns = {name: column for name, column in altered.columns.items() if name in names}
    if columns:
        _must_be_empty(altered, columns, "a constraint over it cannot be validated")


def _row_security(altered: _Altered, _i: int, _command: Node) -> None:
    """ENABLE ROW LEVEL SECURITY: tags are searched in columns of their own from now on."""
    altered.secured = True


def _add_tag_columns(altered: _Altered) -> None:
    """Add the columns that tags are searched in: of all that is there or comes, or of what comes to a table that has them."""
    there = {name: column for name, column in altered.columns.items() if altered.table.column(name) is not None}
    if altered.table.row_security or altered.secured:
        altered.definition.after += tag_columns(altered.table, (there if altered.secured else {}) | altered.added)


def _refer(altered: _Altered, constraint: Node, names: list[str]) -> None:
    altered.definition.after += foreign_key(altered.definition, altered.columns, altered.table, constraint, names, altered.taken)


def _drop_column(altered: _Altered, _i: int, command: Node) -> None:
    """What is generated from a protected column goes with it, as its foreign keys do."""
    column = altered.columns.get(command["name"])
    if column is None:
        return
    full = f"{quote_ident(altered.table.schema)}.{quote_ident(altered.table.name)}"
    cascade = " CASCADE" if command.get("behavior") == "DROP_CASCADE" else ""
    for name, _ in hidden_columns(altered.table, column):
        altered.definition.before.append(f"ALTER TABLE {full} DROP COLUMN {quote_ident(name)}{cascade}")


def _drop_constraint(altered: _Altered, i: int, command: Node) -> None:
    """A unique constraint over a protected column is an index, and is dropped as one."""
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
    _seal_default(altered, i, command, column)


def _seal_default(altered: _Altered, i: int, command: Node, column: ProtectedColumn) -> None:
    sink = constant(altered.a, column, command["def"])
    definition, span, name = altered.definition, altered.spans[i], quote_ident(column.name)
    if sink is None:
        definition.replace(span, f"ALTER COLUMN {name} DROP DEFAULT")
        definition.body["cmds"][i] = command_tree(f"ALTER COLUMN {name} DROP DEFAULT")
        return
    literal = default_span(definition, sink, span)
    definition.replace((span[0], literal[0]), f"ALTER COLUMN {name} SET DEFAULT ")
    definition.seal(literal, sink, column)
    if literal[1] < span[1]:
        definition.replace((literal[1], span[1]), "")
    definition.body["cmds"][i] = command_tree(rf"ALTER COLUMN {name} SET DEFAULT '\x00'::bytea")


def _drop_not_null(altered: _Altered, i: int, command: Node) -> None:
    """A domain without NULL stays so: the server knows it by the column's own NOT NULL only."""
    column = altered.columns.get(command["name"])
    if column is not None and column.type.not_null:
        altered.dropped.add(i)


def _storage(altered: _Altered, _i: int, command: Node) -> None:
    """SET STORAGE EXTERNAL is the physical form's own; any other compresses what cannot be compressed."""
    wanted_storage = command.get("def", {}).get("String", {}).get("sval", "")
    if command.get("name") in altered.columns and wanted_storage.lower() != "external":
        raise _unknown(altered, command)


def _attach(altered: _Altered, _i: int, command: Node) -> None:
    """Let a partition in that is in physical form already: the guards say of which identity its values are."""
    a, relation = altered.a, command["def"]["PartitionCmd"]["name"]
    found = a.target_relation(relation)
    guards = dict(found.guards)
    if any(guards.get(name) != column.number for name, column in altered.columns.items()):
        raise a.refuse(
            f"{found.qualified} does not hold values as {altered.table.qualified} does, and cannot become a part of it",
            relation,
            hint="CREATE TABLE … PARTITION OF, then INSERT … SELECT.",
        )
    # Not listed yet it would be refused; as a part of its parent it is listed.
    table = a.context.protection.by_name.get((found.schema, found.name))
    if (table is not None or found.name in a.context.catalog.reaching) and not altered.columns:
        raise a.refuse("a protected table cannot become a part of one that is not", relation, hint="Name the parent in the policy.")
    if altered.columns:
        altered.definition.qualify(relation, found.schema)
        a.meaning.effects.reaches = (found.name,)


def _detach(altered: _Altered, _i: int, command: Node) -> None:
    """Let a partition go that the policy names itself; any other would not be protected any more."""
    a, relation = altered.a, command["def"]["PartitionCmd"]["name"]
    table = a.protected(a.target_relation(relation))
    if table is not None and table.inherited:
        raise a.refuse(
            f"{table.schema}.{table.name} is protected as a part of {altered.table.qualified} only",
            relation,
            hint="Name it in the policy first, with the same domains; or DROP TABLE it.",
        )


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
__all__ = ["alter_table", "command_tree", "strings"]
