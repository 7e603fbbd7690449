"""Row-level security: policies over unprotected columns of protected tables, and the generated columns with tags.

Without these PostgreSQL would read the whole table: ``rewrite.references_and_markers.tag_text`` says why (spec/stored-format 1.2).
"""

from phiproxy.policy.catalog import Relation
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import hidden_column, hidden_index, hidden_name
from phiproxy.sql.context import Analysis
from phiproxy.sql.statements.ddl.physical_form import Definition
from phiproxy.sql.statements.ddl.unique_keys import Columns
from phiproxy.sql.table_names import check_reaching, meant_relation, protected_table
from phiproxy.sql.text.parse import Node, messages, strings

_TAGS = {"CreatePolicyStmt": "CREATE POLICY", "AlterPolicyStmt": "ALTER POLICY"}


def tag_columns(relation: Relation, columns: Columns) -> list[str]:
    """Return the statements that add the generated columns, with indexes, that a table lacks.

    ALTER TABLE diaries ENABLE ROW LEVEL SECURITY
    → ALTER TABLE public.diaries ENABLE ROW LEVEL SECURITY; ALTER TABLE public.diaries ADD COLUMN phi_tag_mood_0 bytea
      GENERATED ALWAYS AS (tag(mood)) STORED; CREATE INDEX phi_tag_idx_diaries_mood_0_stored ON public.diaries
      (phi_tag_mood_0); …
    """
    full = f"{quote_ident(relation.schema)}.{quote_ident(relation.name)}"
    statements = []
    for column in columns.values():
        for slot in column.slots:
            if slot.state != "dropped" and relation.column(hidden_name(column, slot.number)) is None:
                statements.append(f"ALTER TABLE {full} ADD COLUMN {hidden_column(column, slot)}")
                statements.append(hidden_index(column, slot, (relation.schema, relation.name)))
    return statements


def policy(a: Analysis, body: Node) -> bool:
    """Let CREATE and ALTER POLICY over unprotected columns pass; return False for a table without protected columns.

    CREATE POLICY p ON patients USING (city = current_user)
    → CREATE POLICY p ON public.patients USING (city = current_user)

    CREATE POLICY p ON patients USING (ssn = current_user)
    → refused 0A000

    ALTER POLICY p ON patients USING (ssn = current_user)
    → refused 0A000
    """
    relation = meant_relation(a, body["table"])
    table = protected_table(a, relation)
    if table is None:
        return False
    for message in messages([body.get(key) for key in ("qual", "with_check") if key in body]):
        _check(a, message, relation, table.columns)
    definition = Definition(a, a.statement.kind, body, _TAGS[a.statement.kind])
    definition.qualify(body["table"], relation.schema)
    definition.settle()
    return True


def _check(a: Analysis, message: Node, relation: Relation, columns: Columns) -> None:
    last = strings(message.get("fields"))[-1:] if isinstance(message.get("fields"), list) else []
    if last and (last[0] in columns or last[0] in ("*", relation.name)):
        why = "a policy over a protected column would compare what the server cannot see"
        raise a.refuse(why, message, hint="Write it over unprotected columns.")
    if "relname" in message and (
        message["relname"] in a.context.protection.table_names or message["relname"] in a.context.catalog.reaching
    ):
        raise a.refuse("a policy that reads a protected table is not in this version", message, hint="Read another table in it.")
    if "funcname" in message:
        check_reaching(a, strings(message["funcname"])[-1], message)
