"""A session's records: spelled by hand, and canonical JSON all the same; no value is in them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from phiproxy.audit.audit_keys import AuditKeys
from phiproxy.audit.group_commit import Told
from phiproxy.audit.reading import record_of
from phiproxy.audit.records import Line, numbered
from phiproxy.audit.sealed_subjects import SubjectSeals
from phiproxy.audit.session_trail import SessionTrail, Who
from phiproxy.errors import StatementRefused
from phiproxy.plan.counted_subjects import Whom
from phiproxy.plan.statement_record import Touched, shape
from phiproxy.session.state_parts import EndUser, Opening
from phiproxy.session.trail import PURPOSE, Execution, Phase, rows_of

TEXTS = st.text(max_size=12)
COLUMNS = st.sampled_from(["public.patients.ssn", "public.patients.mrn", 'public."Päron"."x y"'])


class FakeLog:
    """Keeps lines."""

    failing = False
    executions = 0

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def submit(self, line: Line) -> int:
        self.lines.append(line)
        return len(self.lines)

    def event(self, kind: str, fields: dict[str, object]) -> int:
        self.lines.append((b"", f"{kind} {sorted(fields)} {fields.get('outcome')}".encode()))
        return len(self.lines)

    def when_durable(self, ticket: int, told: Told) -> None:
        told(ticket, True)

    def last(self) -> dict[str, Any]:
        record = record_of(numbered(self.lines[-1], 7))
        assert record is not None, self.lines[-1]
        return record


def trail(log: FakeLog, **who: str) -> SessionTrail:
    fields = {"number": "0-1", "database": "clinic", "tenant": "", "login": "app", "client": "local", **who}
    return SessionTrail(log, Who(**fields), {"proxy": "one", "writer": "0"}, {}, SEALS)  # type: ignore[arg-type]


SEALS = SubjectSeals(AuditKeys.derive(bytes(32), "clinic"), 3)
ABOUT = (Whom("public.patients.id", (b"4711",), unknown=True), Whom("public.visits.patient_id", rows=5000))
COUNTS = st.dictionaries(COLUMNS, st.integers(1, 9))
ENDS = st.tuples(st.none() | st.sampled_from(["00000", "22012"]), st.none() | st.integers(0, 10**9), st.none() | TEXTS)


@given(TEXTS, TEXTS, ENDS, st.sampled_from(Phase), st.tuples(st.integers(0, 99), st.integers(0, 3)), COUNTS, COUNTS)
def test_records_are_canonical(
    login: str,
    application: str,
    end: tuple[str | None, int | None, str | None],
    phase: Phase,
    numbers: tuple[int, int],
    opened: dict[str, int],
    masked: dict[str, int],
) -> None:
    log = FakeLog()
    (outcome, rows, role), (number, split) = end, numbers
    own = trail(log, login=login)
    own.told("application_name", application)
    own.told(PURPOSE, "TREAT" if number else "")
    touched = Touched(b"SELECT ssn FROM patients WHERE mrn = '4711'", ("public.patients.mrn",), (("public.patients.ssn", 2),))
    openings = {Opening(column, 0xABC, "compromised"): count for column, count in opened.items()}
    openings |= {Opening(column, 0, masked=True): count for column, count in masked.items()}
    own.executed(Execution(touched, openings, outcome, rows, phase, number, role, EndUser("dr.who"), split, ABOUT))
    record = log.last()
    assert record["subjects"]["public.patients.id"] == {"sealed": [SEALS.seal(b"4711")], "unknown": True}
    assert record["subjects"]["public.visits.patient_id"] == {"rows": 5000}
    assert (record["login"], record["application"], record["role"]) == (login, application, role)
    assert (record["outcome"], record["rows"], record["phase"]) == (outcome, rows, phase.value)
    assert (record["execution"], record.get("split", 0)) == (number or None, split)
    assert {label: done["opened"] for label, done in record["columns"].items() if "opened" in done} == opened
    assert {label: done["masked"] for label, done in record["columns"].items() if "masked" in done} == masked
    assert record["columns"]["public.patients.mrn"]["searched"] is True
    assert record["user"] == {"how": "asserted", "name": "dr.who"}
    assert record.get("purpose") == ("TREAT" if number else None)
    assert record["keys"] == ({"00000abc": "compromised"} if opened else {})


NAMES = st.sampled_from([None, "app", "Zoë"])
SHOWN = st.tuples(st.lists(COLUMNS, max_size=2), st.sampled_from([b"SELECT 0", b"SELECT 12", b"INSERT 0 1", b"FETCH", b""]))


@given(st.lists(st.tuples(SHOWN, NAMES, NAMES), max_size=4), st.booleans())
def test_the_fast_way_says_the_same(shown: list[tuple[tuple[list[str], bytes], str | None, str | None]], copied: bool) -> None:
    log = FakeLog()
    own = trail(log)
    made = {column: Opening(column, 5) for (columns, _), _, _ in shown for column in columns}
    touched = Touched(b"SELECT ssn FROM patients", copied=("public.patients.ssn",) if copied else ())
    for turn, ((columns, tag), role, user) in enumerate(shown * 3):
        who = EndUser(user) if user is not None else None
        if turn == 2 * len(shown):
            own.told("application_name", "another")
        for about in ((), ABOUT):
            own.shown(touched, tuple(made[column] for column in columns), tag, role, who, about)
            fast = log.last()
            counts = {made[c]: columns.count(c) for c in columns}
            own.executed(Execution(touched, counts, "00000", rows_of(tag), role=role, user=who, about=about))
            assert {**fast, "time": ""} == {**log.last(), "time": ""}


def test_refusals_and_logins_are_events() -> None:
    log = FakeLog()
    own = trail(log)
    own.refused(shape("SELECT ?"), StatementRefused("x"), "app", None, ("public.patients.ssn",))
    own.logged_in("28P01")
    assert [line[1].split()[0] for line in log.lines] == [b"refused", b"login"]
    assert (own.next_number(), own.next_number()) == (1, 2)
