"""What a statement does to its session beyond its result: ``sql`` finds it out, ``session`` follows it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from phiproxy.policy.catalog import Relation

# The tag of a table made from a query. Its DO block tells the proxy how many rows were made by an INFO of this SQLSTATE, which is
# sent whatever client_min_messages says.
MADE_TABLE = b"CREATE TABLE AS"
COUNT_STATE = "PHI01"
_PURPOSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")


def is_purpose(text: str) -> bool:
    """Tell whether a text is a code that may say what for a session reads (``TREAT``): no sentence, and no name of a person."""
    return _PURPOSE.fullmatch(text) is not None


@dataclass(slots=True)
class Effects:
    """What one statement does when it is run (spec/sql 2.1)."""

    path_unknown: bool = False
    """It may change the search path."""
    styles_changed: bool = False
    """It may change how values are spelled (DateStyle and the like)."""
    path: tuple[str, ...] | None = None
    """The schemas of a constant search_path, which is else not known."""
    catalog_changed: bool = False
    """It may change the catalogue."""
    prepares: str | None = None
    """The name of the statement that PREPARE prepares."""
    deallocates: str | None = None
    """The name of the statement that DEALLOCATE forgets."""
    deallocates_all: bool = False
    """It forgets all prepared statements."""
    executes: str | None = None
    """The name of the statement that EXECUTE runs."""
    fetches: str | None = None
    """The name of the cursor that FETCH or MOVE reads."""
    skips: bool = False
    """It shows no row of that: MOVE."""
    declares: str | None = None
    """The name of the cursor that DECLARE opens."""
    holds: bool = False
    """That cursor outlives its transaction."""
    binary: bool = False
    """That cursor gives binary values."""
    closes: str | None = None
    """The name of the cursor that CLOSE closes."""
    closes_all: bool = False
    """It closes all cursors."""
    transaction: bool = False
    """It may take back what was set before."""
    created: tuple[str, ...] = ()
    """The names of relations and functions that it makes."""
    relations: tuple[Relation, ...] = ()
    """The relations that it makes, for the statements behind it in the same text."""
    reaches: tuple[str, ...] = ()
    """Names through which something protected is reached from now on."""
    tag: bytes = b""
    """The command tag of DDL in the client's terms."""
    names_protected: bool = False
    """It goes on as it is, and names something protected."""
    encoding: bool = False
    """client_encoding or standard_conforming_strings may be another one behind it."""
    schemas: bool = False
    """It may change which schemas others have on their path, too."""
    moves: bool = False
    """What others find under a name may be another thing behind it: a schema is renamed, or what an extension has comes or goes."""
    cascades: bool = False
    """More may go than is named."""
    code: bool = False
    """What it makes may change the session as it does itself, by code that it has or runs."""

    end_user: tuple[str, str] | None = None
    """For whom the application acts from now on: what the server keeps in place of the name, and the name."""
    reason: tuple[str, str] | None = None
    """Why more is to be seen from now on, likewise; an empty one ends it."""

    def sets_as(self, other: Effects) -> None:
        """Note that it changes the path, styles and encoding as another statement does, which it runs."""
        self.path_unknown |= other.path_unknown
        self.styles_changed |= other.styles_changed
        self.encoding |= other.encoding
