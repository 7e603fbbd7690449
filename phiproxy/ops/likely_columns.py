"""Which columns look like health data of a person, by name and type, and how a policy would protect each.

The names are those of the eighteen identifiers of 45 CFR 164.514(b)(2), and of what is recorded about a patient. A name can only
suggest; whoever reads the proposal decides.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from phiproxy.ops.leakage import FEWEST_DISTINCT
from phiproxy.ops.table_survey import SurveyedColumn
from phiproxy.policy.column_types import parse_type
from phiproxy.policy.identifiers import quote_ident

# Below so many rows, what the server estimates says nothing of the values to come.
ENOUGH_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Kind:
    """What a column may hold. ``names`` are words in a row; ``indexes`` are over ``@``; ``only`` are words of the table's name.

    ``numbers``: also a number may hold it. ``unsure``: it is shown as a comment. ``same``: columns of one name hold the same thing.
    """

    what: str
    names: tuple[str, ...]
    indexes: tuple[str, ...] = ()
    distinct: int = 0
    pad: int | None = None
    only: frozenset[str] = frozenset()
    numbers: bool = False
    moments: bool = False
    unsure: bool = False
    same: bool = False


_PERSONS = frozenset({
    "patient", "patients", "person", "persons", "people", "client", "clients", "member", "members", "subscriber", "subscribers",
    "contact", "contacts", "guardian", "guardians", "relative", "relatives", "resident", "residents", "beneficiary",
    "beneficiaries", "insured", "enrollee", "enrollees", "kin", "user", "users", "individual", "individuals",
})  # fmt: skip
_TEXTS = frozenset({"text", "varchar", "bpchar", "char", "citext"})
_NUMBERS = frozenset({"int2", "int4", "int8", "numeric"})
_MOMENTS = frozenset({"date", "timestamp", "timestamptz"})

KINDS: Final = (
    Kind(
        "a national or social security number identifies one person",
        ("ssn", "social security", "nhs number", "nhs no", "national id", "sin number", "svnr", "nino", "passport",
         "tax id", "tin"),
        ("@",),
        100_000_000,
        numbers=True,
        same=True,
    ),
    Kind(
        "a medical record number identifies one patient",
        ("mrn", "medical record", "patient number", "patient no", "chart number", "chart no", "record number"),
        ("@",),
        1_000_000,
        numbers=True,
        same=True,
    ),
    Kind(
        "an account, policy or licence number identifies one person",
        ("policy number", "policy no", "insurance number", "insurance no", "insurance id", "member number", "member no",
         "subscriber number", "account number", "account no", "iban", "card number", "license number", "licence number",
         "driver license", "drivers license", "license plate", "vin", "device serial", "serial number", "certificate number"),
        ("@",),
        1_000_000,
        numbers=True,
        same=True,
    ),
    Kind(
        "a name identifies a person",
        ("first name", "last name", "full name", "given name", "family name", "middle name", "maiden name", "patient name",
         "birth name", "surname", "forename", "firstname", "lastname", "fullname", "next of kin", "emergency contact",
         "mother name", "mothers maiden"),
        ("@", "lower(@)"),
        100_000,
    ),
    Kind("a name in a table of persons", ("name", "display name", "nickname"), ("@", "lower(@)"), 100_000, only=_PERSONS),
    Kind(
        "a date of birth narrows down who it is",
        ("dob", "birth date", "date of birth", "birthdate", "birthday", "born", "born on"),
        ("@",),
        36_500,
        moments=True,
    ),
    Kind("a date of death", ("date of death", "death date", "died", "died on", "deceased on", "dod"), ("@",), 36_500, moments=True),
    Kind(
        "a telephone or fax number reaches one person",
        ("phone", "telephone", "mobile", "cell", "cellphone", "fax", "phone number", "mobile number"),
        ("@",),
        10_000_000,
        numbers=True,
    ),
    Kind(
        "an e-mail address reaches one person",
        ("email", "e mail", "mail address", "email address"),
        ("@", "lower(@)"),
        10_000_000,
    ),
    Kind("an address tells where somebody lives", ("address", "addr", "street", "address line"), pad=32),
    Kind(
        "a postal code narrows down where somebody lives",
        ("zip", "zip code", "zipcode", "postal code", "postcode", "plz"),
        ("@",),
        40_000,
    ),
    Kind(
        "free text about a patient may say anything",
        ("notes", "note", "remarks", "remark", "comments", "comment", "narrative", "anamnesis", "history", "free text", "findings"),
        pad=64,
    ),
    Kind(
        "it tells of a person's health",
        ("diagnosis", "diagnoses", "icd", "icd10", "icd code", "allergy", "allergies", "medication", "medications", "prescription",
         "symptom", "symptoms", "lab result", "test result", "condition", "treatment", "procedure code", "vaccine"),
        pad=16,
    ),
    Kind("an IP address may identify one person", ("ip", "ip address", "ip addr", "remote addr")),
    Kind("a place narrows down where somebody lives", ("city", "town", "county", "village"), unsure=True),
    Kind(
        "few values, and about a person: protect it where it need not be searched or sorted",
        ("gender", "sex", "race", "ethnicity", "religion", "marital status", "blood type", "nationality"),
        unsure=True,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Proposal:
    """A column that looks like health data. ``obstacle``: why it is a comment only; ``domain``: with which others it is."""

    column: SurveyedColumn
    kind: Kind
    reason: str
    type: str
    indexes: tuple[str, ...] = ()
    obstacle: str | None = None
    domain: str | None = None


def propose(columns: Iterable[SurveyedColumn]) -> list[Proposal]:
    """Return the likely columns in the order given, with domains for those that hold the same thing in several tables.

    A column that a foreign key joins with a likely one is likely too.
    """
    columns = list(columns)
    likely = {column.address: proposal for column in columns if (proposal := _proposal(column)) is not None}
    following = True
    while following:
        following = False
        for column in columns:
            if column.references is None or (column.address in likely) == (column.references in likely):
                continue
            joined = likely.get(column.address) or likely[column.references]
            other = next((c for c in columns if c.address == column.references), None) if column.address in likely else column
            if other is not None and joined.obstacle is None:
                likely[other.address] = _joined(other, joined)
                following = True
    return _with_domains([likely[column.address] for column in columns if column.address in likely])


def _joined(column: SurveyedColumn, with_: Proposal) -> Proposal:
    reason = f"a foreign key joins it with {with_.column.table}.{with_.column.name}"
    family = _family(column.type)
    if family is None:
        return Proposal(column, with_.kind, reason, column.type, obstacle=f"type {column.type} cannot be protected")
    return _judged(Proposal(column, with_.kind, reason, parse_type(column.type).name, with_.kind.indexes), family)


def _proposal(column: SurveyedColumn) -> Proposal | None:
    words, table = _words(column.name), set(_words(column.table))
    for kind in KINDS:
        name = next((name for name in kind.names if _within(name.split(), words)), None)
        if name is None or (kind.only and not (kind.only & table and name == " ".join(words))):
            continue
        family = _family(column.type)
        if family is not None and not _holds(kind, family):
            continue
        reason = f'{kind.what} ("{name}")'
        if family is None:
            return Proposal(column, kind, reason, column.type, obstacle=f"type {column.type} cannot be protected")
        return _judged(Proposal(column, kind, reason, parse_type(column.type).name, kind.indexes), family)
    return None


def _judged(proposal: Proposal, family: str) -> Proposal:
    """Say what stands against a proposal, and leave out indexes that would tell the values."""
    column, indexes = proposal.column, proposal.indexes
    if family not in _TEXTS:
        indexes = tuple(index for index in indexes if index == "@")
    reason = proposal.reason
    few = column.distinct is not None and column.distinct < FEWEST_DISTINCT and (column.rows or 0) >= ENOUGH_ROWS
    if indexes and few:
        indexes, reason = (), f"{reason}; no index: only {column.distinct} distinct values, which their frequencies would tell"
    obstacle = proposal.obstacle
    if column.special is not None:
        obstacle = f"it is {column.special}"
    elif column.in_long_key:
        obstacle = "it is part of a foreign key over several columns"
    elif proposal.kind.unsure:
        obstacle = "you decide"
    return replace(proposal, reason=reason, indexes=indexes, obstacle=obstacle)


def _with_domains(proposals: list[Proposal]) -> list[Proposal]:
    """Put columns of a foreign key, and of one name and type where that is a number of a person, into one domain."""
    usable = {p.column.address: p for p in proposals if p.obstacle is None}
    groups: dict[tuple[str, str, str], tuple[str, str, str]] = {address: address for address in usable}

    def root(address: tuple[str, str, str]) -> tuple[str, str, str]:
        while groups[address] != address:
            address = groups[address]
        return address

    by_name: dict[tuple[str, str], tuple[str, str, str]] = {}
    for address, proposal in usable.items():
        if proposal.column.references in groups and proposal.column.references is not None:
            groups[root(address)] = root(proposal.column.references)
        if proposal.kind.same:
            first = by_name.setdefault((proposal.column.name, proposal.type), address)
            groups[root(address)] = root(first)
    members: dict[tuple[str, str, str], list[Proposal]] = {}
    for address, proposal in usable.items():
        members.setdefault(root(address), []).append(proposal)
    domains: dict[tuple[str, str, str], Proposal] = {}
    names: set[str] = set()
    for head, group in members.items():
        if len(group) == 1:
            continue
        plain = re.sub(r"[^a-z0-9_]", "_", head[2].lower())
        name = plain if plain not in names else f"{head[1].lower()}_{plain}"
        names.add(name)
        # A constraint that is there is not rewritten: whoever protects its columns drops it, and makes it anew through the proxy.
        keyed = any(p.column.references in groups for p in group)
        obstacle = "a foreign key joins it: drop that first, and add it again through the proxy" if keyed else None
        domains |= {p.column.address: replace(p, domain=name, obstacle=obstacle) for p in group}
    return [domains.get(p.column.address, p) for p in proposals]


def _family(type_name: str) -> str | None:
    """Return pg_type's name of a type that can be protected, None for another."""
    try:
        declared = parse_type(type_name)
    except ValueError:
        return None
    if not (declared.known or "." in type_name):
        return None  # a type of the server's own that is none of spec/sql 7; those of the database are told with their schema
    return "citext" if declared.name.rpartition(".")[2] == "citext" else declared.family


def _holds(kind: Kind, family: str) -> bool:
    """Say whether a column of this type may hold that: a flag, a count or a date named ``notes`` does not."""
    if kind.moments:
        return family in _MOMENTS or family in _TEXTS
    if family in _NUMBERS:
        return kind.numbers
    return family not in _MOMENTS and family not in ("bool", "time", "timetz", "interval", "float4", "float8", "bytea", "uuid")


def _words(name: str) -> list[str]:
    """Split a name: ``dateOfBirth``, ``date_of_birth`` and ``date-of-birth`` alike."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+\d*|\d+", name)]


def _within(wanted: list[str], words: list[str]) -> bool:
    """Say whether a name ends in these words, with or without a number: ``work_phone``, ``phone2``, ``address_line_1``."""
    while words and words[-1].isdigit():
        words = words[:-1]
    stripped = [*words[:-1], words[-1].rstrip("0123456789")] if words else words
    return any(each[-len(wanted) :] == wanted for each in (words, stripped)) if len(wanted) <= len(words) else False


def shown(expression: str, column: str) -> str:
    """Return an index expression over a column: ``lower(@)`` -> ``lower(full_name)``."""
    return expression.replace("@", quote_ident(column))
