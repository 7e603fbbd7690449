"""The error tree: each class has the SQLSTATE that its docstring promises, a section in docs/errors.md, and holds no value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import pytest

import phiproxy
from phiproxy import errors
from phiproxy.errors import (
    CatalogNeeded,
    DataKeyWant,
    IndexKeyWant,
    KeyNeeded,
    KeyWant,
    PathNeeded,
    PhiproxyError,
    StatementRefused,
    WriteKeyWant,
    address,
    own_words,
    place_of,
    public_text,
)


def tree(root: type[PhiproxyError]) -> Iterator[type[PhiproxyError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


for module in walk_packages(phiproxy.__path__, "phiproxy."):
    if not module.name.endswith(".__main__"):
        import_module(module.name)
ALL = sorted({c for c in tree(PhiproxyError) if c.__module__.startswith("phiproxy.")}, key=lambda c: c.__name__)
OWN = sorted((c for c in tree(PhiproxyError) if c.__module__ == errors.__name__), key=lambda c: c.__name__)
# Another's words, which are made of fields.
TEXTS = [c for c in OWN if c is not errors.StatementFailed]


@pytest.mark.parametrize("cls", OWN, ids=lambda c: c.__name__)
def test_each_class_answers_with_the_sqlstate_its_docstring_names(cls: type[PhiproxyError]) -> None:
    assert re.fullmatch(r"[0-9A-Z]{5}", cls.sqlstate)
    named = re.findall(r"\(([0-9A-Z]{5})\)|^([0-9A-Z]{5}):", cls.__doc__ or "")
    assert all(cls.sqlstate in pair for pair in named), cls.__doc__


@pytest.mark.parametrize("cls", TEXTS, ids=lambda c: c.__name__)
def test_each_class_can_be_made_of_a_text_alone_and_made_again_of_its_own(cls: type[PhiproxyError]) -> None:
    """``session.results.result_error`` makes an error again with more text."""
    error = cls("something", hint="do this", position=3)
    again = type(error)(f"{error.message}; more", hint=error.hint)
    assert (again.message, again.hint, again.position) == ("something; more", "do this", None)
    assert str(error) == "something"


# What commands print, and what only subclasses of are raised: no client sees their SQLSTATE.
UNSEEN = {"Aborted", "ConfigError", "NoSuchType", "LoginRefused", "Refused"}
DOCS = Path(__file__).parent.parent / errors.PAGE
SECTIONS = re.findall(r"^## (.+)$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
ROWS = dict(re.findall(r"^\| \[(err-[\w-]+)\]\(#\1\) \| (.*?) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE))


def test_every_anchor_has_its_section_and_every_section_its_errors() -> None:
    assert sorted(SECTIONS) == sorted({cls.anchor for cls in ALL})
    assert list(ROWS) == SECTIONS


@pytest.mark.parametrize("anchor", ROWS)
def test_a_section_lists_the_sqlstates_of_its_errors(anchor: str) -> None:
    states = {cls.sqlstate for cls in ALL if cls.anchor == anchor and cls.__name__ not in UNSEEN}
    assert ROWS[anchor] == (", ".join(sorted(states)) or "none")


def test_no_message_spells_an_address_by_itself() -> None:
    """It would be missed when the page moves, or when a section is renamed."""
    package = Path(phiproxy.__file__).parent
    spelled = {file.name for file in package.rglob("*.py") if re.search(r"#err-|errors\.md", file.read_text(encoding="utf-8"))}
    assert spelled == {"errors.py"}


def test_the_public_text_says_who_speaks_and_where_to_read_on() -> None:
    assert StatementRefused("no", hint="h").public_text == "phiproxy: no (docs/errors.md#err-refused)"
    assert address("err-keys") == "docs/errors.md#err-keys"


@pytest.mark.parametrize("text", ["no", "no (or yes)", "phiproxy", "a\nb"])
def test_own_words_are_what_the_public_text_was_made_of(text: str) -> None:
    assert own_words(public_text(text, "err-keys")) == text
    assert own_words(text) == text


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


def test_a_place_in_a_library_comes_behind_our_own() -> None:
    ours: dict[str, Any] = {"__name__": "phiproxy.made.up", "json": json}
    exec(compile("def read():\n    json.loads('{')", "made/up.py", "exec"), ours)
    with pytest.raises(json.JSONDecodeError) as caught:
        ours["read"]()
    assert re.fullmatch(r"made/up\.py:2 json/decoder\.py:\d+", place_of(caught.value))
