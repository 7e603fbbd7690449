"""DICOM audit messages."""

from __future__ import annotations

import base64
from xml.etree.ElementTree import fromstring

import pytest

from phiproxy.audit.atna import audit_message
from tests.audit.samples import RECORDS


@pytest.mark.parametrize("name", RECORDS)
def test_dicom_audit_messages_have_what_their_schema_asks_for(name: str) -> None:
    """PS3.15 A.5.1: the parts in this order, with these attributes."""
    message = fromstring(audit_message(RECORDS[name]))
    parts = [part.tag for part in message]
    order = ["EventIdentification", "ActiveParticipant", "AuditSourceIdentification", "ParticipantObjectIdentification"]
    assert parts == sorted(parts, key=order.index)
    assert set(order[:3]) <= set(parts)
    assert set(message[0].attrib) == {"EventActionCode", "EventDateTime", "EventOutcomeIndicator"}
    assert message[0][0].attrib["csd-code"] in ("110100", "110112", "110114")
    details = message.findall(".//ParticipantObjectDetail")
    values = {detail.attrib["type"]: base64.b64decode(detail.attrib["value"]).decode() for detail in details}
    assert values.get("statement", "") == RECORDS[name].get("statement", {}).get("text", "")
