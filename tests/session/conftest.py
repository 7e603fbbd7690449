"""The stage of every dialogue."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.session.screenplay import Screenplay


@pytest.fixture
def play() -> Iterator[Screenplay]:
    """A client that is logged in to a clinic; at the end every byte must have been accounted for."""
    screenplay = Screenplay()
    yield screenplay
    screenplay.ends()
