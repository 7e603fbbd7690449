"""psql: the simple protocol, literals in the text, scripts of many statements, and its meta-commands."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.harness.clinic import Clinic
from tests.integration.dialogue import Step, dialogue


def psql_program(clinic: Clinic) -> str:
    bindir = clinic.site.server.bindir
    found = shutil.which("psql", path=str(bindir) if bindir else None) or shutil.which("psql")
    if found is None:
        pytest.skip("no psql on this machine")
    return found


def psql(clinic: Clinic, dsn: str, script: str, *options: str) -> tuple[str, str, int]:
    done = subprocess.run(
        [psql_program(clinic), "-X", "-q", "-P", "null=NULL", *options, dsn],
        input=script,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={"LC_ALL": "C.UTF-8", "PGCLIENTENCODING": "UTF8", "HOME": "/nonexistent"},
    )
    return done.stdout, done.stderr, done.returncode


def literal(step: Step) -> str:
    def quoted(match: re.Match[str]) -> str:
        value = step.params[int(match[1]) - 1]
        return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else "NULL" if value is None else str(value).lower()

    return re.sub(r"\$(\d+)", quoted, step.text) + ";\n"


@pytest.mark.parametrize("options", [["-A"], ["-x"], ["-1"], []], ids=["unaligned", "expanded", "one-transaction", "aligned"])
def test_a_script(clinic: Clinic, options: list[str]) -> None:
    script = "".join(map(literal, dialogue(clinic)))
    plain = psql(clinic, clinic.plain_dsn, script, *options)
    proxied = psql(clinic, clinic.proxy_dsn, script, *options)
    assert plain[1:] == ("", 0)
    assert proxied == plain
    assert sum(value in proxied[0] for value in clinic.oracle.planted) >= 10
    clinic.assert_twins_equal()


def test_statements_in_one_string(clinic: Clinic) -> None:
    script = "".join(map(literal, dialogue(clinic)))
    plain = psql(clinic, clinic.plain_dsn, "", "-c", script)
    proxied = psql(clinic, clinic.proxy_dsn, "", "-c", script)
    assert plain[2] == 0
    assert proxied == plain
    clinic.assert_twins_equal()


def test_a_refusal_is_shown_with_its_hint(clinic: Clinic) -> None:
    clinic.seed(1)
    statement = f"SELECT id FROM patients WHERE address = '{clinic.plant()}';\nSELECT count(*) FROM patients;\n"
    out, err, _ = psql(clinic, clinic.proxy_dsn, statement, "-A", "-t")
    assert "ERROR:  phiproxy:" in err
    assert "HINT:" in err
    assert out.strip() == "1"


def test_error_positions_are_those_of_the_clients_text(clinic: Clinic) -> None:
    clinic.seed(1)
    script = f"SELECT id, nothing_here FROM visits WHERE mrn = '{clinic.patients[0].mrn}';\n"
    plain, proxied = psql(clinic, clinic.plain_dsn, script), psql(clinic, clinic.proxy_dsn, script)
    carets = [[line.index("^") for line in err.splitlines() if line.strip() == "^"] for _, err, _ in (plain, proxied)]
    assert carets[0] == carets[1] != []


def test_gdesc_and_variables(clinic: Clinic) -> None:
    clinic.seed(2)
    script = (
        f"\\set number '{clinic.patients[1].ssn}'\n"
        "SELECT id, ssn, notes FROM patients WHERE ssn = :'number' \\gdesc\n"
        "SELECT id, ssn, notes FROM patients WHERE ssn = :'number' \\gx\n"
        "\\echo :ROW_COUNT\n"
    )
    plain, proxied = psql(clinic, clinic.plain_dsn, script), psql(clinic, clinic.proxy_dsn, script)
    assert plain[1:] == ("", 0)
    assert proxied == plain


def test_introspection_tells_the_physical_truth(clinic: Clinic) -> None:
    out, err, code = psql(clinic, clinic.proxy_dsn, "\\d patients\n\\d+ patients\n")
    assert (err, code) == ("", 0)
    assert re.search(r"ssn\s*\|\s*bytea", out)
    assert re.search(r"city\s*\|\s*text", out)
