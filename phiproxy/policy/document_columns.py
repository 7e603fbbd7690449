"""What a policy says of the fields of a jsonb column: its keys, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from phiproxy.documents.field_paths import ELEMENTS, Path, parse_path, spell_path
from phiproxy.policy.column_types import parse_type
from phiproxy.policy.setting_values import refuse
from phiproxy.policy.settings import Section
from phiproxy.types.names import sql_name

if TYPE_CHECKING:
    from phiproxy.policy.protection import DeclaredType

_Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
_Distinct = Annotated[int, Field(ge=1)]
_FIELD_TYPES = ("text", "bool", "int2", "int4", "int8", "numeric", "date", "uuid", "jsonb")


def _path(value: str) -> str:
    try:
        parse_path(value)
    except ValueError as error:
        refuse(str(error))
    return value


def _field_type(value: str) -> str:
    try:
        declared = parse_type(value)
    except ValueError as error:
        refuse(str(error))
    if not may_be_field(declared):
        names = ", ".join(sql_name(parse_type(name)) for name in _FIELD_TYPES)
        refuse(f"{value!r} is no type of a field: JSON holds {names}")
    return value


def may_be_field(declared: DeclaredType) -> bool:
    """Tell whether a field of a document may have a type: no modifier applies to what stands in JSON."""
    return declared.family in _FIELD_TYPES and declared.typmod == -1 and not declared.schema


PathText = Annotated[str, AfterValidator(_path)]


class DocumentField(Section):
    """One field of a document: a ``domain`` and nothing else, or its own description."""

    domain: str | None = None
    type: Annotated[str, AfterValidator(_field_type)] | None = None
    id: _Name | None = Field(default=None, description="the stable name of this field in every stored value")
    indexes: tuple[str, ...] = Field(default=(), description="SQL expressions over `value`")
    distinct: _Distinct | dict[str, _Distinct] | None = Field(default=None, description="declared number of distinct values")
    accept_leakage: _Name | None = Field(default=None, description="who accepts a low-cardinality index, and why")
    pad: Annotated[int, Field(ge=2, le=65536)] | None = None

    @model_validator(mode="after")
    def _one_of(self) -> DocumentField:
        other = ", ".join(sorted(self.model_fields_set - {"domain"}))
        if self.domain is not None and other:
            refuse(f"a field with a domain has nothing else: move {other} to the domain")
        if self.domain is None and self.type is None:
            refuse("a field needs a type or a domain")
        return self


Fields = dict[PathText, DocumentField]
Others = Literal["clear", "sealed"]
Where = tuple[str | int, ...]


def check_document(type_: str | None, others: Others | None, clear: tuple[str, ...], unused: Mapping[str, object]) -> None:
    """Refuse keys of a column that do not go with ``fields``; ``unused`` are those that belong to one sealed value."""
    if type_ is None or parse_type(type_).family != "jsonb":
        refuse("`fields` is of a column of type jsonb")
    if others is None:
        refuse("`fields` needs `others: clear` or `others: sealed`: what becomes of all that is not listed")
    if others == "clear" and clear:
        refuse("`clear` lists what stays in clear with `others: sealed`; with `others: clear` that is all but the fields")
    if names := ", ".join(unused):
        refuse(f"a column with `fields` has no {names} of its own: they are of each field")


def path_complaints(fields: Mapping[str, object], clear: tuple[str, ...]) -> Iterator[tuple[Where, str]]:
    """Yield what is wrong with the paths of one column, each with the keys of the file that lead there from the column's."""
    seen: dict[Path, str] = {}
    of_fields: list[tuple[Where, str]] = [(("fields", text), text) for text in fields]
    of_clear: list[tuple[Where, str]] = [(("clear", number), text) for number, text in enumerate(clear)]
    for where, text in [*of_fields, *of_clear]:
        path = parse_path(text)
        for other, named in seen.items():
            problem = _problem(path, other)
            if problem is not None:
                yield where, f"{text} {problem} {named}"
                break
        seen.setdefault(path, text)


def _problem(path: Path, other: Path) -> str | None:
    if path == other:
        return "is listed twice:"
    shared = 0
    for one, two in zip(path, other, strict=False):
        if one != two:
            break
        shared += 1
    if shared in (len(path), len(other)):
        return "and one that is inside of it cannot both be listed:" if shared == len(path) else "is inside of"
    if (path[shared] is ELEMENTS) != (other[shared] is ELEMENTS):
        return f"takes {spell_path(path[:shared])} for an object or an array, and not the same as"
    return None


def may_be_indexed(path: Path) -> bool:
    """Tell whether a field at a path can have indexes: it is one value of each document, and not one of each element."""
    return ELEMENTS not in path
