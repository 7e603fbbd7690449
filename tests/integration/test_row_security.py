"""Tables with row-level security: every index is searched in a generated column, since the server asks its policies first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.clinic import POLICY
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.integration.migrating import Pair, pair

INDEXED = (
    POLICY.replace("indexes: [full_name]", 'indexes: [full_name, "lower(full_name)", "left(lower(full_name), 3)"]')
    .replace("indexes: [ssn]", 'indexes: [ssn, "right(ssn, 4)"]')
    .replace(
        "      notes: ",
        '      born:      {type: date, indexes: [born, extract(year from born)], accept_leakage: "nobody"}\n      notes: ',
    )
)


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose policy names tables that nobody has made yet."""
    with open_site(postgres_server, tmp_path_factory.mktemp("rows"), policy=INDEXED, ddl="SELECT", planned=True) as site:
        yield site


def made(both: Pair) -> None:
    both.run("CREATE TABLE patients (id int, full_name text, city text)")
    both.run("CREATE POLICY own ON patients USING (city = current_setting('app.city', true))")
    both.run("ALTER TABLE patients ADD COLUMN ssn text, ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    both.run("SET app.city = 'b'")


def test_expressions_are_searched_in_columns_of_their_own(site: Site) -> None:
    with pair(site) as both:
        made(both)
        name, ssn = both.oracle.plant("name"), both.oracle.plant("ssn")
        both.run("INSERT INTO patients VALUES (1, %s, 'b', %s), (2, %s, 'b', NULL)", (name, ssn, name.upper()))
        searches = (
            ("lower(full_name) = lower(%s)", name),
            ("lower(p.full_name) IN ('x', lower(%s))", name),
            ('right(p."ssn", 4) = %s', ssn[-4:]),
            ("coalesce(lower(full_name), 'x') <> %s", name.lower()),
            ("right(p . ssn, 4) IS NOT DISTINCT FROM %s", ssn[-4:]),
        )
        for prepare in (None, True):
            for condition, value in searches:
                both.run(f"SELECT id FROM patients p WHERE {condition}", (value,), prepare=prepare)
            both.run(
                "UPDATE patients SET city = city WHERE lower(patients.full_name) = %s RETURNING *", (name.lower(),), prepare=prepare
            )
            both.run(
                "SELECT lower(full_name), count(*) FROM patients GROUP BY 1 HAVING lower(full_name) <> %s", ("x",), prepare=prepare
            )
            both.run(
                "SELECT a.id, b.id FROM patients a JOIN patients b ON lower(a.full_name) = lower(b.full_name)", prepare=prepare
            )
            both.run(
                "SELECT id FROM (SELECT id, lower(full_name) AS l FROM patients) q WHERE l = %s", (name.lower(),), prepare=prepare
            )
        for condition, value in searches[:3]:
            (explained,) = both.sides[1].execute(f"EXPLAIN (FORMAT json) SELECT id FROM patients p WHERE {condition}", (value,))
            assert "phi_tag_" in str(explained)
            assert "substring" not in str(explained)
        site.cli("check")


def test_patterns_and_ranges_are_searched_in_columns_of_their_own(site: Site) -> None:
    with pair(site) as both:
        made(both)
        both.run("ALTER TABLE patients ADD COLUMN born date")
        name = both.oracle.plant("name")
        both.run(
            "INSERT INTO patients VALUES (1, %s, 'b', NULL, '1980-01-01'), (2, %s, 'b', NULL, '1981-01-01')", (name, name.upper())
        )
        searches: tuple[tuple[str, tuple[str, ...]], ...] = (
            ("p.full_name ILIKE %s", (f"{name[:3]}%",)),
            ("full_name LIKE %s", (name,)),
            ("born >= %s AND p . born < %s", ("1980-01-01", "1981-01-01")),
            ("born NOT BETWEEN %s::date AND %s", ("1979-12-01", "1980-12-31")),
        )
        for prepare in (None, True):
            for condition, values in searches:
                both.run(f"SELECT id FROM patients p WHERE {condition}", values, prepare=prepare)
        for condition, values in searches:
            (explained,) = both.sides[1].execute(f"EXPLAIN (FORMAT json) SELECT id FROM patients p WHERE {condition}", values)
            assert "phi_tag_" in str(explained)
            assert "substring" not in str(explained)


def test_columns_that_come_later_have_theirs(site: Site) -> None:
    with pair(site) as both:
        made(both)
        both.run("ALTER TABLE patients ADD COLUMN phone varchar(20) UNIQUE")
        phone = both.oracle.plant()[:20]
        both.run("INSERT INTO patients VALUES (1, NULL, 'b', NULL, %s) RETURNING *", (phone,))
        both.run("SELECT * FROM patients WHERE phone = %s", (phone,))
        site.cli("check")
        with site.server.connect(site.sealed) as conn:
            query = "SELECT attname FROM pg_attribute WHERE attrelid = 'patients'::regclass AND attname ~ '^phi_tag'"
            names = {name for (name,) in conn.execute(query)}
        assert names == {
            "phi_tag_full_name_0",
            "phi_tag_full_name_1",
            "phi_tag_full_name_2",
            "phi_tag_ssn_0",
            "phi_tag_ssn_1",
            "phi_tag_phone_0",
        }
