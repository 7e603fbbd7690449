"""``SET phiproxy.end_user``, ``phiproxy.reason``, ``phiproxy.purpose``: for whom and what for, and why somebody is to see more.

What is taken, and what the server keeps in its place, says ``effects``. A SELECT of set_config alone is as good as SET. Whatever
else would give one of them is refused, since the server would be told, and nobody here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

from phiproxy.effects import PURPOSE, TAKEN, is_purpose, is_true, must_be_set
from phiproxy.errors import StatementRefused
from phiproxy.policy.catalog import ANYTHING
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Edit
from phiproxy.sql.rewrite.blank_comments import blanked_comments
from phiproxy.sql.rewrite.common_changes import BlankComments
from phiproxy.sql.rewrite.draft import Draft
from phiproxy.sql.rewrite.order_of_rewrites import Step
from phiproxy.sql.statements.utility import texts
from phiproxy.sql.text.parse import Node, location, only, strings


@dataclass(frozen=True, slots=True)
class Mark:
    """The name becomes its mark: ``SET phiproxy.end_user = 'dr.who'`` is sent as ``SET phiproxy.end_user = 'phi-5d41402a…'``.

    Its span ends where that of the constant does: ``U&'d!0061' UESCAPE '!'``.
    """

    constant: Node
    mark: str
    step: ClassVar[Step] = Step.EXPRESSIONS

    def apply(self, draft: Draft) -> Iterator[Edit]:
        """Write the mark over the name."""
        body = self.constant["A_Const"]
        start = location(body)
        draft.tree.edit(body)["sval"] = {"sval": self.mark}
        yield Edit(start, draft.value_end(start, constant=False), f"'{self.mark}'".encode())


def take_said(a: Analysis) -> None:
    """Take what SET or set_config gives to a setting of who acts; anything but one string is refused, and every other way.

    SET phiproxy.end_user = 'dr.who'
    → SET phiproxy.end_user = …

    SELECT set_config('phiproxy.end_user', 'dr.who', true)
    → SELECT set_config('phiproxy.end_user', …, true)

    SET phiproxy.reason = 7
    → refused 0A000

    SELECT set_config('phiproxy.reason', 'an emergency', true) FROM log
    → refused 0A000
    """
    kind, body = a.statement.kind, a.statement.body
    if kind == "VariableSetStmt":
        _take_set(a, body)
        return
    call = _alone(body) if kind == "SelectStmt" else None
    if call is None or not _take_call(a, call):
        _check_others(a, kind, body)


def _take_set(a: Analysis, body: Node) -> None:
    setting = body.get("name", "").lower()
    if setting not in TAKEN or body.get("kind", "VAR_SET_VALUE") != "VAR_SET_VALUE":
        return
    arguments = body.get("args", ())
    constant = only(arguments[0])[1] if len(arguments) == 1 and "A_Const" in arguments[0] else {}
    if "sval" not in constant:
        raise StatementRefused(f"{setting} is one string", hint=f"SET {setting} = '…'.")
    a.answer.effects.is_local = body.get("is_local", False)
    _take(a, setting, arguments[0])


def _take(a: Analysis, setting: str, constant: Node) -> None:
    mark = a.answer.effects.say(setting, constant["A_Const"]["sval"].get("sval", ""))
    a.answer.cacheable = False
    if mark is not None:
        a.rewrites.add(Mark(constant, mark))
    _blank_comments(a, setting)


def _blank_comments(a: Analysis, setting: str) -> None:
    """Leave nothing of comments that may say again what the proxy has taken."""
    if setting != PURPOSE and (blanks := blanked_comments(a.scan, a.answer.room, (), (), bound=True)):
        a.rewrites.add(BlankComments(blanks))


# -- set_config ----------------------------------------------------------------------------------------------------------------

_OF_SELECT: Final = frozenset({"targetList", "limitOption", "op"})
_OF_CALL: Final = frozenset({"funcname", "args", "funcformat", "location"})
_TEXTS: Final = frozenset({"text", "varchar", "unknown", "bool"})


def _alone(body: Node) -> Node | None:
    """Return the call of set_config that a SELECT is, and nothing else."""
    targets = body.get("targetList", ())
    if len(targets) != 1 or not body.keys() <= _OF_SELECT or body.get("op") != "SETOP_NONE":
        return None
    kind, call = only(only(targets[0])[1].get("val", {"": {}}))
    if kind != "FuncCall" or not call.keys() <= _OF_CALL or len(call.get("args", ())) != 3:
        return None
    return call if strings(call["funcname"]) in (["set_config"], ["pg_catalog", "set_config"]) else None


def _take_call(a: Analysis, call: Node) -> bool:
    """Take the value of a setting that the proxy takes; False where it is another one."""
    name, value, local = call["args"]
    setting = (_literal(name) or "").lower()
    if setting not in TAKEN:
        return False
    if only(_bare(local))[0] not in ("A_Const", "ParamRef"):
        raise _refusal(a, setting, call)
    _take_local(a, only(_bare(local))[1])
    bare = _bare(value)
    kind, body = only(bare)
    if kind == "ParamRef":
        a.answer.effects.given = setting, body.get("number", 0)
        a.answer.cacheable = False
        _blank_comments(a, setting)
    elif kind == "A_Const" and "sval" in body:
        _take(a, setting, bare)
    elif kind != "A_Const" or "isnull" not in body:  # NULL is as RESET
        raise _refusal(a, setting, call)
    return True


def _take_local(a: Analysis, said: Node) -> None:
    """Note whether set_config is told to be SET LOCAL, by a constant or by a parameter."""
    effects = a.answer.effects
    effects.local_by = said.get("number", 0)
    effects.is_local = said.get("boolval", {}).get("boolval", False) or is_true(said.get("sval", {}).get("sval", ""))


def _bare(node: Node) -> Node:
    """Return what is in casts to text, which change nothing: one with a length would cut the mark."""
    while "TypeCast" in node:
        named = node["TypeCast"]["typeName"]
        if strings(named["names"])[-1] not in _TEXTS or not named.keys().isdisjoint(("typmods", "arrayBounds")):
            break
        node = node["TypeCast"]["arg"]
    return node


def _literal(node: Node) -> str | None:
    """Return a constant string, whatever it is cast to, or the name that it has as an argument."""
    kind, body = only(node)
    while kind in ("TypeCast", "NamedArgExpr"):
        kind, body = only(body["arg"])
    said: str | None = body["sval"].get("sval", "") if kind == "A_Const" and "sval" in body else None
    return said


def _refusal(a: Analysis, setting: str, node: Node) -> StatementRefused:
    why, hint = must_be_set(setting)
    return a.refuse(why, node, hint=hint)


# -- every other way -----------------------------------------------------------------------------------------------------------

_KEEPS: Final = frozenset({"VAR_SET_VALUE", "VAR_SET_CURRENT"})
_NAMED: Final = re.compile(r"(phiproxy)\"?\s*\.\s*\"?(end_user|reason|purpose)\b", re.IGNORECASE)
_READ: Final = re.compile(r"\bcurrent_setting\s*\(\s*E?'+phiproxy\.\w+", re.IGNORECASE)
_CODE: Final = frozenset({"DoStmt", "CreateFunctionStmt"})
_OF_TEXT: Final = frozenset(
    {"concat", "concat_ws", "count", "format", "left", "length", "lower", "quote_literal", "replace", "right", "strpos", "upper"}
)
_READ_OR_WRITTEN: Final = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})


def _check_others(a: Analysis, kind: str, body: Node) -> None:
    """Refuse what gives such a setting past the proxy: code, objects that keep it, and calls of set_config beside others.

    ALTER ROLE app SET phiproxy.end_user = 'dr.who'
    → refused 0A000

    DO $$ BEGIN PERFORM set_config('phiproxy.end_user', 'dr.who', false); END $$
    → refused 0A000

    CREATE TRIGGER t BEFORE INSERT ON log FOR EACH ROW EXECUTE FUNCTION says('phiproxy.end_user', 'dr.who')
    → refused 0A000

    SELECT format('SET %I', 'phiproxy.end_user')
    → unchanged
    """
    said = body.get("args", ()) if kind == "CreateTrigStmt" else (body,) if kind in _CODE else ()
    for text in (text for node in said for text in texts(node)):
        if (setting := _given_in(text)) is not None:
            raise _refusal(a, setting, body)
    only_text = kind in _READ_OR_WRITTEN and _calls_only_functions_of_text(a)
    for message in a.whole():
        if only_text and "funcname" in message:
            continue
        if "funcname" in message and "args" in message and message["args"].__class__ is list:
            _check_call(a, kind, message)
        elif "params" in message and "name" in message:  # EXECUTE
            _check_arguments(a, message, message["params"])
        elif message.get("kind") in _KEEPS and message.get("name", "").lower() in TAKEN:
            _check_kept(a, message)
        elif "relation" in message and message["relation"].get("relname") == "pg_settings":
            named = next((one.lower() for one in texts(body) if one.lower() in TAKEN), None)
            if named is not None:
                raise _refusal(a, named, message["relation"])


def _calls_only_functions_of_text(a: Analysis) -> bool:
    """Tell whether a statement calls nothing but functions of the server's that make a text of others: to them a name is one."""
    called = [strings(m["funcname"]) for m in a.whole() if "funcname" in m]
    own = all(name[-1] in _OF_TEXT and (len(name) == 1 or name[0] == "pg_catalog") for name in called)
    return own and a.context.catalog.setters.isdisjoint((ANYTHING, *(name[-1] for name in called)))


def _given_in(text: str) -> str | None:
    """Return the setting that code may give: it names one, and not only to read it."""
    named = _NAMED.search(_READ.sub("", text))
    return named and f"{named[1]}.{named[2]}".lower()


def _check_kept(a: Analysis, body: Node) -> None:
    """Refuse what a role, a database or a function would give; a purpose is a code, and may stay."""
    setting, arguments = body["name"].lower(), body.get("args", ())
    said = _literal(arguments[0]) if len(arguments) == 1 else None
    if setting != PURPOSE or said is None or not is_purpose(said):
        raise _refusal(a, setting, body)


def _check_call(a: Analysis, kind: str, call: Node) -> None:
    function, arguments = strings(call["funcname"])[-1], call["args"]
    if function == "current_setting":
        return
    _check_arguments(a, call, arguments)
    if function != "set_config" or _literal(arguments[0]) is not None:
        return
    name, body = only(arguments[0])
    while name == "TypeCast":
        name, body = only(body["arg"])
    if name == "ParamRef" and kind != "PrepareStmt":
        a.answer.effects.named_by += (body.get("number", 0),)
    elif a.context.protection.access is not None and not _of_catalogue(name, a.statement.body):
        why = "set_config of a name that is computed could say who acts, past the proxy"
        raise a.refuse(why, call, hint="Give it a constant name, or one parameter as the name.")


def _check_arguments(a: Analysis, call: Node, arguments: list[Node]) -> None:
    for argument in arguments:
        text = _literal(argument)
        if text is None:
            continue
        setting = text.lower() if text.lower() in TAKEN else _given_in(text) if "set" in text.lower() else None
        if setting is not None:
            raise _refusal(a, setting, call)


def _of_catalogue(name: str, body: Node) -> bool:
    """Tell whether it is a name that pg_settings shows, as pg_dump's is: it shows none that the proxy takes."""
    sources = body.get("fromClause", ())
    return name == "ColumnRef" and len(sources) == 1 and sources[0].get("RangeVar", {}).get("relname") == "pg_settings"
