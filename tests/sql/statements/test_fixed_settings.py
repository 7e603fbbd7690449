"""Settings that decide the tenant of a session, and array_nulls, stay what they are."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.errors import NotPermitted, StatementRefused
from phiproxy.plan.planner import Planner
from tests.clinic_model import CATALOG, PROTECTION
from tests.plan.rings import full_ciphers
from tests.sql.ask import VIEW


def planner(*fixed: str) -> Planner:
    return Planner(dataclasses.replace(PROTECTION, fixed=frozenset(fixed)), CATALOG, full_ciphers())


@pytest.mark.parametrize(
    "text",
    [
        b"SET app.tenant = 'b'",
        b"SET LOCAL app.tenant TO 'b'",
        b"SET APP.Tenant TO DEFAULT",
        b"BEGIN; SET app.tenant = 'b'",
        b"SELECT set_config('app.tenant', 'b', false)",
        b"SELECT pg_catalog.set_config('App.Tenant'::text, 'b', true)",
        b"SELECT set_config('app.' || 'tenant', 'b', false)",
        b"WITH w AS (SELECT set_config($$app.tenant$$, 'b', false)) SELECT 1 FROM w",
        b"UPDATE pg_settings SET setting = 'b' WHERE name = 'app.tenant'",
    ],
)
def test_a_parameter_that_decides_is_not_set_again(text: bytes) -> None:
    with pytest.raises(NotPermitted, match="may not be changed"):
        planner("app.tenant").script(text, VIEW)
    planner().script(text, VIEW)


@pytest.mark.parametrize("text", [b"SET ROLE other", b"SET LOCAL ROLE other", b"SET SESSION AUTHORIZATION other"])
def test_a_role_that_decides_is_not_changed(text: bytes) -> None:
    with pytest.raises(NotPermitted, match="may not be changed"):
        planner("role", "session_authorization").script(text, VIEW)
    planner("app.tenant").script(text, VIEW)


def test_nulls_in_arrays_stay_what_they_are() -> None:
    for text in (b"SET array_nulls = off", b"SET LOCAL Array_Nulls TO 0"):
        with pytest.raises(StatementRefused, match="array_nulls"):
            planner().script(text, VIEW)
    for text in (b"SET array_nulls = on", b"RESET array_nulls", b"SET array_nulls TO DEFAULT", b"SHOW array_nulls"):
        planner().script(text, VIEW)


@pytest.mark.parametrize(
    "text",
    [
        b"RESET app.tenant",
        b"RESET ALL",
        b"DISCARD ALL",
        b"SET app.other = 'b'",
        b"SHOW app.tenant",
        b"SELECT set_config('a.b', 'c', false)",
    ],
)
def test_what_leaves_it_passes(text: bytes) -> None:
    planner("app.tenant").script(text, VIEW)
