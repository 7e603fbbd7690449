"""Texts are taken at once, analysed by and by, and counted: all of them, though not all are analysed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from phiproxy import observation
from phiproxy.crypto.keyring import Keyring
from phiproxy.keys.observations import Observed
from phiproxy.observation import Observation, usual_path
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.policy.bind import bind
from phiproxy.policy.column_states import as_if_sealed
from tests.policy.build import make_catalog, make_layout, make_policy

POLICY = make_policy({"clinic.people": {"ssn": {"type": "text", "indexes": ["ssn"], "distinct": 10**6}}})
CATALOG = make_catalog(POLICY, type_oid=25)
PROTECTION = bind(POLICY, replace(make_layout(POLICY), clear=frozenset(make_layout(POLICY).columns)), CATALOG, "phiproxy")


@pytest.fixture
def observing() -> Observation:
    """One that has its catalogue, and nobody to give its counts to."""
    new = Observation("clinic", "phiproxy", None, PROTECTION, CATALOG, Counter())  # type: ignore[arg-type]
    new._planner = Planner(*as_if_sealed(PROTECTION, CATALOG), Ciphers(Keyring(lambda: 0.0)))
    return new


async def counts(observing: Observation) -> dict[str, int]:
    await observing._analyse_all()
    for shape in observing._shapes.values():
        observing._settle(shape)
    return {f"{observed.answer}: {observed.shape}": sent for observed, sent in observing._counts.items()}


def test_what_it_mentions(observing: Observation) -> None:
    assert observing.labels == ["clinic.people.ssn"]
    assert observing.mentions(b"SELECT ssn FROM other")
    assert not observing.mentions(b"SELECT b FROM a")


async def test_all_are_counted_and_some_are_analysed(observing: Observation, monkeypatch: pytest.MonkeyPatch) -> None:
    analysed: list[bytes] = []

    def observed(_self: Observation, _planner: Planner, text: observation._Text) -> Observed:
        analysed.append(text.text)
        return Observed("SELECT ?", "works")

    monkeypatch.setattr(Observation, "_observed", observed)
    monkeypatch.setattr(observation, "ANALYSED", 5)
    for n in range(200):
        observing.note(b"SELECT ssn FROM people WHERE ssn = 'x%d'" % n, (), None)
        if n == 0:
            await observing._analyse_all()
    assert await counts(observing) == {"works: SELECT ?": 200}
    assert len(analysed) == 5 + 3


async def test_constants_may_decide(observing: Observation) -> None:
    for text in (b"SELECT ssn FROM people WHERE ssn LIKE 'abc'", b"SELECT ssn FROM people WHERE ssn LIKE 'abc%'"):
        observing.note(text, (), ("pg_catalog", "clinic"))
    assert await counts(observing) == {
        "works: SELECT ssn FROM people WHERE ssn LIKE ?": 1,
        "refused: SELECT ssn FROM people WHERE ssn LIKE ?": 1,
    }


async def test_there_are_limits(observing: Observation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither texts that wait nor shapes take any memory there is."""
    monkeypatch.setattr(observation, "MOST_WAITING", 3)
    monkeypatch.setattr(observation, "MOST_SHAPES", 2)
    for n in range(10):
        observing.note(b"SELECT ssn FROM people WHERE ssn = 'x' /* %d */" % n, (), None)
    assert len(observing._waiting) == 3
    assert len(observing._shapes) == 2
    assert await counts(observing) == {"works: SELECT ssn FROM people WHERE ssn = ?": 3}


async def test_a_text_that_the_analysis_stumbles_over_is_told_once(
    observing: Observation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stumble(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(observation, "forecast", stumble)
    for n in range(3):
        observing.note(b"SELECT ssn FROM people WHERE ssn = %d" % n, (), None)
    assert await counts(observing) == {}
    assert capsys.readouterr().out.count("a statement cannot be analysed") == 1


def test_the_usual_path() -> None:
    assert usual_path(PROTECTION) == ("pg_catalog", "public", "clinic")
