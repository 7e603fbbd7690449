"""End users with tokens, masks that are lifted for a reason, and its review by a second person; all in the audit log."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from phiproxy.audit.reading import records
from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.waiting import until
from tests.integration.masked_site import POLICY, Connection, MaskedSite, open_masked_site
from tests.integration.test_masks import DOCUMENT, INSERT, MASKED, RECORD, ROW, SSN, shown_to

KEY = ec.generate_private_key(ec.SECP256R1())
ACCESS = """\
    - {roles: [doctor], columns: [public.people.ssn], show: open}
    - {roles: [intern], columns: [public.people.ssn], show: first(3)}
    - {roles: [stranger], tables: [public.people], show: deny}
  break_glass: {roles: [mask_nurse], minutes: 1}
  tokens: {jwks: jwks.json, audience: phi, roles: roles}
"""


def write_keys(directory: Path, key: ec.EllipticCurvePrivateKey = KEY) -> None:
    (directory / "jwks.json").write_text(json.dumps({"keys": [{**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": "k"}]}))


def token(*roles: str, seconds: float = 60, key: ec.EllipticCurvePrivateKey = KEY) -> str:
    claims = {"sub": "jane", "aud": "phi", "exp": time.time() + seconds, "roles": list(roles)}
    return jwt.encode(claims, key, "ES256", headers={"kid": "k"})


@pytest.fixture(scope="module")
def masked(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MaskedSite]:
    directory = tmp_path_factory.mktemp("glass")
    write_keys(directory)
    audit = "audit: {directory: audit, proxy: one, checkpoint: 1s}\n"
    with open_masked_site(postgres_server, directory, policy=POLICY + ACCESS, settings=audit) as masked:
        with masked.as_owner() as conn:
            conn.execute(INSERT, ROW)
            conn.execute(RECORD.encode())
        yield masked


def log_of(masked: MaskedSite, **fields: object) -> list[dict[str, Any]]:
    found = [dict(record) for record in records(masked.site.directory / "audit")]
    return [record for record in found if all(record.get(name) == value for name, value in fields.items())]


def text_of(masked: MaskedSite) -> str:
    return "".join(json.dumps(record) for record in log_of(masked)) + masked.site.proxy.log_path.read_text()


def test_masked_and_denied_are_recorded(masked: MaskedSite) -> None:
    with masked.as_role("mask_nurse") as nurse:
        assert shown_to(nurse) == MASKED
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            nurse.execute("SELECT id FROM people WHERE ssn = '1'")
    with masked.as_role("mask_research") as research:
        research.execute("SELECT ssn, name FROM people")
    shown = log_of(masked, kind="execution", role="mask_nurse")[-1]
    assert shown["columns"] == {"public.people.ssn": {"masked": 1}}
    assert set(shown["keys"].values()) == {"used"}
    refused = log_of(masked, kind="refused", role="mask_nurse")[-1]
    assert (refused["outcome"], refused["columns"]) == ("42501", {"public.people.ssn": {"denied": True}})
    nulls = log_of(masked, kind="execution", role="mask_research")[-1]
    assert nulls["columns"] == {"public.people.ssn": {"masked": 1}, "public.people.name": {"masked": 1}}
    assert SSN not in text_of(masked)


# -- end users with tokens -------------------------------------------------------------------------------------------------------


def test_roles_of_a_token_count_beside_the_sessions(masked: MaskedSite) -> None:
    with masked.as_role("mask_clerk", prepare_threshold=0) as clerk:
        assert shown_to(clerk) == SSN
        for roles, expected in (
            (["intern"], "078********"),
            (["doctor"], SSN),
            (["mask_nurse"], MASKED),
            (["intern", "mask_nurse"], "078********"),
            ([], SSN),
        ):
            clerk.execute(f"SET phiproxy.end_user = '{token(*roles)}'".encode())
            assert shown_to(clerk) == expected
            assert log_of(masked, kind="execution", role="mask_clerk")[-1]["user"] == {"how": "verified", "name": "jane"}
        with clerk.transaction(force_rollback=True):
            clerk.execute(f"SET LOCAL phiproxy.end_user = '{token('stranger')}'".encode())
            with pytest.raises(psycopg.errors.InsufficientPrivilege), clerk.transaction():
                shown_to(clerk)
        assert shown_to(clerk) == SSN
        row = clerk.execute("SELECT current_setting('phiproxy.end_user')").fetchone()
        assert row is not None
        assert row[0].startswith("phi-")


def test_a_token_that_cannot_be_believed_is_refused(masked: MaskedSite) -> None:
    with masked.as_role("mask_clerk") as clerk:
        clerk.execute(f"SET phiproxy.end_user = '{token('intern')}'".encode())
        for bad in ("dr.who", token("doctor", seconds=-1), token("doctor", key=ec.generate_private_key(ec.SECP256R1()))):
            for execute in (clerk.execute, psycopg.ClientCursor(clerk).execute):
                with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification) as refused:
                    execute(f"SET phiproxy.end_user = '{bad}'")
                assert bad not in str(refused.value)
            assert bad not in text_of(masked)
        assert shown_to(clerk) == "078********"


def test_a_token_shows_nothing_when_its_time_is_over(masked: MaskedSite) -> None:
    with masked.as_role("mask_clerk", prepare_threshold=0) as clerk:
        clerk.execute(f"SET phiproxy.end_user = '{token('doctor', seconds=3)}'".encode())
        assert shown_to(clerk) == SSN
        time.sleep(3.2)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
            shown_to(clerk)
        clerk.execute("RESET phiproxy.end_user")
        assert shown_to(clerk) == SSN


def test_set_config_takes_a_token_as_set_does(masked: MaskedSite) -> None:
    """Whether it is a constant or a parameter, in the protocol of simple or of extended queries, prepared once or each time."""
    bad = token("doctor", key=ec.generate_private_key(ec.SECP256R1()))
    given: list[str] = []
    with masked.as_role("mask_clerk", prepare_threshold=0, cursor_factory=psycopg.ClientCursor) as clerk:
        server = psycopg.Cursor(clerk)
        for local in (False, True):
            for cursor in (clerk.cursor(), server):
                for roles, expected in ((["intern"], "078********"), (["mask_nurse"], MASKED), ([], SSN)):
                    with clerk.transaction(force_rollback=local):
                        given.append(token(*roles))
                        row = cursor.execute("SELECT set_config('PhiProxy.End_User', %s, %s)", (given[-1], local)).fetchone()
                        assert row is not None
                        assert row[0].startswith("phi-")
                        assert cursor.description is not None
                        assert [column.name for column in cursor.description] == ["set_config"]
                        assert cursor.execute("SELECT ssn FROM people WHERE id = 1").fetchone() == (expected,)
                        user = {"how": "verified", "name": "jane"}
                        assert log_of(masked, kind="execution", role="mask_clerk")[-1]["user"] == user
                    with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification) as refused:
                        cursor.execute("SELECT set_config('phiproxy.end_user', %s, %s)", (bad, local))
                    assert bad not in str(refused.value)
        given.append(token("intern"))
        result = clerk.pgconn.exec_params(
            b"SELECT set_config('phiproxy.end_user', $1::text, false)", [given[-1].encode()], param_formats=[1], result_format=1
        )
        assert result.get_value(0, 0)[:4] == b"phi-"  # type: ignore[index]
        assert shown_to(clerk) == "078********"
        server.execute("SELECT set_config('phiproxy.end_user', %s, false)", (None,))
        assert shown_to(clerk) == SSN
        given.append(token("intern"))
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="is taken by the proxy"):
            server.execute("SELECT set_config(%s, %s, false)", ("PHIPROXY.end_user", given[-1]))
        server.execute("SELECT set_config(%s, %s, false)", ("app.end_user", "x"))
        assert shown_to(clerk) == SSN
    upstream = masked.site.tap.upstream_bytes()
    assert not [one for one in (bad, *given) if one.encode() in upstream or one in text_of(masked)]


OTHER_WAYS = [
    "SELECT set_config('phiproxy.end_user', '{}', false), 1",
    "SELECT upper(set_config('phiproxy.end_user', '{}', false))",
    "DO $$ BEGIN PERFORM set_config('phiproxy.end_user', '{}', false); END $$",
    "DO 'BEGIN SET phiproxy.end_user = ''{}''; END'",
    "CREATE FUNCTION f() RETURNS text LANGUAGE sql SET phiproxy.end_user = '{}' AS 'SELECT 1'",
    "ALTER ROLE mask_clerk SET phiproxy.end_user = '{}'",
    "EXECUTE p('phiproxy.end_user', '{}', false)",
    "UPDATE pg_settings SET setting = '{}' WHERE name = 'phiproxy.end_user'",
    "SELECT set_config('phiproxy.' || 'end_user', '{}', false)",
]


@pytest.mark.parametrize("way", OTHER_WAYS)
def test_in_every_other_way_nobody_is_told_the_token(masked: MaskedSite, way: str) -> None:
    said = token("doctor")
    with masked.as_role("mask_clerk") as clerk:
        for execute in (clerk.execute, psycopg.ClientCursor(clerk).execute):
            with pytest.raises(psycopg.errors.FeatureNotSupported, match=r"is taken by the proxy|could say who acts"):
                execute(way.format(said).encode())
        assert shown_to(clerk) == SSN
    assert said.encode() not in masked.site.tap.upstream_bytes()
    assert said not in text_of(masked)


def test_set_config_takes_a_reason(masked: MaskedSite) -> None:
    with masked.as_role("mask_nurse", prepare_threshold=0) as nurse:
        for execute in (nurse.execute, psycopg.ClientCursor(nurse).execute):
            execute("SELECT set_config('phiproxy.reason', %s, false)", ("by a function",))
            assert shown_to(nurse) == SSN
            assert log_of(masked, kind="break_glass")[-1]["reason"] == "by a function"
            nurse.execute("RESET phiproxy.reason")
            assert shown_to(nurse) == MASKED
    with masked.as_role("mask_research") as research:
        for execute in (research.execute, psycopg.ClientCursor(research).execute):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not see more"):
                execute("SELECT set_config('phiproxy.reason', %s, false)", ("curious",))
    assert b"by a function" not in masked.site.tap.upstream_bytes()


@pytest.mark.parametrize("options", ["-c phiproxy.end_user={}", "--PhiProxy.End-User={}", "-ec phi\\proxy.reason={}"])
def test_nothing_of_it_is_given_when_connecting(masked: MaskedSite, options: str) -> None:
    said = token("doctor")
    with pytest.raises(psycopg.OperationalError, match="cannot be given when connecting"):
        psycopg.connect(masked.dsn("mask_clerk"), options=options.format(said))
    assert said.encode() not in masked.site.tap.upstream_bytes()
    with masked.as_role("mask_clerk", options="-c phiproxy.purpose=TREAT") as clerk:
        assert shown_to(clerk) == SSN
        assert log_of(masked, kind="execution", role="mask_clerk")[-1]["purpose"] == "TREAT"


def denied_as(conn: Connection, function: str) -> bool:
    """Say who acts by a function; tell whether nothing is shown behind it. Of one made past the proxy it hears a moment later."""
    conn.execute(f"SELECT {function}('phiproxy' || '.end_user', 'x')".encode())
    try:
        shown_to(conn)
    except psycopg.errors.InsufficientPrivilege as refused:
        return "permission denied" in str(refused)
    return False


def test_a_setting_that_no_token_gave_shows_nothing(masked: MaskedSite) -> None:
    acts_as = "CREATE FUNCTION acts_as(n text, v text) RETURNS text LANGUAGE sql AS 'SELECT set_config(n, v, false)'"
    masked.admin(acts_as)
    masked.admin(f"ALTER ROLE mask_safe SET phiproxy.end_user = '{token('doctor')}'")
    try:
        with masked.as_role("mask_safe") as safe:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
                shown_to(safe)
            safe.execute(f"SET phiproxy.end_user = '{token('doctor')}'".encode())
            assert shown_to(safe) == "0********20"
        with masked.as_role("mask_nurse") as nurse:
            until(lambda: denied_as(nurse, "acts_as"), "the proxy has read the new function, and what it sets shows nothing")
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not see more"):
                nurse.execute("SET phiproxy.reason = 'as nobody'")
            nurse.execute("RESET phiproxy.end_user")
            assert shown_to(nurse) == MASKED
    finally:
        masked.admin("ALTER ROLE mask_safe RESET phiproxy.end_user; DROP FUNCTION acts_as")


# What code in the server says past the proxy, by a name that it makes up.
REPLAY = "DO $$ BEGIN EXECUTE 'SET phi' || 'proxy.end_user = ''{}'''; END $$"
PROMOTE = "DO $$ BEGIN EXECUTE format('SET phi' || 'proxy.end_user = %L', current_setting('phi' || 'proxy.end_user')); END $$"


def marked(conn: Connection) -> str:
    """Return what the server keeps in place of a token."""
    (mark,) = conn.execute("SELECT current_setting('phiproxy.end_user')").fetchone() or ("",)
    return str(mark)


def shows_nothing(conn: Connection) -> bool:
    """Tell whether nothing is shown, and all again once who acts is reset."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
        shown_to(conn)
    conn.execute("RESET phiproxy.end_user")
    return shown_to(conn) == SSN


@pytest.mark.parametrize(
    "said",
    [
        "SET LOCAL phiproxy.end_user = '{}'",
        "SELECT set_config('phiproxy.end_user', '{}', true)",
        "SELECT set_config('phiproxy.end_user', '{}', 'on')",
    ],
)
@pytest.mark.parametrize("cursor", [psycopg.Cursor, psycopg.ClientCursor])
def test_a_token_of_a_transaction_is_of_no_other(masked: MaskedSite, said: str, cursor: type[psycopg.Cursor[Any]]) -> None:
    """Not by its mark either, which is no secret: the server's code may set it again, or for the session."""
    with masked.as_role("mask_clerk", cursor_factory=cursor) as clerk, masked.as_role("mask_clerk", cursor_factory=cursor) as other:
        with clerk.transaction():
            clerk.execute(said.format(token("intern")).encode())
            assert shown_to(clerk) == "078********"
            mark = marked(clerk)
        assert shown_to(clerk) == SSN
        for conn in (clerk, other):
            conn.execute(REPLAY.format(mark).encode())
            assert marked(conn) == mark
            assert shows_nothing(conn)
            with conn.transaction(force_rollback=True):
                conn.execute(REPLAY.format(mark).encode())
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    shown_to(conn)
                raise psycopg.Rollback
            assert shown_to(conn) == SSN
        with clerk.transaction():
            clerk.execute(said.format(token("intern")).encode())
            clerk.execute(PROMOTE)
            assert shown_to(clerk) == "078********"
        assert marked(clerk)
        assert shows_nothing(clerk)


@pytest.mark.parametrize(("local", "code"), [(b"t", 0), (b" TRUE", 0), (b"on", 0), (b"\1", 1)])
def test_nor_is_one_that_is_bound(masked: MaskedSite, local: bytes, code: int) -> None:
    with masked.as_role("mask_clerk") as clerk:
        with clerk.transaction():
            query, given = b"SELECT set_config('phiproxy.end_user', $1, $2)", [token("intern").encode(), local]
            clerk.pgconn.exec_params(query, given, param_formats=[0, code])
            clerk.execute(PROMOTE)
            assert shown_to(clerk) == "078********"
        assert marked(clerk)
        assert shows_nothing(clerk)


def test_a_token_that_was_reset_or_followed_by_another_is_not_taken_again(masked: MaskedSite) -> None:
    with masked.as_role("mask_clerk", prepare_threshold=None) as clerk:
        for follows in ("RESET phiproxy.end_user", f"SET phiproxy.end_user = '{token('mask_nurse')}'", "DISCARD ALL"):
            clerk.execute(f"SET phiproxy.end_user = '{token('intern')}'".encode())
            mark = marked(clerk)
            clerk.execute(follows.encode())
            with clerk.transaction(force_rollback=True):
                clerk.execute(REPLAY.format(mark).encode())
                assert marked(clerk) == mark
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    shown_to(clerk)
                raise psycopg.Rollback
            clerk.execute(REPLAY.format(mark).encode())
            assert shows_nothing(clerk)


def test_a_token_of_the_session_stays_behind_transactions(masked: MaskedSite) -> None:
    """Also of one that gives the same, or another, and of what is rolled back."""
    same, nurse = token("intern"), token("mask_nurse")
    with masked.as_role("mask_clerk") as clerk:
        clerk.execute(f"SET phiproxy.end_user = '{same}'".encode())
        for given, expected in ((same, "078********"), (nurse, MASKED)):
            for undone in (False, True):
                with clerk.transaction(force_rollback=undone):
                    clerk.execute(f"SET LOCAL phiproxy.end_user = '{given}'".encode())
                    assert shown_to(clerk) == expected
                    with clerk.transaction(force_rollback=True):
                        clerk.execute(f"SET phiproxy.end_user = '{token()}'".encode())
                        assert shown_to(clerk) == SSN
                    assert shown_to(clerk) == expected
                assert shown_to(clerk) == "078********"
        with clerk.transaction():
            clerk.execute(f"SET LOCAL phiproxy.end_user = '{nurse}'".encode())
            clerk.execute(f"SET phiproxy.end_user = '{nurse}'".encode())
        assert shown_to(clerk) == MASKED


def test_a_prepared_statement_gives_no_token_whose_time_is_over(masked: MaskedSite) -> None:
    with masked.as_role("mask_clerk") as clerk:
        clerk.pgconn.prepare(b"p", f"SET phiproxy.end_user = '{token('intern', seconds=3)}'".encode())
        clerk.pgconn.exec_prepared(b"p", [])
        assert shown_to(clerk) == "078********"
        clerk.execute("RESET phiproxy.end_user")
        time.sleep(3.2)
        refused = clerk.pgconn.exec_prepared(b"p", [])
        assert b"it has expired" in refused.error_message
        assert shown_to(clerk) == SSN


def test_keys_are_read_again(masked: MaskedSite) -> None:
    new = ec.generate_private_key(ec.SECP256R1())
    with masked.as_role("mask_clerk") as clerk:
        with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification):
            clerk.execute(f"SET phiproxy.end_user = '{token('intern', key=new)}'".encode())
        write_keys(masked.site.directory, new)
        try:
            masked.reload()
            clerk.execute(f"SET phiproxy.end_user = '{token('intern', key=new)}'".encode())
            assert shown_to(clerk) == "078********"
        finally:
            write_keys(masked.site.directory)
            masked.reload()


# -- break-glass -----------------------------------------------------------------------------------------------------------------


def review(masked: MaskedSite, *arguments: str, password: str = "mask") -> subprocess.CompletedProcess[str]:
    env = {**masked.site.env, "PGPASSWORD": password}
    return run_cli("audit", "review", *arguments, "-c", str(masked.site.config), env=env)


def test_a_reason_lifts_masks_and_nobody_signs_it_off_meanwhile(masked: MaskedSite) -> None:
    reason = "ambulance, patient is unconscious"
    with masked.as_role("mask_nurse", prepare_threshold=0) as nurse:
        assert shown_to(nurse) == MASKED
        nurse.execute(f"SET phiproxy.reason = '{reason}'".encode())
        glass = log_of(masked, kind="break_glass")[-1]  # it is there before the reply is
        assert (glass["reason"], glass["role"], glass["login"], glass["seconds"]) == (reason, "mask_nurse", "mask_nurse", 60)
        assert shown_to(nurse) == SSN
        assert nurse.execute("SELECT id FROM people WHERE ssn = %s", (SSN,)).fetchall() == [(1,)]
        opened = log_of(masked, kind="execution", role="mask_nurse")[-2]
        assert (opened["reason"], opened["columns"]) == (reason, {"public.people.ssn": {"opened": 1}})
        row = nurse.execute("SELECT current_setting('phiproxy.reason')").fetchone()
        assert row is not None
        mark = str(row[0])
        assert mark.startswith("phi-")
        nurse.execute("RESET phiproxy.reason")
        assert shown_to(nurse) == MASKED
        with nurse.transaction(force_rollback=True):
            nurse.execute("SET LOCAL phiproxy.reason = 'again'")
            assert shown_to(nurse) == SSN
        assert shown_to(nurse) == MASKED
    acts_as = "CREATE FUNCTION gives(v text) RETURNS text LANGUAGE sql AS $$SELECT set_config('phiproxy.reason', v, false)$$"
    masked.admin(acts_as)
    with masked.as_role("mask_nurse") as other:
        for said in (mark, "just so"):  # another session's, and none
            other.execute("SELECT gives(%s)", (said,))
            assert shown_to(other) == MASKED
    masked.admin("DROP FUNCTION gives")

    listed = review(masked)
    assert listed.returncode == 1
    assert reason in listed.stdout
    assert "public.people.ssn (opened 1)" in listed.stdout
    name = glass["glass"]
    for arguments, why in (
        (("--as", "mask_nurse", "--note", "fine"), "has done it himself"),
        (("--as", "mask_clerk"), "who signs it off"),
    ):
        refused = review(masked, name, *arguments)
        assert refused.returncode == 1
        assert why in refused.stderr
    (again,) = log_of(masked, kind="break_glass", reason="again")
    for each in (glass, again):
        refused = review(masked, each["glass"], "--as", "mask_clerk", "--note", "fine")
        over = datetime.fromisoformat(each["time"]) + timedelta(seconds=60)
        assert (refused.returncode, f"may lift masks until {over:%Y-%m-%d %H:%M:%S} (UTC)" in refused.stderr) == (1, True)
    signed_off = [record["glass"] for record in log_of(masked, kind="break_glass.reviewed")]
    assert name not in signed_off


def sign_off(masked: MaskedSite, name: str, note: str) -> None:
    """Sign one off, once its time is over; others may be of a moment ago."""
    deadline = time.monotonic() + 240
    while (signed := review(masked, name, "--as", "mask_clerk", "--note", note)).returncode:
        assert "may lift masks until" in signed.stderr
        assert time.monotonic() < deadline
        time.sleep(1)


def check_signing_off(masked: MaskedSite, reason: str) -> None:
    """Sign one off, and all others."""
    (glass,) = log_of(masked, kind="break_glass", reason=reason)
    name = glass["glass"]
    for reviewer, password in (("mask_clerk", "wrong"), ("nobody_there", "mask")):
        refused = review(masked, name, "--as", reviewer, "--note", "fine", password=password)
        assert refused.returncode == 1
        assert "password authentication failed" in refused.stderr
    signed = review(masked, name, "--as", "mask_clerk", "--note", "seen, in order")
    assert signed.returncode == 0, signed.stderr
    (record,) = log_of(masked, kind="break_glass.reviewed", glass=name)
    assert (record["by"], record["note"]) == ("mask_clerk", "seen, in order")
    assert "was signed off by mask_clerk" in review(masked, name, "--as", "mask_clerk", "--note", "twice").stderr
    assert reason not in review(masked).stdout
    whole = json.loads(review(masked, "--all", "--json").stdout)
    assert [each["review"] is not None for each in whole if each["glass"]["glass"] == name] == [True]
    for each in (each["glass"] for each in whole if each["review"] is None):
        sign_off(masked, each["glass"], "likewise")
    assert review(masked).returncode == 0
    key = masked.site.cli("audit", "key").strip()
    deadline = time.monotonic() + 240
    while (proven := run_cli("audit", "verify", str(masked.site.directory / "audit"), "--key", key)).returncode:
        assert time.monotonic() < deadline, proven.stdout
        time.sleep(0.5)


def test_a_reason_lifts_masks_of_fields_too(masked: MaskedSite) -> None:
    query = "SELECT doc, doc->>'ssn', doc->'name'->>'given' FROM people"
    hidden = {**DOCUMENT, "ssn": MASKED, "born": "1961-01-01", "notes": [{"is": None, "on": "x"}]}
    hidden["name"] = {"given": None, "family": "Zorkendorfer"}
    with masked.as_role("mask_nurse", prepare_threshold=0) as nurse:
        for _ in range(2):
            assert nurse.execute(query).fetchall() == [(hidden, MASKED, None)]
            done = log_of(masked, kind="execution", role="mask_nurse")[-1]["columns"]
            assert done == {
                "public.people.doc$.ssn": {"masked": 2},
                "public.people.doc$.born": {"masked": 1},
                "public.people.doc$.name.given": {"masked": 2},
                "public.people.doc$.name.family": {"opened": 1},
                "public.people.doc$.notes[*].is": {"masked": 1},
            }
            nurse.execute("SET phiproxy.reason = 'ambulance, of a document'")
            assert nurse.execute(query).fetchall() == [(DOCUMENT, SSN, "Jane")]
            assert nurse.execute("SELECT id FROM people WHERE doc->>'ssn' = %s", (SSN,)).fetchall() == [(1,)]
            records = log_of(masked, kind="execution", role="mask_nurse")[-2:]
            assert [record["reason"] for record in records] == ["ambulance, of a document"] * 2
            assert records[0]["columns"]["public.people.doc$.ssn"] == {"opened": 2}
            assert records[1]["columns"]["public.people.doc$.ssn"] == {"searched": True}
            nurse.execute("RESET phiproxy.reason")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                nurse.execute("SELECT id FROM people WHERE doc->>'ssn' = %s", (SSN,))


def test_who_may_not_gives_no_reason(masked: MaskedSite) -> None:
    before = len(log_of(masked, kind="break_glass"))
    with masked.as_role("mask_research") as research:
        for execute in (research.execute, psycopg.ClientCursor(research).execute):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not see more"):
                execute("SET phiproxy.reason = 'curious'")
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            research.execute("SET phiproxy.reason = 7")
    with masked.as_role("mask_pool") as pool:
        pool.execute("SET ROLE mask_nurse")
        pool.execute("SET phiproxy.reason = 'as a nurse'")
        assert shown_to(pool) == SSN
        pool.execute("SET ROLE mask_research")
        assert shown_to(pool) == "None"
        pool.execute("RESET ROLE")  # a member of all: what is denied stays so
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            shown_to(pool)
    assert len(log_of(masked, kind="break_glass")) == before + 1


def test_the_time_of_a_reason_is_over(masked: MaskedSite) -> None:
    """What was opened, prepared or bound before shows no more than what is said behind it."""
    query = "SELECT ssn FROM people"
    with masked.as_role("mask_nurse", prepare_threshold=0) as nurse, masked.as_role("mask_nurse") as other:
        nurse.execute("SET phiproxy.reason = 'for a minute'")
        assert shown_to(nurse) == SSN
        nurse.execute(f"PREPARE p AS {query}".encode())
        nurse.execute(f"DECLARE h SCROLL CURSOR WITH HOLD FOR {query}".encode())
        assert nurse.execute("EXECUTE p").fetchall() == nurse.execute("FETCH h").fetchall() == [(SSN,)]
        other.execute("SET phiproxy.reason = 'likewise'")
        other.execute("BEGIN")
        other.execute(f"DECLARE c SCROLL CURSOR FOR {query}".encode())
        assert other.execute("FETCH c").fetchall() == [(SSN,)]
        time.sleep(61)
        assert shown_to(nurse) == MASKED
        assert nurse.execute("EXECUTE p").fetchall() == [(MASKED,)]
        for conn, fetch in ((nurse, "FETCH FIRST FROM h"), (other, "FETCH FIRST FROM c")):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="this cursor was opened"):
                conn.execute(fetch)
    check_signing_off(masked, "for a minute")
