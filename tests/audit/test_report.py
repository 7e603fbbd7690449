"""The numbers of a report are those of the log, and its page has nothing from elsewhere."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser
from typing import Any

import pytest

from phiproxy.audit.activity import activity
from phiproxy.audit.looked_at import Fault
from phiproxy.audit.report import CONTROLS, EVENTS_LISTED, LISTED, Facts, page
from phiproxy.audit.unusual import MIN_DAYS
from phiproxy.audit.verify import Verified
from tests.audit.samples import BASE, READ, RECORDS
from tests.docs.test_hipaa import CONTROLS as OF_THE_DOCUMENTATION


def read(day: int, opened: int, who: str = "nurse", column: str = "public.patients.ssn") -> dict[str, Any]:
    return {**READ, "time": f"2026-11-{day:02d}T08:00:00.000000Z", "role": who, "columns": {column: {"opened": opened}}}


def test_what_is_counted_is_what_was_recorded() -> None:
    found = activity([*RECORDS.values()])
    assert (found.records, found.executions, found.opened) == (8, 4, 9)
    reads = {(who, column): r.opened for (_, who, column), r in found.reads.items()}
    assert reads == {("nurse", "public.patients.ssn"): 6, ("dr.who (nurse)", "public.patients.ssn"): 3}
    assert found.refusals.total() == 1
    assert found.logins == {("app", "28P01"): 1}
    assert [event["what"] for event in found.key_events] == ["data key made"]


def test_the_safeguards_are_those_of_the_documentation() -> None:
    named = [control.split(" ")[0].translate({40: None, 41: None}) for control, _, _ in CONTROLS]
    assert " ".join(named) == OF_THE_DOCUMENTATION
    html = page(Facts("all", "now", "x", activity([]), Verified(), [], []))
    for part in {part for *_, evidence in CONTROLS for part in evidence.split("; ")}:
        assert re.search(f"<h2>[^\n]*{part}", html.replace("<code>", "").replace("</code>", ""), re.IGNORECASE), part


def test_what_failed_is_told_apart_from_what_was_refused() -> None:
    broken = {**READ, "outcome": "XX001"}
    found = activity([*RECORDS.values(), broken, broken, {**broken, "phase": "begins"}])
    assert found.failures == {("nurse", "57P03", READ["statement"]["text"]): 1, ("nurse", "XX001", READ["statement"]["text"]): 2}
    assert found.refusals.total() == 1
    facts = Facts("all", "now", "x", found, Verified(), [], [])
    assert '<span class="bad">XX001</span>' in page(facts)
    assert facts.as_json()["failures"][0] == {
        "who": "nurse", "outcome": "XX001", "statement": READ["statement"]["text"], "times": 2,
    }  # fmt: skip


def test_halves_are_one_execution() -> None:
    said = {"subjects": {"p.id": {"sealed": ["x"]}}, "execution": 1}
    begun = {"public.patients.ssn": {"stored": 2, "searched": True}}
    halves = [
        {**READ, **said, "phase": "begins", "columns": begun, "rows": None},
        {**READ, **said, "phase": "ends", "columns": {"public.patients.ssn": {"opened": 3, "stored": 2, "searched": True}}},
    ]
    found = activity(halves)
    (read,) = found.reads.values()
    assert (found.executions, found.opened) == (read.executions, read.opened) == (1, 3)
    assert (read.stored, read.searched, found.subjects) == (2, 1, {"p.id": {"known": 1}})


def test_executions_are_counted_by_whether_it_is_known_whom_they_were_about() -> None:
    said: list[dict[str, Any]] = [{"sealed": ["x"]}, {"rows": 500}, {"sealed": ["x"], "unknown": True}, {"unknown": True}]
    found = activity([{**READ, "subjects": {"p.id": each}} for each in said])
    assert found.subjects == {"p.id": {"known": 1, "many": 1, "unknown": 2}}


def test_what_was_done_with_keys_is_a_row_for_each_day_kind_and_person() -> None:
    def done(day: int, number: int, what: str = "data key made", by: str = "root") -> dict[str, Any]:
        at = f"2026-{1 + day // 28:02d}-{1 + day % 28:02d}T08:00:{number % 60:02d}"
        return {
            **RECORDS["key"],
            "at": at,
            "what": what,
            "subject": f"data key {number}",
            "from": None,
            "to": "active",
            "os_user": by,
        }

    facts = Facts(
        "all", "now", "x", activity([done(0, 1), done(0, 2), done(0, 3, by="ann"), done(0, 4), done(1, 5)]), Verified(), [], []
    )
    html = page(facts).replace(' class="s"', "")
    rows = re.findall(r"<tr><td>([^<]*)</td><td>data key made</td><td class=\"n\">(\d+)</td><td>([^<]*)</td>", html)
    assert rows == [
        ("2026-01-01 08:00:01", "3", "data key 1 … data key 4"),
        ("2026-01-01 08:00:03", "1", "data key 3"),
        ("2026-01-02 08:00:05", "1", "data key 5"),
    ]
    assert "left out" not in page(facts)
    assert len(facts.as_json()["key_events"]) == 5
    many = Facts("all", "now", "x", activity([done(day, day) for day in range(EVENTS_LISTED + 3)]), Verified(), [], [])
    assert "3 rows before these are left out" in page(many)
    assert ">data key 2</td>" not in page(many)
    assert ">data key 3</td>" in page(many)


def test_break_glass_is_told_with_its_review_whenever_that_was() -> None:
    glass = {**BASE, "kind": "break_glass", "role": "nurse", "reason": "unconscious", "seconds": 3600}
    review = {**BASE, "kind": "break_glass.reviewed", "by": "officer", "note": "plausible", "time": "2026-12-24T08:00:00.000000Z"}
    found = activity([{**glass, "glass": "a"}, {**glass, "glass": "b"}, {**review, "glass": "a"}], before="2026-12-01")
    assert [(g.record["reason"], g.review and g.review["by"]) for g in found.broken_glass] == [
        ("unconscious", "officer"), ("unconscious", None),
    ]  # fmt: skip
    html = page(Facts("all", "now", "x", found, Verified(), [], []))
    assert "officer, 2026-12-24 08:00:00: plausible" in html
    assert html.count("NOT REVIEWED") == 1


def test_a_day_is_unusual_against_ones_own_past() -> None:
    usual = [read(day, 10 + day % 2) for day in range(1, 1 + MIN_DAYS)]
    other = [read(day, 5000, "clerk") for day in range(1, 9)]
    found = activity([*usual, *other, read(8, 400)])
    assert [(u["who"], u["day"]) for u in found.unusual] == [("nurse", "2026-11-08")]
    found = activity([*usual, read(9, 10, column="public.patients.mrn")], "2026-11-09")
    assert [u["what"] for u in found.unusual] == ["public.patients.mrn for the first time"]


def test_each_is_compared_with_itself_alone() -> None:
    """Not with others, nor with who has the same name in another database; a role also where its end users change."""
    busy = [read(day, 5000 + day, "clerk") for day in range(1, 9)]
    quiet = [{**each, "database": "archive"} for each in [read(day, 10, "clerk") for day in range(1, 8)] + [read(8, 400, "clerk")]]
    found = activity([*busy, *quiet])
    assert [(u["database"], u["who"], u["day"]) for u in found.unusual] == [("archive", "clerk", "2026-11-08")]
    found = activity([*busy, *quiet, {**read(9, 1, "clerk"), "database": "records"}])
    assert [u["what"] for u in found.unusual if u["database"] == "records"] == ["seen for the first time: 1 values opened"]

    def by(day: int, number: int) -> dict[str, Any]:
        return {**read(day, 10, "app"), "user": {"name": f"user {day} {number}", "how": "asserted"}}

    users = [by(day, number) for day in range(1, 9) for number in range(40 if day == 8 else 2)]
    found = activity(users)
    of_role = [u for u in found.unusual if u["who"] == "app"]
    assert [(u["day"], u["what"]) for u in of_role] == [("2026-11-08", "400 values opened; usual are 20 a day")]


def test_what_is_opened_at_an_unusual_hour_or_much_of_it_in_one_hour() -> None:
    def at(day: int, hour: int, opened: int, who: str = "nurse") -> dict[str, Any]:
        return {**read(day, opened, who), "time": f"2026-11-{day:02d}T{hour:02d}:30:00.000000Z"}

    usual = [at(day, hour, 20) for day in range(1, 8) for hour in range(8, 17)]
    others = [at(day, hour, 500, "batch") for day in range(1, 9) for hour in range(24)]
    found = activity([*usual, *others, at(8, 3, 1)])
    assert [u["what"] for u in found.unusual] == ["at 03:00 UTC, never before at that time of day: 1 values opened"]
    found = activity([*usual, *others, at(8, 17, 20)])  # an hour later than ever
    assert found.unusual == []
    found = activity([*usual, *others, at(8, 9, 90)])
    assert [u["what"] for u in found.unusual] == ["90 values opened from 09:00 UTC on in an hour; at most 20 before"]
    found = activity([*usual, *others, at(8, 9, 90)], "2026-11-09")
    assert found.unusual == []


def test_searches_that_open_nothing_are_unusual_too() -> None:
    """Who looks whether a value is there learns it, also where no row is shown."""
    search = {**READ, "columns": {"public.patients.ssn": {"searched": True}}}
    usual = [{**search, "time": f"2026-11-{day:02d}T08:00:00.000000Z"} for day in range(1, 8)]
    probes = [{**search, "time": f"2026-11-08T08:{n:02d}:00.000000Z"} for n in range(60)]
    assert [u["what"] for u in activity([*usual, *probes]).unusual] == ["60 executions; usual are 1 a day"]


def test_the_order_of_files_does_not_matter() -> None:
    """Of several workers one file is read behind the other."""
    one = [read(day, 10) for day in range(1, 9)]
    two = [read(day, 10) for day in range(1, 8)] + [read(8, 400, column="public.patients.mrn")]
    said = [activity(each).unusual for each in ([*one, *two], [*two, *one], sorted([*one, *two], key=lambda r: str(r["time"])))]
    assert said[0] == said[1] == said[2]
    assert len(said[0]) == 2


def test_six_years_of_many_people_are_looked_at_in_seconds() -> None:
    days = [f"20{y}-{m:02d}-{d:02d}T08:00:00.000000Z" for y in range(20, 26) for m in range(1, 13) for d in range(1, 29)]
    began = time.process_time()
    activity({**READ, "role": f"user {number}", "time": day} for number in range(20) for day in days)
    assert time.process_time() - began < 20


def test_what_matters_most_is_not_left_out_of_long_tables() -> None:
    """Behind more new columns, failures and reviewed break-glass than a table shows."""
    usual = [read(day, 10) for day in range(1, 1 + MIN_DAYS)]
    new = [read(7, 1, column=f"public.patients.c{number}") for number in range(LISTED + 5)]
    failed = [{**READ, "outcome": "22P02", "statement": {"text": f"SELECT {number}"}} for number in range(LISTED)] * 2
    glass = {**BASE, "kind": "break_glass", "role": "nurse", "reason": "unconscious", "seconds": 3600}
    review = {**BASE, "kind": "break_glass.reviewed", "by": "officer", "note": "plausible"}
    broken = [{**each, "glass": str(number)} for number in range(LISTED) for each in (glass, review)]
    late = [{**glass, "glass": "late"}, {**READ, "outcome": "XX001"}, read(8, 50_000)]
    html = page(Facts("all", "now", "x", activity([*usual, *new, *failed, *broken, *late]), Verified(), [], []))
    for shown in ("50000 values opened; usual are", "NOT REVIEWED", '<span class="bad">XX001</span>'):
        assert shown in html, shown
    assert "9 rows more are left out" in html  # of what is unusual: the new columns, three days, and a time of day
    assert html.count("1 rows more are left out") == 2


def test_a_period_is_counted_from_its_first_to_before_its_last_moment() -> None:
    found = activity([read(1, 1), read(2, 2), read(3, 4)], "2026-11-02T00:00:00.000000Z", "2026-11-03T08:00:00.000000Z")
    assert (found.opened, found.days) == (2, {("nurse", "2026-11-02"): 2})


class Tags(HTMLParser):
    """What a page would fetch or run, and its texts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("faults", [[], [Fault("file", 7, "changed: it is not the record that was signed")]])
def test_the_page_stands_by_itself(faults: list[Fault]) -> None:
    evil = {**BASE, "kind": "refused", "role": "<script>alert(1)</script>", "outcome": "0A000", "statement": {"text": "SELECT"}}
    facts = Facts(
        "all", "now", "x", activity([*RECORDS.values(), evil]), Verified(faults=faults, records=9, proven=9),
        [("clinic", "warning", "leakage", "an index tells much"), ("clinic", "warning", "server log", "statements are logged")],
        [("clinic", 1, "d:mrn", "data", "active", 3, "local", "")],
        [
            ("clinic", "public.patients.ssn", "text", "sealed", "ssn", 1000, 50, 0.125, "only 50 distinct values"),
            ("clinic", "public.patients.notes", "text", "clear", "", None, None, None, ""),
            ("clinic", "public.patients.phone", "text", "sealed", "phone", 0, 0, 0.0, ""),
        ],
    )  # fmt: skip
    html = page(facts)
    tags = Tags()
    tags.feed(html)
    assert not tags.tags & {"script", "link", "img", "iframe", "object"}
    assert not tags.attributes & {"src", "href", "onclick"}
    assert not re.search(r"https?://", html)
    assert "<script>" not in html
    assert ("NOT PROVEN" in tags.text, "record that was signed" in tags.text) == (bool(faults), bool(faults))
    assert re.search(r'12\.5%<div class="track"><div class="bar" style="width:12%">', html)
    assert "0.0%" not in html
    assert html.index("an index tells much") < html.index("server's settings") < html.index("statements are logged")
    for text in ("only 50 distinct values", "an index tells much", "data key made", "28P01", "dr.who (nurse)", CONTROLS[4][0]):
        assert text in tags.text
    assert facts.as_json()["proof"]["genuine"] is not bool(faults)
    assert facts.as_json()["opened"] == 9


def test_what_was_seen_for_a_reason_and_who_has_signed_it_off() -> None:
    broken = {**BASE, "kind": "break_glass", "glass": "ab12", "reason": "<b>ambulance</b>", "role": "nurse", "seconds": 60}
    other = {**broken, "glass": "cd34", "time": "2026-11-28T00:00:00.000000Z"}
    later = "2026-12-05T00:00:00.000000Z"
    review = {**BASE, "kind": "break_glass.reviewed", "glass": "ab12", "by": "officer", "note": "in order", "time": later}
    masked = {**READ, "columns": {"public.patients.ssn": {"masked": 4}}}
    found = activity([broken, other, review, masked], before="2026-12-06")
    assert [(g.name, g.review is not None) for g in found.broken_glass] == [("ab12", True), ("cd34", False)]
    assert [(r.masked, r.opened) for r in found.reads.values()] == [(4, 0)]
    assert activity([broken, review], since="2026-12-01").broken_glass == []
    facts = Facts("all", "now", "x", found, Verified(faults=[], records=4, proven=4), [], [])
    html = page(facts)
    assert "&lt;b&gt;ambulance&lt;/b&gt;" in html.replace("<wbr>", "")
    assert "officer, 2026-12-05 00:00:00: in order" in html
    assert "NOT REVIEWED" in html
    assert [each["review"] is not None for each in facts.as_json()["broken_glass"]] == [True, False]
