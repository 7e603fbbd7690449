"""The error tree: each class has the SQLSTATE that its docstring promises, a section in the README, and holds no value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from phiproxy import errors
from phiproxy.errors import (
    CatalogNeeded,
    ConfigError,
    DataKeyWant,
    IndexKeyWant,
    KeyNeeded,
    KeyWant,
    PathNeeded,
    PhiproxyError,
    StatementRefused,
    ValueRefused,
    WriteKeyWant,
    place_of,
)


def tree(root: type[PhiproxyError]) -> Iterator[type[PhiproxyError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


OWN = sorted((c for c in tree(PhiproxyError) if c.__module__ == errors.__name__), key=lambda c: c.__name__)


@pytest.mark.parametrize("cls", OWN, ids=lambda c: c.__name__)
def test_each_class_answers_with_the_sqlstate_its_docstring_names(cls: type[PhiproxyError]) -> None:
    assert re.fullmatch(r"[0-9A-Z]{5}", cls.sqlstate)
    named = re.findall(r"\(([0-9A-Z]{5})\)|^([0-9A-Z]{5}):", cls.__doc__ or "")
    assert all(cls.sqlstate in pair for pair in named), cls.__doc__


@pytest.mark.parametrize("cls", OWN, ids=lambda c: c.__name__)
def test_each_class_can_be_made_of_a_text_alone_and_made_again_of_its_own(cls: type[PhiproxyError]) -> None:
    """``session.results.result_error`` makes an error again with more text."""
    error = cls("something", hint="do this", position=3)
    again = type(error)(f"{error.message}; more", hint=error.hint)
    assert (again.message, again.hint, again.position) == ("something; more", "do this", None)
    assert str(error) == "something"


@pytest.mark.parametrize("cls", [c for c in OWN if c not in (ConfigError, ValueRefused)], ids=lambda c: c.__name__)
def test_the_readme_has_a_row_with_its_sqlstate(cls: type[PhiproxyError]) -> None:
    """ConfigError is printed by commands, and ValueRefused is what its subclasses have in common: no client sees their SQLSTATE."""
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| \[{cls.anchor}\]\(#{cls.anchor}\) \|(.*)$", readme, re.MULTILINE)
    assert row is not None, cls.anchor
    assert cls.sqlstate in row[1]
    assert f"\n### {cls.anchor}\n" in readme


def test_the_public_text_says_who_speaks_and_where_to_read_on() -> None:
    assert StatementRefused("no", hint="h").public_text == "phiproxy: no (README#err-refused)"


@pytest.mark.parametrize("needed", [KeyNeeded, PathNeeded, CatalogNeeded])
def test_needs_are_no_errors(needed: type[Exception]) -> None:
    """An ``except PhiproxyError`` must not swallow them."""
    assert not issubclass(needed, PhiproxyError)


def test_wants_are_a_set() -> None:
    wants: list[KeyWant] = [DataKeyWant(1), WriteKeyWant("s", 1), IndexKeyWant(1, 0), DataKeyWant(1)]
    assert KeyNeeded(iter(wants)).wants == frozenset(wants)
    assert len(KeyNeeded(wants).wants) == 3


def test_a_place_is_the_innermost_line_and_no_more() -> None:
    def deep() -> None:
        raise ValueError("a secret")

    with pytest.raises(ValueError, match="secret") as caught:
        deep()
    place = place_of(caught.value)
    assert re.fullmatch(r"tests/test_errors\.py:\d+", place)
    assert int(place.rpartition(":")[2]) == deep.__code__.co_firstlineno + 1
    assert place_of(ValueError("never raised")) == ""
