"""Records as FHIR R4 AuditEvent resources. Reads that went well are as IHE's Basic Audit Log Patterns (BALP) have queries."""

from base64 import b64encode
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Final

from phiproxy.audit.search import Record, counts, end_user

_DICOM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_INTERACTION: Final = "http://hl7.org/fhir/restful-interaction"
_EVENT: Final = "http://terminology.hl7.org/CodeSystem/audit-event-type"
_SOURCE: Final = "http://terminology.hl7.org/CodeSystem/security-source-type"
_ENTITY: Final = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_OBJECT_ROLE: Final = "http://terminology.hl7.org/CodeSystem/object-role"
_PARTICIPANT: Final = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
_BALP: Final = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit"
_ACT_REASON: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
# Of the value set PurposeOfUse: what is said most often.
_PURPOSES: Final = frozenset(
    {
        "TREAT", "ETREAT", "CAREMGT", "BTG", "HPAYMT", "HOPERAT", "HRESCH", "CLINTRCH", "PUBHLTH", "PATRQT", "FAMRQT", "PATADMIN",
        "HSYSADMIN", "HMARKT", "HDIRECT", "HLEGAL", "HQUALIMP", "HCOMPL", "HPROGRP", "METAMGT", "RECORDMGT", "DSRCH",
        "HTEST", "TRAIN",
    }
)  # fmt: skip
_ACTIONS: Final = {"INSERT": "C", "UPDATE": "U", "DELETE": "D", "COPY": "R", "MERGE": "U"}


def audit_event(record: Record, subject: str | None = None) -> dict[str, Any]:
    """Return a record as an AuditEvent; what FHIR has no element for is in ``entity.detail``.

    ``subject`` is the patient whom it is about, where that is known.
    """
    kind, outcome = record["kind"], record.get("outcome")
    action = action_of(record)
    queried = kind == "execution" and action == "R" and outcome == "00000"
    profile = {"meta": {"profile": [f"{_BALP}.{'Query' if subject is None else 'PatientQuery'}"]}} if queried else {}
    event: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "id": identifier(record),
        **profile,
        "type": _type(kind),
        "action": "E" if queried else action,
        "recorded": record["time"],
        "outcome": "0" if outcome in (None, "00000") else "8" if str(outcome).startswith(("57P", "XX", "58")) else "4",
        "agent": _agents(record),
        "source": {
            "observer": {"display": f"phiproxy {record.get('proxy')}"},
            "type": [{"system": _SOURCE, "code": "4", "display": "Application Server"}],
        },
    }
    if kind == "execution":
        interaction = {"C": "create", "R": "search", "U": "update", "D": "delete"}[action]
        event["subtype"] = [{"system": _INTERACTION, "code": interaction, "display": interaction}]
    elif kind == "login":
        event["subtype"] = [{"system": _DICOM, "code": "110122", "display": "Login"}]
    if record.get("purpose"):
        event["purposeOfEvent"] = [_purpose(record["purpose"])]
    if outcome not in (None, "00000"):
        event["outcomeDesc"] = f"SQLSTATE {outcome}"
    entities = [each for each in (_patient(subject) if subject is not None else {}, _query(record), _entity(record)) if each]
    if entities:
        event["entity"] = entities
    return event


def _purpose(code: str) -> dict[str, Any]:
    """Return what for it was: a code of HL7's purposes of use, or whatever the application calls it."""
    return {"coding": [{"system": _ACT_REASON, "code": code}]} if code in _PURPOSES else {"text": code}


def _patient(subject: str) -> dict[str, Any]:
    return {
        "what": {"type": "Patient", "identifier": {"value": subject}},
        "type": {"system": _ENTITY, "code": "1", "display": "Person"},
        "role": {"system": _OBJECT_ROLE, "code": "1", "display": "Patient"},
    }


def identifier(record: Record) -> str:
    """Return what names a record among all of a log: letters, digits, dots and hyphens, at most 64."""
    time = "".join(character for character in record["time"] if character.isdigit())
    tail = f"{record.get('writer')}-{time}-{record['sequence']}"
    return f"{record.get('proxy')}"[: 63 - len(tail)].replace("_", "-") + "-" + tail


def action_of(record: Record) -> str:
    """Return C, R, U, D or E (execute) for what was done."""
    if record["kind"] not in ("execution", "refused"):
        return "E"
    text = record.get("statement", {}).get("text", "")
    first = text.split(maxsplit=1)[0] if text.strip() else ""
    if first == "COPY":
        return "C" if any("stored" in done for done in record.get("columns", {}).values()) else "R"
    return _ACTIONS.get(first, "R")


def _type(kind: str) -> dict[str, str]:
    if kind == "login":
        return {"system": _DICOM, "code": "110114", "display": "User Authentication"}
    if kind in ("execution", "refused"):
        return {"system": _EVENT, "code": "rest", "display": "RESTful Operation"}
    return {"system": _DICOM, "code": "110100", "display": "Application Activity"}


def _agents(record: Record) -> list[dict[str, Any]]:
    user, login = end_user(record), record.get("login") or record.get("os_user")
    agents: list[dict[str, Any]] = []
    if user is not None:
        agents.append({"type": _participation("IRCP"), "who": {"display": user}, "altId": user, "requestor": True})
    agent: dict[str, Any] = {
        "type": {"coding": [{"system": _DICOM, "code": "110153", "display": "Source Role ID"}]},
        "who": {"display": login or "phiproxy"},
        "requestor": user is None,
    }
    if record.get("application"):
        agent["name"] = record["application"]
    if record.get("client"):
        agent["network"] = _network(record["client"])
    if record.get("role") not in (None, login):
        agent["role"] = [{"text": record["role"]}]
    if not record.get("database"):
        return [*agents, agent]
    server = {
        "type": {"coding": [{"system": _DICOM, "code": "110152", "display": "Destination Role ID"}]},
        "who": {"display": f"database {record['database']}"},
        "requestor": False,
        "network": {"address": str(record.get("proxy")), "type": "1"},
    }
    return [*agents, agent, server]


def _network(client: str) -> dict[str, str]:
    """Return an address without its port, and of which kind it is: an IP address, or a name, as of a socket."""
    address = client.rpartition(":")[0].strip("[]") or client
    try:
        ip_address(address)
    except ValueError:
        return {"address": client, "type": "1"}
    return {"address": address, "type": "2"}


def _participation(code: str) -> dict[str, Any]:
    return {"coding": [{"system": _PARTICIPANT, "code": code, "display": "information recipient"}]}


def _query(record: Record) -> dict[str, Any]:
    """Return the statement's shape as a query."""
    shape = record.get("statement", {}).get("text", "") if record["kind"] == "execution" else ""
    if not shape:
        return {}
    return {
        "type": {"system": _ENTITY, "code": "2", "display": "System Object"},
        "role": {"system": _OBJECT_ROLE, "code": "24", "display": "Query"},
        "description": shape,
        "query": b64encode(shape.encode()).decode(),
    }


def _entity(record: Record) -> dict[str, Any]:
    """Return what FHIR has no element for, as details of the database."""
    details = {name: value for name, value in _details(record).items() if value}
    if not (details or record.get("database")):
        return {}
    entity: dict[str, Any] = {
        "what": {"display": f"database {record.get('database')}"},
        "type": {"system": _ENTITY, "code": "4", "display": "Other"},
        "detail": [{"type": name, "valueString": value} for name, value in details.items()],
    }
    return entity if details else {name: value for name, value in entity.items() if name != "detail"}


def _details(record: Record) -> Mapping[str, str]:
    statement = record.get("statement", {})
    return {
        "columns": counts(record),
        "statement": "" if record["kind"] == "execution" else statement.get("text", ""),
        "fingerprint": statement.get("fingerprint", ""),
        "rows": "" if record.get("rows") is None else str(record["rows"]),
        "keys": " ".join(record.get("keys", ())),
        "what": str(record.get("what") or ""),
        "subject": str(record.get("subject") or ""),
        "reason": str(record.get("reason") or ""),
        "glass": str(record.get("glass") or ""),
        "note": str(record.get("note") or ""),
        "kind": "" if record["kind"] in ("execution", "login") else record["kind"],
    }


def bundle(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a Bundle of resources, to be posted to a server or kept. FHIR has no empty lists."""
    entries = {"entry": [{"resource": event} for event in events]} if events else {}
    return {"resourceType": "Bundle", "type": "collection", **entries}
