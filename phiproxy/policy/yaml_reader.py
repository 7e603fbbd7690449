"""A YAML file as plain data, and at which line and column each part of it is written.

PyYAML reads scalars by the rules of YAML 1.1, where ``off`` is false, ``010`` is eight and ``1:30`` is ninety. Here they are read
by the core schema of YAML 1.2: these are a text, ten and a text, and so is a date. Numbers may also be written ``1_000``, ``0b11``.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml
from yaml.composer import ComposerError
from yaml.reader import ReaderError

from phiproxy.errors import ConfigError
from phiproxy.policy.model import Location

NOT_A_MAPPING: Final = "a mapping is expected (key: value)"
_MAX_FILE = 4 << 20  # a policy of ten thousand columns is under 1 MiB; a larger file is not one
_MAX_REPEATED = 200_000  # nodes that aliases repeat: ten thousand columns described by one alias stay below
_DEEPEST = 100  # the configuration's deepest key is at 7
_TOO_DEEP = "nested too deeply"
_SEPARATOR = re.compile("[\x85\u2028\u2029]")

_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """Composes nodes; the tags of plain scalars are those of ``_SCALARS``."""

    _depth = 0
    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012  # declared so in its base

    def scan_plain(self) -> yaml.ScalarToken:
        """Let a plain scalar hold a ``?`` between ``{}`` too, as YAML 1.2 does: the options of a KEK's URI begin with one."""
        token = super().scan_plain()
        while self.flow_level and self.peek() == "?" and self.index == token.end_mark.index and not self.peek(1).isspace():
            self.forward()
            rest = super().scan_plain()
            token = yaml.ScalarToken(f"{token.value}?{rest.value}", True, token.start_mark, rest.end_mark)  # noqa: FBT003
        return token

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse what is nested so deeply that composing it would overflow the stack."""
        if self._depth > _DEEPEST:
            raise ComposerError(problem=_TOO_DEEP, problem_mark=self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError
    return text.lower() == "true"


def _integer(text: str) -> int:
    digits = text.replace("_", "")
    return int(digits, 0) if digits.lstrip("+-")[:2] in ("0b", "0o", "0x") else int(digits)


def _float(text: str) -> float:
    return float(re.sub(r"\.(inf|nan)", r"\1", text.replace("_", "").lower()))


# Tag: how a plain scalar of it is written (the first that fits), and how it is read. ValueError: what an explicit tag stands
# before is not written like that.
_SCALARS: Final[dict[str, tuple[str, Callable[[str], object]]]] = {
    "null": (r"(?:~|null|Null|NULL)?", lambda _text: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", _boolean),
    "int": (r"[-+]?(?:[0-9][0-9_]*|0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+)", _integer),
    "float": (
        r"[-+]?(?:\.[0-9][0-9_]*|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        _float,
    ),
    "merge": (r"<<", str),
    "str": (r".*", str),
}
for _name, (_pattern, _) in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z", re.DOTALL), None)


class _Mark(NamedTuple):
    """0-based line and column of a key and of its value."""

    key: tuple[int, int]
    value: tuple[int, int]


class Document(NamedTuple):
    """A YAML file: its text and nodes, what they say as plain data, and where each part of that is."""

    source: str
    text: str
    root: yaml.Node | None
    data: dict[str, object]
    marks: dict[Location, _Mark]

    def position(self, location: Iterable[str | int], *, key: bool = False) -> str:
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

        return ConfigError("\n".join(f"{where}: {text}" for where, text in sorted(complaints, key=order)))


def read_document(path: str | os.PathLike[str]) -> Document:
    """Parse one YAML 1.2 file whose root is a mapping; ConfigError if it is unreadable or not that."""
    source = os.fspath(path)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{source}: cannot be read: {error.strerror}") from None
    if len(content) > _MAX_FILE:
        raise ConfigError(f"{source}: larger than {_MAX_FILE >> 20} MiB")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode()
        raise ConfigError(f"{source}:{_line_and_column(before)}: not UTF-8") from None
    root = _compose(source, text)
    builder = _Builder(source)
    data = {} if root is None or root.tag == f"{_TAG}null" else builder.plain(root, ())
    if not isinstance(data, dict):
        raise ConfigError(f"{source}:1:1: {NOT_A_MAPPING}")
    return Document(source, text, root, data, builder.marks)


def _line_and_column(before: str) -> str:
    lines = before.split("\n")
    return f"{len(lines)}:{len(lines[-1]) + 1}"


def _compose(source: str, text: str) -> yaml.Node | None:
    if (separator := _SEPARATOR.search(text)) is not None:
        # PyYAML ends a line there, and a comment with it, as YAML 1.1 does and YAML 1.2 does not
        where = f"{source}:{_line_and_column(text[: separator.start()])}"
        raise ConfigError(f'{where}: a line separator that YAML does not have; in a text write "\\N", "\\L" or "\\P"')
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark is not None else source
        raise ConfigError(f"{where}: {' '.join(str(error.problem or error.context).split())}") from None
    except ReaderError as error:
        where = f"{source}:{_line_and_column(text[: error.position])}"
        raise ConfigError(f"{where}: not YAML: a control character") from None
    if loader.yaml_version not in (None, (1, 2)):
        raise ConfigError(f"{source}:1:1: %YAML: this file is read as YAML 1.2 and no other")
    return root


class _Builder:
    """Makes plain data of the nodes of one file, and notes in ``marks`` where they are."""

    def __init__(self, source: str) -> None:
        self.marks: dict[Location, _Mark] = {}
        self._source = source
        self._seen: set[int] = set()
        self._open: set[int] = set()
        self._repeated = 0

    def plain(self, node: yaml.Node, at: Location) -> object:
        with self._inside(node):
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, at)
            if isinstance(node, yaml.SequenceNode):
                return self._sequence(node, at)
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, at: Location) -> dict[str, object]:
        mapping: dict[str, object] = {}
        for name, (key, value) in self._entries(node).items():
            self.marks[*at, name] = _Mark((key.start_mark.line, key.start_mark.column), _start(value))
            mapping[name] = self.plain(value, (*at, name))
        return mapping

    def _sequence(self, node: yaml.SequenceNode, at: Location) -> list[object]:
        self._check_tag(node, "seq")
        for number, item in enumerate(node.value):
            self.marks[*at, number] = _Mark(_start(item), _start(item))
        return [self.plain(item, (*at, number)) for number, item in enumerate(node.value)]

    def _scalar(self, node: yaml.Node) -> object:
        kind = node.tag.removeprefix(_TAG)
        if kind not in _SCALARS:
            raise self._error(node, f"the tag {node.tag} has no meaning here")
        try:
            return _SCALARS[kind][1](node.value)
        except ValueError:
            raise self._error(node, f"not written as !!{kind} is") from None

    def _entries(self, node: yaml.MappingNode) -> dict[str, tuple[yaml.ScalarNode, yaml.Node]]:
        """Return the nodes of each entry by the key's text: the mapping's own, then those that it merges (``<<``) and has not."""
        self._check_tag(node, "map")
        entries: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        merged: yaml.Node | None = None
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, "a key is a text")
            is_merge = key.tag == f"{_TAG}merge"
            if key.value in entries or (is_merge and merged is not None):
                raise self._error(key, f'duplicate key "{key.value}"')
            if is_merge:
                merged = value
            else:
                entries[key.value] = key, value
        for source in merged.value if isinstance(merged, yaml.SequenceNode) else [merged] if merged is not None else ():
            if not isinstance(source, yaml.MappingNode):
                raise self._error(source, "<< merges a mapping, or a list of mappings")
            with self._inside(source):
                for name, entry in self._entries(source).items():
                    entries.setdefault(name, entry)
        return entries

    @contextmanager
    def _inside(self, node: yaml.Node) -> Iterator[None]:
        """Refuse an alias inside of what it names, and aliases of aliases that repeat without measure."""
        if id(node) in self._open:
            raise self._error(node, "an alias stands inside of what it names")
        if len(self._open) > _DEEPEST:
            raise self._error(node, _TOO_DEEP)
        self._repeated += id(node) in self._seen
        if self._repeated > _MAX_REPEATED:
            raise self._error(node, f"aliases repeat more than {_MAX_REPEATED} parts of the file")
        self._seen.add(id(node))
        self._open.add(id(node))
        yield
        self._open.remove(id(node))

    def _check_tag(self, node: yaml.Node, kind: str) -> None:
        if node.tag != _TAG + kind:
            raise self._error(node, f"the tag {node.tag} has no meaning here")

    def _error(self, node: yaml.Node, text: str) -> ConfigError:
        return ConfigError(f"{self._source}:{node.start_mark.line + 1}:{node.start_mark.column + 1}: {text}")


def _start(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line, node.start_mark.column
