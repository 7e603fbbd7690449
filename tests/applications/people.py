"""Patients that nobody ever was; what is told of them is unmistakable, so that a leak oracle can look for it."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

PEOPLE: list[dict[str, Any]] = [
    {
        "mrn": "EHR-71640083", "ssn": "931-47-2206", "first_name": "Ludmilla", "last_name": "Okonkwo-Brandt",
        "date_of_birth": date(1931, 2, 17), "sex": "F", "height_cm": Decimal("158.25"), "phone": "+1 (907) 555-7731",
        "notes": "Walks with a cane since the fall at Quillmoor.",
    },
    {
        "mrn": "EHR-71640084", "ssn": "931-47-2207", "first_name": "Þorsteinn", "last_name": "Smythe-Quorndon",
        "date_of_birth": date(1980, 12, 31), "sex": "M", "height_cm": Decimal("187.50"), "phone": "+1 (907) 555-7732",
        "notes": "Allergic to zuclopenthixol; carries an adrenaline pen.",
    },
    {
        "mrn": "EHR-71640085", "ssn": "931-47-2208", "first_name": "Ludmilla", "last_name": "Smithe-Quorndon",
        "date_of_birth": date(1980, 1, 1), "sex": "F", "height_cm": Decimal("171.00"), "phone": None,
        "notes": "",
    },
    {
        "mrn": "EHR-71640086", "ssn": None, "first_name": "Żaneta", "last_name": "SMYTHE-QUORNDON",
        "date_of_birth": date(2019, 2, 28), "sex": "F", "height_cm": None, "phone": "+1 (907) 555-7734",
        "notes": "Speaks Wymysorys at home 🧒; mother of record: Ludmilla.",
    },
    {
        "mrn": "EHR-71640087", "ssn": "931-47-2210", "first_name": "Bartholomew", "last_name": "O'Quillfeather",
        "date_of_birth": date(1979, 12, 31), "sex": "X", "height_cm": Decimal("166.75"), "phone": "+1 (907) 555-7735",
        "notes": "Prefers letters to 'phone calls; 100% compliant.\nSee \\\\archive\\quillfeather.",
    },
]  # fmt: skip

REASONS = ("Fever and quartan ague since Tuesday", "Routine review of quartan ague")
DETAIL = {"device": "Quorndon-Meter 9", "readings": [38.9, 39.1], "fasting": False, "comment": None}
DRUGS = (("RX-8640017", "Quinquinophen 250 mg"), ("RX-8640018", "Verapamoxil 40 mg"))


def unmistakable() -> list[str]:
    """Return what must not be seen where it is protected."""
    told = [str(person[name]) for person in PEOPLE for name in ("mrn", "ssn", "last_name", "phone", "notes") if person[name]]
    told += [person["date_of_birth"].isoformat() for person in PEOPLE]
    return [*told, *REASONS, str(DETAIL["device"]), *(name for _, name in DRUGS)]
