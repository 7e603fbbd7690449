"""Read phiproxy.yaml and policy.yaml.

Every complaint is ``file:line:column: text``, and all of them are told at once.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from phiproxy.errors import ConfigError
from phiproxy.policy.model import Location, Policy, Speller
from phiproxy.policy.settings import Section, Settings

_MAPPING = "a mapping is expected (key: value)"
_Model = TypeVar("_Model", bound=Section)
_MAX_FILE = 4 << 20  # a policy of ten thousand columns is under 1 MiB; a larger file is not one


class _Mark(NamedTuple):
    """0-based line and column of a key and of its value."""

    key: tuple[int, int]
    value: tuple[int, int]


class Document:
    """A YAML file: plain data, and where each place in it is."""

    def __init__(self, source: str, data: object, marks: dict[Location, _Mark]) -> None:
        self.source = source
        self.data = data
        self.marks = marks

    def place(self, location: Iterable[str | int], *, key: bool = False) -> str:
        """``file:line:column`` of a location, or of the nearest one around it; of its key if ``key``."""
        parts = tuple(location)
        for end in range(len(parts), -1, -1):
            if (mark := self.marks.get(parts[:end])) is not None:
                line, column = mark.key if key and end == len(parts) else mark.value
                return f"{self.source}:{line + 1}:{column + 1}"
        return f"{self.source}:1:1"

    def error(self, complaints: Iterable[tuple[str, str]]) -> ConfigError:
        """One error of all complaints (place, text), in the order of the file."""

        def order(complaint: tuple[str, str]) -> tuple[int, int]:
            line, column = complaint[0].rsplit(":", 2)[1:]
            return int(line), int(column)

        return ConfigError("\n".join(f"{place}: {text}" for place, text in sorted(complaints, key=order)))


def read_document(path: str | os.PathLike[str]) -> Document:
    """Parse one YAML 1.2 file whose root is a mapping; ConfigError if it is unreadable or not that."""
    source = os.fspath(path)
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{source}: cannot be read: {error.strerror}") from None
    if len(text) > _MAX_FILE:
        raise ConfigError(f"{source}: larger than {_MAX_FILE >> 20} MiB")
    yaml = YAML(typ="rt", pure=True)
    try:
        root = yaml.load(text.decode())
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start)
        column = len(text[text.rfind(b"\n", 0, error.start) + 1 : error.start].decode())
        raise ConfigError(f"{source}:{line + 1}:{column + 1}: not UTF-8") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark is not None else source
        raise ConfigError(f"{place}: {_yaml_problem(error)}") from None
    except YAMLError as error:
        raise ConfigError(f"{source}:1:1: not YAML: {' '.join(str(error).split())}") from None
    if root is None:
        root = CommentedMap()
    if not isinstance(root, CommentedMap):
        raise ConfigError(f"{source}:1:1: {_MAPPING}")
    marks: dict[Location, _Mark] = {}
    return Document(source, _plain(root, (), marks), marks)


def _yaml_problem(error: MarkedYAMLError) -> str:
    problem = " ".join(str(error.problem or error.context).split())
    if problem.startswith("found duplicate key"):
        # ruamel appends both values; a value has no place in a message
        return " ".join(problem.split()[:4]).replace("found duplicate", "duplicate")
    return problem


def _plain(node: object, at: Location, marks: dict[Location, _Mark]) -> object:
    """Return the node as dicts, lists and scalars, and note where each of its parts is."""
    if isinstance(node, CommentedMap):
        mapping = {}
        for key, value in node.items():
            where = (*at, str(key))
            spot = (node.lc.data or {}).get(key)  # a key that came by a merge (<<) has none
            if spot is not None:
                marks[where] = _Mark((spot[0], spot[1]), (spot[2], spot[3]))
            mapping[str(key)] = _plain(value, where, marks)
        return mapping
    if isinstance(node, CommentedSeq):
        items = []
        for number, value in enumerate(node):
            spot = (node.lc.data or {}).get(number)
            if spot is not None:
                marks[*at, number] = _Mark((spot[0], spot[1]), (spot[0], spot[1]))
            items.append(_plain(value, (*at, number), marks))
        return items
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _validate(model: type[_Model], document: Document, base: Path) -> _Model:
    try:
        return model.model_validate(document.data, context={"base": base})
    except ValidationError as error:
        complaints = [_complain(model, document, e) for e in error.errors(include_url=False)]
    # where a number or a mapping may stand, a wrong number is told once as that and once as "not a mapping"
    clear = {place for place, text in complaints if text != _MAPPING}
    raise document.error((place, text) for place, text in complaints if text != _MAPPING or place not in clear)


def _complain(model: type[Section], document: Document, error: ErrorDetails) -> tuple[str, str]:
    """Say one of pydantic's errors in words of the file, and where.

    Never the value: it may be a secret in the wrong place.
    """
    location = error["loc"]
    kind, context = error["type"], error.get("ctx", {})
    if location and location[-1] == "[key]":
        return document.place(location[:-1], key=True), error["msg"]
    place = document.place(location, key=kind == "extra_forbidden")
    if kind == "extra_forbidden":
        name = str(location[-1])
        near = difflib.get_close_matches(name, _keys(model, location[:-1]), n=1)
        return place, f"unknown key {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    if kind == "missing":
        return place, f"{location[-1]!r} is missing"
    if kind == "literal_error":
        return place, f"must be {context['expected']}"
    if kind in ("model_type", "dict_type"):
        return place, _MAPPING
    if kind == "tuple_type":
        return place, "a list is expected"
    return place, error["msg"]


def _keys(model: type[Section], location: Iterable[str | int]) -> list[str]:
    """List the keys that are known at a location, by walking the JSON Schema of the model."""
    schema = model.model_json_schema()
    definitions: dict[str, Any] = schema.get("$defs", {})

    def opened(node: dict[str, Any]) -> dict[str, Any]:
        for option in node.get("anyOf", [node]):
            if "$ref" in option:
                return opened(definitions[option["$ref"].rsplit("/", 1)[-1]])
            if option.get("type") == "object":
                return dict(option)
        return {}

    node = opened(schema)
    for part in location:
        inner = node.get("properties", {}).get(str(part)) or node.get("additionalProperties")
        node = opened(inner) if isinstance(inner, dict) else {}
    return list(node.get("properties", {}))


def load_settings(path: str | os.PathLike[str]) -> Settings:
    """Read phiproxy.yaml; ConfigError with every complaint, one per line."""
    return _validate(Settings, read_document(path), Path(path).absolute().parent)


def load_policy(path: str | os.PathLike[str], spell: Speller) -> Policy:
    """Read one policy file, its index expressions by ``spell``; ConfigError with every complaint, one per line."""
    document = read_document(path)
    policy = _validate(Policy, document, Path(path).absolute().parent)
    places = {location: document.place(location, key=True) for location in document.marks}
    policy = policy.located(document.source, places).spelled_by(spell)
    complaints = policy.complaints()
    if complaints:
        raise document.error((policy.at(*c.location), c.text) for c in complaints)
    return policy


def load_policies(settings: Settings, spell: Speller) -> list[Policy]:
    """Read every policy file of a configuration; ConfigError with the complaints of all of them."""
    policies: list[Policy] = []
    complaints: list[str] = []
    for path in settings.policies:
        try:
            policies.append(load_policy(path, spell))
        except ConfigError as error:
            complaints.append(error.message)
    seen: dict[str, str] = {}
    for policy in policies:
        if policy.database in seen:
            other = seen[policy.database]
            complaints.append(f"{policy.at('database')}: database {policy.database!r} already has a policy, {other}")
        seen[policy.database] = policy.at("database")
    if complaints:
        raise ConfigError("\n".join(complaints))
    return policies


def json_schemas() -> dict[str, dict[str, Any]]:
    """Make the JSON Schemas of both files, by their file name in ``config/``."""
    names: dict[str, tuple[type[Section], str]] = {
        "phiproxy.schema.json": (Settings, "phiproxy.yaml"),
        "policy.schema.json": (Policy, "phiproxy policy.yaml"),
    }
    return {
        name: {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema(), "title": title}
        for name, (model, title) in names.items()
    }
