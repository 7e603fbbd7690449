"""Records as DICOM audit messages in XML (PS3.15, annex A.5), which IHE ATNA repositories take."""

import base64
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from phiproxy.audit.fhir import action_of, identifier
from phiproxy.audit.search import Record, counts, end_user

_EVENTS: Final = {
    "login": ("110114", "User Authentication"),
    "execution": ("110112", "Query"),
    "refused": ("110112", "Query"),
}


def audit_message(record: Record, subject: str | None = None) -> bytes:
    """Return a record as an AuditMessage element, in UTF-8; ``subject`` is the patient whom it is about, where that is known."""
    message = Element("AuditMessage")
    outcome = record.get("outcome")
    indicator = "0" if outcome in (None, "00000") else "4"
    event = SubElement(
        message,
        "EventIdentification",
        EventActionCode=action_of(record),
        EventDateTime=record["time"],
        EventOutcomeIndicator=indicator,
    )
    _code(event, "EventID", *_EVENTS.get(record["kind"], ("110100", "Application Activity")))
    if record["kind"] == "login":
        _code(event, "EventTypeCode", "110122", "Login")
    login, user = record.get("login") or record.get("os_user") or "phiproxy", end_user(record)
    if user is not None:
        SubElement(message, "ActiveParticipant", UserID=user, UserIsRequestor="true")
    attributes = {"UserID": login, "UserIsRequestor": "false" if user is not None else "true"}
    if record.get("application"):
        attributes["UserName"] = record["application"]
    if record.get("client"):
        attributes |= {"NetworkAccessPointID": record["client"], "NetworkAccessPointTypeCode": "2"}
    participant = SubElement(message, "ActiveParticipant", attributes)
    _code(participant, "RoleIDCode", "110153", "Source Role ID")
    source = SubElement(message, "AuditSourceIdentification", AuditSourceID=f"phiproxy {record.get('proxy')}")
    _code(source, "AuditSourceTypeCode", "4", "Application Server Process", system="DCM")
    if subject is not None:
        patient = {"ParticipantObjectID": subject, "ParticipantObjectTypeCode": "1", "ParticipantObjectTypeCodeRole": "1"}
        about = SubElement(message, "ParticipantObjectIdentification", patient)
        _code(about, "ParticipantObjectIDTypeCode", "2", "Patient Number", system="RFC-3881")
        SubElement(about, "ParticipantObjectName").text = subject
    _object(message, record)
    return bytes(tostring(message, encoding="utf-8", xml_declaration=False))


def _object(message: Element, record: Record) -> None:
    if not record.get("database"):
        return
    described = SubElement(
        message,
        "ParticipantObjectIdentification",
        ParticipantObjectID=identifier(record),
        ParticipantObjectTypeCode="2",
        ParticipantObjectTypeCodeRole="24",
    )
    _code(described, "ParticipantObjectIDTypeCode", "10", "Search Criteria", system="RFC-3881")
    SubElement(described, "ParticipantObjectName").text = record["database"]
    details = {
        "columns": counts(record),
        "statement": record.get("statement", {}).get("text", ""),
        "rows": "" if record.get("rows") is None else str(record["rows"]),
        "what": str(record.get("what") or ""),
        "outcome": str(record.get("outcome") or ""),
        "reason": str(record.get("reason") or ""),
        "purpose": str(record.get("purpose") or ""),
    }
    for name, value in details.items():
        if value:
            SubElement(described, "ParticipantObjectDetail", type=name, value=base64.b64encode(value.encode()).decode())


def _code(parent: Element, name: str, code: str, meaning: str, *, system: str = "DCM") -> None:
    SubElement(parent, name, {"csd-code": code, "codeSystemName": system, "originalText": meaning})
