"""Foreign keys as the server has them, and as they are over the values that tags are of."""

from __future__ import annotations

import psycopg
from psycopg import sql

from phiproxy.jobs.converted_foreign_keys import keys_over, plain_keys, secured_tags
from phiproxy.policy.protection import ProtectedColumn, Slot
from phiproxy.types.declared import DeclaredType
from tests.harness.server import PostgresServer

TABLES = """\
CREATE TABLE one (n int, phi_tag_mrn_0 bytea, mrn bytea, UNIQUE (n, phi_tag_mrn_0), UNIQUE (n), UNIQUE (phi_tag_mrn_0));
CREATE TABLE other (n int, phi_tag_of_0 bytea, "of" bytea, CONSTRAINT two FOREIGN KEY (n, phi_tag_of_0)
  REFERENCES one (n, phi_tag_mrn_0) MATCH FULL ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED, FOREIGN KEY (n) REFERENCES one (n));
ALTER TABLE other ADD CONSTRAINT late FOREIGN KEY (phi_tag_of_0) REFERENCES one (phi_tag_mrn_0) NOT VALID;
COMMENT ON CONSTRAINT late ON other IS 'it''s late';
"""


def column(table: str, name: str) -> ProtectedColumn:
    slots = (Slot(0, "@", 1, "active"), Slot(1, "left(@,2)", 1, "active", total=False), Slot(2, "left(@,3)", 1, "dropped"))
    return ProtectedColumn("public", table, name, "d:mrn", 7, "d:mrn", DeclaredType.builtin("text"), None, slots, "d")


async def test_back_over_the_values(postgres_server: PostgresServer) -> None:
    name = postgres_server.create_database()
    with postgres_server.connect(name) as conn:
        conn.execute(TABLES)
    async with await psycopg.AsyncConnection.connect(postgres_server.dsn(name), autocommit=True) as conn:
        await conn.execute(sql.SQL("SET search_path TO pg_catalog"))
        keys = await keys_over(conn, {("public", "one"): {"phi_tag_mrn_0"}})
    postgres_server.drop_database(name)
    columns = {("public", "one"): [column("one", "mrn")], ("public", "other"): [column("other", "of")]}
    assert [(d.same, d.validated) for d in plain_keys(keys, columns)] == [
        (("ALTER TABLE public.other ADD CONSTRAINT two FOREIGN KEY (n, of) REFERENCES public.one (n, mrn) MATCH FULL"
          " ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID",), ("public", "other", "two")),
        (("ALTER TABLE public.other ADD CONSTRAINT late FOREIGN KEY (of) REFERENCES public.one (mrn) NOT VALID",
          "COMMENT ON CONSTRAINT late ON public.other IS 'it''s late'"), None),
    ]  # fmt: skip


def test_tables_under_row_security_have_a_column_for_each_index() -> None:
    tags = secured_tags(("public", "one"), [column("one", "mrn")])
    assert list(tags.columns) == ["phi_tag_mrn_0", "phi_tag_mrn_1"]
    assert "substring(phi_new_mrn, 13, 16)" in tags.columns["phi_tag_mrn_0"]
    over = [text.partition(" ON ")[2] for text in tags.indexes.values()]
    assert over == ["public.one (phi_tag_mrn_0)", "public.one (phi_tag_mrn_1)"]
