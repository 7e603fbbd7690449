"""The synthetic patients: the same for the same seed, unique where the table says so, short enough for their columns."""

from __future__ import annotations

from phiproxy.demo import clinic


def test_the_same_seed_gives_the_same_patients() -> None:
    assert list(clinic.patients(5, seed=7)) == list(clinic.patients(5, seed=7))
    assert list(clinic.patients(5, seed=7)) != list(clinic.patients(5, seed=8))


def test_ssns_are_unique_and_values_fit_their_columns() -> None:
    people = list(clinic.patients(1000))
    assert len({p.ssn for p in people}) == len({p.mrn for p in people}) == 1000
    assert sum(p.date_of_birth.year == 1980 for p in people) >= 2  # for whom the demo searches
    assert all(len(p.mrn) <= 12 and len(p.phone) <= 24 and p.visits for p in people)


def test_the_policy_protects_what_the_issue_names() -> None:
    for column in ("ssn", "full_name", "date_of_birth", "mrn", "phone", "address", "notes", "diagnosis"):
        assert f"{column}:" in clinic.POLICY
    assert "REFERENCES patients" in clinic.schema()
