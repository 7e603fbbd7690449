"""What a statement does to its session beyond its result: ``sql`` finds it out, ``session`` follows it.

Of who acts the proxy takes the name or token, and the reason; the server keeps a mark in its place. A purpose is a code, and stays
as it is.

The server knows best what a setting is after ROLLBACK, SAVEPOINT and SET LOCAL, so the session asks it for the mark, with the
search path, and looks it up. The mark of a name is its keyed hash, under a key of this process: nobody else can guess the name by
it. A reason has a new mark each time, so that one whose time is over is not given again by its mark. (USER is a reserved word, so
that PostgreSQL's grammar has no SET phiproxy.user.)
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from phiproxy.errors import StatementRefused
from phiproxy.policy.catalog import Relation

# The tag of a table made from a query. Its DO block tells the proxy how many rows were made by an INFO of this SQLSTATE, which is
# sent whatever client_min_messages says.
MADE_TABLE = b"CREATE TABLE AS"
COUNT_STATE = "PHI01"
END_USER: Final = "phiproxy.end_user"
REASON: Final = "phiproxy.reason"
PURPOSE: Final = "phiproxy.purpose"
TAKEN: Final = frozenset({END_USER, REASON, PURPOSE})
"""The settings that the proxy takes."""
MAX_REASON: Final = 1000
_KEY: Final = os.urandom(32)
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
    is_local: bool = False
    """That is for the transaction only: SET LOCAL."""
    local_by: int = 0
    """The number of the parameter, from 1, that says so."""
    reason: tuple[str, str] | None = None
    """Why more is to be seen from now on, likewise; an empty one ends it."""
    given: tuple[str, int] | None = None
    """The setting that the proxy takes of the parameter with this number, from 1, once that is bound."""
    named_by: tuple[int, ...] = ()
    """The numbers of the parameters, from 1, that name settings: those that the proxy takes may not be among them."""

    def sets_as(self, other: Effects) -> None:
        """Note that it changes the path, styles and encoding as another statement does, which it runs."""
        self.path_unknown |= other.path_unknown
        self.styles_changed |= other.styles_changed
        self.encoding |= other.encoding

    def say(self, setting: str, said: str) -> str | None:
        """Note what a setting is to say of who acts; return the mark that the server gets in its place, None where it stays."""
        if setting == PURPOSE:
            if said and not is_purpose(said):
                raise StatementRefused("phiproxy.purpose is a code of letters, digits, and _ . : -", hint="TREAT, for example.")
            return None
        if setting == REASON:
            said = said.strip()  # blanks are no reason
            if len(said) > MAX_REASON:
                raise StatementRefused(f"phiproxy.reason has more than {MAX_REASON} characters", hint="Say it in fewer.")
            mark = f"phi-{os.urandom(16).hex()}"
            self.reason = (mark, said)
        else:
            mark = mark_of(said)
            self.end_user = (mark, said)
        return mark if said else None


def is_true(text: str) -> bool:
    """Tell whether PostgreSQL reads a text as true: ``t``, ``TRUE``, ``yes``, ``on``, ``1``."""
    said = text.strip().lower()
    return said in {"on", "1"} or (said != "" and ("true".startswith(said) or "yes".startswith(said)))


def mark_of(name: str) -> str:
    """Return what the server keeps in place of a name."""
    return "phi-" + blake2b(name.encode(), digest_size=16, key=_KEY).hexdigest()


def must_be_set(setting: str = END_USER) -> tuple[str, str]:
    """Return why, and instead of what, nothing else than SET gives a setting that the proxy takes."""
    why = f"{setting} is taken by the proxy, and so is given by SET, or by set_config with this very name and nothing beside it"
    return why, f"SET {setting} = '…', or SET LOCAL."
