"""What the model of a server understands, and how a real server is made to give the same for the same text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from phiproxy.plan.named_statements import View
from phiproxy.session.substitutes_and_questions import PATH_QUESTION
from phiproxy.wire.messages import Field
from tests.clinic_model import PATH
from tests.session import frames
from tests.session.screenplay import PLANNER, SECRET, SSN, envelope


@dataclass(frozen=True)
class Statement:
    """``columns`` are RowDescription's as a plaintext table has them; ``parse_error`` strikes in the analysis.

    ``error`` strikes when ``rows`` were sent. ``real`` is what is said to a real server instead, where that has no such table.
    """

    tag: str
    columns: tuple[Field, ...] = ()
    rows: int = 0
    parameters: tuple[int, ...] = ()
    physical_parameters: tuple[int, ...] = ()
    syntax_error: bool = False
    parse_error: str = ""
    error: str = ""
    utility: str = ""
    real: str = ""


SSN_FIELD = frames.column("ssn", 25, table=100, attnum=2)
CITY = frames.column("city", 25, table=100, attnum=6)
MSG = frames.column("msg", 25, table=102, attnum=2)
NAME = frames.column("unnest", 25)
BOOM = frames.column("boom", 25)

REFUSED = f"SELECT id FROM public.patients WHERE upper(ssn) = '{SECRET.decode()}'"
MISTYPED = f"SELECT id FROM public.pacients WHERE ssn = '{SECRET.decode()}'"
INSERT_LITERAL = f"INSERT INTO public.patients (ssn) VALUES ('{SECRET.decode()}')"
REFUSALS = ("0A000", "42P01")
"""Of one statement of a string, and none of the string is executed."""
COPY_FROM = "COPY log (id) FROM STDIN"
COPY_TO = "COPY (SELECT msg FROM log) TO STDOUT"
# What the proxy says itself.
OWN_REFUSAL = "SELECT pg_catalog.phiproxy_refused()"
OWN_SYNTAX_ERROR = "phiproxy_refused"
OWN_QUESTION = PATH_QUESTION.decode()

STATEMENTS: dict[str, Statement] = {
    "": Statement(""),
    "SELECT ssn, city FROM public.patients": Statement("SELECT", (SSN_FIELD, CITY), 3),
    "SELECT city, ssn FROM public.patients WHERE ssn = $1": Statement(
        "SELECT",
        (CITY, SSN_FIELD),
        2,
        (25,),
        (17,),
        real="SELECT city, ssn FROM public.patients WHERE $1::text IS NOT NULL LIMIT 2",
    ),
    "SELECT city FROM public.patients WHERE city = $1": Statement(
        "SELECT", (CITY,), 2, (25,), (25,), real="SELECT city FROM public.patients WHERE $1::text IS NOT NULL LIMIT 2"
    ),
    "INSERT INTO public.patients (city, ssn) VALUES ('x', $1)": Statement("INSERT 0", (), 1, (25,), (17,)),
    INSERT_LITERAL: Statement("INSERT 0", (), 1, (), (17,)),
    "INSERT INTO public.patients (city) VALUES ('x') RETURNING ssn": Statement("INSERT 0", (SSN_FIELD,), 1),
    "SELECT msg FROM log": Statement("SELECT", (MSG,), 3),
    "INSERT INTO log (msg) VALUES ($1)": Statement("INSERT 0", (), 1, (25,), (25,)),
    "SELECT boom()": Statement("SELECT", (BOOM,), error="22012"),
    "SELECT msg FROM log_that_breaks": Statement("SELECT", (MSG,), 2, error="22012"),
    "SELECT nope": Statement("SELECT", parse_error="42703"),
    "SELEC 1": Statement("", syntax_error=True),
    "SELEC ssn FROM patients": Statement("", syntax_error=True),
    REFUSED: Statement("", parse_error="0A000", real=OWN_REFUSAL),
    MISTYPED: Statement("", parse_error="42P01"),
    OWN_REFUSAL: Statement("", parse_error="42883"),
    OWN_SYNTAX_ERROR: Statement("", syntax_error=True),
    "BEGIN": Statement("BEGIN", utility="begin"),
    "COMMIT": Statement("COMMIT", utility="commit"),
    "ROLLBACK": Statement("ROLLBACK", utility="rollback"),
    "SAVEPOINT a": Statement("SAVEPOINT", utility="savepoint"),
    "ROLLBACK TO a": Statement("ROLLBACK", utility="rollback to"),
    "PREPARE q AS SELECT msg FROM log": Statement("PREPARE", utility="prepare"),
    "DEALLOCATE q": Statement("DEALLOCATE", utility="deallocate"),
    "DEALLOCATE ALL": Statement("DEALLOCATE ALL", utility="deallocate all"),
    "SET search_path TO public": Statement("SET", utility="set"),
    "SELECT city, ssn FROM patients": Statement("SELECT", (CITY, SSN_FIELD), 2, real="SELECT city, ssn FROM patients LIMIT 2"),
    COPY_FROM: Statement("COPY", utility="copy in"),
    COPY_TO: Statement("COPY 3", utility="copy out"),
    OWN_QUESTION: Statement("SELECT", (NAME,), 6 + len(PATH)),
}
LO_CREAT = 957
EXIT = ("commit", "rollback", "rollback to")
SEALED = [envelope(SSN, b"ssn-%d" % i) for i in range(3)]

DDL = """\
CREATE FUNCTION boom() RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM 1 / 0; RETURN 'x'; END $$;
CREATE FUNCTION stays() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE FUNCTION has_ssn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.ssn := 'ssn-0'; RETURN NEW; END $$;
CREATE VIEW patients AS
    SELECT i AS id, CASE WHEN i <> 1 THEN 'ssn-' || i END AS ssn, 'value-' || i AS city FROM generate_series(0, 2) AS i;
CREATE VIEW log AS SELECT i AS id, 'value-' || i AS msg FROM generate_series(0, 2) AS i;
CREATE VIEW log_that_breaks AS
    SELECT CASE WHEN i < 2 THEN 'value-' || i ELSE boom() END AS msg FROM generate_series(0, 2) AS i;
CREATE TRIGGER has_ssn INSTEAD OF INSERT ON patients FOR EACH ROW EXECUTE FUNCTION has_ssn();
CREATE TRIGGER stays INSTEAD OF INSERT ON log FOR EACH ROW EXECUTE FUNCTION stays();
"""
"""A real database in which nothing ever changes: what is inserted goes nowhere."""


def _known() -> dict[str, Statement]:
    """Return the statements by the client's text and by the proxy's rewrite of it."""
    found = dict(STATEMENTS)
    for text, statement in STATEMENTS.items():
        if not (statement.parse_error or statement.syntax_error):
            plan = PLANNER.statement(text.encode(), (), View(PATH, "clinic"))
            found[plan.sql.decode()] = statement
    return found


KNOWN = _known()
_SEALED = re.compile(r"'\\x[0-9a-f]+'::bytea")


def known(text: str) -> Statement:
    """Return what a text means; a sealed literal differs each time."""
    return KNOWN[_SEALED.sub("$1", text)]
