"""The search path of a session, and which of its temporary tables have a protected name: one tuple, part of a plan's key.

Behind the schemas, and an empty name that no schema has, stand the names of such tables, where there are any. Before them stands
``IN_TEMPORARY`` where pg_temp is named first: tables are made there, perhaps the first that the session makes.
"""

from collections.abc import Iterable, Sequence

Path = tuple[str, ...]
IN_TEMPORARY = "pg_temp_"


def joined(schemas: Iterable[str], temporary: Iterable[str]) -> Path:
    """Return a path and the names of temporary tables as one tuple."""
    hiding = sorted(temporary)
    return (*schemas, "", *hiding) if hiding else tuple(schemas)


def divided(path: Sequence[str]) -> tuple[Path, frozenset[str]]:
    """Return the schemas of such a tuple, and the names of temporary tables in it."""
    end = path.index("") if "" in path else len(path)
    return tuple(path[:end]), frozenset(path[end + 1 :])


def set_path(before: Path | None, named: Path | None) -> Path | None:
    """Return what current_schemas(true) gives after the path was set to these schemas; None where only the server knows.

    A schema that does not exist or may not be used is among them too: nothing is found in the one, and the other refuses.
    """
    if before is None or named is None:
        return None
    schemas, hiding = divided(before)
    temporary = [name for name in schemas if name.startswith("pg_temp_") and name != IN_TEMPORARY]
    first = [IN_TEMPORARY] * (named[:1] == ("pg_temp",))
    path = [t for name in named for t in (temporary if name == "pg_temp" else [name])]
    implicit = [name for name in [*temporary, "pg_catalog"] if name not in path]
    return joined((*first, *implicit, *path), hiding)
