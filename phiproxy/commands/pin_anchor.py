"""Write ``keys.anchor`` into phiproxy.yaml: one line or one entry is added, everything else stays as it is, comments too."""

import json
import os
import tempfile
from pathlib import Path

from yaml import MappingNode, Node

from phiproxy.errors import ConfigError
from phiproxy.policy.yaml_reader import Document, read_document


def line(database: str, anchor: str) -> str:
    """Return the line that pins an anchor, for people to add under ``keys:``."""
    return f"anchor: {{{json.dumps(database)}: {anchor}}}"


def pin(path: Path, database: str, anchor: str) -> bool:
    """Add ``keys.anchor.<database>`` to a configuration file; False when it cannot be written or has a form that is not known."""
    document = read_document(path)
    changed = _added(document, f"{json.dumps(database)}: {anchor}")
    if changed is None:
        return False
    keys = document.data.get("keys") or {}
    assert isinstance(keys, dict)
    wanted = {**document.data, "keys": {**keys, "anchor": {**(keys.get("anchor") or {}), database: anchor}}}
    return _written(path, changed, wanted)


def _added(document: Document, entry: str) -> str | None:
    text, keys = document.text, _value(document.root, "keys")
    if keys is None:
        return text + ("" if text.endswith("\n") or not text else "\n") + f"keys:\n  anchor: {{{entry}}}\n"
    anchors = _value(keys, "anchor")
    return _inserted(text, keys, f"anchor: {{{entry}}}") if anchors is None else _inserted(text, anchors, entry)


def _value(mapping: Node | None, key: str) -> Node | None:
    """Return the node of a key's value; None where there is no such key."""
    if not isinstance(mapping, MappingNode):
        return None
    return next((value for name, value in mapping.value if name.value == key), None)


def _inserted(text: str, mapping: Node, entry: str) -> str | None:
    """Return the text with an entry before the others of a mapping, in whichever style that is written."""
    if not isinstance(mapping, MappingNode):
        return None
    start = mapping.start_mark.index
    if mapping.flow_style:
        start = text.index("{", start) + 1
        return text[:start] + entry + (", " if mapping.value else "") + text[start:]
    first = mapping.value[0][0].start_mark
    return f"{text[: first.index]}{entry}\n{' ' * first.column}{text[first.index :]}"


def _written(path: Path, text: str, wanted: object) -> bool:
    """Replace the file, with its mode and owner, by a text that says what is wanted and no more; False where that cannot be."""
    try:
        state = path.stat()
        descriptor, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    except OSError:
        return False
    try:
        with open(descriptor, "wb") as file:
            file.write(text.encode())
        if read_document(name).data != wanted:
            return False
        os.chmod(name, state.st_mode & 0o7777)
        if (state.st_uid, state.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(name, state.st_uid, state.st_gid)
        os.replace(name, path.resolve())
    except (OSError, ConfigError):
        return False
    finally:
        Path(name).unlink(missing_ok=True)
    return True
