"""The report as a browser shows it: its numbers are the log's, nothing is fetched or cut off, and it prints."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from phiproxy.audit.activity import activity
from phiproxy.audit.looked_at import Fault
from phiproxy.audit.report import Facts, page
from phiproxy.audit.verify import Verified
from tests.audit.samples import BASE, READ, RECORDS

LONG = "public.visits_of_the_emergency_department.diagnosis_and_treatment_notes"
STATEMENT = "SELECT p.id, p.ssn, v.diagnosis FROM public.patients p JOIN public.visits v ON v.patient_id = p.id WHERE p.ssn = ?"
# Of a page on the screen, and on paper of A4 less its margins (at 96 pixels an inch).
WIDTHS = ((1280, "@media print"), (702, "@media all"))

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no Chromium")


class Tables(HTMLParser):
    """The cells of each table by the heading above it, row by row, and the numbers at the top."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self.top: list[str] = []
        self._heading, self._in = "", ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "h2":
            self._heading = ""
        if tag == "tr":
            self.rows.setdefault(self._heading, []).append([])
        if tag == "td":
            self.rows[self._heading][-1].append("")
        if tag == "b":
            self.top.append("")
        self._in = tag if tag in ("h2", "td", "b") else self._in

    def handle_endtag(self, tag: str) -> None:
        self._in = "" if tag in ("h2", "td", "b") else self._in

    def handle_data(self, data: str) -> None:
        if self._in == "h2":
            self._heading += data
        elif self._in == "td":
            self.rows[self._heading][-1][-1] += data
        elif self._in == "b":
            self.top[-1] += data

    def table(self, heading: str) -> list[list[str]]:
        (rows,) = (rows for name, rows in self.rows.items() if name.startswith(heading))
        return [row for row in rows if row]


def log() -> list[dict[str, Any]]:
    """Some weeks of several roles, and one record of each kind, with names as long as they may be."""
    chance, records = random.Random(4), [*RECORDS.values()]
    for day in range(1, 28):
        for who in ("nurse", "the_billing_department_of_the_clinic"):
            columns = {
                "public.patients.ssn": {"opened": chance.randint(5, 30), "searched": True}, LONG: {"stored": 3, "masked": 2},
            }  # fmt: skip
            records.append({**READ, "role": who, "time": f"2026-11-{day:02d}T08:00:00.000000Z", "columns": columns})
    broken: list[dict[str, Any]] = [{**READ, "outcome": "XX001", "statement": {"text": STATEMENT, "fingerprint": "1"}}]
    glass = {**BASE, "kind": "break_glass", "role": "nurse", "reason": "ambulance, unconscious", "seconds": 3600, "glass": "a"}
    policy = {**BASE, "kind": "policy.loaded", "policies": {"clinic": "ab" * 32}}
    many = {**READ, "time": "2026-11-27T03:00:00.000000Z", "columns": {"public.patients.ssn": {"opened": 4000}}}
    doubtful = {**READ, "keys": {"5fc3a911": "compromised"}, "subjects": {"public.patients.id": {"unknown": True}}}
    return [*records, *broken * 3, glass, policy, many, doubtful]


@pytest.fixture(scope="module")
def facts() -> Facts:
    key = ("clinic", 17, "t:public.patients", "data", "active", 41, "arn:aws:kms:eu-central-1:1111:key/" + "1" * 36, "5f 1/2")
    columns: list[tuple[object, ...]] = [
        ("clinic", "public.patients.ssn", "character varying(120)", "sealed", "ssn", 12000, 12, 0.63, "few " * 9),
        ("clinic", LONG, "text", "clear", "", None, None, None, ""),
    ]
    proof = Verified(files=1, records=90, proven=80, faults=[Fault("20261127T184500.000001Z.one.0", 81, "changed")])
    findings = [("clinic", "ok", "keys", "all open"), ("clinic", "error", "registry", "row 17 does not verify"),
                ("clinic", "warning", "server log", "log_statement = all")]  # fmt: skip
    return Facts("2026-11-05 to now", "now", "x", activity(log(), "2026-11-05"), proof, findings, [key], columns)


def chromium(path: Path, *options: str) -> str:
    """Open a page, which may fetch nothing."""
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
    profile = f"--user-data-dir={path.parent / 'profile'}"
    done = subprocess.run([*command, profile, *options, path.as_uri()], capture_output=True, text=True, timeout=240, check=True)
    return done.stdout


def test_what_is_shown_are_the_facts_of_the_json(facts: Facts, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(facts), encoding="utf-8")
    shown, told = Tables(chromium(path, "--dump-dom")), facts.as_json()
    refused = sum(each["times"] for each in told["refusals"])
    failed = sum(each["times"] for each in told["logins"] if each["outcome"] != "00000")
    assert shown.top == [str(told["executions"]), str(told["opened"]), str(refused), str(failed), "NOT PROVEN"]
    of_a_read = ("database", "who", "column", "executions", "opened", "masked", "searched", "stored")
    assert {tuple(row[:8]) for row in shown.table("Who opened what")} == {
        tuple(str(read[name]) for name in of_a_read) for read in told["reads"]
    }
    for part, name in (("Refusals", "refusals"), ("Statements that failed", "failures")):
        said = {(each["who"], each["outcome"], each["statement"], str(each["times"])) for each in told[name]}
        assert {tuple(row) for row in shown.table(part)} == said
    assert shown.table("Logins") == [[each["login"], each["outcome"], str(each["times"])] for each in told["logins"]]
    unusual = [[each["day"], each["database"], each["who"], each["what"]] for each in told["unusual"]]
    assert shown.table("Unusual access") == unusual
    assert len(unusual) > 1
    by_day: dict[str, int] = {}
    for each in told["days"]:
        by_day[each["day"]] = by_day.get(each["day"], 0) + each["opened"]
    assert shown.table("Values opened by day") == [[day, str(count), ""] for day, count in sorted(by_day.items())]
    assert shown.table("Reads under keys in doubt") == [[key, str(count)] for key, count in told["doubtful"].items()]
    assert len(shown.table("Break-glass")) == len(told["broken_glass"]) == 1
    assert shown.table("What is protected")[0][:4] == ["clinic", "public.patients.ssn", "character varying(120)", "sealed"]
    assert shown.table("What phiproxy check")[0][1] == "error", "the worst first"
    assert shown.table("The proof of the log") == [["20261127T184500.000001Z.one.0", "81", "changed"]]


def test_nothing_is_cut_off_nor_as_narrow_as_a_letter(facts: Facts, tmp_path: Path) -> None:
    """Each word of a name fits on its line, and no table is wider than the page; a script of the test's own measures."""
    measure = (
        "<script>document.title = [document.documentElement.scrollWidth - innerWidth, ...[...document.querySelectorAll('td')]"
        ".filter(cell => cell.textContent.length > 8).map(cell => cell.clientWidth)].join(' ')</script></body>"
    )
    path = tmp_path / "report.html"
    for width, media in WIDTHS:
        path.write_text(page(facts).replace("</body>", measure).replace("@media print", media), encoding="utf-8")
        # A window is never smaller than Chromium thinks; a frame is.
        frame = tmp_path / "frame.html"
        frame.write_text(
            f'<iframe id="f" style="border:0;width:{width}px;height:900px" src="report.html"></iframe>'
            "<script>onload = () => document.title = document.getElementById('f').contentDocument.title</script>"
        )
        html = chromium(frame, "--allow-file-access-from-files", "--dump-dom")
        (title,) = re.findall("<title>([^<]+)</title>", html)
        over, *cells = map(int, title.split())
        assert over <= 0, f"{over} pixels are cut off at {width}"
        assert min(cells) > 40, width


def test_it_prints(facts: Facts, tmp_path: Path) -> None:
    path, pdf = tmp_path / "report.html", tmp_path / "report.pdf"
    path.write_text(page(facts), encoding="utf-8")
    chromium(path, "--no-pdf-header-footer", f"--print-to-pdf={pdf}")
    assert pdf.read_bytes().startswith(b"%PDF-")
