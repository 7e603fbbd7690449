"""dmetaphone against answers recorded from fuzzystrmatch; test_postgres.py asks the real one."""

import pytest

from phiproxy.index.double_metaphone import dmetaphone, dmetaphone_alt
from tests.index.recorded import PHONETIC


@pytest.mark.parametrize(("word", "answers"), PHONETIC)
def test_recorded(word: str, answers: tuple[str, ...]) -> None:
    assert (dmetaphone(word.encode()).decode(), dmetaphone_alt(word.encode()).decode()) == answers[2:]
