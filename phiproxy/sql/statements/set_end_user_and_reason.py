"""``SET phiproxy.end_user``, ``phiproxy.reason``, ``phiproxy.purpose``: for whom and what for, and why somebody is to see more.

The proxy takes the name or reason; the server keeps a mark in its place. A purpose is a code, and stays as it is.

The server knows best what a setting is after ROLLBACK, SAVEPOINT and SET LOCAL, so the session asks it for the mark, with the
search path, and looks it up. The mark of a name is its keyed hash, under a key of this process: nobody else can guess the name by
it. A reason has a new mark each time, so that one whose time is over is not given again by its mark. (USER is a reserved word, so
that PostgreSQL's grammar has no SET phiproxy.user.)
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar, Final

from phiproxy.effects import is_purpose
from phiproxy.errors import StatementRefused
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Edit
from phiproxy.sql.rewrite.draft import Draft
from phiproxy.sql.rewrite.order_of_rewrites import Step
from phiproxy.sql.text.parse import Node, location, only

END_USER: Final = "phiproxy.end_user"
REASON: Final = "phiproxy.reason"
PURPOSE: Final = "phiproxy.purpose"
MAX_REASON: Final = 1000
_KEY: Final = os.urandom(32)


def mark_of(name: str) -> str:
    """Return what the server keeps in place of a name."""
    return "phi-" + blake2b(name.encode(), digest_size=16, key=_KEY).hexdigest()


@dataclass(frozen=True, slots=True)
class Mark:
    """The name becomes its mark: ``SET phiproxy.end_user = 'dr.who'`` is sent as ``SET phiproxy.end_user = 'phi-5d41402a…'``."""

    constant: Node
    mark: str
    step: ClassVar[Step] = Step.EXPRESSIONS

    def apply(self, draft: Draft) -> Iterator[Edit]:
        """Write the mark over the name."""
        body = self.constant["A_Const"]
        token = draft.spans.tokens[draft.spans.at(location(body))]
        draft.tree.edit(body)["sval"] = {"sval": self.mark}
        yield Edit(token.start, token.end, f"'{self.mark}'".encode())


def take_said(a: Analysis, kind: str, body: Node) -> None:
    """Take what SET gives to ``phiproxy.end_user`` or ``phiproxy.reason``; anything but one string is refused, for a purpose too.

    SET phiproxy.end_user = 'dr.who'
    → SET phiproxy.end_user = …

    SET phiproxy.reason = 7
    → refused 0A000
    """
    setting = body.get("name", "").lower() if kind == "VariableSetStmt" else ""
    if setting not in (END_USER, REASON, PURPOSE) or body.get("kind", "VAR_SET_VALUE") != "VAR_SET_VALUE":
        return
    arguments = body.get("args", ())
    constant = only(arguments[0])[1] if len(arguments) == 1 and "A_Const" in arguments[0] else {}
    if "sval" not in constant:
        raise StatementRefused(f"{setting} is one string", hint=f"SET {setting} = '…'.")
    said = constant["sval"].get("sval", "")
    if setting == PURPOSE:
        if said and not is_purpose(said):
            raise StatementRefused("phiproxy.purpose is a code of letters, digits, and _ . : -", hint="TREAT, for example.")
        return
    if setting == REASON:
        said = said.strip()  # blanks are no reason
        if len(said) > MAX_REASON:
            raise StatementRefused(f"phiproxy.reason has more than {MAX_REASON} characters", hint="Say it in fewer.")
        mark = f"phi-{os.urandom(16).hex()}"
        a.answer.effects.reason = (mark, said)
    else:
        mark = mark_of(said)
        a.answer.effects.end_user = (mark, said)
    a.answer.cacheable = False
    if said:
        a.rewrites.add(Mark(arguments[0], mark))
