"""FHIR resources, as a library of R4 (4.0.1) reads them, and as IHE's Basic Audit Log Patterns ask for."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from fhirclient.models.auditevent import AuditEvent
from fhirclient.models.bundle import Bundle
from fhirclient.models.fhirabstractbase import FHIRValidationError

from phiproxy.audit.fhir import audit_event, bundle
from tests.audit.samples import RECORDS

CODES = {
    "source": "http://dicom.nema.org/resources/ontology/DCM|110153",
    "destination": "http://dicom.nema.org/resources/ontology/DCM|110152",
    "recipient": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType|IRCP",
    "person": "http://terminology.hl7.org/CodeSystem/audit-entity-type|1",
    "system object": "http://terminology.hl7.org/CodeSystem/audit-entity-type|2",
}


def coded(coding: dict[str, str]) -> str:
    return f"{coding['system']}|{coding['code']}"


@pytest.mark.parametrize("subject", [None, "4711"])
@pytest.mark.parametrize("name", RECORDS)
def test_fhir_is_r4(name: str, subject: str | None) -> None:
    event = json.loads(json.dumps(audit_event(RECORDS[name], subject)))
    assert AuditEvent(event, strict=True).as_json() == event


def test_the_library_tells_what_is_not_r4() -> None:
    event = audit_event(RECORDS["read"])
    wrong: list[dict[str, Any]] = [{"agent": []}, {"recorded": 5}, {"occurredDateTime": "2026-11-27"}]  # the last is R5's
    for change in wrong:
        with pytest.raises(FHIRValidationError):
            AuditEvent({**event, **change}, strict=True).as_json()


@pytest.mark.parametrize("subject", [None, "4711"])
@pytest.mark.parametrize("name", ["read", "asserted"])
def test_a_read_is_a_query_of_balp(name: str, subject: str | None) -> None:
    """StructureDefinition IHE.BasicAudit.Query and PatientQuery: every element that they constrain."""
    event = audit_event(RECORDS[name], subject)
    profile = "PatientQuery" if subject is not None else "Query"
    assert event["meta"] == {"profile": [f"https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.{profile}"]}
    assert coded(event["type"]) == "http://terminology.hl7.org/CodeSystem/audit-event-type|rest"
    assert [coded(each) for each in event["subtype"]] == ["http://hl7.org/fhir/restful-interaction|search"]
    assert (event["action"], event["outcome"]) == ("E", "0")
    agents = {coded(agent["type"]["coding"][0]): agent for agent in event["agent"]}
    assert len(agents) == len(event["agent"]) >= 2
    assert {CODES["source"], CODES["destination"]} <= agents.keys()
    for code in ("source", "destination"):
        assert agents[CODES[code]].keys() >= {"who", "network", "requestor"}
        assert "media" not in agents[CODES[code]]
    user = agents.get(CODES["recipient"])
    assert (user is not None) == (name == "asserted")
    assert user is None or (user["requestor"] and user.keys().isdisjoint({"network", "media"}))
    entities: dict[str, dict[str, Any]] = {coded(entity["type"]): entity for entity in event["entity"]}
    query = entities[CODES["system object"]]
    assert coded(query["role"]) == "http://terminology.hl7.org/CodeSystem/object-role|24"
    assert query.keys().isdisjoint({"what", "lifecycle", "detail", "name"})
    assert base64.b64decode(query["query"]).decode() == query["description"] == RECORDS[name]["statement"]["text"]
    patient = entities.get(CODES["person"])
    assert (patient is None) == (subject is None)
    if patient is not None:
        assert coded(patient["role"]) == "http://terminology.hl7.org/CodeSystem/object-role|1"
        assert patient["what"] == {"type": "Patient", "identifier": {"value": "4711"}}


@pytest.mark.parametrize("name", ["stored", "refused", "failed", "login", "key", "start"])
def test_nothing_else_claims_to_be_one(name: str) -> None:
    assert "meta" not in audit_event(RECORDS[name])


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("TREAT", {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}]}),
        ("our-study:7", {"text": "our-study:7"}),
    ],
)
def test_a_purpose_is_that_of_the_event(code: str, said: dict[str, object]) -> None:
    event = audit_event({**RECORDS["asserted"], "purpose": code})
    assert event["purposeOfEvent"] == [said]
    assert AuditEvent(event, strict=True).as_json() == event


def test_what_fhir_says_of_a_read() -> None:
    event = audit_event(RECORDS["asserted"])
    names = [(agent["who"]["display"], agent["requestor"]) for agent in event["agent"]]
    assert names == [("dr.who", True), ("app", False), ("database clinic", False)]
    assert event["agent"][1]["network"] == {"address": "10.0.0.7", "type": "2"}
    details = {detail["type"]: detail["valueString"] for detail in event["entity"][-1]["detail"]}
    assert details["columns"] == "public.patients.ssn (opened 3, searched)"
    assert (audit_event(RECORDS["stored"])["action"], audit_event(RECORDS["failed"])["outcome"]) == ("C", "8")


@pytest.mark.parametrize(("client", "network"), [("[::1]:5432", ("::1", "2")), ("local", ("local", "1"))])
def test_addresses(client: str, network: tuple[str, str]) -> None:
    event = audit_event({**RECORDS["read"], "client": client})
    assert tuple(event["agent"][0]["network"].values()) == network


def test_a_bundle_of_none_has_no_empty_list() -> None:
    assert bundle([]) == {"resourceType": "Bundle", "type": "collection"}


def test_a_bundle_of_them_is_r4() -> None:
    whole = json.loads(json.dumps(bundle([audit_event(record) for record in RECORDS.values()])))
    assert Bundle(whole, strict=True).as_json() == whole
