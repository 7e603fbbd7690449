"""Write ``keys.anchor`` into phiproxy.yaml: one line or one entry is added, everything else stays as it is, comments too."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from phiproxy.errors import ConfigError
from phiproxy.policy.load import read_document


def line(database: str, anchor: str) -> str:
    """Return the line that pins an anchor, for people to add under ``keys:``."""
    return f"anchor: {{{json.dumps(database)}: {anchor}}}"


def pin(path: Path, database: str, anchor: str) -> bool:
    """Add ``keys.anchor.<database>`` to a configuration file; False when it cannot be written or has a form that is not known."""
    before = read_document(path).data
    assert isinstance(before, dict)
    text = path.read_text(encoding="utf-8")
    try:
        changed = _added(text, database, anchor)
    except YAMLError:
        return False
    if changed is None:
        return False
    keys = before.get("keys") or {}
    wanted = {**before, "keys": {**keys, "anchor": {**(keys.get("anchor") or {}), database: anchor}}}
    return _written(path, changed, wanted)


def _added(text: str, database: str, anchor: str) -> str | None:
    root = YAML(typ="rt", pure=True).load(text)
    entry = f"{json.dumps(database)}: {anchor}"
    if root is None or (isinstance(root, CommentedMap) and "keys" not in root):
        return text + ("" if text.endswith("\n") or not text else "\n") + f"keys:\n  anchor: {{{entry}}}\n"
    keys = root["keys"]
    if not isinstance(keys, CommentedMap):
        return None
    anchors = keys.get("anchor")
    if isinstance(anchors, CommentedMap):
        return _inserted(text, anchors, entry)
    return _inserted(text, keys, f"anchor: {{{entry}}}") if anchors is None and "anchor" not in keys else None


def _inserted(text: str, mapping: CommentedMap, entry: str) -> str | None:
    """Return the text with an entry before the others of a mapping, in whichever style that is written."""
    lines = text.splitlines(keepends=True)
    row, column = mapping.lc.line, mapping.lc.col
    if lines[row][column : column + 1] == "{":
        comma = ", " if mapping else ""
        lines[row] = lines[row][: column + 1] + entry + comma + lines[row][column + 1 :]
    elif mapping:
        row, column = min((spot[0], spot[1]) for spot in mapping.lc.data.values())
        lines.insert(row, f"{' ' * column}{entry}\n")
    else:
        return None
    return "".join(lines)


def _written(path: Path, text: str, wanted: object) -> bool:
    """Replace the file, with its mode and owner, by a text that says what is wanted and no more; False where that cannot be."""
    try:
        state = path.stat()
        descriptor, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    except OSError:
        return False
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
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
