"""The search path of a session, and which of its temporary tables have a protected name: one tuple, part of a plan's key.

Behind the schemas, and an empty name that no schema has, stand the names of such tables, where there are any.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from phiproxy.sql.meaning import Effects

Path = tuple[str, ...]


def joined(schemas: Iterable[str], temporary: Iterable[str]) -> Path:
    """Return the path that says both."""
    hiding = sorted(temporary)
    return (*schemas, "", *hiding) if hiding else tuple(schemas)


def divided(path: Sequence[str]) -> tuple[Path, frozenset[str]]:
    """Return the schemas of a path, and the names of temporary tables behind them."""
    end = path.index("") if "" in path else len(path)
    return tuple(path[:end]), frozenset(path[end + 1 :])


def set_path(before: Path | None, effects: Effects) -> Path | None:
    """Return what current_schemas(true) gives after a statement that changes the path; None where only the server knows.

    A schema that does not exist or may not be used is among them too: nothing is found in the one, and the other refuses.
    """
    if before is None or effects.path is None:
        return None
    schemas, hiding = divided(before)
    temporary = [name for name in schemas if name.startswith("pg_temp_")]
    named = [t for name in effects.path for t in (temporary if name == "pg_temp" else [name])]
    implicit = [name for name in [*temporary, "pg_catalog"] if name not in named]
    return joined((*implicit, *named), hiding)
