"""The report of an auditor and a security officer: facts, and one page of them without anything from elsewhere."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from phiproxy.audit.activity import Activity
from phiproxy.audit.search import Record
from phiproxy.audit.unusual import person
from phiproxy.audit.verify import Verified
from phiproxy.errors import ConfigError

# So many rows of a table are shown, the first; of what was done with keys the latest.
LISTED: Final = 200
EVENTS_LISTED: Final = 50
_LOGINS: Final = "How clients log in"
CONTROLS: Final = (
    (
        "(a)(1) access control",
        "values are opened with keys that the database does not have; rules say what of them a role is shown",
        "What is protected; Who opened what; Refusals",
    ),
    (
        "(a)(2)(i) unique user identification",
        "each record names login, role and, where it is told, end user",
        "Who opened what; Logins",
    ),
    ("(a)(2)(ii) emergency access", "masks lifted for a reason, and reviewed; phiproxy open --registry", "Break-glass; Keys"),
    ("(a)(2)(iii) automatic logoff", "idle connections are ended, where limits.idle_timeout says when", _LOGINS),
    ("(a)(2)(iv) encryption and decryption", "AES-256-GCM under keys of the registry", "What is protected; Keys"),
    ("(b) audit controls", "each read, search, store and refusal is recorded before it is shown", "The proof of the log"),
    ("(c)(1) integrity", "a stored value that was changed does not open (XX001)", "Statements that failed; What is protected"),
    ("(c)(2) mechanism to authenticate ePHI", "each value and the registry of keys are authenticated", "What phiproxy check says"),
    ("(d) person or entity authentication", "SCRAM with channel binding, or client certificates, as is set", f"Logins; {_LOGINS}"),
    ("(e)(1) transmission security", "TLS to clients and to the server, as is set", _LOGINS),
    ("(e)(2)(i) integrity controls", "each value is authenticated, also where there is no TLS", "Statements that failed"),
    ("(e)(2)(ii) encryption", "protected values travel encrypted between proxy and server, also where there is no TLS", _LOGINS),
)
"""Of 45 CFR 164.312: the safeguard, what phiproxy does, and where in the report the evidence is."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a report says. ``findings`` are those of ``check``, ``keys`` those of ``keys list``, each with its database.

    ``columns`` are (database, column, type, state, index, values, distinct, share of the most frequent, what is too much of it).
    """

    period: str
    made: str
    version: str
    activity: Activity
    proof: Verified
    findings: Sequence[tuple[str, str, str, str]]
    keys: Sequence[tuple[object, ...]]
    columns: Sequence[tuple[object, ...]] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the same facts for programs."""
        own = self.activity
        return {
            "period": self.period, "made": self.made, "version": self.version,
            "executions": own.executions, "opened": own.opened, "records": own.records, "lost": own.lost,
            "reads": [{"database": d, "who": w, "column": c, **asdict(read)} for (d, w, c), read in sorted(own.reads.items())],
            "refusals": [{"who": w, "outcome": o, "statement": s, "times": n} for (w, o, s), n in own.refusals.most_common()],
            "failures": [{"who": w, "outcome": o, "statement": s, "times": n} for (w, o, s), n in own.failures.most_common()],
            "logins": [{"login": login, "outcome": o, "times": n} for (login, o), n in own.logins.most_common()],
            "doubtful": dict(own.doubtful), "key_events": own.key_events, "policies": own.policies, "unusual": own.unusual,
            "broken_glass": [{"record": dict(g.record), "review": dict(g.review) if g.review else None} for g in own.broken_glass],
            "days": [{"who": who, "day": day, "opened": count} for (who, day), count in sorted(own.days.items())],
            "subjects": {label: dict(how) for label, how in sorted(own.subjects.items())},
            "columns": [list(column) for column in self.columns],
            "proof": {**asdict(self.proof), "genuine": not self.proof.faults},
            "findings": [list(finding) for finding in self.findings], "keys": [list(key) for key in self.keys],
            "controls": [list(control) for control in CONTROLS],
        }  # fmt: skip


def page(facts: Facts) -> str:
    """Return the report as HTML; ConfigError where Jinja2 is not installed."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - only of the extra
    except ModuleNotFoundError:
        raise ConfigError("the report needs jinja2", hint="pip install 'phiproxy[audit]'") from None
    environment = Environment(
        loader=PackageLoader("phiproxy.audit", "pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["breakable"] = _breakable
    return environment.get_template("report.html.jinja").render(_shown(facts))


def _breakable(text: object) -> object:
    """Return a name with places where a line may end; else a column is as narrow as a letter, or as wide as its longest name."""
    from markupsafe import Markup, escape  # noqa: PLC0415 - Jinja2's

    return Markup(_BREAKS.sub(r"\g<0><wbr>", str(escape(text)))) if isinstance(text, str) and " " not in text else text  # noqa: S704


def _attention(facts: Facts) -> list[tuple[str, str]]:
    """Return what somebody has to look into, the worst first, and in which part of the report it is."""
    own = facts.activity
    check = Counter(finding[1] for finding in facts.findings)
    broken = sum(count for (_, outcome, _), count in own.failures.items() if outcome == "XX001")
    counted = (
        ("faults of the log, so that it is not proven", len(facts.proof.faults), "The proof of the log"),
        ("records that were lost", own.lost, "The proof of the log"),
        ("stored values that did not open", broken, "Statements that failed"),
        ("masks lifted, and reviewed by nobody", sum(g.review is None for g in own.broken_glass), "Break-glass, and its review"),
        ("errors of phiproxy check", check["error"], "What phiproxy check says"),
        ("reads under keys in doubt", own.doubtful.total(), "Reads under keys in doubt"),
        ("unusual access", len(own.unusual), "Unusual access"),
        ("warnings of phiproxy check", check["warning"], "What phiproxy check says; What the server's settings would keep"),
        ("protected columns that are not sealed", len({c[:2] for c in facts.columns if c[3] != "sealed"}), "What is protected"),
    )
    return [(f"{what}: {count}", part) for what, count, part in counted if count]


def _shown(facts: Facts) -> Mapping[str, Any]:
    own, proof = facts.activity, facts.proof
    by_day = Counter[str]()
    for (_, day), count in own.days.items():
        by_day[day] += count
    most = max(by_day.values(), default=0) or 1
    until = proof.until.strftime("%Y-%m-%d %H:%M:%S UTC") if proof.until is not None else "never"
    files = f"{proof.files} file{'s' * (proof.files != 1)}"
    state = proof.in_words
    findings = sorted(facts.findings, key=lambda finding: _LEVELS.index(finding[1]) if finding[1] in _LEVELS else len(_LEVELS))
    server = [finding for finding in findings if finding[2] in _OF_THE_SERVER]
    days_with_keys = _by_day(own.key_events)
    reads = sorted(own.reads.items(), key=lambda item: -item[1].opened)
    return {
        "period": facts.period, "made": facts.made, "version": facts.version, "activity": own,
        "attention": _attention(facts), "findings": [finding for finding in findings if finding not in server], "server": server,
        "columns": [_measured(column) for column in facts.columns],
        "subjects": [(c, how["known"], how["many"], how["unknown"]) for c, how in sorted(own.subjects.items())],
        "keys": facts.keys, "controls": CONTROLS, "refused": own.refusals.total(),
        "failed_logins": sum(n for (_, outcome), n in own.logins.items() if outcome != "00000"),
        "reads": [(*key, r.executions, r.opened, r.masked, r.searched, r.stored, _moment(r.last)) for key, r in reads],
        "most": LISTED,
        "days": [(day, count, round(100 * count / most)) for day, count in sorted(by_day.items())],
        "broken_glass": [
            (
                _moment(g.record["time"]), person(g.record), g.record.get("database") or "", g.record.get("reason") or "",
                f"{(g.record.get('seconds') or 0) // 60} min", _reviewed(g.review),
            )
            for g in sorted(own.broken_glass, key=lambda g: g.review is not None)  # what waits for its review comes first
        ],
        "unusual": [(each["day"], each["database"], each["who"], each["what"]) for each in own.unusual],
        "refusals": [(*key, n) for key, n in own.refusals.most_common()],
        "failures": [(*key, n) for key, n in sorted(own.failures.items(), key=lambda f: (f[0][1] != "XX001", -f[1]))],
        "logins": [(*key, n) for key, n in own.logins.most_common()],
        "doubtful": own.doubtful.most_common(),
        "key_events": days_with_keys[-EVENTS_LISTED:], "key_events_left_out": max(0, len(days_with_keys) - EVENTS_LISTED),
        "policies": [(_moment(p["time"]), d, digest) for p in reversed(own.policies) for d, digest in p["policies"].items()],
        "proof": {
            "genuine": not proof.faults, "proven": proof.proven, "records": proof.records,
            "said": f"{files}, {proof.records} records, {proof.proven} of them proven, last signed {until}: {state}",
            "faults": [(fault.file, fault.record or "", fault.text) for fault in proof.faults],
        },
    }  # fmt: skip


def _by_day(events: Sequence[Mapping[str, Any]]) -> list[tuple[object, ...]]:
    """Return what was done with keys, a row for each day, kind and person: when first, how often, first and last of what."""
    rows: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for event in events:
        by = f"{event['login']} / {event['os_user']}"
        kind = str(event["at"])[:10], event["what"], event["from"] or "", event["to"] or "", by
        rows.setdefault(kind, []).append(event)
    return [
        (_moment(own[0]["at"]), what, len(own), _first_and_last([str(event["subject"]) for event in own]), before, after, by)
        for (_, what, before, after, by), own in rows.items()
    ]


def _first_and_last(subjects: Sequence[str]) -> str:
    return subjects[0] if subjects[0] == subjects[-1] else f"{subjects[0]} … {subjects[-1]}"


def _reviewed(review: Record | None) -> str:
    if review is None:
        return "NOT REVIEWED"
    return f"{review.get('by')}, {_moment(review['time'])}: {review.get('note') or ''}".rstrip(": ")


_LEVELS: Final = ("error", "warning", "note")
_BREAKS: Final = re.compile("[._/:,(]")
_OF_THE_SERVER: Final = ("server log", "login")


def _measured(column: Sequence[object]) -> tuple[object, ...]:
    """Return a protected column as the page shows it; what is not measured is empty."""
    *named, values, distinct, share, problem = column
    # Of no rows none is the most frequent.
    part, width = (f"{share:.1%}", round(100 * share)) if isinstance(share, float) and values else ("", 0)
    return (*named, "" if values is None else values, "" if distinct is None else distinct, part, width, problem)


def _moment(time: object) -> str:
    return str(time)[:19].replace("T", " ")
