"""FHIR R4 resources of nobody, made from a seed: a Patient of about 4 KB, and an Observation and a Condition of his."""

from __future__ import annotations

import json
import random
from typing import Any

Resource = dict[str, Any]

PATIENT_FIELDS = """\
          "$.identifier[*].value":          {type: text}
          "$.name[*].text":                 {type: text}
          "$.name[*].family":               {type: text}
          "$.name[*].given":                {type: jsonb}
          "$.telecom[*].value":             {type: text}
          "$.birthDate":                    {type: date, indexes: [value, "extract(year from value)"], accept_leakage: "the tests"}
          "$.address[*].line":              {type: jsonb}
          "$.address[*].postalCode":        {type: text}
          "$.contact[*].name":              {type: jsonb}
          "$.contact[*].telecom[*].value":  {type: text}
          "$.photo[*].data":                {type: text, pad: 1024}
          "$.extension[*].valueString":     {type: text}
"""
"""What is the patient's by 45 CFR 164.514(b)(2), in a Patient: twelve fields."""


def _word(source: random.Random, length: int = 8) -> str:
    return "".join(source.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(length)).title()


def patient(seed: int) -> Resource:
    """Return a Patient; the same for the same seed."""
    source = random.Random(seed)
    family, given = _word(source), [_word(source, 5), _word(source, 6)]
    return {
        "resourceType": "Patient",
        "id": f"p{seed}",
        "meta": {
            "versionId": "1",
            "lastUpdated": "2026-11-27T08:00:00Z",
            "profile": ["http://hl7.org/fhir/StructureDefinition/Patient"],
        },
        "extension": [
            {"url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace", "valueString": _word(source, 12)},
            {"url": "http://hl7.org/fhir/StructureDefinition/patient-importance", "valueCode": "normal"},
        ],
        "identifier": [
            {
                "use": "usual",
                "system": "urn:oid:2.16.840.1.113883.4.1",
                "value": f"9{source.randrange(10**2):02}-{source.randrange(10**6):06}",
            },
            {"use": "official", "system": "http://hospital.example/mrn", "value": f"MRN-{source.randrange(10**9):09}"},
        ],
        "active": True,
        "name": [
            {"use": "official", "text": f"{given[0]} {family}", "family": family, "given": given},
            {"use": "nickname", "text": given[0], "given": [given[0]]},
        ],
        "telecom": [
            {"system": "phone", "use": "home", "value": f"+1 555 {source.randrange(10**7):07}"},
            {"system": "email", "use": "work", "value": f"{given[0]}@{family}.example".lower()},
        ],
        "gender": source.choice(["female", "male", "other"]),
        "birthDate": f"{source.randrange(1920, 2020)}-{source.randrange(1, 13):02}-{source.randrange(1, 29):02}",
        "deceasedBoolean": False,
        "address": [
            {
                "use": "home",
                "line": [f"{source.randrange(1, 999)} {_word(source)} Street"],
                "city": "Springfield",
                "state": "IL",
                "postalCode": f"{source.randrange(10**5):05}",
            }
        ],
        "maritalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "code": "M"}]},
        "contact": [
            {
                "relationship": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0131", "code": "N"}]}],
                "name": {"family": family, "given": [_word(source, 7)]},
                "telecom": [{"system": "phone", "value": f"+1 555 {source.randrange(10**7):07}"}],
            }
        ],
        "communication": [{"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": "en"}]}, "preferred": True}],
        "photo": [{"contentType": "image/png", "data": "".join(source.choice("ABCDEFGHabcdefgh01234567") for _ in range(2400))}],
        "managingOrganization": {"reference": "Organization/1", "display": "General Hospital"},
    }


def observation(seed: int) -> Resource:
    """Return a blood pressure of the patient of the same seed."""
    source = random.Random(seed)
    return {
        "resourceType": "Observation",
        "id": f"o{seed}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
        "subject": {"reference": f"Patient/p{seed}"},
        "effectiveDateTime": "2026-11-27T08:00:00Z",
        "component": [
            {
                "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
                "valueQuantity": {"value": source.randrange(60, 180), "unit": "mmHg"},
            }
            for code in ("8480-6", "8462-4")
        ],
        "note": [{"text": f"measured twice, says {_word(source)}"}],
    }


def condition(seed: int) -> Resource:
    """Return a condition of the patient of the same seed."""
    source = random.Random(seed)
    return {
        "resourceType": "Condition",
        "id": f"c{seed}",
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": source.choice(["I10", "E11.9", "J45.909"])}]},
        "subject": {"reference": f"Patient/p{seed}"},
        "onsetDateTime": f"{source.randrange(2000, 2026)}-05",
        "note": [{"text": f"says {_word(source)}"}],
    }


def values_of(resource: object, keys: frozenset[str]) -> list[str]:
    """Return the texts at these keys, wherever they are: what must be seen nowhere."""
    if isinstance(resource, list):
        return [value for item in resource for value in values_of(item, keys)]
    if not isinstance(resource, dict):
        return []
    own = [text for key, item in resource.items() if key in keys for text in _texts(item)]
    return own + [value for key, item in resource.items() if key not in keys for value in values_of(item, keys)]


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for item in items for text in _texts(item)]


def spelled(resource: Resource) -> str:
    """Return a resource as an application sends it."""
    return json.dumps(resource)
