"""SQL identifiers as they are written in policy keys; knows no statement.

An unquoted identifier must be written as PostgreSQL would store it (lower case): folding `Patients` silently would
protect another table than the one its author may have meant.
"""

import json
import re

_IDENTIFIER = re.compile(r'"((?:[^"]|"")+)"|([a-z_\u0080-\U0010ffff][a-z0-9_$\u0080-\U0010ffff]*)')
_PATH = re.compile(r"jsonb?_extract_path(_text)?\(@((?:,'[\w .$/@-]+')+)\)")
_VALUE = re.compile(r"@|'(?:[^']|'')*'")
_SAFE = re.compile(r"[a-z_][a-z0-9_]*")

# The keywords that quote_ident quotes (pg_get_keywords(), catcode other than U, PostgreSQL 15). Frozen: the result
# is part of an identity's name and with it of every AAD; a word that a later PostgreSQL reserves must not change
# it.
_WORDS = """
all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean both case
cast char character check coalesce collate collation column concurrently constraint create cross
current_catalog current_date current_role current_schema current_time current_timestamp current_user dec
decimal default deferrable desc distinct do else end except exists extract false fetch float for foreign
freeze from full grant greatest group grouping having ilike in initially inner inout int integer intersect
interval into is isnull join lateral leading least left like limit localtime localtimestamp national natural
nchar none normalize not notnull null nullif numeric offset on only or order out outer overlaps overlay
placing position precision primary real references returning right row select session_user setof similar
smallint some substring symmetric table tablesample then time timestamp to trailing treat trim true union
unique user using values varchar variadic verbose when where window with xmlattributes xmlconcat xmlelement
xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
"""
_KEYWORDS = frozenset(_WORDS.split())


def quote_ident(name: str, *, always: bool = False) -> str:
    """Return the identifier as PostgreSQL's own quote_ident spells it; ``always``: quoted though it need not be.

    Always where a text goes to a server whose keywords may be other ones.
    """
    if not always and _SAFE.fullmatch(name) and name not in _KEYWORDS:
        return name
    return '"' + name.replace('"', '""') + '"'


_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.$]*(?:\([A-Za-z0-9_]+\))?")
_NOT_TEXT = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def yaml_text(text: str) -> str:
    """Write a text as a YAML scalar, within a list too: as it is where that is plain, else in quotes.

    ``left(ssn,3)`` becomes ``"left(ssn,3)"``, and ``"a: b"``, a name in SQL's quotes, ``'"a: b"'``.
    """
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    if text.isprintable() and ('"' in text or "\\" in text):
        return "'" + text.replace("'", "''") + "'"
    return json.dumps(text, ensure_ascii=not text.isprintable())


def literal(text: str) -> str:
    """Return a text as an SQL literal, however the server reads backslashes."""
    quoted = text.replace("'", "''")
    return "E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in text else f"'{quoted}'"


def shown_expression(expression: str, over: str) -> str:
    """Return an index expression, in phiproxy's own spelling, as a DBA writes it over a column that is called so."""
    if expression == "@":
        return over
    expression = _PATH.sub(_operator, expression)
    return _VALUE.sub(lambda match: over if match[0] == "@" else match[0], expression)


def _operator(match: re.Match[str]) -> str:
    """Return a path as its operator: ``jsonb_extract_path_text(@,'a')`` is ``@->>'a'``."""
    operator, names = ">>" if match[1] else ">", match[2][2:-1].split("','")
    return f"@-{operator}'{names[0]}'" if len(names) == 1 else f"@#{operator}'{{{','.join(names)}}}'"


def split_identifiers(text: str) -> tuple[str, ...]:
    """Return the identifiers of a dotted name, unquoted: ``"My Schema".t`` -> ``("My Schema", "t")``.

    Raises ValueError with a text for the operator when it is not one.
    """
    parts: list[str] = []
    position = 0
    while match := _IDENTIFIER.match(text, position):
        parts.append(match[1].replace('""', '"') if match[1] is not None else match[2])
        position = match.end()
        if position == len(text):
            break
        if text[position] != ".":
            raise _not_a_name(text)
        position += 1
    else:
        raise _not_a_name(text)
    long = next((p for p in parts if len(p.encode()) > 63), None)
    if long is not None:
        raise ValueError(f"{long!r} is longer than the 63 bytes of a PostgreSQL name")
    return tuple(parts)


def _not_a_name(text: str) -> ValueError:
    folded = text.lower() != text and '"' not in text
    hint = f": PostgreSQL stores unquoted names in lower case; write {text.lower()!r} or quote it"
    return ValueError(f"{text!r} is not a name{hint if folded else ''}")


def shorten(name: str, digest: str) -> str:
    """Return ``name`` if it fits into 63 bytes, else its beginning and the digest, cut between characters."""
    if len(name.encode()) <= 63:
        return name
    return name.encode()[: 62 - len(digest)].decode(errors="ignore") + "_" + digest
