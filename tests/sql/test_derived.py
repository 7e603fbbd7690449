"""What is made of a protected column."""

import dataclasses

import pytest

from phiproxy.sql.analysis import Analysis, Context
from phiproxy.sql.derived import own_name
from phiproxy.sql.meaning import Meaning
from tests.clinic_model import CATALOG, PATH, PROTECTION


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["lower"], "lower"),
        (["pg_catalog", "lower"], "lower"),
        (["public", "lower"], ""),
        (["upper"], ""),
        (["pg_catalog", "upper"], "upper"),
        (["soundex"], "soundex"),
        (["ext", "soundex"], "soundex"),
        (["metaphone"], ""),
        (["ext", "metaphone"], ""),
    ],
)
def test_names_that_are_the_servers_own(names: list[str], name: str) -> None:
    catalog = dataclasses.replace(CATALOG, replaced=frozenset({"upper", "metaphone"}))
    analysis = Analysis(b"", Context(PROTECTION, catalog, PATH, "clinic"), Meaning("select", 0, 0))
    assert own_name(analysis, names) == name
