"""Handing over to the composition root."""

import pytest

from phiproxy.commands.serve import _finished


def test_texts_are_printed_and_codes_returned(capsys: pytest.CaptureFixture[str]) -> None:
    async def later() -> str:
        return "text"

    assert _finished(later()) == 0
    assert capsys.readouterr().out == "text\n"
    assert _finished(3) == 3
    assert _finished(None) == 0
