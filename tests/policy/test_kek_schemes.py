"""The table of KEK schemes: its rows are whole, and pyproject.toml has the extras that they name."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from phiproxy.policy.kek_schemes import KEK_SCHEMES
from phiproxy.policy.kek_uris import absolute, complaint

EXTRAS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize("scheme", KEK_SCHEMES)
def test_what_a_row_says_of_options_is_said_of_its_own(scheme: str) -> None:
    kind = KEK_SCHEMES[scheme]
    options = set(kind.options)
    assert kind.secrets | kind.paths | set(kind.approved) | set(kind.unapproved) <= options
    assert not kind.secrets & kind.paths
    assert kind.usage.startswith(f"{scheme}:")
    assert kind.extra is None or kind.extra in EXTRAS
    for option in options:
        assert complaint(f"{scheme}:x?{option}=env:X") is None
        moved = absolute(f"{scheme}:/x?{option}=file:y", Path("/etc"))
        value = {True: "file:/etc/y", False: "/etc/file:y" if option in kind.paths else "file:y"}[option in kind.secrets]
        assert moved == f"{scheme}:/x?{option}={value}"
