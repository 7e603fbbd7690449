"""soundex and metaphone against answers recorded from fuzzystrmatch; test_postgres.py asks the real one."""

import pytest

from phiproxy.index.phonetic import NotPhonetic, metaphone, soundex
from tests.index.recorded import PHONETIC


@pytest.mark.parametrize(("word", "answers"), PHONETIC)
def test_recorded(word: str, answers: tuple[str, ...]) -> None:
    assert (soundex(word.encode()).decode(), metaphone(word.encode(), 6).decode()) == answers[:2]


def test_metaphones_limits() -> None:
    assert metaphone(b"x" * 255, 1) == b"S"
    with pytest.raises(NotPhonetic, match="argument exceeds the maximum length of 255 bytes"):
        metaphone("ä".encode() * 128, 4)
    assert metaphone(b"extra", 2) == b"EK"
