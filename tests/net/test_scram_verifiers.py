"""Where verifiers come from: pg_authid as PostgreSQL would judge it, and files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from phiproxy.errors import ConfigError
from phiproxy.net.scram_verifiers import FileVerifiers, ServerVerifiers, mock_secret, open_verifiers, read_verifiers
from phiproxy.net.upstream import Unreachable
from phiproxy.policy.settings import Upstream
from phiproxy.wire.scram import Verifier
from tests.harness.server import PostgresServer
from tests.harness.tap import Tap
from tests.net.serving import bare_settings

LINE = (
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)
OTHER = LINE.replace("4096", "8192")


def settings_of(server: PostgresServer, **auth: str) -> Any:
    """Return settings of mode scram whose service login is the superuser's."""
    return bare_settings(server, auth={"mode": "scram", **auth}, service={"user": server.superuser})


@pytest.fixture
def roles(postgres_server: PostgresServer) -> Iterator[None]:
    """Roles of every kind."""
    made = {
        "v_plain": "LOGIN PASSWORD 'secret'",
        "v_nologin": "NOLOGIN PASSWORD 'secret'",
        "v_none": "LOGIN",
        "v_expired": "LOGIN PASSWORD 'secret' VALID UNTIL '2001-01-01'",
        "v_infinite": "LOGIN PASSWORD 'secret' VALID UNTIL 'infinity'",
        "v_md5": f"LOGIN PASSWORD 'md5{'0' * 32}'",
        "v_ünï": "LOGIN PASSWORD 'secret'",
    }
    with postgres_server.connect() as conn:
        for name, rest in made.items():
            conn.execute(f'DROP ROLE IF EXISTS "{name}"')
            conn.execute(f'CREATE ROLE "{name}" {rest}')
        yield
        for name in made:
            conn.execute(f'DROP ROLE "{name}"')


@pytest.fixture
async def verifiers(
    postgres_server: PostgresServer, roles: None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ServerVerifiers]:
    """Verifiers of the server."""
    monkeypatch.setenv("PHIPROXY_SERVICE_PASSWORD", postgres_server.password)
    source = await open_verifiers(settings_of(postgres_server), [])
    assert isinstance(source, ServerVerifiers)
    yield source
    await source.close()


@pytest.mark.parametrize(
    ("role", "why_not"),
    [
        ("v_plain", ""),
        ("v_nologin", ""),  # the server says so itself, behind the password
        ("v_infinite", ""),
        ("v_ünï", ""),
        ("v_none", "has no password"),
        ("v_expired", "has expired"),
        ("v_md5", "not stored as a SCRAM verifier"),
        ("v_unknown", "does not exist"),
        ("", "does not exist"),
    ],
)
async def test_roles_as_postgresql_judges_them(verifiers: ServerVerifiers, role: str, why_not: str) -> None:
    found = await verifiers.of(role.encode())
    assert (found.verifier is None) is bool(why_not)
    if why_not:
        assert why_not in found.why_not
    assert found.iterations == 4096


async def test_a_name_that_is_no_text(verifiers: ServerVerifiers) -> None:
    assert (await verifiers.of(b"\xff")).verifier is None


async def test_a_password_that_was_changed_is_known_to_the_next_login(
    verifiers: ServerVerifiers, postgres_server: PostgresServer
) -> None:
    before = await verifiers.of(b"v_plain")
    with postgres_server.connect() as conn:
        conn.execute("ALTER ROLE v_plain PASSWORD 'another'")
    assert before.verifier != (await verifiers.of(b"v_plain")).verifier


async def test_a_storm_is_few_queries(verifiers: ServerVerifiers, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    read = verifiers._read_names

    async def counted(names: list[str]) -> Any:
        asked.append(len(names))
        return await read(names)

    monkeypatch.setattr(verifiers, "_read_names", counted)
    found = await asyncio.gather(*(verifiers.of(b"v_plain" if n % 2 else f"nobody{n}".encode()) for n in range(500)))
    assert sum(f.verifier is not None for f in found) == 250
    assert asked == [251]


async def test_a_name_that_the_database_cannot_spell_harms_nobody_else(
    postgres_server: PostgresServer, roles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHIPROXY_SERVICE_PASSWORD", postgres_server.password)
    with postgres_server.connect() as conn:
        conn.execute("CREATE DATABASE v_latin1 TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    try:
        source = await open_verifiers(settings_of(postgres_server, database="v_latin1"), [])
        spelled, other = await asyncio.gather(source.of("v_\u0416".encode()), source.of(b"v_plain"))
        await source.close()
    finally:
        postgres_server.drop_database("v_latin1")
    assert spelled.verifier is None
    assert other.verifier is not None


async def test_a_server_that_does_not_answer(verifiers: ServerVerifiers, monkeypatch: pytest.MonkeyPatch) -> None:
    async def late(names: list[str]) -> Any:
        raise TimeoutError

    monkeypatch.setattr(verifiers, "_read_names", late)
    with pytest.raises(Unreachable, match="does not answer") as refused:
        await verifiers.of(b"v_plain")
    assert (refused.value.sqlstate, refused.value.anchor) == ("57P03", "err-upstream")


async def test_a_connection_that_was_lost_is_opened_again(verifiers: ServerVerifiers, postgres_server: PostgresServer) -> None:
    """At once, for the login that meets it: nobody waits for a pool that tries again later."""
    await verifiers.of(b"v_plain")
    with postgres_server.connect() as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'phiproxy' AND usename = %s",
            (postgres_server.superuser,),  # who reads the verifiers here; other proxies of the run have service logins of their own
        )
    assert (await verifiers.of(b"v_plain")).verifier is not None


async def test_a_server_that_went_away_is_said_at_once(
    postgres_server: PostgresServer, roles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHIPROXY_SERVICE_PASSWORD", postgres_server.password)
    with Tap(postgres_server.host, postgres_server.port) as tap:
        settings = settings_of(postgres_server).model_copy(
            update={"upstream": Upstream.model_validate({"address": f"{tap.host}:{tap.port}", "tls": "disable"})}
        )
        source = await open_verifiers(settings, [])
        assert (await source.of(b"v_plain")).verifier is not None
    with pytest.raises(Unreachable):
        await source.of(b"v_plain")
    await source.close()


async def test_a_service_login_that_may_not_read_them_is_told_what_to_grant(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres_server.create_role("v_service", "service-password")
    monkeypatch.setenv("PHIPROXY_SERVICE_PASSWORD", "service-password")
    settings = bare_settings(postgres_server, auth={"mode": "scram"}, service={"user": "v_service"})
    try:
        with pytest.raises(ConfigError, match=r"GRANT SELECT \(rolname, rolpassword, rolvaliduntil\)"):
            await open_verifiers(settings, ["postgres"])
        with postgres_server.connect() as conn:
            conn.execute("GRANT SELECT (rolname, rolpassword, rolvaliduntil) ON pg_catalog.pg_authid TO v_service")
        source = await open_verifiers(settings, ["postgres"])
        assert (await source.of(b"v_service")).verifier is not None
        await source.close()
    finally:
        with postgres_server.connect() as conn:
            conn.execute("DROP OWNED BY v_service")
            conn.execute("DROP ROLE v_service")


# -- files ---------------------------------------------------------------------------------------------------------------------


def written(directory: Path, text: str, mode: int = 0o600) -> Path:
    """Write a file of verifiers."""
    path = directory / "verifiers"
    path.touch(mode=0o600)
    path.write_text(text)
    path.chmod(mode)
    return path


async def test_a_file(tmp_path: Path) -> None:
    path = written(tmp_path, f'# roles\n\napp {LINE}\n  "a ""b"" c"   {OTHER}\r\nd e {OTHER}\nünï {OTHER}\n')
    source = FileVerifiers(path)
    for role, line in ((b"app", LINE), (b'a "b" c', OTHER), (b"d e", OTHER), ("ünï".encode(), OTHER)):
        found = await source.of(role)
        assert found.verifier == Verifier.parse(line)
        assert found.iterations == 8192, "the iterations of most"
    assert (await source.of(b"nobody")).verifier is None
    written(tmp_path, f"another {LINE}\n")
    source.reload()
    assert (await source.of(b"app")).verifier is None
    assert (await source.of(b"another")).verifier is not None
    written(tmp_path, "broken\n")
    with pytest.raises(ConfigError):
        source.reload()
    assert (await source.of(b"another")).verifier is not None
    await source.close()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("app hunter2\n", ":1:1: a line is"),
        (f"\n{LINE}\n", ":2:1: a line is"),
        (f'"app {LINE}\n', ":1:1: a line is"),
        (f'"a"b" {LINE}\n', ":1:1: a line is"),
        (f'"" {LINE}\n', ":1:1: a line is"),
        (f'" {LINE}\n', ":1:1: a line is"),
        (f"app {LINE}\napp {OTHER}\n", ":2:1: this role stands here a second time"),
    ],
)
def test_a_file_that_is_wrong_somewhere(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as said:
        read_verifiers(written(tmp_path, text))
    assert complaint in said.value.message
    assert "hunter2" not in said.value.message
    assert "W22Z" not in said.value.message


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606])
def test_a_file_that_others_can_read(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match="mode 0600"):
        read_verifiers(written(tmp_path, f"app {LINE}\n", mode))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_verifiers(tmp_path / "absent")
    with pytest.raises(ConfigError, match=r"not a regular file|cannot be read"):
        read_verifiers(tmp_path)
    path = written(tmp_path, "")
    path.write_bytes(b"\xff\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_verifiers(path)


def test_mock_salts_outlive_a_restart(tmp_path: Path, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHIPROXY_SERVICE_PASSWORD", "one")
    by_password = mock_secret(settings_of(postgres_server))
    assert mock_secret(settings_of(postgres_server)) == by_password
    monkeypatch.setenv("PHIPROXY_SERVICE_PASSWORD", "two")
    assert mock_secret(settings_of(postgres_server)) != by_password
    path = written(tmp_path, f"app {LINE}\n")
    by_file = settings_of(postgres_server, verifiers=str(path))
    monkeypatch.delenv("PHIPROXY_SERVICE_PASSWORD")
    assert mock_secret(by_file) == mock_secret(by_file)
