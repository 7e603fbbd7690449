"""Who can write the key registry but not use the KEK: may deny service, and neither reads, weakens, revives nor redirects anything.

The attacker is the service role itself, which owns the registry's tables, at a superuser's connection; of an RSA KEK he has the
public half. What each test does made the proxy of the version before believe it.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from phiproxy.keys import open_provider
from phiproxy.keys.anchoring import establish, registry_root
from phiproxy.keys.key_rows import RootRow, new_data_key
from phiproxy.keys.manifest import RegistryKey
from phiproxy.keys.provider import KeyProvider, Purpose
from phiproxy.policy.load import load_settings
from tests.harness.oracle import LeakOracle
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.harness.waiting import until
from tests.keys.rotator import no_secrets

DEPLOYMENT = "attacked"
POLICY = """\
database: {database}
deployment: attacked
tables:
  public.patients:
    columns:
      ssn:   {type: text, indexes: [ssn], distinct: 100000000}
      notes: {type: text}
  public.visits:
    columns:
      diagnosis: {type: text}
"""
DDL = """
CREATE TABLE patients (id serial PRIMARY KEY, ssn text, notes text);
CREATE TABLE visits (id serial PRIMARY KEY, diagnosis text);
"""
TABLES = ("meta", "identity", "column_name", "slot", "root_key", "root_wrap", "data_key", "manifest", "counter")
# Longer than a poll of the catalogue: what was going to be believed is believed by then.
NOTICED = 3.0


@dataclass
class Bench:
    """A site whose registry is attacked, and the oracle that looks for what is planted."""

    site: Site
    oracle: LeakOracle

    def attack(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Run a statement over the registry; the attacker owns its tables, so no constraint of theirs stops him."""
        with psycopg.connect(self.site.server.dsn(self.site.sealed), autocommit=True) as conn:
            cursor = conn.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def says(self, statement: str, values: tuple[str, ...] = ()) -> str | list[tuple[Any, ...]]:
        """Run a statement through the proxy; the SQLSTATE where it fails, else its rows."""
        with psycopg.connect(self.site.proxy_dsn, autocommit=True) as conn:
            try:
                cursor = conn.execute(statement.encode(), values)
                return cursor.fetchall() if cursor.description else []
            except psycopg.Error as error:
                return error.sqlstate or "?"

    def insert(self, ssn: str | None = None, notes: str | None = None) -> str | list[tuple[Any, ...]]:
        """Store a patient of planted values."""
        ssn, notes = ssn or self.oracle.plant("ssn"), notes or self.oracle.plant()
        return self.says("INSERT INTO patients (ssn, notes) VALUES (%s, %s)", (ssn, notes))

    def stored(self, column: str) -> list[bytes]:
        """The envelopes of a column of patients."""
        return [bytes(value) for (value,) in self.attack(f"SELECT {column} FROM patients WHERE {column} IS NOT NULL ORDER BY id")]

    def wait_for(self, statement: str, values: tuple[str, ...], wanted: str | list[tuple[Any, ...]]) -> None:
        end = time.monotonic() + 120
        while (found := self.says(statement, values)) != wanted:
            assert time.monotonic() < end, f"{found!r} and not {wanted!r}"
            time.sleep(0.1)

    def noticed(self) -> None:
        """Wait until the proxy has taken over the registry as it is."""
        query = "SELECT bool_and(p.epoch = m.epoch) FROM phiproxy.proxy p, phiproxy.meta m"
        until(lambda: self.attack(query) == [(True,)], "the registry is not taken over")

    def check(self) -> list[str]:
        """The errors of ``phiproxy check``, which must fail."""
        with pytest.raises(AssertionError, match="exited 1"):
            self.site.cli("check")
        found = json.loads(self.site.cli("check", "--json", check=False))
        return [f["text"] for f in found if f["level"] == "error" and f["topic"] == "registry"]

    def alarms(self) -> list[dict[str, Any]]:
        """What the proxy's log says of the registry."""
        lines = [json.loads(line) for line in self.site.proxy.log_path.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == "the key registry is not as it was written"]

    def restart(self) -> None:
        self.site.proxy.terminate()
        self.site.proxy.start()

    def copy(self) -> None:
        """Keep the registry as it is now."""
        self.attack("DROP SCHEMA IF EXISTS kept CASCADE; CREATE SCHEMA kept")
        for name in TABLES:
            self.attack(f"CREATE TABLE kept.{name} AS TABLE phiproxy.{name}")

    def restore(self) -> None:
        """Put back the registry that was kept, in one transaction."""
        clear = "; ".join(f"DELETE FROM phiproxy.{name}" for name in reversed(TABLES))
        copies = []
        for name in TABLES:
            overriding = "OVERRIDING SYSTEM VALUE" if name == "root_key" else ""
            copies.append(f"INSERT INTO phiproxy.{name} {overriding} SELECT * FROM kept.{name}")
        self.attack(f"BEGIN; {clear}; {'; '.join(copies)}; COMMIT")


@pytest.fixture
def bench(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with open_site(postgres_server, tmp_path_factory.mktemp("attack"), policy=POLICY, ddl=DDL) as site:
        oracle = LeakOracle(site.server, site.sealed, tap=site.tap, proxy_logs=lambda: sorted(site.directory.glob("*.log")))
        bench = Bench(site, oracle)
        assert bench.insert() == []
        yield bench
        oracle.assert_no_leak()


def test_c1_a_slot_that_phiproxy_did_not_make_tags_nothing(bench: Bench) -> None:
    """A deterministic tag per character of a column without indexes: within a second, and nobody was told."""
    ((number,),) = bench.attack("SELECT number FROM phiproxy.column_name WHERE \"column\" = 'notes'")
    bench.attack(
        "INSERT INTO phiproxy.slot SELECT %s, i, 'substring(@,' || (i + 1) || ',1)', 1, NULL, 1, 'active'"
        " FROM generate_series(0, 15) i",
        (number,),
    )
    bench.attack("UPDATE phiproxy.meta SET epoch = epoch + 1")
    time.sleep(NOTICED)
    assert bench.insert() == "58000"
    assert bench.says("SELECT notes FROM patients") == "58000"
    assert bench.says("SELECT id FROM patients WHERE notes = 'x'") == "58000"
    assert bench.says("COPY patients (notes) TO STDOUT") == "58000"
    # The other columns go on, with as many tags as ever.
    assert bench.says("INSERT INTO patients (ssn) VALUES (%s)", (bench.oracle.plant("ssn"),)) == []
    assert bench.says("INSERT INTO visits (diagnosis) VALUES (%s)", (bench.oracle.plant(),)) == []
    assert {value[11] for value in bench.stored("notes")} == {0}
    assert {value[11] for value in bench.stored("ssn")} == {1}
    assert {a["what"] for a in bench.alarms()} == {f"slot ({number}, {i})" for i in range(16)}
    assert [t for t in bench.check() if f"slot ({number}, 3)" in t]
    bench.attack("DELETE FROM phiproxy.slot WHERE number = %s", (number,))
    bench.wait_for("INSERT INTO patients (notes) VALUES (%s)", (bench.oracle.plant(),), [])


@dataclass
class Rsa:
    """A bench under an RSA KEK, and the provider that the attacker can make of its public half."""

    bench: Bench
    public: KeyProvider

    async def root(self, scope: str, purpose: Purpose, generation: int) -> tuple[bytes, int]:
        """Make a root key of his own active in place of another."""
        bench, row = self.bench, RootRow(0, scope, "", purpose, generation, "active", ())
        new = await self.public.new_key(row.context(DEPLOYMENT)) if purpose != "registry" else None
        assert new is not None
        bench.attack(
            "UPDATE phiproxy.root_key SET state = 'decrypt_only' WHERE scope = %s AND purpose = %s AND state = 'active'",
            (scope, purpose),
        )
        ((root_id,),) = bench.attack(
            "INSERT INTO phiproxy.root_key (scope, tenant, purpose, generation, state, format) VALUES (%s, '', %s, %s, 'active', 2)"
            " RETURNING id",
            (scope, purpose, generation),
        )
        bench.attack(
            "INSERT INTO phiproxy.root_wrap VALUES (%s, %s, %s, %s, clock_timestamp())",
            (root_id, self.public.uri, new.wrapped.version, new.wrapped.blob),
        )
        return new.secret, root_id

    def data_key(self, secret: bytes, root_id: int) -> int:
        key = new_data_key(secret, root_id, 1, 1_000_000)
        self.bench.attack(
            "INSERT INTO phiproxy.data_key (id, root_id, generation, wrapped, state, max_uses, mac, format)"
            " VALUES (%s, %s, 1, %s, 'active', %s, %s, 2)",
            (key.id, root_id, key.wrapped, key.max_uses, key.mac),
        )
        return key.id


@pytest.fixture
async def rsa(bench: Bench) -> Rsa:
    site = bench.site
    private = generate_private_key(65537, 2048)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (site.directory / "kek.key").write_bytes(pem)
    (site.directory / "kek.key").chmod(0o600)
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (site.directory / "kek.pem").write_bytes(public)
    site.proxy.terminate()
    config = site.config.read_text()
    site.config.write_text(config.replace("kek: local:kek.json", 'kek: "rsa:kek.pem?private=kek.key"'))
    site.cli("keys", "rewrap", "--from", "local:kek.json", "--drop-old")
    site.proxy.start()
    assert bench.insert() == []
    return Rsa(bench, await open_provider(f"rsa:{site.directory}/kek.pem", no_secrets))


SCOPE = "t:public.patients"


async def test_c2_a_root_that_a_stranger_wrapped_is_not_written_under(rsa: Rsa) -> None:
    bench = rsa.bench
    before = bench.stored("notes")
    forged = rsa.data_key(*await rsa.root(SCOPE, "data", 2))
    bench.restart()
    assert bench.insert() == "58000"
    assert bench.says("INSERT INTO visits (diagnosis) VALUES (%s)", (bench.oracle.plant(),)) == []
    assert bench.stored("notes") == before
    assert forged not in {int.from_bytes(value[5:9]) for value in before}
    errors = " ".join(bench.check())
    assert f"root_key ('{SCOPE}', '', 'data', 2) is not one that phiproxy has written" in errors
    assert f"data_key ({forged})" in errors


async def test_c2_a_registry_of_his_own_is_not_believed(rsa: Rsa) -> None:
    """With a registry key of his own everything verifies under it: only the anchor says that it is not the one that is meant."""
    bench, site = rsa.bench, rsa.bench.site
    row = registry_root()
    new = await rsa.public.new_key(row.context(DEPLOYMENT))
    ((root_id,),) = bench.attack("SELECT id FROM phiproxy.root_key WHERE purpose = 'registry'")
    bench.attack("UPDATE phiproxy.root_wrap SET blob = %s WHERE root_id = %s", (new.wrapped.blob, root_id))
    rsa.data_key(*await rsa.root(SCOPE, "data", 2))
    async with await psycopg.AsyncConnection.connect(site.server.dsn(site.sealed)) as conn:
        await conn.execute("DELETE FROM phiproxy.manifest")
        await establish(conn, "phiproxy", RegistryKey(new.secret, DEPLOYMENT), 1000)
    before = bench.stored("notes")
    bench.wait_for("INSERT INTO patients (ssn) VALUES (%s)", (bench.oracle.plant("ssn"),), "58000")
    site.proxy.terminate()
    with pytest.raises(AssertionError, match=r"another one than keys\.anchor pins"):
        site.proxy.start()
    assert any("another one than keys.anchor pins" in text for text in bench.check())
    # Without an anchor nobody can tell whose it is.
    config = site.config.read_text()
    anchor = load_settings(site.config).keys.anchor[site.sealed]
    site.config.write_text(
        config.replace(anchor, "reg1-" + "0" * 64).replace(f'  anchor: {{"{site.sealed}": reg1-{"0" * 64}}}\n', "")
    )
    assert "anchor" not in site.config.read_text()
    with pytest.raises(AssertionError, match="anybody can wrap a registry key under this KEK"):
        site.proxy.start()
    with pytest.raises(AssertionError, match="anybody can wrap a registry key under this KEK"):
        site.cli("keys", "init")
    assert bench.stored("notes") == before


def test_c3_a_compromised_key_is_not_revived_by_its_old_row(bench: Bench) -> None:
    key_id = int.from_bytes(bench.stored("notes")[0][5:9])
    bench.attack("CREATE TABLE kept AS SELECT * FROM phiproxy.data_key WHERE id = %s", (key_id,))
    bench.site.cli("keys", "compromise", f"{key_id:08x}", "--reason", "a test")
    bench.attack(
        "UPDATE phiproxy.data_key SET state = 'decrypt_only' WHERE state = 'active' AND root_id = (SELECT root_id FROM kept)"
    )
    bench.attack("UPDATE phiproxy.data_key d SET state = k.state, mac = k.mac, used = 0 FROM kept k WHERE d.id = k.id")
    bench.restart()
    assert bench.insert() == "58000"
    assert bench.says("SELECT notes FROM patients") == "58000"
    assert bench.says("INSERT INTO visits (diagnosis) VALUES (%s)", (bench.oracle.plant(),)) == []
    assert any(f"data_key ({key_id}) is not as phiproxy has written it last" in text for text in bench.check())


def test_c4_scopes_that_are_swapped_redirect_nothing(bench: Bench) -> None:
    before = bench.stored("notes")
    bench.attack(
        "UPDATE phiproxy.identity SET scope = CASE scope WHEN 't:public.visits' THEN 't:public.patients' ELSE 't:public.visits' END"
        " WHERE identity IN ('c:public.patients.notes', 'c:public.visits.diagnosis')"
    )
    bench.restart()
    assert bench.insert() == "58000"
    assert bench.says("INSERT INTO visits (diagnosis) VALUES (%s)", (bench.oracle.plant(),)) == "58000"
    assert bench.says("INSERT INTO patients (ssn) VALUES (%s)", (bench.oracle.plant("ssn"),)) == []
    assert bench.stored("notes") == before
    assert len([text for text in bench.check() if text.startswith("identity")]) == 2


def test_c4_an_index_root_that_was_set_to_destroyed_tags_nothing(bench: Bench) -> None:
    bench.attack("UPDATE phiproxy.root_key SET state = 'destroyed' WHERE purpose = 'index' AND scope = %s", (SCOPE,))
    assert bench.site.proxy.process is not None
    bench.site.proxy.process.send_signal(signal.SIGHUP)
    bench.wait_for("SELECT id FROM patients WHERE ssn = %s", (bench.oracle.plant("ssn"),), "58000")
    assert bench.insert() == "58000"
    assert any(f"root_key ('{SCOPE}', '', 'index', 1)" in text for text in bench.check())


def test_a_name_that_is_taken_away_or_pointed_elsewhere_is_refused(bench: Bench) -> None:
    """``notes`` under the identity of ``ssn`` would get its tags."""
    bench.attack("UPDATE phiproxy.column_name SET number = (SELECT number FROM phiproxy.column_name WHERE \"column\" = 'ssn')"
                 " WHERE \"column\" = 'notes'")  # fmt: skip
    bench.attack("DELETE FROM phiproxy.column_name WHERE \"column\" = 'diagnosis'")
    bench.restart()
    assert bench.insert() == "58000"
    assert bench.says("INSERT INTO visits (diagnosis) VALUES (%s)", (bench.oracle.plant(),)) == "58000"
    assert bench.says("INSERT INTO patients (ssn) VALUES (%s)", (bench.oracle.plant("ssn"),)) == []
    errors = bench.check()
    assert any("column_name ('public', 'patients', 'notes') is not as" in text for text in errors)
    assert any("column_name ('public', 'visits', 'diagnosis') is missing" in text for text in errors)


def test_an_older_registry_stops_writing_until_it_is_accepted(bench: Bench) -> None:
    """Noticed by the running proxy and, from its file, by the next; reading goes on."""
    site = bench.site
    bench.copy()
    site.cli("keys", "rotate")
    bench.wait_for("INSERT INTO visits (diagnosis) VALUES (%s)", (bench.oracle.plant(),), [])
    bench.noticed()
    time.sleep(NOTICED)
    bench.restore()
    write = ("INSERT INTO visits (diagnosis) VALUES (%s)", (bench.oracle.plant(),))
    bench.wait_for(*write, "58000")
    assert isinstance(bench.says("SELECT notes FROM patients"), list)
    assert any(a["kind"] == "rollback" for a in bench.alarms())
    assert any("rolled back" in text for text in bench.check())
    bench.restart()
    assert bench.says(*write) == "58000"
    assert "is accepted as it is" in site.cli("keys", "accept-rollback", "--reason", "a test of a restore")
    bench.wait_for(*write, [])
    assert bench.attack("SELECT subject FROM phiproxy.event WHERE what = 'rollback accepted'") == [("a test of a restore",)]
    # What was there before it was accepted is older still.
    bench.restore()
    bench.wait_for(*write, "58000")


def test_a_counter_that_does_not_verify_ends_what_depends_on_it(bench: Bench) -> None:
    bench.attack("UPDATE phiproxy.counter SET value = value + 1")
    write = ("INSERT INTO visits (diagnosis) VALUES (%s)", (bench.oracle.plant(),))
    bench.wait_for(*write, "58000")
    assert bench.says("SELECT count(*) FROM pg_class WHERE relname = 'patients'") == [(1,)]
    assert any("counter" in text for text in bench.check())


def test_the_service_role_alone_is_enough_to_attack(bench: Bench) -> None:
    """The attacks above need no superuser: the role that owns the registry can do each of them."""
    password = bench.site.env["PHIPROXY_SERVICE_PASSWORD"]
    with psycopg.connect(bench.site.server.dsn(bench.site.sealed, bench.site.service, password), autocommit=True) as conn:
        for name in TABLES:
            query = "SELECT has_table_privilege(oid, 'INSERT, UPDATE, DELETE'), pg_get_userbyid(relowner) FROM pg_class"
            row = conn.execute(query.encode() + b" WHERE oid = %s::regclass", (f"phiproxy.{name}",)).fetchone()
            assert row == (True, bench.site.service)


def test_locks_on_the_registry_keep_no_proxy_from_ending(bench: Bench) -> None:
    with psycopg.connect(bench.site.server.dsn(bench.site.sealed)) as conn:
        conn.execute(f"LOCK TABLE {', '.join(f'phiproxy.{name}' for name in (*TABLES, 'proxy'))} IN ACCESS EXCLUSIVE MODE".encode())
        # What was read last is relied on for a while; from then on a statement says why nothing newer is known, and does not hang.
        until(lambda: bench.says("SELECT 1") == "57P03", "statements are not refused", 300)
        process = bench.site.proxy.process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        assert process.wait(240) == 0
    bench.site.proxy.start()


def test_a_root_that_somebody_else_has_added_keeps_nobody_from_serving(bench: Bench) -> None:
    """It does not open, which says nothing of the KEK: a restart, SIGHUP and what is under other roots go on."""
    bench.attack(
        "INSERT INTO phiproxy.root_key (scope, tenant, purpose, generation, state, format)"
        " VALUES ('c:x', '', 'data', 1, 'active', 2)"
    )
    bench.attack(
        "INSERT INTO phiproxy.root_wrap SELECT (SELECT max(id) FROM phiproxy.root_key), kek_uri, kek_version, blob, now()"
        " FROM phiproxy.root_wrap LIMIT 1"
    )
    bench.restart()
    assert bench.insert() == []
    assert any("root_key ('c:x', '', 'data', 1) is not one that phiproxy has written" in text for text in bench.check())
