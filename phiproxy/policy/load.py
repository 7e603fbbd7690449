"""Read phiproxy.yaml and policy.yaml. Every complaint is ``file:line:column: text``, and all of them are told at once."""

import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from phiproxy.errors import ConfigError
from phiproxy.policy.model import Policy, Speller
from phiproxy.policy.settings import Section, Settings
from phiproxy.policy.yaml_reader import NOT_A_MAPPING, Document, read_document

_Model = TypeVar("_Model", bound=Section)


def _validate(model: type[_Model], document: Document, base: Path) -> _Model:
    try:
        return model.model_validate(document.data, context={"base": base})
    except ValidationError as error:
        complaints = [_complain(model, document, e) for e in error.errors(include_url=False)]
    # where a number or a mapping may stand, a wrong number is told once as that and once as "not a mapping"
    clear = {where for where, text in complaints if text != NOT_A_MAPPING}
    raise document.error((where, text) for where, text in complaints if text != NOT_A_MAPPING or where not in clear)


def _complain(model: type[Section], document: Document, error: ErrorDetails) -> tuple[str, str]:
    """Say one of pydantic's errors in words of the file, and where. Never the value: it may be a secret in the wrong place."""
    location = error["loc"]
    kind, context = error["type"], error.get("ctx", {})
    if location and location[-1] == "[key]":
        return document.position(location[:-1], key=True), error["msg"]
    where = document.position(location, key=kind == "extra_forbidden")
    if kind == "extra_forbidden":
        name = str(location[-1])
        near = difflib.get_close_matches(name, _keys(model, location[:-1]), n=1)
        return where, f"unknown key {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    if kind == "missing":
        return where, f"{location[-1]!r} is missing"
    if kind == "literal_error":
        return where, f"must be {context['expected']}"
    if kind in ("model_type", "dict_type"):
        return where, NOT_A_MAPPING
    if kind == "tuple_type":
        return where, "a list is expected"
    return where, error["msg"]


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
    positions = {location: document.position(location, key=True) for location in document.marks}
    policy = policy.located(document.source, positions).spelled_by(spell)
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
        if policy.access is not None and policy.access.break_glass is not None and not settings.audit.enabled:
            where = policy.at("access", "break_glass")
            complaints.append(f"{where}: break_glass needs an audit log, in which it is told: set audit.directory")
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
